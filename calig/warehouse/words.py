"""Which words the tokens of a run belong to: found from the texts and the tokens' offsets when its tables are made.

`attributions/<attribution key>/words/<corpus key>.<asked>.<rule>.parquet` holds them, a row per token and word that it
belongs to. The run's manifest names the rule, under `versions`, so that a run keeps its words when another segmenter is
installed. Runs on the same corpus that ask for the same class share the file: what others ask for may be explained of
other documents. It is made again where it does not hold the run's documents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calig.errors import InputError
from calig.files import Files
from calig.warehouse.database import create_tables
from calig.warehouse.layout import Warehouse
from calig.warehouse.portions import enter, split
from calig.warehouse.runs import RunManifest, list_runs, write_run
from calig.warehouse.shards import ROW_GROUP, open_writer
from calig.warehouse.views import RunFiles, words_path
from calig.words import align, rule, segmenter
from calig.words.boundaries import INSTALL

SCHEMA = pa.schema(
    [
        ("doc_id", pa.int64()),
        ("position", pa.int32()),
        ("word_id", pa.int32()),
        ("segment", pa.int8()),
        ("char_start", pa.int32()),
        ("char_end", pa.int32()),
        ("characters", pa.int32()),
        ("token_characters", pa.int32()),
        ("main", pa.bool_()),
    ]
)
DOCUMENTS = 4096
"""Documents whose texts are held at once."""
_HELD = b"documents"


def check_segmenter(warehouse: Warehouse, audit: str) -> None:
    """Check that what cut Chinese, Japanese and Thai in the newest complete run of an audit is still installed.

    Raises
    ------
    InputError
        It used a dictionary segmenter, and there is none: its words could not be compared with earlier ones.
    """
    runs = [run for run in list_runs(warehouse) if run.name == audit and run.is_finished]
    if runs and "+" in (runs[-1].words or "") and segmenter() is None:
        raise InputError(
            f"audit {audit}: its run {runs[-1].run_id} took words from {runs[-1].words}, and no segmenter is "
            f"installed: {INSTALL}"
        )


def settle_words(
    connection: duckdb.DuckDBPyConnection, warehouse: Warehouse, run: RunFiles, portions: Sequence[RunFiles]
) -> RunFiles:
    """Make the file of a run's words, unless it is there; return the run's files with it.

    `portions.split` has laid the run's documents out in the connection. The manifest of a run that names no rule, being
    of before there was one, or a segmenter of another version, is written anew with the rule used.

    Raises
    ------
    InputError
        The words were made with a segmenter, their file is gone, and none is installed.
    """
    manifest = run.manifest
    if manifest.modality != "text":
        return run
    documents = _documents(connection)
    if run.words is not None and _holds(run.words, documents):
        return run
    if "+" in (manifest.words or "") and segmenter() is None:
        raise InputError(
            f"run {manifest.run_id}: its words are made with {manifest.words}, and no segmenter is installed: {INSTALL}"
        )
    if manifest.words != rule():
        manifest = replace(manifest, versions={**manifest.versions, "words": rule()})
        write_run(warehouse, manifest)
    path = words_path(warehouse, manifest, rule())
    if not _holds(path, documents):
        write_words(warehouse.files, connection, portions, path)
    return replace(run, manifest=manifest, words=path)


def with_rule_of(warehouse: Warehouse, run: RunFiles, other: RunManifest) -> RunFiles:
    """Return a run's files with words by another run's rule, made where they are not there: for comparing the two.

    Raises
    ------
    InputError
        The rule's words are not there, and cannot be made here.
    """
    if run.manifest.modality != "text" or other.words is None or run.manifest.words == other.words:
        return run
    path = words_path(warehouse, run.manifest, other.words)
    with duckdb.connect() as connection:
        create_tables(connection)
        portions = split(connection, run)
        if not _holds(path, _documents(connection)):
            if other.words != rule():
                raise InputError(
                    f"run {run.manifest.run_id}: comparing it needs its words by {other.words}, and here they are made "
                    f"by {rule()}: " + (INSTALL if segmenter() is None else "run `calig rebuild`")
                )
            write_words(warehouse.files, connection, portions, path)
    return replace(run, words=path)


def write_words(
    files: Files, connection: duckdb.DuckDBPyConnection, portions: Sequence[RunFiles], path: Path
) -> None:
    """Find the words of a run, which `portions.split` has laid out, and write them as one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = SCHEMA.with_metadata({_HELD: _documents(connection)})
    with files.making(path) as part, open_writer(part, schema) as writer:
        for number, portion in enumerate(portions):
            enter(connection, replace(portion, words=None), number)
            for table in _found(connection):
                writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=ROW_GROUP)


def _documents(connection: duckdb.DuckDBPyConnection) -> bytes:
    """A hash of what the words depend on: which of the run's documents are explained, by row number."""
    [(held,)] = connection.execute(
        "SELECT string_agg(doc_id::VARCHAR, ',' ORDER BY doc_id) FROM run_explained"
    ).fetchall()
    return hashlib.sha256((held or "").encode()).hexdigest().encode()


def _holds(path: Path, documents: bytes) -> bool:
    """Whether the file is there, whole, and of these documents."""
    try:
        return bool((pq.read_schema(path).metadata or {}).get(_HELD) == documents)
    except (OSError, pa.ArrowInvalid):
        return False


def _found(connection: duckdb.DuckDBPyConnection) -> Iterator[pa.Table]:
    """The words of a portion's documents, some documents at a time."""
    documents = connection.sql(
        "SELECT doc_id, text, text_pair, truncated FROM documents WHERE failure IS NULL ORDER BY doc_id"
    ).to_arrow_table()
    tokens = connection.sql(
        "SELECT doc_id, position, coalesce(segment, 0) AS segment, char_start, char_end FROM tokens "
        "WHERE NOT is_special ORDER BY doc_id, position"
    ).to_arrow_table()
    owners = tokens["doc_id"].to_numpy()
    for first in range(0, len(documents), DOCUMENTS):
        some = documents.slice(first, DOCUMENTS)
        ids = some["doc_id"].to_numpy()
        start, end = np.searchsorted(owners, [ids[0], ids[-1] + 1])
        yield _words(some, tokens.slice(int(start), int(end - start)))


def _words(documents: pa.Table, tokens: pa.Table) -> pa.Table:
    """The words that tokens of some documents, both sorted by doc_id, belong to; all texts have two segments."""
    ids = documents["doc_id"].to_numpy()
    pairs = zip(*(documents[column].to_pylist() for column in ("text", "text_pair")), strict=True)
    texts = [text or "" for pair in pairs for text in pair]
    numbers = np.repeat(np.arange(len(ids)), 2)
    own = np.searchsorted(ids, tokens["doc_id"].to_numpy())
    spans = np.stack([tokens[column].to_numpy() for column in ("char_start", "char_end")], axis=1)
    cut = np.repeat(np.array(documents["truncated"].to_pylist(), np.bool_), 2)
    found = align(texts, numbers, 2 * own + tokens["segment"].to_numpy(), spans, cut)
    columns = {
        "doc_id": ids[numbers[found.text]],
        "position": tokens["position"].to_numpy()[found.token],
        "word_id": found.word,
        "segment": (found.text % 2).astype(np.int8),
        "char_start": found.start,
        "char_end": found.end,
        "characters": found.characters,
        "token_characters": found.token_characters,
        "main": found.main,
    }
    return pa.Table.from_arrays([pa.array(columns[f.name], f.type) for f in SCHEMA], schema=SCHEMA)
