"""What do the exchanges of a PSI gate cost, at the level of an audit with one false alarm a year?

    python -m tests.benchmarks.exchanges

42 measures (six at seven depths) of two runs of so many documents, normal and each for itself; the level is that of an
audit with `drift` and both PSI gates, 1/1095. Beside the CPU seconds stand those of the comparison of the same layer
profiles without exchanges (`compare_layers`), in the same process.
"""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path

import numpy as np

from calig.comparison.layers import MEASURES, SUMS, compare_layers, layers_by_chance
from calig.comparison.limits import Limits

RESULTS = Path(__file__).parent / "results" / "exchanges.md"
LEVEL = 1 / 1095
DEPTHS = 7
LIMITS = Limits(LEVEL, 0.1, 0.02, 0.2, 5)


def main() -> None:
    """Time both, print and write."""
    rng = np.random.default_rng(0)
    rows = []
    for documents in (10, 60, 400, 4000, 40_000):  # the first loads what is used
        a, b = rng.normal(size=(2, documents, DEPTHS, len(MEASURES)))
        sums = tuple(np.abs(rng.normal(size=(2, documents, DEPTHS, len(SUMS)))))
        names = np.full(documents, "one", dtype=object)
        start = time.process_time()
        found = layers_by_chance(a, b, False, LIMITS, LEVEL, None)
        exchanges = time.process_time() - start
        start = time.process_time()
        compare_layers(a, b, names, names, False, LIMITS, (sums[0], sums[1]))
        rest = time.process_time() - start
        if documents == 10:
            continue
        rows.append(f"| {documents} | {found.draws} | {exchanges:.2f} | {rest:.2f} | {found.by_chance:.3g} |")
        print(rows[-1], flush=True)
    RESULTS.write_text(
        "# What exchanges of documents cost\n\n"
        f"{date.today()}, `python -m tests.benchmarks.exchanges` (see its first lines), CPU seconds.\n\n"
        "| documents a run | exchanges | exchanges, s | layer profiles compared, s | PSI by chance |\n"
        "|---|---|---|---|---|\n" + "\n".join(rows) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
