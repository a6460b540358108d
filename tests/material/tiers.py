"""The two tiers of the tests: `make test` runs what has no mark, `make test-all` also what is marked `extended`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def extended(reason: str) -> pytest.MarkDecorator:
    """Mark a test of the second tier; the reason says why it is not in the first."""
    return pytest.mark.extended(reason)


def few(params: Iterable[Any], quick: Collection[Any], reason: str) -> list[Any]:
    """The parameters of a test, those that are not in `quick` in the second tier.

    A tuple holds values of several arguments. A `pytest.param` with an id is looked up by it, others by their value.
    """
    found, first = [], 0
    for param in params:
        one = (
            param
            if hasattr(param, "marks")
            else pytest.param(*param if isinstance(param, tuple) else (param,))
        )
        value = one.id or (one.values[0] if len(one.values) == 1 else one.values)
        added = () if value in quick else (extended(reason),)
        first += value in quick
        found.append(pytest.param(*one.values, marks=(*one.marks, *added), id=one.id))
    assert first, "nothing is left in the first tier"
    return found
