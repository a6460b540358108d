"""What a comparison can say of a difference: that it is a change, that it is none, or neither of the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from calig.bootstrap import Doubles

State: TypeAlias = Literal["changed", "no change", "cannot tell", "not tested"]

CHANGED, NO_CHANGE, CANNOT_TELL, NOT_TESTED = get_args(State)


def within(low: Doubles, high: Doubles, least: Doubles | float) -> Any:
    """(k,) whether the 95 % interval from `low` to `high` holds no difference of more than `least`; of NaN not."""
    return (low >= -least) & (high <= least)


def states(changed: Any, tested: Any, none: Any) -> list[State]:
    """The states of k differences.

    Parameters
    ----------
    changed
        (k,) whether it is called changed.
    tested
        (k,) whether any test was made of it.
    none
        (k,) whether what the documents say of it leaves room for no change (`within`).
    """
    chosen: Sequence[str] = np.select(
        [np.asarray(changed, bool), ~np.asarray(tested, bool), np.asarray(none, bool)],
        [CHANGED, NOT_TESTED, NO_CHANGE],
        CANNOT_TELL,
    ).tolist()
    return [*map(_STATES.__getitem__, chosen)]


_STATES: dict[str, State] = {state: state for state in get_args(State)}
