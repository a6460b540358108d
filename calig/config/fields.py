"""What all parts of the configuration are made of."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _no_bool(value: object) -> object:
    """Refuse true and false where a number is asked for: pydantic would read them as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


def _target(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise ValueError("should be predicted, runner-up, label, a class index or a class name")
    if isinstance(value, int) and value < 0:
        raise ValueError("should be a class index of 0 or more")
    return value


def _labels(value: object) -> object:
    """Check how labels are read, and write their values, which YAML may have read as numbers or booleans, as text."""
    if value is None or value in ("names", "indices"):
        return value
    if not isinstance(value, dict) or not value:
        raise ValueError("should be names, indices, or a mapping from each value to a class")
    if None in value:
        raise ValueError("has null as a value: a label that is not there needs no entry")
    if any(isinstance(meant, bool) or not isinstance(meant, str | int | None) for meant in value.values()):
        raise ValueError("should map each value to a class's name, its index, or null")
    written = {str(key): meant for key, meant in value.items()}
    if len(written) < len(value):
        raise ValueError("has a value twice, with quotes and without: keep one")
    return written


def columns_kept(value: object) -> object:
    """Check which columns are kept: names, or those that are not."""
    named = value
    if isinstance(value, dict) and list(value) == ["without"]:
        named = value["without"]
    if isinstance(named, list | tuple) and not all(isinstance(name, str) and name for name in named):
        raise ValueError("should have names of columns: put those that are numbers in quotes")
    if isinstance(value, str | int | float) or (
        isinstance(value, dict) and not isinstance(named, list | tuple)
    ):
        raise ValueError("should be a list of names, or without: a list of names")
    return value


def _day(value: object) -> object:
    """Read an ISO date; pydantic would take numbers for seconds since 1970."""
    try:
        day = dt.date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        day = None
    if type(day) is not dt.date or not 1970 <= day.year < 9000:
        raise ValueError("should be a date such as 2026-11-24")
    return day


Day = Annotated[dt.date, BeforeValidator(_day)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
"""What runs, gates and watch lists may be called."""
Integer = Annotated[int, BeforeValidator(_no_bool)]
Number = Annotated[float, BeforeValidator(_no_bool)]
Text = Annotated[str, Field(min_length=1)]
Target = Annotated[int | str, BeforeValidator(_target)]


LabelReading = Annotated[
    Literal["names", "indices"] | dict[str, Integer | Text | None] | None, BeforeValidator(_labels)
]
"""How labels are read; a mapping: the value of a label, as text → name or index of a class, None for no label."""


class Section(BaseModel):
    """A part of the configuration: unknown fields, infinities and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
