"""Watch lists: where their terms stand in a run's texts, as temporary tables that `sql/aggregate/watched.sql` reads."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from calig.warehouse.terms import Terms
from calig.warehouse.views import RunFiles, paired

DOCUMENTS = 1024
"""Documents whose texts are held at once."""
PLACES = pa.schema(
    [
        ("number", pa.int32()),
        ("doc_id", pa.int64()),
        ("segment", pa.int8()),
        ("char_start", pa.int32()),
        ("char_end", pa.int32()),
    ]
)


def find_watched(connection: duckdb.DuckDBPyConnection, run: RunFiles) -> None:
    """Make the temporary tables `watch_terms` and `watch_places` of the run's watch lists.

    Each text is read once, whatever the number of terms.
    """
    lists: dict[str, list[str]] = run.manifest.config.get("watch") or {}
    terms = [(name, term) for name, held in lists.items() for term in dict.fromkeys(held)]
    connection.execute("CREATE TEMP TABLE watch_terms (number INTEGER, list VARCHAR, term VARCHAR)")
    connection.execute(
        "CREATE TEMP TABLE watch_places "
        "(number INTEGER, doc_id BIGINT, segment TINYINT, char_start INTEGER, char_end INTEGER)"
    )
    if not terms or run.manifest.modality != "text":
        return
    connection.executemany(
        "INSERT INTO watch_terms VALUES (?, ?, ?)", [[n, *term] for n, term in enumerate(terms)]
    )
    for places in _places(run, Terms([term for _, term in terms])):
        connection.register("found", places)
        connection.execute("INSERT INTO watch_places SELECT * FROM found")
        connection.unregister("found")


def _places(run: RunFiles, terms: Terms) -> Iterator[pa.Table]:
    """The places of all terms, some documents at a time; segment 0 is the first text, 1 the second."""
    columns = ["text", "text_pair"] if paired(run) else ["text"]
    dataset = ds.dataset([str(path) for path in run.corpus], format="parquet")
    for batch in dataset.to_batches(
        columns=["doc_id", *columns], batch_size=DOCUMENTS, batch_readahead=1, fragment_readahead=1
    ):
        documents = batch.column("doc_id").to_pylist()
        found = [
            (number, doc_id, segment, start, end)
            for segment, column in enumerate(columns)
            for doc_id, text in zip(documents, batch.column(column).to_pylist(), strict=True)
            if text
            for number, start, end in terms.find(text)
        ]
        if found:
            arrays = (pa.array(values) for values in zip(*found, strict=True))
            yield pa.Table.from_arrays(
                [a.cast(f.type) for a, f in zip(arrays, PLACES, strict=True)], schema=PLACES
            )
