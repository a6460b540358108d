"""The tiers of the tests. `make test` runs what has no mark, `make test-all` also what is marked `extended`.

What is marked `long` runs by hand alone: `make test-long`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def extended(reason: str) -> pytest.MarkDecorator:
    """Mark a test of the second tier; the reason says why it is not in the first."""
    return pytest.mark.extended(reason)


def few(params: Iterable[Any], quick: Collection[Any], reason: str) -> list[Any]:
    """Parameters of a test, of which only those in `quick` stay in the first tier."""
    found = list(params)
    missing = [one for one in quick if one not in found]
    assert not missing, f"not among the parameters: {missing}"
    return [
        pytest.param(
            *(one if isinstance(one, tuple) else (one,)), marks=() if one in quick else extended(reason)
        )
        for one in found
    ]
