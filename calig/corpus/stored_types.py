"""The types of columns that an audit's first run found, which later runs keep: `types/<audit>.json` in the warehouse.

Written beside what `calig prune` removes, and only added to: a column that is new gets its type on the day on which it
comes. Types are Arrow's, as Arrow names them; a list is {"list": type}, an object {"object": {field: type}}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as pat

from calig.corpus.json_types import JSON
from calig.errors import InputError
from calig.files import Files
from calig.formats import readable, stamp

_PLAIN = {
    str(kind): kind
    for kind in (
        *(pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32()),
        *(pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.date32()),
        *(pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
        *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC")),
    )
}


def types_path(root: Path, audit: str) -> Path:
    """Return where an audit's types are in the warehouse `root`."""
    return Path(root) / "types" / f"{audit}.json"


def load_types(root: Path, audit: str | None) -> dict[str, pa.DataType]:
    """Return the types that are stored for an audit, none for one without a name.

    Raises
    ------
    InputError
        The file is damaged, or of a newer format.
    """
    if audit is None:
        return {}
    path = types_path(root, audit)
    try:
        stored = readable(f"the types of the columns of {audit}", json.loads(path.read_bytes()))
        return {name: _type(value) for name, value in stored["columns"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged: delete it; the next run of {audit} finds the columns' types anew"
        ) from error


def store_types(files: Files, audit: str | None, types: Mapping[str, pa.DataType]) -> None:
    """Add the types of columns that have none yet."""
    if audit is None:
        return
    known = load_types(files.root, audit)
    new = {name: _described(kind) for name, kind in types.items() if name not in known}
    new = {name: value for name, value in new.items() if value is not None}
    if new:
        columns = {name: _described(kind) for name, kind in known.items()} | new
        files.write_json(types_path(files.root, audit), {**stamp(), "columns": columns})


def _described(kind: pa.DataType) -> Any:
    """Return a type as JSON; None of one that cannot be."""
    if kind.equals(JSON):
        return "json"
    if pat.is_list(kind):
        inner = _described(kind.value_type)
        return None if inner is None else {"list": inner}
    if pat.is_struct(kind):
        fields = {field.name: _described(field.type) for field in kind}
        return None if None in fields.values() else {"object": fields}
    return str(kind) if str(kind) in _PLAIN else None


def _type(value: Any) -> pa.DataType:
    if value == "json":
        return JSON
    if isinstance(value, str):
        return _PLAIN[value]
    if "list" in value:
        return pa.list_(_type(value["list"]))
    return pa.struct([(name, _type(one)) for name, one in value["object"].items()])
