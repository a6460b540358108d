"""What all parts of the configuration are made of."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

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


def _label_keys(value: object) -> object:
    """Write the values of labels, which YAML may have read as numbers or booleans, as text."""
    if not isinstance(value, dict):
        return value
    if not value:
        raise ValueError("should be names, indices, or a mapping with at least one value")
    if None in value:
        raise ValueError("has null as a value: a label that is not there needs no entry")
    written = {str(key): one for key, one in value.items()}
    if len(written) < len(value):
        raise ValueError("has a value twice, with quotes and without: keep one")
    return written


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


LabelMapping = Annotated[dict[str, Integer | Text | None], BeforeValidator(_label_keys)]
"""Value of a label, as text → name or index of a class, None for no label."""


class Section(BaseModel):
    """A part of the configuration: unknown fields, infinities and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
