"""The tiers that tests are run in: the first is `make test`; these marks move a test to the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def extended(reason: str) -> pytest.MarkDecorator:
    """Second tier: run by `make test-all` and by CI."""
    return pytest.mark.extended(reason=reason)


def long(reason: str) -> pytest.MarkDecorator:
    """Run by hand, by `make test-long`."""
    return pytest.mark.long(reason=reason)


def few(params: Iterable[Any], quick: Collection[Any], reason: str) -> list[Any]:
    """The parameters of a test, those that are not in `quick` in the second tier.

    A tuple holds values of several arguments. A `pytest.param` with an id is looked up by it, others by their value.
    """
    found = []
    for param in params:
        one = (
            param
            if hasattr(param, "marks")
            else pytest.param(*param if isinstance(param, tuple) else (param,))
        )
        value = one.id or (one.values[0] if len(one.values) == 1 else one.values)
        added = () if value in quick else (extended(reason),)
        found.append(pytest.param(*one.values, marks=(*one.marks, *added), id=one.id))
    return found
