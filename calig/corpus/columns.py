"""Which columns of a source are kept, under which name and as which type."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pat

from calig.config.schema import ColumnType, CorpusConfig
from calig.corpus import values
from calig.corpus.json_types import JSON
from calig.errors import InputError
from calig.records import DOCUMENT_VIEW, free_name

_OURS = frozenset(name.lower() for name in (*DOCUMENT_VIEW, "image_bytes"))
"""Names of the view `documents`, and of the one column of a corpus's parts that it does not show."""


@dataclass(frozen=True, slots=True)
class Extra:
    """An extra column: its name in the source, its name and type in the parts.

    `given` is the type that the configuration says it has, None where that is left to the source.
    """

    source: str
    name: str
    type: pa.DataType
    given: ColumnType | None = None


def is_kept(corpus: CorpusConfig, name: str) -> bool:
    """Whether a column is read: one with a role of its own always, others as `corpus.columns` says."""
    by = None if corpus.sample is None else corpus.sample.by
    roles = (corpus.text, corpus.text_pair, corpus.image, corpus.label, corpus.id, corpus.rationale, by)
    if corpus.columns is None or name in roles:
        return True
    if isinstance(corpus.columns, tuple):
        return name in corpus.columns
    return name not in corpus.columns.without


def plan_extras(
    schema: pa.Schema, used: Collection[str], types: Mapping[str, ColumnType]
) -> tuple[list[Extra], dict[str, str]]:
    """Return the extra columns to keep, and those left out with their types.

    Parameters
    ----------
    schema
        All columns of the source.
    used
        Columns that are not extra: the text, the label, the id.
    types
        What the configuration says of columns' types.
    """
    kept: list[tuple[str, str, pa.DataType]] = []
    left_out: dict[str, str] = {}
    for position, field in enumerate(schema):
        if field.name in used:
            continue
        given = types.get(field.name)
        kind = storable(field.type) if given is None else values.ARROW[given]
        if kind is None:
            left_out[field.name] = str(field.type)
            continue
        kept.append((field.name, field.name.replace("\0", "").strip() or f"column_{position}", kind))
    names = _names([name for _, name, _ in kept])
    extras = [
        Extra(source, name, kind, types.get(source))
        for (source, _, kind), name in zip(kept, names, strict=True)
    ]
    return extras, left_out


def _names(wanted: Sequence[str]) -> list[str]:
    """Return names that differ, also for SQL; those that are free as they are stay."""
    taken = set(_OURS)
    found: dict[int, str] = {}
    for place, name in sorted(enumerate(wanted), key=lambda pair: pair[1].lower() in _OURS):
        found[place] = free_name(name, _OURS, taken)
    return [found[place] for place in range(len(wanted))]


def storable(kind: pa.DataType) -> pa.DataType | None:
    """Return the type that `kind` is stored as, None if it is not: bytes, nulls, maps, durations, unions."""
    if pat.is_dictionary(kind):
        return storable(kind.value_type)
    if kind.equals(JSON):
        return pa.string()
    if is_text(kind):
        return pa.string()
    if pat.is_float16(kind):
        return pa.float32()
    if pat.is_date(kind):
        return pa.date32()
    if pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind):
        inner = None if pat.is_dictionary(kind.value_type) else storable(kind.value_type)
        return None if inner is None else pa.list_(inner)
    if pat.is_struct(kind):
        fields = [(field.name, storable(field.type)) for field in kind]
        whole = fields and not any(inner is None or pat.is_dictionary(inner) for _, inner in fields)
        return pa.struct(fields) if whole else None
    plain = (
        pat.is_boolean,
        pat.is_integer,
        pat.is_floating,
        pat.is_decimal128,
        pat.is_timestamp,
        pat.is_time,
    )
    return kind if any(test(kind) for test in plain) else None


def is_text(kind: pa.DataType) -> bool:
    """Whether `kind` is one of Arrow's string types."""
    return bool(pat.is_string(kind) or pat.is_large_string(kind) or pat.is_string_view(kind))


def cast(column: pa.ChunkedArray, kind: pa.DataType, name: str, file: str) -> pa.ChunkedArray:
    """Cast without loss; an InputError names the column and the file."""
    try:
        return column if column.type.equals(kind) else column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{file}: column {name!r} is {column.type} and does not fit the {kind} it is elsewhere: {reason}; set "
            "corpus.types, or leave it out in corpus.columns"
        ) from error
