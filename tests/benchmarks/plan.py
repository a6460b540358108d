"""Does a plan come true? Predicted against actual, on real models and corpora.

    CALIG_SHARED=… python -m tests.benchmarks.plan

Each case is `calig plan`, `calig audit` and `calig plan --run latest`, one after the other, as a user would call them,
in an empty warehouse, on one worker with one thread. What the pilot explained is not explained again by the audit.
Where the machine has other work too, the CPU share of each command says how far its times were stretched.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from calig.planning.show import numbers
from calig.warehouse.plans import Plan

RESULTS = Path(__file__).parent / "results" / "plan.md"
CASES: dict[str, dict[str, Any]] = {
    "sst2-dev, 200 sentences": {"corpus": {"path": "sst2-dev.parquet", "limit": 200}},
    "movie_reviews-test, 100 reviews of at most 128 tokens": {
        "corpus": {"path": "movie_reviews-test.parquet", "limit": 100},
        "method": {"max_length": 128, "tolerance": 0.05},
    },
}


def main() -> None:
    """Plan and run the cases, print and write how they compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=CASES, action="append", help="Only this one; may be repeated.")
    asked = parser.parse_args()
    lines = [
        "# Predicted against actual",
        "",
        "`python -m tests.benchmarks.plan`: minilm-sst2, one worker of one thread. A plan, then the audit of "
        "what the pilot left.",
    ]
    for case in asked.case or CASES:
        with tempfile.TemporaryDirectory(prefix="calig-plan-") as folder:
            plan, shares = _planned(CASES[case], Path(folder))
        lines += ["", f"## {case}", "", *_table(plan, shares)]
        print("\n".join(lines), flush=True)
        RESULTS.write_text("\n".join(lines) + "\n")


def _planned(case: dict[str, Any], folder: Path) -> tuple[Plan, tuple[float, float]]:
    """Make a plan, run the audit; return the plan with what the run took, and the CPU shares of both commands."""
    shared = Path(os.environ["CALIG_SHARED"])
    corpus = {"label": "label", **case["corpus"]}
    config = folder / "planned.yaml"
    audit = {
        **case,
        "model": {"id": str(shared / "models" / "minilm-sst2")},
        "corpus": {**corpus, "path": str(shared / "corpora" / corpus["path"])},
        "runtime": {"threads": 1, "workers": 1},
    }
    config.write_text(yaml.safe_dump(audit))
    shares = []
    for command in ("plan", "audit"):
        before = _clocks()
        _calig(folder, command, config.name)
        shares.append(_cpu_share(before))
    plan = Plan.from_json(json.loads(_calig(folder, "plan", "--run", "latest", "--format", "json")))
    return plan, (shares[0], shares[1])


def _calig(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "calig", *arguments], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    )
    print(done.stdout, file=sys.stderr, flush=True)
    return done.stdout


def _cpu_share(before: tuple[float, float]) -> float:
    """CPU time per wall-clock time of the commands since then: about 1 for one thread on a machine of its own."""
    wall, cpu = _clocks()
    return (cpu - before[1]) / (wall - before[0])


def _clocks() -> tuple[float, float]:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def _table(plan: Plan, shares: tuple[float, float]) -> list[str]:
    assert plan.actual is not None
    lines = ["| | predicted | 95 % interval | actual | actual / predicted |", "|---|---|---|---|---|"]
    for figure in plan.figures:
        if figure.name in plan.actual:
            lines.append(f"| {' | '.join((figure.name, *numbers(figure, plan)))} |")
    busy = f"CPU time per wall-clock time: the plan {shares[0]:.2f}, the audit {shares[1]:.2f}"
    expected = f"so times were to be expected {shares[0] / shares[1]:.2f} times as long as predicted"
    return [*lines, "", f"On {plan.machine}. {busy}, {expected}."]


if __name__ == "__main__":
    main()
