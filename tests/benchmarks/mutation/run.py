"""Judge mutants: each is written into a copy of the project, whose covering tests are run by a server."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.mutation import server
from tests.benchmarks.mutation.cover import Record
from tests.benchmarks.mutation.operators import Mutant

FIRST_SECONDS = 8.0
"""Tests that take so long together are run first, in a run of their own: few files are to be collected for them."""
STARTING = 60.0
"""Seconds for the imports of a test that is run alone, without a mutant."""
KILLS = ("failed", "import", "hang", "crash")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant."""

    result: str
    """`first` or `second`, the tier that killed it; `survived`, or `uncovered`."""
    how: str = ""
    """`failed`, `import`, `hang` or `crash`; of a survivor, `limit` where the time was over before all tests ran."""
    test: str = ""
    text: str = ""
    covering: tuple[int, int] = (0, 0)
    """Tests of the first and of the second tier that run the line."""
    ran: int = 0
    seconds: float = 0.0


class Unmutated:
    """Tests run once without a mutant, when a mutant seems to be killed by them: those that fail so do not count."""

    def __init__(self) -> None:
        self.known: dict[str, bool] = {}
        self.guard = threading.Lock()

    def failing(self) -> set[str]:
        """The tests that failed."""
        with self.guard:
            return {id for id, passed in self.known.items() if not passed}


class Bench:
    """One copy of the project, and the server that runs its tests."""

    def __init__(self, root: Path, folder: Path, record: Record, unmutated: Unmutated) -> None:
        self.folder, self.record, self.unmutated = folder, record, unmutated
        self.copy = folder / "copy"
        copy_project(root, self.copy)
        self._times = itertools.count(1)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        shared = root.parent / "shared"
        if "CALIG_SHARED" not in environment and shared.is_dir():
            environment["CALIG_SHARED"] = str(shared)
        environment.pop("PYTHONPATH", None)
        self.process = subprocess.Popen(
            [sys.executable, "-P", server.__file__, str(self.copy)],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "server.log").open("wb"),
            text=True,
        )
        self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line that the server writes."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the server died:\n{(self.folder / 'server.log').read_text()[-2000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, ids: Sequence[str], limit: float) -> dict[str, Any]:
        """Run these tests on the copy as it is."""
        assert self.process.stdin is not None
        request = {
            "copy": str(self.copy),
            "ids": list(ids),
            "limit": limit,
            "patience": {id: self.record.patience(id) for id in ids},
            "token": uuid.uuid4().hex,
            "events": str(self.folder / "events"),
            "log": str(self.folder / "log"),
            "temporary": str(self.folder / "t"),
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        found = self.answer()
        if found["end"] == "broken":
            raise SystemExit(f"the tests could not be run: {(self.folder / 'log').read_text()[-500:]}")
        return found

    def close(self) -> None:
        """End the server and remove the copy."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        """Change the copy for the block. Each version has its own time: compiled files go by seconds and size."""
        path = self.copy / mutant.file
        source, time = path.read_text("utf-8"), path.stat().st_mtime
        path.write_text(mutant.applied(source), "utf-8")
        later = time + 10 * next(self._times)
        os.utime(path, (later, later))
        try:
            yield
        finally:
            path.write_text(source, "utf-8")
            os.utime(path, (time, time))

    def passes(self, id: str) -> bool:
        """Whether a test passes without a mutant."""
        with self.unmutated.guard:
            known = self.unmutated.known.get(id)
        if known is None:
            known = self.ask([id], self.record.patience(id) + STARTING)["end"] == "passed"
            with self.unmutated.guard:
                self.unmutated.known[id] = known
        return known

    def judge(self, mutant: Mutant, tiers: Sequence[str], limit: float) -> Verdict:
        """Run the covering tests of one tier after the other, until one fails."""
        groups = self.record.covering(mutant)
        by_tier = {
            tier: [{id for id in group if self.record.tests[id].tier == tier} for group in groups]
            for tier in ("first", "second")
        }
        covering = (sum(map(len, by_tier["first"])), sum(map(len, by_tier["second"])))
        if not any(covering[:1] if tiers == ["first"] else covering):
            return Verdict("uncovered", covering=covering)
        ran, seconds, how = 0, 0.0, ""
        for tier in tiers:
            ids = [id for group in by_tier[tier] for id in self.record.ordered(group)]
            answer = self._tier(mutant, ids, limit)
            ran, seconds = ran + answer["ran"], round(seconds + answer["seconds"], 1)
            if answer["end"] in KILLS:
                by = answer["test"] or answer["current"] or ""
                return Verdict(tier, answer["end"], by, answer["text"], covering, ran, seconds)
            if answer["end"] == "limit":
                how = "limit"
        return Verdict("survived", how, "", "", covering, ran, seconds)

    def _tier(self, mutant: Mutant, ids: list[str], limit: float) -> dict[str, Any]:
        """Run tests in few runs until one kills the mutant; give the last answer, with counts over all of them."""
        ran, seconds = 0, 0.0
        answer: dict[str, Any] = {"end": "passed"}
        remaining = ids
        while True:
            failing = self.unmutated.failing()
            remaining = [id for id in remaining if id not in failing]
            if not remaining or seconds >= limit:
                break
            batch = self._batch(remaining, FIRST_SECONDS if ran == 0 else 1.5 * limit)
            with self.changed(mutant):
                answer = self.ask(batch, limit - seconds)
            ran, seconds = ran + len(answer["done"]), seconds + answer["seconds"]
            if answer["end"] == "limit":
                remaining = [id for id in remaining if id not in answer["done"]]
                answer["end"] = "passed"
                break
            if answer["end"] in KILLS:
                suspect = answer["test"] or answer["current"] or batch[0]
                if self.passes(suspect):
                    break
                answer["end"] = "passed"
                done = {*answer["done"], suspect}
            else:
                done = set(batch)
            remaining = [id for id in remaining if id not in done]
        if answer["end"] == "passed" and remaining:
            answer["end"] = "limit"
        return answer | {"ran": ran, "seconds": seconds}

    def _batch(self, ids: list[str], seconds: float) -> list[str]:
        """The first tests that take so long together; at least one."""
        ready: set[str] = set()
        module, total, count = "", 0.0, 0
        for id in ids:
            test = self.record.tests[id]
            total += test.seconds + self.record.setting_up(test, ready, module)
            if count and total > seconds:
                break
            if (own := id.split("::")[0]) != module:
                ready, module = ready - self.record.passing, own
            ready |= test.fixtures
            count += 1
        return ids[:count]


def copy_project(root: Path, copy: Path) -> None:
    """Copy the files that git knows, and those it does not ignore."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=root, capture_output=True, check=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (root / name).is_symlink() or (root / name).is_file():  # one that was deleted is still listed
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, copy / name, follow_symlinks=False)
