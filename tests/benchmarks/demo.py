"""Where the seconds of `calig demo` go, and whether its answer holds whatever the seed of its training.

    python -m tests.benchmarks.demo                      the demo as a process, in an empty folder: seconds by phase
    python -m tests.benchmarks.demo --seeds 10           ten trainings, each audited through the stages without Prefect
    python -m tests.benchmarks.demo --images --seeds 3   the same of the demo on images
    python -m tests.benchmarks.demo --out                append what is printed to results/demo.md

A phase's seconds leave out the imports that happen within it; those have a row of their own. Processor seconds of a
phase are of the demo's own process; Prefect's server is another process, whose processor seconds are known at its end.
On busy cores the wall-clock seconds say little, and the processor seconds more.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.abc
import importlib.machinery
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results" / "demo.md"
IMPORTS, END = "imports", "end of the process"
PHASES = {
    "calig.demo.classifier": {"train": "training"},
    "calig.demo.vision": {"train_images": "training"},
    "flows.server": {"begin": "Prefect's server begun", "reach": "Prefect's server waited for"},
    "calig.stages": {
        "precheck": "ingest",
        "describe_model": "ingest",
        "bring_in": "ingest",
        "learn_schedule": "pilot",
        "attribute_shard": "attribution",
        "aggregate_run": "aggregate",
        "write_report": "report",
    },
}
"""Functions by module, with the phase that their time counts for."""


class Clock:
    """Wall-clock and processor seconds by phase; of phases within others, each has what is not the inner one's."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._open = threading.local()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what is done here."""
        stack = self._open.__dict__.setdefault("stack", [])
        stack.append([0.0, 0.0])
        start = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            taken = [
                now - then
                for now, then in zip((time.perf_counter(), time.process_time()), start, strict=True)
            ]
            within = stack.pop()
            total = self.seconds.setdefault(name, [0.0, 0.0])
            for place in (0, 1):
                total[place] += taken[place] - within[place]
                if stack:
                    stack[-1][place] += taken[place]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its calls counted."""

        def counted(*arguments: Any, **named: Any) -> Any:
            with self.phase(name):
                return function(*arguments, **named)

        return counted


class Imports(importlib.abc.MetaPathFinder):
    """Counts what imports take, and has the functions of `PHASES` timed as soon as their module is there."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if (
            spec is None
            or spec.loader is None
            or isinstance(spec.loader, importlib.machinery.NamespaceLoader)
        ):
            return spec
        load = spec.loader.exec_module

        def timed(module: Any) -> None:
            with self.clock.phase(IMPORTS):
                load(module)
            for function, phase in PHASES.get(name, {}).items():
                if hasattr(module, function):  # an older state of the code may not have it
                    setattr(module, function, self.clock.timed(phase, getattr(module, function)))

        spec.loader.exec_module = timed  # type: ignore[method-assign]
        return spec


def inside(path: Path, arguments: Sequence[str]) -> None:
    """Run the command line in this process, and write what it took when all else has ended."""
    clock = Clock()
    left: list[float] = []

    def write() -> None:
        if left:
            clock.seconds[END] = [time.perf_counter() - left[0], time.process_time() - left[1]]
        mine = time.process_time()
        path.write_text(json.dumps({"phases": clock.seconds, "own": mine, "ended": time.time()}))

    atexit.register(write)  # the first to be registered is the last to be called
    sys.meta_path.insert(0, Imports(clock))
    from calig.cli import main as run

    try:
        run(arguments)
    finally:
        left += [time.perf_counter(), time.process_time()]


def timed_run(images: bool) -> str:
    """Run the demo as a process in an empty folder; a table of where its seconds went."""
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events.json"
        asked = ["demo", *(["--images"] if images else [])]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        (Path(folder) / "empty").mkdir()
        start, before = time.time(), os.times()
        command = [sys.executable, "-m", "tests.benchmarks.demo", "--inside", str(events), *asked]
        done = subprocess.run(
            command, cwd=Path(folder) / "empty", env=environment, capture_output=True, text=True
        )
        wall, after = time.time() - start, os.times()
        assert done.returncode == 0, done.stderr
        found = json.loads(events.read_text())
    processor = sum(after[2:4]) - sum(before[2:4])
    phases = found["phases"]
    rows = [(name, *phases[name]) for name in sorted(phases, key=lambda name: -phases[name][0])]
    rest = (wall - sum(row[1] for row in rows), found["own"] - sum(row[2] for row in rows))
    rows.append(("Prefect's runs of flows and tasks, and all else", *rest))
    rows.append(("Prefect's server, a process beside", 0.0, processor - found["own"]))
    rows.append(("**all**", wall, processor))
    lines = ["| | wall-clock seconds | processor seconds |", "|---|---|---|"]
    for name, seconds, cpu in rows:
        lines.append(f"| {name} | {f'{seconds:.1f}' if seconds else ''} | {cpu:.1f} |")
    return "\n".join(lines)


def of_seeds(seeds: Sequence[int], images: bool) -> Iterator[str]:
    """Train and audit with each seed; a table of what comes first in the audit's answer."""
    from calig.config import parse_config
    from calig.demo import DIGITS, REVIEWS
    from calig.warehouse.query import query
    from calig.warehouse.questions import question
    from tests.material.heads import run_stages

    demo = DIGITS if images else REVIEWS
    words = "SELECT word, effect FROM word_stats WHERE class = 'positive' ORDER BY effect DESC"
    regions = "SELECT class || ', ' || region, lift FROM ({}) ORDER BY lift DESC"
    sql = regions.format(question("border-share").sql.rstrip().rstrip(";")) if images else words
    yield f"| seed | accuracy | first | {'lift' if images else 'effect'} | second | ratio to the second |"
    yield "|---|---|---|---|---|---|"
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            trained = demo.train(Path(folder), seed, True)
            warehouse = run_stages(parse_config(demo.config(Path(folder)))).warehouse
            (first, value), (second, other) = query(warehouse, sql).rows[:2]
        ratio = float(value) / float(other)
        yield f"| {seed} | {trained.accuracy:.3f} | {first} | {value:.2f} | {second} | {ratio:.2f} |"


def main() -> None:
    """Measure, print, and write where asked."""
    if sys.argv[1:2] == ["--inside"]:
        inside(Path(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=0, help="train and audit with so many seeds")
    parser.add_argument("--first", type=int, default=1, help="the first of the seeds")
    parser.add_argument("--images", action="store_true", help="the demo on images")
    parser.add_argument("--out", action="store_true", help=f"append to {RESULTS.name}")
    options = parser.parse_args()
    lines = [f"\n## {time.strftime('%Y-%m-%d')}: python -m tests.benchmarks.demo {' '.join(sys.argv[1:])}\n"]
    print(lines[0])
    if options.seeds:
        seeds = range(options.first, options.first + options.seeds)
        for line in of_seeds(seeds, options.images):
            lines.append(line)
            print(line, flush=True)
    else:
        lines.append(timed_run(options.images))
        print(lines[1])
    if options.out:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
