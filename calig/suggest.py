"""An audit's YAML to begin with: from what is found in a model and a corpus, with every option as a comment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as pat

from calig.config import CorpusConfig, parse_config
from calig.config.commented import commented
from calig.config.schema import ColumnType
from calig.corpus.columns import is_text
from calig.corpus.files import open_files
from calig.corpus.images import check_image_type
from calig.corpus.json_types import JSON
from calig.corpus.source import Source, as_written
from calig.errors import InputError
from calig.models.configuration import modality_of, read_config
from calig.models.heads import class_names, find_head
from calig.records import Head

ROWS = 100_000
"""Rows that are looked at."""
VALUES = 1_000
"""Different values of a column that are kept; of one with more, labels and ids are not told by its values."""

_TEXTS = (
    "text",
    "sentence",
    "review",
    "content",
    "document",
    "body",
    "comment",
    "tweet",
    "message",
    "description",
)
_PAIRS = (
    *(("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"), ("text1", "text2")),
    *(("question", "answer"), ("question", "sentence"), ("query", "passage"), ("sentence_a", "sentence_b")),
)
_LABELS = ("label", "labels", "class", "target", "sentiment", "category", "stars", "rating", "score", "y")
_IDS = ("id", "uuid", "key", "idx", "doc_id", "document_id")
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,13})(\.\d{1,9})?")


@dataclass(slots=True, eq=False)
class _Column:
    """What is known of a column's values as they are written."""

    rows: int = 0
    nulls: int = 0
    characters: int = 0
    values: set[str] = field(default_factory=set)
    unique: bool = True
    types: set[ColumnType] = field(
        default_factory=lambda: {"integer", "number", "boolean", "date", "timestamp"}
    )
    decimals: set[int] = field(default_factory=set)

    def add(self, texts: Iterable[object]) -> None:
        for value in texts:
            self.rows += 1
            if value is None:
                self.nulls += 1
                continue
            text = value if isinstance(value, str) else str(value)
            self.characters += len(text)
            if len(self.values) < VALUES:
                self.unique = self.unique and text not in self.values
                self.values.add(text)
            self.types = {kind for kind in self.types if self._fits(text, kind)}

    def _fits(self, text: str, kind: ColumnType) -> bool:
        if kind == "integer":
            return _INTEGER.fullmatch(text) is not None
        if kind == "number":
            self.decimals.add(len(text.partition(".")[2]))
            return _NUMBER.fullmatch(text) is not None
        if kind == "boolean":
            return text in ("true", "false", "True", "False")
        try:
            date.fromisoformat(text) if kind == "date" else datetime.fromisoformat(text)
        except ValueError:
            return False
        return re.match(r"\d{4}-\d\d-\d\d", text) is not None and (kind == "date" or len(text) > 10)

    @property
    def type(self) -> ColumnType | None:
        """What all values can be read as without losing how they are written; None: text.

        Of decimals, some with a zero at the end and some shorter, may be versions: 3.9 and 3.10.
        """
        if self.rows == self.nulls:
            return None
        order: Sequence[ColumnType] = ("integer", "boolean", "date", "timestamp", "number")
        found = next((kind for kind in order if kind in self.types), None)
        uneven = len(self.decimals) > 1 and any("." in text and text.endswith("0") for text in self.values)
        return None if found == "number" and uneven else found


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The YAML, and what was found, a line each."""

    yaml: str
    found: tuple[str, ...]


def suggest(
    model: str,
    path: str,
    *,
    name: str,
    warehouse: str = "warehouse",
    text: str | None = None,
    label: str | None = None,
) -> Suggestion:
    """Return an audit's YAML for a model and a corpus.

    Parameters
    ----------
    model
        Folder or hub id.
    path
        Files of documents, as `corpus.path` takes them.
    name, warehouse
        As in the configuration.
    text, label
        Columns; None: they are found by their names and values.

    Raises
    ------
    InputError
        The model or the corpus cannot be read, or has no column that holds what the model reads.
    """
    config = read_config(model)
    head = find_head(config)
    classes = class_names(config, head)
    modality = modality_of(config)
    source = open_files(CorpusConfig(path=path), modality)
    columns = _looked_at(source)
    corpus: dict[str, Any] = {"path": path}
    notes: dict[str, str] = {}
    if modality == "text":
        corpus |= _texts(source, columns, text, label)
    elif source.image is None:
        corpus["image"] = _image_column(source)
    used = list(corpus.values())
    corpus |= _labels(source, columns, used, label, head, classes, notes)
    if source.id is None and (found := _id(columns, [*used, corpus.get("label")])):
        corpus["id"] = found
    roles = {corpus.get(role) for role in ("text", "text_pair", "image", "label", "id")}
    others = {name: column for name, column in columns.items() if name not in roles}
    if types := {name: kind for name, column in others.items() if (kind := column.type) is not None}:
        if source.types == "text" and not _is_cut(columns):
            corpus["types"] = types
        elif source.types == "text":
            shown = ", ".join(f"{key}: {kind}" for key, kind in types.items())
            notes["corpus.types"] = f"By the first {ROWS:,} rows: {{{shown}}}"
    rows = max((column.rows for column in columns.values()), default=0)
    size = f"more than {rows:,}" if _is_cut(columns) else f"{rows:,}"
    kinds = {field.name: "JSON" if field.type.equals(JSON) else str(field.type) for field in source.schema}
    shown = ", ".join(f"{column} ({kind})" for column, kind in kinds.items())
    notes["corpus.path"] = f"Found: {size} rows with the columns {shown}"
    notes["model.id"] = f"Found: {head}, {len(classes)} classes: {', '.join(classes[:20])}" + (
        ", …" if len(classes) > 20 else ""
    )
    values = {"name": name, "model": {"id": model}, "corpus": corpus, "warehouse": warehouse}
    parse_config(values)
    said = [f"{role}: {value}" for role, value in corpus.items()]
    return Suggestion(
        "# Every option of an audit; those that are not set are comments, with their defaults.\n"
        + commented(values, notes),
        (
            f"{size} rows",
            notes["model.id"].removeprefix("Found: "),
            *said,
            *filter(None, [notes.get("corpus.label")]),
        ),
    )


def _looked_at(source: Source) -> dict[str, _Column]:
    """Look at the first rows of the columns whose values can be written as text on a line."""
    names = [field.name for field in source.schema if _is_plain(field.type)]
    columns = {name: _Column() for name in names}
    if not names:
        return columns
    rows = 0
    for batch in source.read(pa.schema([as_written(name) for name in names])):
        table = batch.table.slice(0, ROWS - rows)
        for name, column in columns.items():
            column.add(table.column(name).to_pylist())
        rows += table.num_rows
        if rows >= ROWS:
            break
    return columns


def _is_plain(kind: pa.DataType) -> bool:
    return not (pat.is_nested(kind) or pat.is_binary(kind) or pat.is_large_binary(kind)) or kind.equals(JSON)


def _is_cut(columns: Mapping[str, _Column]) -> bool:
    return any(column.rows >= ROWS for column in columns.values())


def _named(names: Iterable[str], wanted: Sequence[str]) -> Iterator[str]:
    """The names that are on the list, in its order, whatever their case."""
    by_name = {name.lower(): name for name in reversed(list(names))}
    yield from (by_name[one] for one in wanted if one in by_name)


def _texts(
    source: Source, columns: Mapping[str, _Column], given: str | None, label: str | None
) -> dict[str, str]:
    """The column or columns that the model reads: by their names, else the one with the longest texts."""
    held = [field.name for field in source.schema if is_text(field.type) or field.type.equals(JSON)]
    if given is not None:
        if given not in source.schema.names:
            raise InputError(
                f"--text: there is no column {given!r}; there are {', '.join(source.schema.names)}"
            )
        return {"text": given}
    for pair in _PAIRS:
        found = [*_named(held, pair)]
        if len(found) == len(pair):
            return {"text": found[0], "text_pair": found[1]}
    candidates = [name for name in held if name != label and columns[name].characters]
    candidates = candidates or [*_named(held, _TEXTS)]  # of files without a row
    if not candidates:
        raise InputError(
            f"{source.name} has no column with texts in it; it has {', '.join(source.schema.names) or 'no columns'}"
        )
    longest = max(candidates, key=lambda name: columns[name].characters)
    return {"text": next(_named(candidates, _TEXTS), longest)}


def _image_column(source: Source) -> str:
    for name in (
        *_named(source.schema.names, ("image", "img", "picture", "file", "path")),
        *source.schema.names,
    ):
        try:
            check_image_type(source, name)
        except InputError:
            continue
        return str(name)
    raise InputError(f"{source.name} has no column of images; it has {', '.join(source.schema.names)}")


def _labels(
    source: Source,
    columns: Mapping[str, _Column],
    used: Sequence[str],
    given: str | None,
    head: Head,
    classes: Sequence[str],
    notes: dict[str, str],
) -> dict[str, Any]:
    """The label's column and, where the classes' names leave it open, how labels are read."""
    if given is not None and given not in source.schema.names:
        raise InputError(f"--label: there is no column {given!r}; there are {', '.join(source.schema.names)}")
    free = [name for name in source.schema.names if name not in used]
    names = [given] if given is not None else [*_named(free, _LABELS)]
    if head == "regression":
        fitting = [name for name in names if name in columns and columns[name].type in ("integer", "number")]
        return {"label": fitting[0]} if fitting else {}
    if head == "multi_label":  # lists, whose values are not looked at
        return {"label": names[0]} if names else {}
    if given is None:
        names += [name for name in free if name not in names]
    for name in names:
        if (column := columns.get(name)) is None or not column.values:
            continue
        reading = _reading(column.values, classes, source.label_names)
        if reading is not None and (given is not None or name.lower() in _LABELS or reading == "by name"):
            ambiguous = all(_INTEGER.fullmatch(one) for one in classes)
            return {"label": name} | ({"labels": "names"} if ambiguous else {})
    if names and (given is not None or names[0].lower() in _LABELS):
        seen = sorted(columns[names[0]].values)[:8] if names[0] in columns else []
        notes["corpus.label"] = (
            f"The values of column {names[0]!r} ({', '.join(seen)}) are not the model's classes "
            f"({', '.join(classes[:8])}): set label: {names[0]}, and labels: {{value: class}} for each"
        )
        return {"label": names[0]} if given is not None else {}
    return {}


def _reading(values: Iterable[str], classes: Sequence[str], names: Sequence[str] | None) -> str | None:
    """How the values are classes: "by name", "by index", or not at all."""
    folded = {one.casefold() for one in classes}
    if all(value.casefold() in folded for value in values):
        return "by name"
    indices = [_index(value) for value in values]
    if any(index is None or index >= len(classes) for index in indices):
        return None
    return "by index" if names is None or {one.casefold() for one in names} == folded else None


def _index(value: str) -> int | None:
    digits = value.upper().removeprefix("LABEL_").removesuffix(".0")
    return int(digits) if re.fullmatch(r"\d{1,6}", digits) else None


def _id(columns: Mapping[str, _Column], used: Sequence[str | None]) -> str | None:
    """A column that names the documents: called so, every row with a value of its own."""
    free = [name for name in columns if name not in used]
    called = [*_named(free, _IDS), *(name for name in free if name.lower().endswith("_id"))]
    for name in called:
        column = columns[name]
        if column.rows and not column.nulls and column.unique:
            return name
    return None


def file_name(path: str) -> str:
    """Return the name of an audit of these files: the last part of the path that is no glob, without its endings."""
    parts = [part for part in re.split(r"[/\\]", path.rstrip("/")) if part and not set("*?[{") & set(part)]
    stem = Path(parts[-1] if parts else "audit").name.partition(".")[0]
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-.")
    return name or "audit"
