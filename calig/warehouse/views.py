"""The views of one run, or of several united by name, which may be of texts and of images.

They are TEMP views with absolute paths, made when a connection opens: the warehouse's folder may move.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from calig.errors import InputError
from calig.listing import is_file, matching
from calig.records import DOCUMENT_VIEW, NO_LABEL, Head, free_name
from calig.warehouse.catalog import VIEWS, comment_statements, name, quote, read_sql
from calig.warehouse.columns import (
    IMAGE_TOKEN_COLUMNS,
    TOKEN_COLUMNS,
    context_columns,
    document_schema,
    ig_columns,
    token_schema,
)
from calig.warehouse.explained import FILE, SCHEMA, Asked, asked_for, explained_query
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import RunManifest, read_run
from calig.warehouse.shards import NO_CLASS, by_class, completed

RUN_COLUMNS = ("run_id", "doc_id", "source_id", "doc_key", "label")
LABELS: dict[Head, tuple[str, str, str]] = {
    "single_label": ("d.label", "NULL::INTEGER[]", "NULL::DOUBLE"),
    "binary": ("d.label", "NULL::INTEGER[]", "NULL::DOUBLE"),
    "multi_label": ("NULL::INTEGER", "d.label", "NULL::DOUBLE"),
    "regression": ("NULL::INTEGER", "NULL::INTEGER[]", "d.label"),
}
"""A document's class, classes and number, by head, from the column `label` of the run's documents d."""

EXPLAINED = name("class that the run shows")
SHOWN = f"{{0}}.doc_key = d.doc_key AND {{0}}.target IS NOT DISTINCT FROM d.{EXPLAINED}"
"""The condition, in SQL, that a row {0} of the attributions is what the run shows of its document d."""
_ABSENT = f"CASE WHEN d.label IS NULL THEN '{NO_LABEL}' ELSE 'missing' END"


@dataclass(frozen=True, slots=True)
class RunFiles:
    """A run, and the files that hold its data (absolute paths).

    Attributes
    ----------
    manifest
        The run.
    documents
        Its documents.
    corpus
        The parts of its corpus.
    shards
        Per shard that counts: the paths of its files of documents, and of tokens (absent if all failed).
    superseded
        (doc_key, class or `NO_CLASS`, index of a shard) not to be read: a better or earlier shard holds that too.
    words
        The file of its words (`calig.warehouse.words`), which may not be there yet; None for images, and for runs of
        before there were such files, whose words are the tokenizer's until their tables are made again.
    explained
        The file that says which class of each document the run shows (`calig.warehouse.explained`); None where it has
        none, and the rule says so.
    """

    manifest: RunManifest
    documents: Path
    corpus: tuple[Path, ...]
    shards: tuple[tuple[Path, Path | None], ...]
    superseded: tuple[tuple[str, int, int], ...]
    words: Path | None = None
    explained: Path | None = None

    @property
    def allowed(self) -> list[str]:
        """All files as DuckDB's `allowed_paths` must list them: by name, and as the views write the name."""
        paths = [self.documents, *self.corpus, *(path for shard in self.shards for path in shard if path)]
        paths += [path for path in (self.words, self.explained) if path]
        return sorted({text for path in paths for text in (str(path), _pattern(path))})


@dataclass(frozen=True, slots=True)
class Rows:
    """What a run's views read besides its attributions, in SQL, as it stands after FROM.

    Attributes
    ----------
    documents
        The run's documents, with the columns of its documents.parquet, and `EXPLAINED`.
    contents
        Their texts, or the references of their images, by doc_id.
    """

    documents: str
    contents: str


