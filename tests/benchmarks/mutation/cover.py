"""Which tests run which line, and how long they take: collected once under coverage, and kept.

Coverage is started in every Python process by its environment variable, not by pytest-cov: so the processes that tests
start are measured too (commands, workers of pools and of Ray, flows), and each reads the test that started it from the
environment as it begins. `patch = subprocess` would hand down the configuration as its parent read it, with the context
of the parent. A process that is killed from outside Python loses its data.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from tests.benchmarks.mutation.draw import PACKAGES
from tests.benchmarks.mutation.operators import Mutant
from tests.benchmarks.mutation.recorder import CONTEXT, RECORD

TIERS = {"first": "not extended", "second": "extended"}
CONFIGURATION = """\
[run]
parallel = true
data_file = {folder}/data
include =
{include}
context = ${{{context}-}}
core = ctrace
sigterm = true
patch = _exit
disable_warnings = no-data-collected, module-not-measured, couldnt-parse
"""


@dataclass(frozen=True, slots=True)
class Timed:
    """A test as it was recorded."""

    id: str
    tier: str
    seconds: float
    """Without the shared fixtures."""
    fixtures: frozenset[str]


@dataclass
class Record:
    """What one collection found."""

    root: Path
    tests: dict[str, Timed] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    fixtures: dict[str, float] = field(default_factory=dict)
    """Seconds that a shared fixture takes to set up."""
    passing: set[str] = field(default_factory=set)
    """Fixtures shared by a module or less, which end with it."""
    lines: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    """By file and line: the tests and fixtures that run it; an empty text where nobody knows which."""

    @cached_property
    def users(self) -> dict[str, set[str]]:
        """The tests that use a shared fixture."""
        found: dict[str, set[str]] = defaultdict(set)
        for test in self.tests.values():
            for key in test.fixtures:
                found[key].add(test.id)
        return found

    def running(self, file: str, lines: Iterable[int]) -> set[str]:
        """The tests that run one of these lines, themselves or by a fixture they use."""
        known = self.lines.get(file, {})
        contexts = {context for line in lines for context in known.get(line, ())}
        found = contexts & self.tests.keys()
        return found.union(*(self.users.get(context, set()) for context in contexts))

    def covering(self, mutant: Mutant) -> list[set[str]]:
        """The tests that run a mutant's line, those more likely to notice it first.

        A line that is run at import only counts as run by the tests that run a function of its module, or the function
        whose signature it is in; after them come those of the modules that import it. Where nothing is returned, no
        test runs the line.
        """
        first, last = mutant.statement
        if not mutant.at_import:
            known = self.lines.get(mutant.file, {})
            at = [mutant.line] if mutant.line in known else range(first, last + 1)
            tests = self.running(mutant.file, at)
            ran = any(known.get(line) for line in at)
            if tests:
                return [tests]
            if not ran:
                return []
        return self._of_module(mutant)

    def _of_module(self, mutant: Mutant) -> list[set[str]]:
        body = range(mutant.body[0], mutant.body[1] + 1) if mutant.body else None
        own = self.running(mutant.file, body or _inside_functions(self.root / mutant.file))
        importers = self._importers.get(mutant.file, set()) if body is None else set()
        others: set[str] = set()
        for file in importers:
            others |= self.running(file, _inside_functions(self.root / file))
        return [tests for tests in (own, others - own) if tests]

    @cached_property
    def _importers(self) -> dict[str, set[str]]:
        """By file: the files that import it, or a name from it."""
        found: dict[str, set[str]] = defaultdict(set)
        files = {path for name in PACKAGES for path in (self.root / name).rglob("*.py")}
        for path in files:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names: list[str] = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                for name in names:
                    base = self.root / name.replace(".", "/")
                    for module in (base.with_suffix(".py"), base / "__init__.py"):
                        if module in files:
                            found[module.relative_to(self.root).as_posix()].add(
                                path.relative_to(self.root).as_posix()
                            )
        return found

    def ordered(self, ids: Iterable[str]) -> list[str]:
        """Fastest first, where a test's time holds the shared fixtures that no test before it has set up."""
        groups: dict[tuple[str, frozenset[str]], list[Timed]] = defaultdict(list)
        for test in sorted((self.tests[id] for id in ids), key=lambda t: (t.seconds, t.id), reverse=True):
            groups[test.id.split("::")[0], test.fixtures].append(test)
        ready: set[str] = set()
        module, order = "", []
        while groups:
            costs = {
                key: (
                    members[-1].seconds + self.setting_up(members[-1], ready, module),
                    key[0] != module,
                    members[-1].id,
                )
                for key, members in groups.items()
            }
            chosen = min(costs, key=costs.__getitem__)
            test = groups[chosen].pop()
            if not groups[chosen]:
                del groups[chosen]
            if chosen[0] != module:
                ready -= self.passing
                module = chosen[0]
            ready |= test.fixtures
            order.append(test.id)
        return order

    def setting_up(self, test: Timed, ready: set[str], module: str) -> float:
        """Seconds for the fixtures of a test that are not ready, if the last test was one of `module`."""
        kept = ready if test.id.split("::")[0] == module else ready - self.passing
        return sum(self.fixtures.get(key, 0.0) for key in test.fixtures - kept)

    def patience(self, id: str) -> float:
        """Seconds after which a test is held to hang."""
        test = self.tests[id]
        return 10 * (test.seconds + self.setting_up(test, set(), "")) + 30


