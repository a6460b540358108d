"""From Parquet to the tables of calig.duckdb: a run's rows are made in a copy, which is then swapped in.

An open reader keeps the file it opened; a killed writer leaves a temporary file, which the next one deletes.

A run is taken in portions of shards (`portions`). Each adds its documents' rows to the tables of documents, and a
partial state, counts and sums of whole units, to the states of the run (`states`), which merge by addition alone; the
other tables are expressions over the merged states (`sql/aggregate`, intervals in `moments`). So memory is bounded by a
portion and by the distinct classes and words, not by the corpus, and every number is the same to the last bit however
documents are divided among shards and portions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from string import Template

import duckdb
import pyarrow as pa

from calig.bootstrap import LEAST
from calig.corpus.left_out import in_words, total
from calig.files import Files
from calig.formats import STAMP
from calig.listing import is_file
from calig.warehouse.catalog import TABLES, quote, read_sql
from calig.warehouse.columns import context_columns, ig_columns
from calig.warehouse.comparisons import load_comparisons
from calig.warehouse.database import new_database
from calig.warehouse.evaluation_tables import write_evaluation
from calig.warehouse.evaluations import list_evaluations
from calig.warehouse.gates import insert_gates
from calig.warehouse.label_order import other_order
from calig.warehouse.layout import Warehouse
from calig.warehouse.moments import correlation, intervals
from calig.warehouse.pins import pinned_runs
from calig.warehouse.portions import BITS, Units, enter, enter_items, split, units
from calig.warehouse.profiles import document_depths
from calig.warehouse.runs import list_runs, utc
from calig.warehouse.shards import completed
from calig.warehouse.states import FEW, States
from calig.warehouse.statuses import settle_statuses
from calig.warehouse.terms import Terms
from calig.warehouse.views import EXPLAINED, SHOWN, RunFiles, create_views, document_scan, run_files
from calig.warehouse.watched import find_watched, watch_terms
from calig.warehouse.words import settle_words, write_words

PORTION_STEPS = (
    *("document_depths", "settling", "failures"),
    *("layer_state", "token_state", "class_state", "confusion_state", "depth_state", "run_state"),
)
"""Tables of documents and states, to which every portion adds."""
IMAGE_STEPS = ("document_maps", "patch_state")
"""The same, of images alone."""
TABLE_STEPS = (
    *("layer_stats", "token_stats", "word_stats", "class_stats", "region_stats", "patch_stats"),
    *("completeness", "watched", "runs"),
)
"""Tables made from the merged states."""
ITEM_SUMS = {
    "word": (
        "sum(occurrences)::BIGINT AS occurrences, sum(score) AS score, "
        "min({'effect': effect, 'doc_id': doc_id}) AS lowest_example, "
        "max({'effect': effect, 'minus_doc_id': -doc_id}) AS greatest_example"
    ),
    "region": "sum(share_units(share)) AS share, count(share) AS share_known, sum(share_units(area)) AS area",
    "watched": "sum(occurrences)::BIGINT AS occurrences, sum(gross) AS gross",
}
"""What is summed of words, regions and watched terms besides their effects; of words, also where they act most."""
LEAST_DOCUMENTS = {"word": 5, "region": LEAST, "watched": 5}
"""Documents that must hold one for it to have an interval; a word without is left out."""
SHARE_UNITS = 2.0**60
"""Whole units of 1 in sums of shares, tokens and seconds: 2**40 documents of 2**26 each fit."""


def aggregate(warehouse: Warehouse, run_id: str, memory: str = "4GB", wait: float = 0.0) -> None:
    """Make a run's rows in all tables of calig.duckdb anew, leaving other runs' rows as they are.

    Parameters
    ----------
    warehouse
        The warehouse; its Parquet files hold the run.
    run_id
        The run's full id.
    memory
        What DuckDB may use; beyond it, it spills into the warehouse's folder.

    Raises
    ------
    InputError
        If another writer is at work, the run or its files are missing, or calig.duckdb is damaged or of
        another version (then `calig rebuild` helps).
    """
    with (
        warehouse.writer_lock(wait=wait),
        pinned_runs(warehouse, run_id),
        new_database(warehouse, memory, keep=True) as connection,
    ):
        replace_rows(connection, warehouse, run_files(warehouse, run_id))
        settle_statuses(connection, warehouse)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Whose rows were made again: ids of runs and of evaluations, oldest first."""

    runs: list[str]
    evaluations: list[str]


