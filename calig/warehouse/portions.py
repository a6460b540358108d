"""A run's documents in portions, each of some shards: what one step of the aggregate holds in memory.

Every document of a run is in one portion. Which one depends on the shards; no number of the tables does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa

from calig.warehouse.catalog import name
from calig.warehouse.views import (
    EXPLAINED,
    LABELS,
    RUN_COLUMNS,
    SHOWN,
    Rows,
    RunFiles,
    document_scan,
    file_rows,
    item_queries,
    paired,
    portion_queries,
)

TOKENS = 2_000_000
"""Tokens of a portion; of a single larger shard there are more."""
BITS = 86
"""Sums are of whole units, and no value has more than 2**BITS of them: a HUGEINT holds the sum of 2**40 such values."""
LARGEST = 2.0**140
"""Stands for a norm that is beyond float32."""
PORTION = name("portion of the run")


@dataclass(frozen=True, slots=True)
class Units:
    """How many units make 1, powers of two: of effects, in logits; of scores; and of outputs and labels.

    They follow from the largest norm, and the largest output or label, of the run's own documents, with room of a
    factor 4: whatever a model gives, no sum overflows, and they do not depend on shards or portions. A value of
    2**-31 of the largest still has a double's precision.
    """

    effect: float
    score: float
    value: float


def split(connection: duckdb.DuckDBPyConnection, run: RunFiles) -> list[RunFiles]:
    """Lay a run's documents out in temporary tables, and return the files of each portion; `enter` opens one.

    Shards that hold none of the run's documents are in no portion; a document that no shard holds is in the first.
    """
    files = [str(documents) for documents, _ in run.shards]
    numbers = pa.array(range(len(files)), pa.int32())
    connection.register("files", pa.table({"shard": numbers, "filename": pa.array(files, pa.string())}))
    held = "SELECT NULL AS doc_key, NULL::INT AS target, NULL::INT AS tokens, NULL::INT AS shard WHERE false"
    if files:
        found = document_scan(run, "doc_key, target, tokens, filename")
        held = f"SELECT doc_key, target, tokens, shard FROM ({found}) JOIN files USING (filename)"
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE placed AS SELECT d.doc_id, h.shard, h.tokens "
        f"FROM {file_rows(run).documents} AS d "
        f"LEFT JOIN ({held}) AS h ON {SHOWN.format('h')}"
    )
    connection.unregister("files")
    sizes = connection.execute(
        "SELECT shard, coalesce(sum(tokens), 0) FROM placed WHERE shard IS NOT NULL GROUP BY shard ORDER BY shard"
    ).fetchall()
    groups = list(_groups(sizes)) or [[]]
    _lay_out(connection, run, groups)
    return [_of_shards(run, group) for group in groups]


def enter(connection: duckdb.DuckDBPyConnection, portion: RunFiles, number: int) -> None:
    """Make a portion's views `tokens`, `word_tokens` and `documents`, from its files and what `split` laid out."""
    for view, table in (("portion_rows", "run_rows"), ("portion_contents", "run_contents")):
        connection.execute(
            f"CREATE OR REPLACE TEMP VIEW {view} AS "
            f"SELECT * EXCLUDE ({PORTION}) FROM {table} WHERE {PORTION} = {number}"
        )
    for view, query in portion_queries(portion, Rows("portion_rows", "portion_contents")).items():
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {query}")


def enter_items(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the views `words` and `patches` of what `tokens`, whose effects are whole, and `documents` are now."""
    for view, query in item_queries(whole=True).items():
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {query}")


def units(connection: duckdb.DuckDBPyConnection, run: RunFiles) -> Units:
    """Find a run's units; `split` has laid its documents out."""
    columns = "doc_key, target, failure, ig_norm, context_norm, heads, logit"
    [(effect, context, logit)] = connection.execute(
        "SELECT max(list_max(ig_norm)), max(list_max(context_norm) * heads), max(abs(logit::DOUBLE)) "
        f"FROM ({document_scan(run, columns)}) AS a SEMI JOIN run_rows AS d ON {SHOWN.format('a')} "
        "WHERE failure IS NULL"
    ).fetchall()
    [(label,)] = connection.execute(
        f"SELECT max(abs({LABELS[run.manifest.head][2]})) FROM run_rows AS d"
    ).fetchall()
    of_column = run.manifest.method["fusion"] == "column"
    score = run.manifest.depths if of_column else (effect or 0) + (context or 0)
    return Units(_unit(effect), _unit(score), _unit(max(logit or 0, label or 0)))


def _unit(bound: float | None) -> float:
    exponent = math.frexp(min(bound, LARGEST) if bound else 1.0)[1] + 2
    return 2.0 ** (BITS - exponent)


def _groups(sizes: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
    """Group shards, given with their tokens, in their order, by about TOKENS tokens."""
    group: list[int] = []
    held = 0
    for shard, tokens in sizes:
        if group and held + tokens > TOKENS:
            yield group
            group, held = [], 0
        group.append(shard)
        held += tokens
    if group:
        yield group


def _lay_out(connection: duckdb.DuckDBPyConnection, run: RunFiles, groups: list[list[int]]) -> None:
    """Make `run_rows` and `run_contents`: the run's documents and what they say, portion by portion.

    And `run_explained`: which of them have an explanation.
    """
    pairs = [(shard, number) for number, group in enumerate(groups) for shard in group]
    shards, numbers = zip(*pairs, strict=True) if pairs else ((), ())
    connection.register(
        "numbers", pa.table({"shard": pa.array(shards, pa.int32()), "number": pa.array(numbers, pa.int32())})
    )
    contents = ["image"] if run.manifest.modality == "image" else ["text"]
    if run.manifest.modality == "text" and paired(run):
        contents.append("text_pair")
    files = file_rows(run)
    tables = {"run_rows": (", ".join(f"d.{column}" for column in (*RUN_COLUMNS, EXPLAINED)), files.documents)}
    tables["run_contents"] = (", ".join(f"d.{column}" for column in ("doc_id", *contents)), files.contents)
    for table, (columns, source) in tables.items():
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT coalesce(n.number, 0) AS {PORTION}, {columns} "
            f"FROM {source} AS d JOIN placed AS p ON p.doc_id = d.doc_id LEFT JOIN numbers AS n ON n.shard = p.shard "
            f"ORDER BY {PORTION}, d.doc_id"
        )
    connection.unregister("numbers")
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE run_explained AS SELECT DISTINCT d.doc_id FROM run_rows AS d "
        f"JOIN ({document_scan(run, 'doc_key, target, failure')}) AS a ON {SHOWN.format('a')} WHERE a.failure IS NULL"
    )
    connection.execute("DROP TABLE placed")


def _of_shards(run: RunFiles, shards: list[int]) -> RunFiles:
    """The run's files, but of these shards alone."""
    places = {shard: place for place, shard in enumerate(shards)}
    return replace(
        run,
        shards=tuple(run.shards[shard] for shard in shards),
        superseded=tuple(
            (key, target, places[shard]) for key, target, shard in run.superseded if shard in places
        ),
    )
