"""What takes hours, by hand: `make test-long`, or one step of it: `python -m tests.long crash`.

    crash        220 audits and workers killed at every stage and at random (tests/crash.py)
    fuzz         every test of hypothesis, with twenty times the examples, on three seeds
    orders       the first tier in three orders at random, and with one worker and with four
    ray          the node of a Ray cluster killed twenty times while another process keeps the cores busy
    config-fuzz  a thousand changed fields of the config.json of 36 families
    protocol     10,000 schedules of the one-writer protocol in the model, and 200 with real processes
    mutants      sixty changed lines on each of two seeds, each against the tests that execute it

The table of what was done, when, on which commit and how it ended is in tests/benchmarks/results/long.md; commit it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

RESULTS = Path(__file__).parent / "benchmarks" / "results" / "long.md"
HEAD = """# The long tests

Written by `python -m tests.long`; a row for each command, the newest of its name.

| command | date | commit | minutes | how it ended |
|---|---|---|---|---|
"""
PYTEST = ("pytest", "--numprocesses", "auto", "--dist", "worksteal")
RANDOM = ("-p", "randomly", "-p")
NODE = "tests/flows/test_engines.py::test_a_ray_node_killed_in_a_run_loses_nothing"
STEPS: dict[str, list[tuple[str, ...]]] = {
    "crash": [("tests.crash", "--kills", "200", "--workers", "10", "--own-servers", "10", "--seed", "1")],
    "fuzz": [(*PYTEST, "--tier", "all", "-m", "hypothesis", "--hypothesis-seed", str(n)) for n in (1, 2, 3)],
    "orders": [
        *(("pytest", "-n", "2", "--dist", "worksteal", *RANDOM, f"randomly_seed={n}") for n in (1, 2, 3)),
        ("pytest", "-n", "1"),
        ("pytest", "-n", "4", "--dist", "worksteal"),
    ],
    "ray": [("pytest", "--tier", "all", NODE)] * 20,
    "config-fuzz": [("tests.config_fuzz", "--changes", "1000", "--seed", "1")],
    "protocol": [
        ("tests.material.protocol", "--schedules", "10000"),
        ("tests.material.protocol_processes", "--schedules", "200"),
    ],
    "mutants": [("tests.benchmarks.mutants", "--seed", str(seed)) for seed in (1, 2)],
}


@contextmanager
def busy(wanted: bool) -> Iterator[None]:
    """Keep every core busy meanwhile, if that is wanted."""
    code = "while True: pass"
    count = os.cpu_count() or 1
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)] if wanted else []
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def last_line(output: str) -> str:
    """What a command said at the end, fit for a table."""
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip("= ").replace("|", "/")[:200] if lines else "nothing"


def run(name: str, commands: list[tuple[str, ...]]) -> bool:
    """Run a step, write its rows, and tell whether all of its commands ended well."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({"CALIG_FUZZ": "20"} if name == "fuzz" else {})
    counted = {command: commands.count(command) for command in commands}
    ended_well = True
    with busy(name == "ray"):
        for command, times in counted.items():
            began, passed, said = time.monotonic(), 0, ""
            for _ in range(times):
                done = subprocess.run(
                    [sys.executable, "-m", *command], capture_output=True, text=True, env=environment
                )
                passed += done.returncode == 0
                said = last_line(done.stdout or done.stderr)
                print(f"{' '.join(command)}: {said}", flush=True)
                if done.returncode:
                    print(done.stdout[-5000:], done.stderr[-5000:], flush=True)
            minutes = (time.monotonic() - began) / 60
            ended_well &= passed == times
            how = f"{passed} of {times} passed" if times > 1 else said
            write(f"`python -m {' '.join(command)}`", f"{date.today()} | {commit} | {minutes:.1f} | {how} |")
    return ended_well


def write(command: str, rest: str) -> None:
    """Put a command's row into the table, in the place of the one before."""
    rows = RESULTS.read_text().removeprefix(HEAD).splitlines() if RESULTS.exists() else []
    kept = [row for row in rows if not row.startswith(f"| {command} |")]
    RESULTS.write_text(HEAD + "\n".join(sorted([*kept, f"| {command} | {rest}"])) + "\n")


def main() -> None:
    """Run the steps that are named, or all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(STEPS)}; all by default")
    asked = parser.parse_args()
    if unknown := set(asked.steps) - set(STEPS):
        parser.error(f"no step is called {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    ended = [run(name, STEPS[name]) for name in asked.steps or STEPS]
    sys.exit(0 if all(ended) else 1)


if __name__ == "__main__":
    main()