def run_files(warehouse: Warehouse, run_id: str) -> RunFiles:
    """Find a run's files.

    Raises
    ------
    InputError
        If the run has no manifest or documents, or its corpus is gone.
    """
    manifest = read_run(warehouse, run_id)
    documents = warehouse.run(run_id) / "documents.parquet"
    if not is_file(documents):
        raise InputError(f"run {run_id}: {documents} is missing; run the audit again")
    warehouse.files.fetch(warehouse.corpus(manifest.corpus["key"]))
    corpus = tuple(matching(warehouse.corpus(manifest.corpus["key"]), "part-*.parquet"))
    if not corpus:
        raise InputError(
            f"run {run_id}: its corpus {manifest.corpus['key']} has no parts; run the audit again"
        )
    words = words_path(warehouse, manifest, manifest.words) if manifest.words else None
    explained = warehouse.run(run_id) / FILE
    return RunFiles(
        manifest,
        documents,
        corpus,
        *attributed(warehouse, manifest.attribution_key),
        words=words if manifest.modality == "text" else None,
        explained=explained if is_file(explained) else None,
    )


def words_path(warehouse: Warehouse, manifest: RunManifest, rule: str) -> Path:
    """Return the place of a run's words by a rule (see `calig.warehouse.words`)."""
    folder = warehouse.attributions(manifest.attribution_key) / "words"
    before = folder / f"{manifest.corpus['key']}.{rule}.parquet"
    if is_file(before):  # of when the attribution key said what is asked for
        return before
    return folder / f"{manifest.corpus['key']}.{asked_of(manifest)}.{rule}.parquet"


def asked_of(manifest: RunManifest) -> Asked:
    """Return the class that a run asks for of its documents."""
    classes = [str(label) for label in manifest.model["classes"]]
    return asked_for(manifest.method["target"], manifest.head, classes)


def attributed(
    warehouse: Warehouse, key: str
) -> tuple[tuple[tuple[Path, Path | None], ...], tuple[tuple[str, int, int], ...]]:
    """Find the shards that count under an attribution key, and what in them is superseded (see `RunFiles`)."""
    folder = warehouse.attributions(key)
    shards: list[tuple[Path, Path | None]] = []
    for shard in completed(warehouse.files, folder, check=False):
        tokens = shard.paths(folder, "tokens")
        shards.append((shard.paths(folder, "documents")[0], tokens[0] if tokens else None))
    return tuple(shards), _superseded([path for path, _ in shards])


def _superseded(documents: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """Find the rows that several shards hold: a result stands before a failure, then the earlier shard.

    In files of before a document has one row, whatever its class.
    """
    if len(documents) < 2:
        return ()
    row = "doc_key, target" if by_class(documents[0]) else "doc_key"
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"SELECT doc_key, coalesce(target, {NO_CLASS}), filename FROM read_parquet($files, filename = true) "
            f"QUALIFY row_number() OVER (PARTITION BY {row} ORDER BY failure IS NOT NULL, filename) > 1 ORDER BY ALL",
            {"files": [_pattern(path) for path in documents]},
        ).fetchall()
    numbers = {str(path): number for number, path in enumerate(documents)}
    return tuple((key, target, numbers[filename]) for key, target, filename in rows)


def _pattern(path: Path) -> str:
    """Return the path as a glob pattern that matches it alone."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in str(path))


def scan(paths: Sequence[Path], by_name: bool = False) -> str:
    """Return the SQL table function that reads these Parquet files, whatever characters are in their names."""
    files = ", ".join(quote(_pattern(path)) for path in paths)
    return f"read_parquet([{files}]{', union_by_name = true' if by_name else ''})"


def _shard_scan(run: RunFiles, kind: int, schema: pa.Schema, columns: str = "*") -> str:
    """Select `columns` of all shards' documents (`kind` 0) or tokens (1), less what is superseded."""
    paths = [shard[kind] for shard in run.shards]
    present = [path for path in paths if path]
    if not present:
        return f"SELECT {columns} FROM ({_empty(schema)})"
    by_name, row = False, f"doc_key, coalesce(target, {NO_CLASS}), filename"
    columns_of = [_columns(path) for path in present] if kind else []
    for column in ("segment", "target") if kind else ():
        lacking = [column in schema.names and column not in names for names in columns_of]
        if all(lacking):
            columns += f", {_null(schema.field(column))}"
            row = "doc_key, filename" if column == "target" else row
        by_name |= any(lacking) and not all(lacking)  # which opens every file
    rows = f"SELECT {columns} FROM {scan(present, by_name)}"
    skipped = [(key, target, paths[number]) for key, target, number in run.superseded if paths[number]]
    if not skipped:
        return rows
    values = ", ".join(
        f"({quote(key)}, {f'{target}, ' if 'target' in row else ''}{quote(str(path))})"
        for key, target, path in skipped
    )
    return f"{rows} WHERE ({row}) NOT IN (VALUES {values})"


