"""The rows of a corpus as the parts hold them, and the hash that names them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from calig.config import CorpusConfig
from calig.corpus.columns import Extra, cast
from calig.corpus.images import take_images
from calig.corpus.labels import Labels
from calig.corpus.source import Batch
from calig.corpus.values import converted
from calig.errors import InputError
from calig.records import Modality, document_key


def own_columns(modality: Modality, paired: bool, label: pa.DataType) -> list[tuple[str, pa.DataType]]:
    """Return the columns that every part has, `text_pair` only where the documents are pairs.

    Of images: a reference, and the bytes, which are null where the reference is the path of a file.
    """
    texts = [("text", pa.string()), *([("text_pair", pa.string())] if paired else [])]
    images = [("image", pa.string()), ("image_bytes", pa.binary())]
    return [
        ("doc_id", pa.int64()),
        ("source_id", pa.string()),
        ("doc_key", pa.string()),
        *(images if modality == "image" else texts),
        ("label", label),
    ]


_IN_THE_KEY = ("doc_id", "text", "text_pair")
"""Columns that the hash need not cover: their order and `doc_key` say all."""


class Content:
    """Make the rows of the parts, and hash them column by column, so that batch bounds do not show."""

    def __init__(
        self,
        schema: pa.Schema,
        corpus: CorpusConfig,
        extras: Sequence[Extra],
        labels: Labels,
        one_class: bool,
        modality: Modality = "text",
    ) -> None:
        self.schema, self.corpus, self.extras = schema, corpus, extras
        self.modality = modality
        self.labels, self.one_class = labels, one_class
        self.documents = 0
        self.labelled = False
        self.without_id = 0
        self.misfits: dict[str, tuple[int, str]] = {}
        """Column → how many values do not fit its type, and the first of them."""
        self._digests = {name: hashlib.sha256() for name in schema.names if name not in _IN_THE_KEY}

    def keys(self, batch: Batch) -> Sequence[str]:
        """Return the keys of a batch's documents."""
        for name in batch.table.column_names:
            _check_utf8(batch, name)
        return [str(key) for key in self._inputs(batch)[0]]

    def take(self, batch: Batch, first: int | None = None) -> pa.Table:
        """Return the batch as rows of a part; `first` is its first row's number in the source, if not all are taken."""
        table, corpus = batch.table, self.corpus
        for name in table.column_names:
            _check_utf8(batch, name)
        count = table.num_rows
        first = self.documents if first is None else first
        ordinals = range(self.documents, self.documents + count)
        labels: Sequence[object] = [None] * count
        if corpus.label is not None:
            labels = self.labels.rows(_label_values(table.column(corpus.label)), batch.file, batch.row)
            if self.one_class and self.labels.unmatched.total:
                [value, *_] = self.labels.unmatched.counts
                raise InputError(
                    f"{self.labels.unmatched.first}: label {value!r} is not a class of the model, and method.target: "
                    "label explains the labelled class: correct it, or map it in corpus.labels"
                )
        ids = [str(number) for number in range(first, first + count)]
        if corpus.id is not None:
            column = table.column(corpus.id)
            given = cast(column, pa.string(), corpus.id, batch.file).to_pylist()
            ids = [own or ordinal for own, ordinal in zip(given, ids, strict=True)]
        self.without_id += count if corpus.id is None else sum(not own for own in given)
        if self.one_class:
            for i, label in enumerate(labels):
                self.labels.single(label, batch.file, batch.row + i)
        own = [ordinals, ids, *self._inputs(batch), labels]
        arrays = [pa.array(values, self.schema.field(i).type) for i, values in enumerate(own)]
        rows = pa.Table.from_arrays(
            [*arrays, *(self._extra(batch, extra) for extra in self.extras)], schema=self.schema
        )
        for misfit in batch.misfits:
            if batch.row <= misfit.row < batch.row + count:  # of a sample, a batch is cut into several
                known, example = self.misfits.get(
                    misfit.column, (0, f"{batch.file}, row {misfit.row}: {misfit.value}")
                )
                self.misfits[misfit.column] = known + 1, example
        for name, digest in self._digests.items():
            digest.update(json.dumps(_plain(rows.column(name)), default=str)[1:-1].encode() + b", ")
        self.documents += count
        self.labelled = self.labelled or any(label is not None for label in labels)
        return rows

    def _extra(self, batch: Batch, extra: Extra) -> pa.ChunkedArray:
        column = batch.table.column(extra.source)
        if extra.given is None:
            return column
        return converted(column, extra.given, extra.source, batch.file, batch.row)

    def _inputs(self, batch: Batch) -> Sequence[Sequence[object]]:
        """Return the columns from `doc_key` up to the label."""
        if self.modality == "image":
            return take_images(batch, self.corpus.image)
        table = batch.table
        names = [name for name in (self.corpus.text, self.corpus.text_pair) if name is not None]
        texts = [[text or "" for text in table.column(name).to_pylist()] for name in names]
        seconds: Sequence[str | None] = texts[1] if len(texts) > 1 else [None] * table.num_rows
        keys = [document_key(text, second) for text, second in zip(texts[0], seconds, strict=True)]
        return [keys, *texts]

    def key(self) -> str:
        """Return the hash of all rows taken: 32 hex digits."""
        columns = [
            (name, str(self.schema.field(name).type), digest.hexdigest())
            for name, digest in self._digests.items()
        ]
        return hashlib.sha256(json.dumps([self.documents, columns]).encode()).hexdigest()[:32]


def _plain(column: pa.ChunkedArray) -> list[object]:
    """Return values for JSON; times as whole numbers, since Python's are coarser and end sooner.

    Of bytes, whether there are any: `doc_key` says which.
    """
    if pat.is_binary(column.type):
        column = pc.is_valid(column)
    if pat.is_temporal(column.type):
        column = column.cast(pa.int64() if column.type.bit_width == 64 else pa.int32())
    values: list[object] = column.to_pylist()
    return values


def _label_values(column: pa.ChunkedArray) -> list[object]:
    values: list[object] = column.to_pylist()
    return values


def _check_utf8(batch: Batch, name: str) -> None:
    """Raise an InputError if the column has strings that are not UTF-8, which Arrow takes on trust."""
    column = batch.table.column(name)
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        row = batch.row
        if pat.is_string(column.type):
            for value in column.cast(pa.binary()).to_pylist():
                try:
                    (value or b"").decode("utf-8")
                except UnicodeDecodeError:
                    break
                row += 1
        raise InputError(
            f"{batch.file}, row {row}: column {name!r} is not UTF-8: write the file again in UTF-8"
        ) from error
