"""How many small faults the tests notice: single-line changes, each run against the tests that run its line.

    python -m tests.benchmarks.mutants --seed 1                    # 60 mutants of all packages, both tiers
    python -m tests.benchmarks.mutants --tier first                # `make test` alone
    python -m tests.benchmarks.mutants --package calig.comparison --count 12 --tests tests/calig/comparison
    python -m tests.benchmarks.mutants --survivors-of build/mutants/all/seed-1.json --tests tests/calig/report

The first use collects which test runs which line, and how long each takes; `--collect` does that anew and stops. A
mutant is killed by the first tier, or only by the second, or survives, or lies on a line that no test runs. Each tier
has 90 s a mutant, its fastest tests first. A hang kills if one test takes ten times its time and 30 s more. What a
test fails at without a mutant too is left out. The state is written after each mutant, and a later call goes on.

mutmut tests a function at a time, with its own choice of tests and without a draw or tiers, and changes nothing outside
of functions; cosmic-ray starts a whole test command for every mutant. Neither reads contexts of coverage to choose
tests, orders them by time, or keeps processes ready: a mutant would cost more imports (10 s) than tests (1 s).
"""

from __future__ import annotations

import argparse
import json
import queue
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from tests.benchmarks.mutation import cover, results
from tests.benchmarks.mutation.draw import belongs, candidates, draw
from tests.benchmarks.mutation.operators import Mutant
from tests.benchmarks.mutation.run import Bench, Unmutated, Verdict

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "mutants"
RESULTS = Path(__file__).parent / "results" / "mutants.md"
CHECKED = 5
"""Tests that must pass without a mutant before any mutant is run."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="How many small faults the tests notice")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=60, help="mutants; each package has one at least")
    parser.add_argument(
        "--package", action="append", default=[], help="of this package only; may be repeated"
    )
    parser.add_argument("--tests", nargs="+", default=[], help="files or folders of tests; all if left out")
    parser.add_argument("--tier", choices=("first", "both"), default="both")
    parser.add_argument("--only", nargs="+", default=[], metavar="ID", help="these mutants")
    parser.add_argument("--survivors-of", type=Path, metavar="FILE", help="those that survived, by a state")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=float, default=90.0, help="seconds that each tier has for a mutant")
    parser.add_argument(
        "--collect", action="store_true", help="collect anew which test runs which line, and stop"
    )
    parser.add_argument("--fresh", action="store_true", help="run all mutants, even those run before")
    parser.add_argument("--out", type=Path, help=f"Markdown; {RESULTS.name} of the results if all is run")
    return parser.parse_args()


def main() -> None:
    """Draw, run, and write the results."""
    asked = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside; the same command goes on"))
    tiers = ["first"] if asked.tier == "first" else ["first", "second"]
    folder = BUILD / (re.sub(r"[^\w.]+", "-", " ".join(asked.tests)).strip("-") or "all")
    record = cover.record(ROOT, folder, asked.tests, tiers, anew=asked.collect)
    print(f"{len(record.tests)} tests; {len(record.failed)} failed as they were and are left out", flush=True)
    print("".join(f"    {name}\n" for name in record.failed), end="", flush=True)
    if asked.collect:
        return
    chosen = choose(asked)
    rerun = bool(asked.only or asked.survivors_of)
    number = "" if asked.count == 60 else f"-{asked.count}"
    path = folder / f"{'rerun' if rerun else '-'.join([f'seed-{asked.seed}{number}', *asked.package])}.json"
    key = json.dumps([cover.sources(ROOT, asked.tests), tiers, asked.limit])
    state = results.State(key) if asked.fresh or rerun else results.State.read(path, key)
    restricted = bool(rerun or asked.package or asked.tests or len(tiers) == 1)
    out = asked.out or (None if restricted else RESULTS)
    heading = "Run again" if rerun else f"Seed {asked.seed}"
    if not rerun and (asked.count != 60 or asked.package):
        heading += ", ".join([f", {asked.count} mutants", *asked.package])

    def written() -> str:
        """Write what is known so far; give it as text."""
        state.write(path, chosen)
        known = facts(record, tiers, asked.limit)
        text = results.section(heading, known, chosen, state.verdicts, results.meanings(out) if out else {})
        if out:
            results.write_section(out, heading, text)
        return text

    waiting = [mutant for mutant in chosen if mutant.id not in state.verdicts]
    for mutant, verdict in judged(asked, record, waiting, tiers):
        state.verdicts[mutant.id] = verdict
        written()
        report(mutant, verdict, len(state.verdicts), len(chosen))
    print(f"\n{written()}\n{path}")


def choose(asked: argparse.Namespace) -> list[Mutant]:
    """The mutants that the command line asks for."""
    found = candidates(ROOT)
    ids = [*asked.only, *(results.survivors_of(asked.survivors_of) if asked.survivors_of else ())]
    if asked.only or asked.survivors_of:
        by_id = {mutant.id: mutant for mutant in found}
        gone = [id for id in ids if id not in by_id]
        if gone:
            print(f"no longer in the sources: {', '.join(gone)}", flush=True)
        return [by_id[id] for id in ids if id in by_id]
    if asked.package:
        found = [mutant for mutant in found if any(belongs(mutant.package, name) for name in asked.package)]
    if not found:
        raise SystemExit(f"nothing to change in {', '.join(asked.package)}")
    return draw(ROOT, found, asked.count, asked.seed)


def judged(
    asked: argparse.Namespace, record: cover.Record, waiting: Sequence[Mutant], tiers: Sequence[str]
) -> Iterator[tuple[Mutant, Verdict]]:
    """Run the mutants, several at a time; give each as it is done."""
    if not waiting:
        return
    unmutated = Unmutated()
    with benches(min(asked.workers, len(waiting)), record, unmutated) as free:
        check(free, record, waiting)

        def one(mutant: Mutant) -> tuple[Mutant, Verdict]:
            bench = free.get()
            try:
                return mutant, bench.judge(mutant, tiers, asked.limit)
            finally:
                free.put(bench)

        with ThreadPoolExecutor(free.qsize()) as pool:
            futures = [pool.submit(one, mutant) for mutant in waiting]
            try:
                for future in as_completed(futures):
                    yield future.result()
            finally:
                pool.shutdown(cancel_futures=True)
    if unmutated.failing():
        print(
            f"failed without a mutant too, and left out: {', '.join(sorted(unmutated.failing()))}", flush=True
        )


@contextmanager
def benches(count: int, record: cover.Record, unmutated: Unmutated) -> Iterator[queue.Queue[Bench]]:
    """So many copies with their servers, started at the same time."""
    started: list[Bench] = []
    free: queue.Queue[Bench] = queue.Queue()

    def start(folder: str) -> None:
        bench = Bench(ROOT, Path(folder), record, unmutated)
        started.append(bench)
        free.put(bench)

    folders = [tempfile.mkdtemp(prefix="mutants-") for _ in range(count)]
    try:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(start, folders))
        yield free
    finally:
        for bench in started:
            bench.close()


def check(free: queue.Queue[Bench], record: cover.Record, waiting: Sequence[Mutant]) -> None:
    """Stop unless a few tests pass on a copy without a mutant."""
    covering = (
        id for mutant in waiting for group in record.covering(mutant) for id in record.ordered(group)[:1]
    )
    ids = record.ordered(list(dict.fromkeys(covering))[:CHECKED])
    if not ids:
        return
    bench = free.get()
    answer = bench.ask(ids, sum(map(record.patience, ids)))
    free.put(bench)
    if answer["end"] != "passed" or len(answer["done"]) != len(ids):
        raise SystemExit(
            f"tests do not pass without a mutant: {answer['end']} {answer['test']} {answer['text']}"
        )


def report(mutant: Mutant, verdict: Verdict, done: int, count: int) -> None:
    """Say what became of a mutant."""
    place = f"{mutant.file}:{mutant.line}"
    how = f" ({f'{verdict.how} {verdict.test}'.strip()})" if verdict.how else ""
    print(f"{done}/{count} {mutant.id} {place} {verdict.result}{how} {verdict.seconds:.0f} s", flush=True)
    if verdict.result in ("survived", "uncovered"):
        print(f"    {mutant.before}\n    {mutant.after}", flush=True)


def facts(record: cover.Record, tiers: Sequence[str], limit: float) -> list[str]:
    """When, of what, and how the results were found."""

    def ask(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    changed = " with changes" if ask("status", "--porcelain", "--untracked-files=no") else ""
    command = shlex.join(["python", "-m", "tests.benchmarks.mutants", *sys.argv[1:]])
    counts = ", ".join(
        f"{sum(t.tier == tier for t in record.tests.values())} of the {tier} tier" for tier in tiers
    )
    return [
        f"{date.today():%d %B %Y}, commit {ask('rev-parse', '--short', 'HEAD')}{changed}, `{command}`. "
        f"Tests: {counts}; {len(record.failed)} failed without a mutant and are left out. "
        f"Each tier has {limit:.0f} s a mutant."
    ]


if __name__ == "__main__":
    main()
