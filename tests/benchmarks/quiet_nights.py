"""How often does an audit raise an alarm where nothing changed, against the rate that it states?

    python -m tests.benchmarks.quiet_nights WAREHOUSE [WAREHOUSE …] [--pairs 400] [--large 100]

Each warehouse holds one complete run, of texts or images: its documents are the pool. Every pair of nights is two
random draws without a common document; their comparison is the one that audits make, on the stored words, layer
profiles and outcomes of each document, at a level of 5 % a night that is shared out as in an audit with the gates
`drift`, `max_class_psi: 0` and `max_layer_psi: 0` (a limit of 0: chance alone decides). A night alarms if anything is
called changed, or either index is beyond what chance alone reaches. Nights of several labels are synthetic: documents
of 200 words whose effects, measures and two labels (of which a document has none, one or both) are drawn at random.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import scipy

from calig.comparing.summing import lay_out
from calig.config import parse_config
from calig.config.levels import Levels, levels_of
from calig.warehouse.layout import Warehouse
from calig.warehouse.pairing import Pairing, pairing
from calig.warehouse.references import Reference
from calig.warehouse.runs import RunManifest, list_runs
from calig.warehouse.views import run_files
from tests.calig.comparison import simulated

RESULTS = Path(__file__).parent / "results" / "quiet_nights.md"
RATE = 0.05
SIZES = (20, 60, 100, 400)
LARGE = 4000
TABLES = ("documents", "items", "depths")


def levels() -> Levels:
    """The levels of an audit of which one night in twenty may alarm."""
    return levels_of(
        parse_config(
            {
                "model": {"id": "m"},
                "corpus": {"path": "c"},
                "compare_to": ["previous"],
                "gates": {
                    "false_alarms_per_year": RATE * 365,
                    "drift": True,
                    "max_class_psi": 0,
                    "max_layer_psi": 0,
                },
            }
        )
    )


class Pool:
    """The documents of a stored run, in a database, and nights drawn from them."""

    def __init__(self, root: Path) -> None:
        warehouse = Warehouse.open(root, create=False)
        [run] = [run for run in list_runs(warehouse) if run.status == "complete"]
        files = run_files(warehouse, run.run_id)
        self.run: RunManifest = files.manifest
        self.connection = duckdb.connect(config={"threads": 1})
        with pairing(warehouse, files, files) as pair:
            for table in TABLES:
                self.connection.register("taken", pair.connection.sql(f"FROM a_{table}").to_arrow_table())
                self.connection.execute(f"CREATE TABLE {table} AS FROM taken ORDER BY doc_id")
                self.connection.unregister("taken")
        self.documents = self.connection.sql("SELECT doc_id FROM documents").fetchnumpy()["doc_id"]

    def compared(
        self,
        first: np.ndarray,
        second: np.ndarray,
        own: Levels,
        plant: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
    ) -> dict[str, Any]:
        """The comparison of two nights of these documents; `plant` changes the second's tables (side b) before."""
        with self.connection.cursor() as connection:
            for side, chosen in (("a", first), ("b", second)):
                connection.register("chosen", {"doc_id": chosen})
                for table in TABLES:
                    connection.execute(
                        f"CREATE OR REPLACE TEMP TABLE {side}_{table} AS "
                        f"SELECT * FROM {table} WHERE doc_id IN (SELECT doc_id FROM chosen)"
                    )
            if plant is not None:
                plant(connection)
            pair = Pairing(connection, False)
            pair.settle()
            compare = parse_config({"model": {"id": "m"}, "corpus": {"path": "c"}}).compare
            compare = compare.model_copy(update={"alpha": own.comparison})
            return lay_out(pair, self.run, self.run, Reference("previous", "previous"), compare, own.psi, 0)


def drawn(pool: Pool, size: int, pairs: int) -> Iterator[dict[str, Any]]:
    """Comparisons of pairs of nights of so many documents each."""
    rng, own = np.random.default_rng(size), levels()
    for _ in range(pairs):
        chosen = rng.choice(pool.documents, 2 * size, replace=False)
        yield pool.compared(chosen[:size], chosen[size:], own)


def synthetic(size: int, pairs: int) -> Iterator[dict[str, Any]]:
    """Comparisons of pairs of synthetic nights whose documents have several labels."""
    rng, own = np.random.default_rng(size), levels()
    for _ in range(pairs):
        yield simulated.compared(
            *(simulated.night(rng, size, several=True) for _ in range(2)),
            psi_level=own.psi,
            alpha=own.comparison,
        )


def alarms(found: dict[str, Any]) -> dict[str, bool]:
    """What of a comparison raises an alarm."""
    row = {name: values[0] for name, values in found["comparisons"].items()}

    def beyond(what: str) -> bool:
        return bool(row[f"{what}_psi_p"] <= row["psi_level"])

    return {
        "words": row["words_changed"] > 0,
        "layers": row["layers_changed"] > 0,
        "outcomes": row["outcomes_changed"] > 0,
        "class PSI": beyond("class"),
        "layer PSI": beyond("layer"),
    }


def measure(title: str, size: int, nights: Iterator[dict[str, Any]]) -> str:
    """A row of the table: of so many pairs, how many alarm, and by what."""
    start = time.process_time()
    found = [alarms(night) for night in nights]
    seconds = (time.process_time() - start) / len(found)
    any_of = sum(any(one.values()) for one in found)
    interval = scipy.stats.binomtest(any_of, len(found)).proportion_ci()
    parts = ", ".join(f"{name} {sum(one[name] for one in found)}" for name in found[0])
    row = (
        f"| {title} | {size} | {len(found)} | {any_of} | {any_of / len(found):.1%} "
        f"[{interval.low:.1%}, {interval.high:.1%}] | {parts} | {seconds:.2f} |"
    )
    print(row, flush=True)
    return row


def main() -> None:
    """Draw the nights, print and write how many alarmed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("warehouses", nargs="+", type=Path)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--large", type=int, default=100)
    asked = parser.parse_args()
    rows = []
    for root in asked.warehouses:
        pool = Pool(root)
        title = f"{Path(pool.run.model['id']).name}, {pool.run.modality} ({len(pool.documents)} in the pool)"
        for size in SIZES:
            if 2 * size <= len(pool.documents):
                rows.append(measure(title, size, drawn(pool, size, asked.pairs)))
        if len(pool.documents) >= 2 * LARGE:
            rows.append(measure(title, LARGE, drawn(pool, LARGE, asked.large)))
    rows += [measure("synthetic, several labels", size, synthetic(size, asked.pairs)) for size in SIZES]
    RESULTS.write_text(
        "# Quiet nights: alarms where nothing changed\n\n"
        f"{date.today()}, `python -m tests.benchmarks.quiet_nights` (what is measured: its first lines). "
        f"The stated rate is {RATE:.0%} a night.\n\n"
        "| pool | documents a night | pairs | with an alarm | share, 95 % interval | by what | CPU s each |\n"
        "|---|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