def _columns(path: Path) -> list[str]:
    names: list[str] = pq.read_schema(path).names
    return names


def _of_class(run: RunFiles, target: str) -> str:
    """The condition, in SQL, that rows t of tokens are of the class `target`: true in files of before, of one each."""
    paths = [path for _, path in run.shards if path]
    return f"t.target = {target}" if paths and "target" in _columns(paths[0]) else "true"


def _empty(schema: pa.Schema) -> str:
    return f"SELECT {', '.join(_null(field) for field in schema)} WHERE false"


def _null(field: pa.Field) -> str:
    return f"NULL::{sql_type(field.type)} AS {field.name}"


def sql_type(kind: pa.DataType) -> str:
    """Return the DuckDB name of an Arrow type of the shards' schemas."""
    names = {"string": "VARCHAR", "int32": "INTEGER", "int64": "BIGINT", "bool": "BOOLEAN", "float": "FLOAT"}
    names |= {"int8": "TINYINT", "int16": "SMALLINT", "binary": "BLOB", "double": "DOUBLE"}
    text = str(kind)
    if text.startswith("dictionary"):
        return "VARCHAR"
    if text.startswith("list"):
        return names[text.split(": ")[1].rstrip(">")] + "[]"
    return names[text]


def _fill(view: str, **values: object) -> str:
    return Template(read_sql(f"views/{view}.sql")).substitute(values).strip()


def _tokens(run: RunFiles, rows: Rows) -> str:
    depths = run.manifest.depths
    ig, ctx = ig_columns(depths), context_columns(depths)
    schema = token_schema(depths, run.manifest.modality)
    either = [*TOKEN_COLUMNS, *(field for field in IMAGE_TOKEN_COLUMNS if field not in TOKEN_COLUMNS)]
    own = [
        f"t.{field.name}" if field.name in schema.names else _null(field)
        for field in either
        if field.name not in ("doc_key", "position", "token", "target")
    ]
    words = ""
    if (held := _words_of(run)) is not None:
        own[0] = "coalesce(w.word_id, -1) AS word_id"
        mains = f"SELECT doc_id, position, word_id FROM {held} WHERE main"
        words = f"LEFT JOIN ({mains}) AS w ON w.doc_id = d.doc_id AND w.position = t.position"
    scales, terms = [], []
    for block in range(1, depths):  # the block reads depth block - 1; lists count from 1
        for column, scale in zip((ig[block - 1], ctx[block - 1]), _scales(run, block), strict=True):
            scales.append(f"{scale} AS scale_{column}")
            terms.append(f"t.{column} * a.scale_{column}")
    sums = " + ".join(f"t.{column}::DOUBLE" for column in ig[:-1])
    return _fill(
        "tokens",
        run_id=quote(run.manifest.run_id),
        own=", ".join(own),
        columns=", ".join(f"t.{column}" for column in (*ig, *ctx)),
        effect=f"({sums}) / {depths - 1}",
        score=" + ".join(terms),
        scales=", ".join(scales),
        tokens=_shard_scan(run, 1, schema),
        documents=document_scan(run),
        of_class=_of_class(run, "a.target"),
        run_documents=rows.documents,
        shown=SHOWN.format("a"),
        words=words,
    )


def _words_of(run: RunFiles) -> str | None:
    """The scan of the run's file of words; None where it has none."""
    return None if run.words is None or not is_file(run.words) else scan([run.words])