def rebuild(warehouse: Warehouse, memory: str = "4GB", wait: float = 0.0) -> Rebuilt:
    """Make calig.duckdb from the Parquet files alone: every run whose results are all there, and every evaluation.

    All shards are checked by hash; damaged ones are set aside, and their documents counted as missing.

    Parameters
    ----------
    warehouse, memory, wait
        As for `aggregate`.

    Raises
    ------
    InputError
        If another writer is at work, a run's files are damaged or missing, or calig.duckdb is of a newer format.
    """
    with warehouse.writer_lock(wait=wait):
        return make_anew(warehouse, memory)


def make_anew(warehouse: Warehouse, memory: str) -> Rebuilt:
    """Do what `rebuild` does, for a caller who holds the writer's lock."""
    with new_database(warehouse, memory, keep=False) as connection:
        ready = [
            run
            for run in list_runs(warehouse)
            if run.is_attributed and is_file(warehouse.run(run.run_id) / "documents.parquet")
        ]
        for key in sorted({run.attribution_key for run in ready}):
            completed(warehouse.files, warehouse.attributions(key))
        for run in ready:
            with pinned_runs(warehouse, run.run_id):
                replace_rows(connection, warehouse, run_files(warehouse, run.run_id))
        evaluations = [evaluation.evaluation_id for evaluation in list_evaluations(warehouse)]
        for evaluation_id in evaluations:
            completed(warehouse.files, warehouse.evaluation(evaluation_id))
            write_evaluation(connection, warehouse, evaluation_id)
    return Rebuilt([run.run_id for run in ready], evaluations)


def replace_rows(database: duckdb.DuckDBPyConnection, warehouse: Warehouse, run: RunFiles) -> None:
    """Replace the run's rows, on a connection of its own: temporary tables go with it."""
    with database.cursor() as connection:
        for table in TABLES:
            connection.execute(f"DELETE FROM {table} WHERE run_id = ?", [run.manifest.run_id])
        portions = split(connection, run)
        run = settle_words(connection, warehouse, run, portions)
        scales = units(connection, run)
        values = _values(run, scales)
        _execute(connection, "units", values)
        states = States(connection)
        terms = watch_terms(connection, run)
        for number, portion in enumerate(portions):
            _add_portion(connection, replace(portion, words=run.words), number, terms, values)
            states.settle()
        states.merge()
        for kind, least in LEAST_DOCUMENTS.items():
            connection.register(f"{kind}_intervals", intervals(connection, kind, scales.effect, least))
        connection.register("manifest", _manifest_table(run))
        values |= _of_the_run(connection, run)
        for table in TABLE_STEPS:
            _execute(connection, table, values)
        load_comparisons(connection, run.documents.parent)
        insert_gates(connection, run.documents.parent)


def _of_the_run(connection: duckdb.DuckDBPyConnection, run: RunFiles) -> dict[str, object]:
    """What Python makes of the merged states for the table `runs`, in SQL."""
    found = correlation(connection)
    classes = run.manifest.classes
    order = other_order(
        connection.execute("SELECT label_id, predicted_id, documents FROM confusion_state").fetchall(),
        len(classes),
    )
    named = "NULL" if order is None else f"[{', '.join(quote(classes[index]) for index in order.classes)}]"
    return {
        "correlation": "NULL" if found is None else repr(found),
        "label_order": f"{named}::VARCHAR[]",
        "label_order_accuracy": f"{'NULL' if order is None else repr(order.accuracy)}::DOUBLE",
    }


def _add_portion(
    connection: duckdb.DuckDBPyConnection,
    portion: RunFiles,
    number: int,
    terms: Terms | None,
    values: dict[str, object],
) -> None:
    """Add a portion's rows to the tables of documents, and to the states."""
    _open_portion(connection, portion, number, values)
    of_images = portion.manifest.modality == "image"
    for step in (*PORTION_STEPS, *(IMAGE_STEPS if of_images else ())):
        _execute(connection, f"portion/{step}", values)
    kinds = ["region" if of_images else "word"]
    if terms is not None:
        find_watched(connection, terms)
        kinds.append("watched")
    for kind in kinds:
        _execute(connection, f"portion/{kind}_documents", values)
        _execute(connection, "portion/items", {**values, "kind": kind, "sums": ITEM_SUMS[kind]})


