"""Dates in the names of a corpus: `{{ yesterday }}` and the like, which each run fills in for itself.

::

    {{ today }}  {{ yesterday }}           2026-11-24, the day of the run and the one before it
    {{ today - 7d }}  {{ today + 1d }}     so many days earlier or later
    {{ yesterday:%Y/%m/%d }}               in another form; both together: {{ today - 7d:%Y%m%d }}

In a form, %Y year, %y its last two digits, %m month, %d day, %j day of the year, %G and %V ISO year and week, %u day of
the week (Monday is 1), %% a percent sign. In a prefect.yaml give one, as in {{ yesterday:%Y-%m-%d }}: Prefect takes a
bare {{ yesterday }} for a variable of its own, and empties it.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

_PLACEHOLDER = re.compile(r"\{\{.*?\}\}|\{\{|\}\}")
_DATE = re.compile(
    r"\{\{\s*(?P<day>today|yesterday)\s*(?:(?P<sign>[+-])\s*(?P<days>\d{1,4})d\s*)?(?::\s*(?P<form>[^{}]*?)\s*)?\}\}"
)
_FORM = re.compile(r"(?:[^%]|%[YymdjGVu%])+")


DEFAULT_ZONE = "UTC"
"""The time zone of an audit that names none."""


def zone(name: str) -> tzinfo:
    """Return the time zone of an IANA name, such as Europe/Berlin; ValueError if there is none."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise ValueError("should be a time zone's IANA name, for example Europe/Berlin") from None


def day_of(moment: datetime, timezone: str) -> date:
    """Return the day on which a moment, with its zone, falls in a time zone."""
    return moment.astimezone(zone(timezone)).date()


def is_dated(text: str) -> bool:
    """Whether `text` has a placeholder."""
    return _PLACEHOLDER.search(text) is not None


def expand(text: str, today: date) -> str:
    """Fill in the placeholders of `text` for the day `today`; ValueError says which one is wrong."""

    def fill(match: re.Match[str]) -> str:
        found = _DATE.fullmatch(match[0])
        if found is None or (found["form"] is not None and not _FORM.fullmatch(found["form"])):
            raise ValueError(
                f"{match[0]} is no date: write {{{{ today }}}}, {{{{ yesterday }}}}, {{{{ today - 7d }}}} or "
                "{{ yesterday:%Y/%m/%d }}, with %Y %y %m %d %j %G %V %u or %% in the form"
            )
        days = int(f"{found['sign'] or ''}{found['days'] or 0}") - (found["day"] == "yesterday")
        return (today + timedelta(days)).strftime(found["form"] or "%Y-%m-%d")

    return _PLACEHOLDER.sub(fill, text)