def _word_tokens(run: RunFiles, rows: Rows) -> str:
    run_id = quote(run.manifest.run_id)
    if (held := _words_of(run)) is not None:
        return _fill("word_tokens", run_id=run_id, words=held)
    schema = token_schema(run.manifest.depths, "text")
    stored = run.manifest.modality == "text"
    tokens = _shard_scan(run, 1, schema) if stored else f"SELECT * FROM ({_empty(schema)})"
    return _fill(
        "stored_words",
        run_id=run_id,
        tokens=tokens,
        of_class=_of_class(run, f"d.{EXPLAINED}"),
        run_documents=rows.documents,
    )


def _scales(run: RunFiles, block: int) -> tuple[str, str]:
    """What a block's LIG and context are multiplied by in the score, as `calig.attribution.fusion` has it."""
    shares = 1 - run.manifest.weight, run.manifest.weight
    if run.manifest.method["fusion"] == "column":
        norms = f"ig_norm[{block}]", f"context_norm[{block}]"
        ig, ctx = (
            f"coalesce({share!r}::DOUBLE / nullif({norm}, 0), 0)"
            for share, norm in zip(shares, norms, strict=True)
        )
        return ig, ctx
    return (
        f"{shares[0]!r}::DOUBLE * depth_weight[{block}]",
        f"{shares[1]!r}::DOUBLE * depth_weight[{block}] * heads",
    )


def file_rows(run: RunFiles) -> Rows:
    """Return the run's documents and their contents as they lie in files."""
    explained = scan([run.explained]) if run.explained else f"({explained_rows(run)})"
    documents = (
        f"(SELECT d.*, e.target AS {EXPLAINED} FROM {scan([run.documents])} AS d "
        f"LEFT JOIN {explained} AS e ON e.doc_id = d.doc_id)"
    )
    return Rows(documents, scan(run.corpus))


def explained_rows(run: RunFiles) -> str:
    """Return the SELECT of the class that the run shows of each of its documents, as its rule has it now."""
    rows = document_scan(run, "doc_key, failure, target, predicted, logits")
    return explained_query(asked_of(run.manifest), run.manifest.head, scan([run.documents]), f"({rows})")


def write_explained(warehouse: Warehouse, run_id: str) -> None:
    """Settle which class of each document a run shows: when all is attributed, and before its tables are made."""
    query = f"{explained_rows(run_files(warehouse, run_id))} ORDER BY doc_id"
    with tempfile.TemporaryDirectory(prefix="calig-") as folder, duckdb.connect() as connection:
        connection.execute("SET temp_directory = ?", [folder])
        rows = connection.sql(query).to_arrow_table()
    with warehouse.files.making(warehouse.run(run_id) / FILE) as part:
        pq.write_table(rows.cast(SCHEMA), part, compression="zstd")


def document_scan(run: RunFiles, columns: str | None = None) -> str:
    """Return the SELECT of all rows of the documents files of the run's attributions, less the thumbnails.

    `columns`, in SQL, may name fewer, and ``filename``, the file that holds the row.
    """
    columns = columns or ("* EXCLUDE (thumbnail)" if run.manifest.modality == "image" else "*")
    return _shard_scan(run, 0, document_schema(run.manifest.modality), columns)


def _extras(run: RunFiles) -> str:
    """Return the corpus's own columns, as SQL that goes on a list of columns.

    One that is called as a column of the view, which an earlier version had not, is there as corpus_<name>.
    """
    taken = set(DOCUMENT_VIEW)
    columns = [column for column in pq.read_schema(run.documents).names if column not in RUN_COLUMNS]
    return "".join(
        f", d.{name(column)} AS {name(free_name(column, DOCUMENT_VIEW, taken))}" for column in columns
    )


