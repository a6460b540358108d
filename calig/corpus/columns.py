"""Which columns of a source are kept, under which name and as which type."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pat

from calig.errors import InputError

_OF_THE_CORPUS = (
    "run_id",
    "doc_id",
    "source_id",
    "doc_key",
    "text",
    "text_pair",
    "image",
    "image_bytes",
    "label",
)
_OF_THE_RESULT = (
    *(
        "label_id",
        "labels",
        "label_value",
        "predicted_labels",
        "predicted",
        "predicted_id",
        "target",
        "target_id",
        "correct",
        "probability",
        "logits",
        "logit",
    ),
    *(
        "baseline_logit",
        "error_estimate",
        "completeness_error",
        "converged",
        "nodes",
        "block_passes",
        "tokens",
        "grid_rows",
        "grid_columns",
    ),
    *("truncated", "seconds", "settling_depth", "failure", "failure_detail"),
)
RESERVED = frozenset((*_OF_THE_CORPUS, *_OF_THE_RESULT))
"""Names that the warehouse's own columns have; a source's column of such a name becomes `<name>_source`."""


@dataclass(frozen=True, slots=True)
class Extra:
    """An extra column: its name in the source, its name and type in the parts."""

    source: str
    name: str
    type: pa.DataType


def plan_extras(schema: pa.Schema, used: Collection[str]) -> tuple[list[Extra], dict[str, str]]:
    """Return the extra columns to keep, and those left out with their types.

    Parameters
    ----------
    schema
        All columns of the source.
    used
        Columns that are not extra: the text, the label, the id.
    """
    extras: list[Extra] = []
    left_out: dict[str, str] = {}
    taken = set(RESERVED)  # lower case: SQL names do not differ by case
    for position, field in enumerate(schema):
        if field.name in used:
            continue
        kept = storable(field.type)
        if kept is None:
            left_out[field.name] = str(field.type)
            continue
        name = field.name.replace("\0", "").strip() or f"column_{position}"
        while name.lower() in taken:
            name += "_source"
        taken.add(name.lower())
        extras.append(Extra(field.name, name, kept))
    return extras, left_out


def storable(kind: pa.DataType) -> pa.DataType | None:
    """Return the type that `kind` is stored as, None if it is not: bytes, nulls, maps, durations, unions."""
    if pat.is_dictionary(kind):
        return storable(kind.value_type)
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
            f"{file}: column {name!r} is {column.type} and does not fit the {kind} it is elsewhere: {reason}"
        ) from error
