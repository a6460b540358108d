"""Quiet nights: how often does an audit say that something changed when nothing has?

    python -m tests.benchmarks.nights --nights 200

Each night draws 400 reviews from one pool of 4,000, at random, and is compared with the night before (`drift: true`, at
the default α and smallest sizes). Nothing changes but the draw: at most α of the nights may raise an alarm, and of 200
nights at most α + 2√(α(1 − α)/200) do by chance. The pool is explained once, by the first run; a night costs ingest,
tables, comparison and gates. Two nights share about 40 documents, which makes them more alike than two fresh samples.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from pathlib import Path

from calig.config import parse_config
from calig.demo.reviews import generate, write_parquet
from tests.material.nights import DOCUMENTS, audit_night, train
from tests.material.tiny import select

RESULTS = Path(__file__).parent / "results" / "nights.md"
POOL = 4000
ALPHA = 0.05


def main() -> None:
    """Run the nights, print and write what they said."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nights", type=int, default=200)
    asked = parser.parse_args()
    rng = random.Random(0)
    alarms: list[str] = []
    unsized = tests = 0
    with tempfile.TemporaryDirectory(prefix="calig-nights-") as folder:
        root = Path(folder)
        model = train(1, False)
        pool = generate(77, POOL, False)
        start = time.perf_counter()
        for night in range(
            asked.nights + 2
        ):  # all of the pool, then the first night, which has none before it
            path = root / "corpus" / f"{night}.parquet"
            write_parquet(pool if night == 0 else rng.sample(pool, DOCUMENTS), path)
            compared = night > 1
            config = parse_config(
                {
                    "name": "pool" if night == 0 else "nightly",
                    "model": {"id": str(model)},
                    "corpus": {"path": str(path), "label": "label", "id": "id"},
                    "method": {"tolerance": 0.05},
                    "runtime": {"threads": 1},
                    "warehouse": str(root / "warehouse"),
                    "compare_to": ["previous"] if compared else [],
                    "compare": {"alpha": ALPHA},
                    "gates": {"drift": True} if compared else {},
                }
            )
            run_id, outcomes = audit_night(config, report=False)
            if compared:
                alarms += [line.line for line in outcomes if line.gate == "drift" and line.passed is False]
                small = f"least(q, coalesce(share_q, 1)) <= {ALPHA / 3}"
                [(found, made)] = select(
                    root / "warehouse",
                    f"SELECT (SELECT count(*) FROM comparison_words WHERE {small}) + "
                    f"(SELECT count(*) FROM comparison_layers WHERE q <= {ALPHA / 3}) + "
                    f"(SELECT count(*) FROM comparison_outcomes WHERE q <= {ALPHA / 3}), "
                    "words_tested + layers_tested + outcomes_tested FROM comparisons",
                    run_id,
                )
                unsized += found > 0
                tests += made
        seconds = time.perf_counter() - start
    bound = ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / asked.nights)
    lines = [
        "# Quiet nights",
        "",
        f"`python -m tests.benchmarks.nights --nights {asked.nights}`: nights of {DOCUMENTS} reviews, each compared "
        f"with the one before, nothing changed; α = {ALPHA:g}, {tests / asked.nights:.0f} tests a night.",
        "",
        "| | nights | share | bound, α + 2√(α(1 − α)/n) |",
        "|---|---|---|---|",
        f"| the gate `drift` raised an alarm | {len(alarms)} | {len(alarms) / asked.nights:.3f} | {bound:.3f} |",
        f"| without smallest sizes | {unsized} | {unsized / asked.nights:.3f} | {bound:.3f} |",
        "",
        f"A night took {seconds / asked.nights:.1f} s, ingest, tables, comparison and gates; one busy core of two.",
        *(["", "What the alarms said:", "", *(f"- {line}" for line in alarms)] if alarms else []),
    ]
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