def _open_portion(
    connection: duckdb.DuckDBPyConnection, portion: RunFiles, number: int, values: dict[str, object]
) -> None:
    """Read a portion, and measure the profiles of its documents."""
    enter(connection, portion, number)
    _execute(connection, "portion/open", {**values, "attributed": document_scan(portion)})
    enter_items(connection)
    depths = portion.manifest.depths
    columns = ", ".join((*ig_columns(depths), *context_columns(depths)))
    tokens = connection.sql(
        f"SELECT doc_id, position, is_special, exact_score AS score, {columns} FROM portion_tokens"
    ).to_arrow_table()
    connection.register("portion_depths", document_depths(tokens, depths))


def profile(connection: duckdb.DuckDBPyConnection, run: RunFiles) -> None:
    """Make the run's views, and its rows of `document_depths` and `settling`, in a connection's empty tables.

    Its file of words is written, by the rule in force here.
    """
    portions = split(connection, run)
    if run.words is not None:
        write_words(Files(run.words.parent), connection, portions, run.words)
    values = _values(run, units(connection, run))
    _execute(connection, "units", values)
    for number, portion in enumerate(portions):
        _open_portion(connection, portion, number, values)
        for step in ("document_depths", "settling"):
            _execute(connection, f"portion/{step}", values)
    create_views(connection, [run])


def _values(run: RunFiles, scales: Units) -> dict[str, object]:
    """What the steps' SQL leaves open."""
    depths = run.manifest.depths
    return {
        "run_id": quote(run.manifest.run_id),
        "explained": EXPLAINED,
        "shown": SHOWN.format("a"),
        "depths": depths,
        "ig": ", ".join(ig_columns(depths)),
        "head": quote(run.manifest.head),
        "classes": f"[{', '.join(quote(label) for label in run.manifest.classes)}]",
        "few": FEW,
        "most": f"{2.0**BITS!r}::DOUBLE",
        "share_units": f"{SHARE_UNITS!r}::DOUBLE",
        **{f"{field}_units": f"{getattr(scales, field)!r}::DOUBLE" for field in ("effect", "score", "value")},
    }


def _execute(connection: duckdb.DuckDBPyConnection, step: str, values: dict[str, object]) -> None:
    connection.execute(Template(read_sql(f"aggregate/{step}.sql")).substitute(values))


def _manifest_table(run: RunFiles) -> pa.Table:
    """Lay out what the table `runs` takes from the manifest, as one row."""
    manifest = run.manifest
    left_out = manifest.corpus.get("left_out")
    row = {
        "run_id": manifest.run_id,
        "name": manifest.name,
        "status": manifest.status,
        "started": manifest.started_at,
        "finished": utc(manifest.finished) if manifest.finished else None,
        **{f"model_{key}": manifest.model.get(key) for key in ("id", "revision", "hash")},
        "head": manifest.head,
        "modality": manifest.modality,
        **{f"corpus_{key}": manifest.corpus.get(key) for key in ("source", "key")},
        "corpus_rows": manifest.corpus.get("rows"),
        "left_out": None if left_out is None else total(left_out),
        "left_out_files": None if left_out is None else in_words(left_out),
        "attribution_key": manifest.attribution_key,
        **{key: str(manifest.method[key]) for key in ("target", "output", "baseline", "fusion")},
        "tolerance": float(manifest.method["tolerance"]),
        "weight": manifest.weight,
        "depths": manifest.depths,
        "classes": manifest.classes,
        "attributed": manifest.attributed,
        "reused": manifest.reused,
        "own_block_passes": manifest.own_block_passes,
        "own_seconds": manifest.own_seconds,
        **{key: json.dumps(getattr(manifest, key)) for key in ("config", "versions", "timings")},
        **{key: getattr(manifest, key) for key in STAMP},
        "notes": manifest.corpus.get("notes", []),
    }
    times = {"started": pa.timestamp("us"), "finished": pa.timestamp("us")}
    times |= {"engine_version": pa.int32(), "calig_version": pa.string()}
    times |= dict.fromkeys(("classes", "notes"), pa.list_(pa.string()))
    return pa.table({key: pa.array([value], times.get(key)) for key, value in row.items()})
