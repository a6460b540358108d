"""Watch lists: where their terms stand in a run's texts, as temporary tables that `sql/aggregate/watched.sql` reads."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa

from calig.warehouse.terms import Terms
from calig.warehouse.views import RunFiles

DOCUMENTS = 1024
"""Documents whose places are held as Python objects at once."""
PLACES = pa.schema(
    [
        ("number", pa.int32()),
        ("doc_id", pa.int64()),
        ("segment", pa.int8()),
        ("char_start", pa.int32()),
        ("char_end", pa.int32()),
    ]
)


def watch_terms(connection: duckdb.DuckDBPyConnection, run: RunFiles) -> Terms | None:
    """Make the temporary table `watch_terms` of the run's watch lists; return them, None where there are none."""
    lists: dict[str, list[str]] = run.manifest.config.get("watch") or {}
    terms = [(name, term) for name, held in lists.items() for term in dict.fromkeys(held)]
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE watch_terms (number INTEGER, list VARCHAR, term VARCHAR)"
    )
    if not terms or run.manifest.modality != "text":
        return None
    connection.executemany(
        "INSERT INTO watch_terms VALUES (?, ?, ?)", [[n, *term] for n, term in enumerate(terms)]
    )
    return Terms([term for _, term in terms])


def find_watched(connection: duckdb.DuckDBPyConnection, terms: Terms) -> None:
    """Make the temporary table `watch_places` of where the terms stand in the documents of the view `explained`.

    Each text is read once, whatever the number of terms.
    """
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE watch_places "
        "(number INTEGER, doc_id BIGINT, segment TINYINT, char_start INTEGER, char_end INTEGER)"
    )
    texts = connection.sql("SELECT doc_id, text, text_pair FROM explained").to_arrow_table()
    for places in _places(texts, terms):
        connection.register("found", places)
        connection.execute("INSERT INTO watch_places SELECT * FROM found")
        connection.unregister("found")


def _places(texts: pa.Table, terms: Terms) -> Iterator[pa.Table]:
    """The places of all terms, some documents at a time; segment 0 is the first text, 1 the second."""
    for batch in texts.to_batches(max_chunksize=DOCUMENTS):
        documents = batch.column("doc_id").to_pylist()
        found = [
            (number, doc_id, segment, start, end)
            for segment, column in enumerate(("text", "text_pair"))
            for doc_id, text in zip(documents, batch.column(column).to_pylist(), strict=True)
            if text
            for number, start, end in terms.find(text)
        ]
        if found:
            arrays = (pa.array(values) for values in zip(*found, strict=True))
            yield pa.Table.from_arrays(
                [a.cast(f.type) for a, f in zip(arrays, PLACES, strict=True)], schema=PLACES
            )
