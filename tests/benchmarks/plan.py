"""Does a plan come true? Predicted against actual, on real models and corpora.

    CALIG_SHARED=… python -m tests.benchmarks.plan

Each case is `calig plan`, `calig audit` and `calig plan --run latest`, one after the other, as a user would call them,
in an empty warehouse, on one worker with one thread. What the pilot explained is not explained again by the audit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from calig.planning.show import written
from calig.warehouse.plans import Figure, Plan

RESULTS = Path(__file__).parent / "results" / "plan.md"
CASES: dict[str, dict[str, Any]] = {
    "sst2-dev, 400 sentences": {"corpus": {"path": "sst2-dev.parquet", "limit": 400}},
    "movie_reviews-test, 120 reviews of at most 128 tokens": {
        "corpus": {"path": "movie_reviews-test.parquet", "limit": 120},
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
            plan = _planned(CASES[case], Path(folder))
        lines += ["", f"## {case}", "", *_table(plan)]
        print("\n".join(lines), flush=True)
        RESULTS.write_text("\n".join(lines) + "\n")


def _planned(case: dict[str, Any], folder: Path) -> Plan:
    """Make a plan, run the audit, and return the plan with what the run took."""
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
    _calig(folder, "plan", config.name)
    _calig(folder, "audit", config.name)
    return Plan.from_json(json.loads(_calig(folder, "plan", "--run", "latest", "--format", "json")))


def _calig(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "calig", *arguments], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    )
    print(done.stdout, file=sys.stderr, flush=True)
    return done.stdout


def _table(plan: Plan) -> list[str]:
    assert plan.actual is not None
    lines = ["| | predicted | 95 % interval | actual | actual / predicted |", "|---|---|---|---|---|"]
    for figure in plan.figures:
        if figure.name in plan.actual:
            lines.append(_row(figure, plan.actual[figure.name]))
    return [*lines, "", f"On {plan.machine}."]


def _row(figure: Figure, actual: float) -> str:
    interval = " – ".join(written(end, figure.unit) for end in (figure.low, figure.high))
    if figure.low == figure.high:
        interval = ""
    numbers = (written(figure.value, figure.unit), interval, written(actual, figure.unit))
    ratio = f"{actual / figure.value:.2f}" if figure.value else ""
    return f"| {figure.name} | {' | '.join(numbers)} | {ratio} |"


if __name__ == "__main__":
    main()