def _documents(run: RunFiles, rows: Rows, extras: str = "") -> str:
    image = run.manifest.modality == "image"
    label_id, label_ids, label_value = LABELS[run.manifest.head]
    return _fill(
        "documents",
        run_id=quote(run.manifest.run_id),
        classes=f"[{', '.join(quote(label) for label in run.manifest.classes)}]::VARCHAR[]",
        extra=extras,
        text="NULL::VARCHAR" if image else "c.text",
        text_pair="c.text_pair" if not image and paired(run) else "NULL::VARCHAR",
        image="c.image" if image else "NULL::VARCHAR",
        grid=", ".join(
            f"{'a.' if image else 'NULL::SMALLINT AS '}grid_{side}" for side in ("rows", "columns")
        ),
        head=quote(run.manifest.head),
        fixed_steps="false" if run.manifest.method.get("steps") is None else "true",
        label_id=label_id,
        label_ids=label_ids,
        label_value=label_value,
        absent=_ABSENT if asked_of(run.manifest) == "label" else "'missing'",
        run_documents=rows.documents,
        documents=document_scan(run),
        shown=SHOWN.format("a"),
        corpus=rows.contents,
    )


def paired(run: RunFiles) -> bool:
    """Whether the corpus is one of pairs; an older corpus may have a column of that name of its own, as the run has."""
    corpus, documents = (pq.read_schema(path).names for path in (run.corpus[0], run.documents))
    return "text_pair" in corpus and "text_pair" not in documents


def _thumbnails(run: RunFiles) -> str:
    thumbnail = "thumbnail" if run.manifest.modality == "image" else "NULL::BLOB AS thumbnail"
    columns = f"doc_key, target, {thumbnail}"
    return _fill(
        "thumbnails",
        run_id=quote(run.manifest.run_id),
        thumbnails=_shard_scan(run, 0, document_schema(run.manifest.modality), columns),
        run_documents=file_rows(run).documents,
        shown=SHOWN.format("a"),
    )


def view_queries(runs: Sequence[RunFiles]) -> dict[str, str]:
    """Return the SELECT behind each view, by name, in the order they must be made.

    The queries speak of the table `settling` (of calig.duckdb) and of each other.
    """
    depths = max(run.manifest.depths for run in runs)
    united = "\nUNION ALL BY NAME\n"
    queries = {
        "tokens": united.join(_tokens(run, file_rows(run)) for run in runs),
        "documents": united.join(_documents(run, file_rows(run), _extras(run)) for run in runs),
        "relevance_long": _fill(
            "relevance_long",
            depths=depths,
            ig=", ".join(ig_columns(depths)),
            ctx=", ".join(context_columns(depths)),
        ),
        "word_tokens": united.join(_word_tokens(run, file_rows(run)) for run in runs),
        **item_queries(),
        "thumbnails": united.join(_thumbnails(run) for run in runs),
    }
    return {view: queries[view] for view in ("tokens", "documents", "word_tokens", *VIEWS)}


def item_queries(whole: bool = False) -> dict[str, str]:
    """Return the SELECT behind `words` and `patches`, which speak of `tokens`, `word_tokens` and `documents` alone.

    `whole`: effects and scores are whole numbers, and so are their shares, rounded down by less than one.
    """
    return {"words": _fill("words", over="//" if whole else "/"), "patches": _fill("patches")}


def portion_queries(run: RunFiles, rows: Rows) -> dict[str, str]:
    """Return the SELECTs behind `tokens`, `word_tokens` and `documents`, of the run's documents in `rows` alone.

    The corpus's own columns are left out: no number is made of them, and their names could meet those of ours.
    """
    queries = {"tokens": _tokens(run, rows), "documents": _documents(run, rows)}
    return {**queries, "word_tokens": _word_tokens(run, rows)}


def create_views(connection: duckdb.DuckDBPyConnection, runs: Sequence[RunFiles]) -> None:
    """Make the TEMP views of the runs, with comments, on a connection that sees the table `settling`."""
    for view, query in view_queries(runs).items():
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {query}")
    for view in VIEWS:
        columns = [row[0] for row in connection.execute(f"DESCRIBE temp.{view}").fetchall()]
        for statement in comment_statements("VIEW", view, columns):
            connection.execute(statement)