def record(
    root: Path, folder: Path, tests: Sequence[str], tiers: Sequence[str], anew: bool = False
) -> Record:
    """Read what is known of these tests; collect first where nothing is, or where a source has changed since."""
    digest = sources(root, tests)
    found = Record(root)
    for tier in tiers:
        kept = folder / tier
        stamp = kept / "digest"
        if anew or not stamp.is_file() or stamp.read_text() != digest:
            _collect(root, kept, tests, tier)
            stamp.write_text(digest)
        _read(found, kept, tier)
    return found


def sources(root: Path, tests: Sequence[str]) -> str:
    """A digest of the packages and of the tests; the benchmarks, which no test needs, are left out."""
    content = hashlib.sha256()
    for name in (*PACKAGES, "tests"):
        for path in sorted((root / name).rglob("*.py")):
            if "benchmarks" not in path.parts:
                content.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    content.update("\0".join(tests).encode())
    return content.hexdigest()


def _collect(root: Path, folder: Path, tests: Sequence[str], tier: str) -> None:
    if not (Path(sysconfig.get_path("purelib")) / "a1_coverage.pth").is_file():
        raise SystemExit(
            "the installed coverage does not start itself in new processes: pip install -U coverage"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    include = "\n".join(f"    {root}/{name}/*" for name in PACKAGES)
    settings = folder / "coverage.ini"
    settings.write_text(CONFIGURATION.format(folder=folder, include=include, context=CONTEXT))
    environment = os.environ | {
        "COVERAGE_PROCESS_START": str(settings),
        RECORD: str(folder),
        "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-p", "tests.benchmarks.mutation.recorder", "-n", "auto"]
    command += ["--dist", "worksteal", "-p", "no:cacheprovider", "-m", TIERS[tier], *tests]
    print(f"collecting the {tier} tier: {' '.join(tests) or 'all tests'}", flush=True)
    with (folder / "log").open("wb") as log:
        code = subprocess.run(command, cwd=root, env=environment, stdout=log, stderr=log).returncode
    if code not in (0, 1, 5):  # passed, some failed, none selected
        raise SystemExit(f"the tests could not be run (pytest ended with {code}): see {folder / 'log'}")
    combine = [sys.executable, "-m", "coverage", "combine", "--rcfile", str(settings), "--quiet"]
    without = {key: value for key, value in environment.items() if key != "COVERAGE_PROCESS_START"}
    subprocess.run(combine, cwd=root, env=without, capture_output=True)


def _read(found: Record, folder: Path, tier: str) -> None:
    for path in sorted(folder.glob("tests-*.jsonl")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if "fixture" in entry:
                key = entry["fixture"]
                found.fixtures[key] = max(entry["seconds"], found.fixtures.get(key, 0.0))
                if entry["scope"] in ("module", "class"):
                    found.passing.add(key)
            elif entry["outcome"] == "passed":
                test = Timed(entry["id"], tier, entry["seconds"], frozenset(entry["fixtures"]))
                found.tests[test.id] = test
            elif entry["outcome"] == "failed":
                found.failed.append(entry["id"])
    if not (folder / "data").is_file():
        return
    from coverage import CoverageData

    data = CoverageData(str(folder / "data"))
    data.read()
    for path in map(Path, data.measured_files()):
        file = found.lines.setdefault(path.relative_to(found.root).as_posix(), {})
        for number, contexts in data.contexts_by_lineno(str(path)).items():
            file.setdefault(number, set()).update(contexts)


@cache
def _inside_functions(path: Path) -> tuple[int, ...]:
    """The lines in the bodies of a module's functions."""
    tree = ast.parse(path.read_text("utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return tuple({line for f in functions for line in range(f.body[0].lineno, (f.end_lineno or 0) + 1)})
