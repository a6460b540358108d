"""Changed, no change, cannot tell, not tested: what is said of each difference, and how much could not be tested."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calig.bootstrap import expanded_intervals, mean_intervals
from calig.comparison import paired_share_interval, share_interval
from calig.comparison.permutation import Sums, t_interval
from calig.comparison.states import states, within
from tests.calig.comparison.simulated import Night, compared, night, rows


def _first(one: Night, documents: int) -> Night:
    columns = (getattr(one, name) for name in Night.__dataclass_fields__)
    return Night(*(None if own is None else own[:documents] for own in columns))


def test_a_state_is_the_first_that_holds() -> None:
    low, high = np.array([-0.1, -0.1, -0.3, np.nan]), np.array([0.1, 0.1, 0.1, np.nan])
    none = within(low, high, 0.2)
    assert none.tolist() == [True, True, False, False]
    assert states([True, False, False, False], [True, True, True, False], none) == [
        *("changed", "no change", "cannot tell", "not tested"),
    ]
    assert states([False], [False], [True]) == ["not tested"]


@pytest.mark.parametrize("paired", [False, True])
def test_a_state_is_what_p_and_the_interval_say(paired: bool) -> None:
    """Each row's state derived a second way, from its columns and the limits."""
    rng = np.random.default_rng(8)
    a, b = night(rng), night(rng)
    if paired:
        b.predicted, b.label, b.held = a.predicted, a.label, a.held
        b.effects = a.effects + rng.normal(0, 0.02, a.effects.shape)
    b.effects[:, 0] += 1
    b.measures[:, 1, 2] += 3
    found = compared(a, b, paired, min_effect=0.1, min_share=0.05, min_size=0.2)
    seen = set()
    for row in rows(found["words"]):
        everywhere = row["class"] == "*"
        meant = {"share": not paired, "effect": not everywhere}
        tested = {"share": not math.isnan(row["share_p"]), "effect": not math.isnan(row["p"])}
        share_low, share_high = share_interval(
            np.array([row["documents_a"]]), np.array([_of(a, row["class"])]),
            np.array([row["documents_b"]]), np.array([_of(b, row["class"])]),
        )[0]  # fmt: skip
        small = {
            "share": share_low >= -0.05 and share_high <= 0.05,
            "effect": row["low"] >= -0.1 and row["high"] <= 0.1,
        }
        expected = "cannot tell"
        if row["changed"]:
            expected = "changed"
        elif not any(tested.values()):
            expected = "not tested"
        elif all(tested[name] and small[name] for name in meant if meant[name]):
            expected = "no change"
        assert row["state"] == expected, row
        seen.add(expected)
    assert seen >= {"changed", "no change", "not tested"}
    assert paired or "cannot tell" in seen
    for row in rows(found["layers"]):
        small = max(-row["low"], row["high"]) <= 0.2 * row["unit"]
        expected = "changed" if row["changed"] else "no change" if small else "cannot tell"
        assert row["state"] == expected, row
    comparison = found["comparisons"]
    named = {row["word"] for row in rows(found["words"]) if row["state"] != "not tested"}
    held = {word for one in (a, b) for word in np.flatnonzero(one.held.any(axis=0))}
    assert comparison["words_untested"] == [len(held) - len(named)]
    assert comparison["layers_untested"] == comparison["outcomes_untested"] == [0]


def _of(one: Night, name: str) -> int:
    return len(one.predicted) if name == "*" else int((one.predicted == (name == "positive")).sum())


def test_a_run_of_one_document_tests_nothing() -> None:
    rng = np.random.default_rng(9)
    a, b = _first(night(rng), 60), _first(night(rng), 1)
    found = compared(a, b)
    row = {name: values[0] for name, values in found["comparisons"].items()}
    assert (row["words_tested"], row["layers_tested"], row["outcomes_tested"]) == (0, 0, 0)
    assert (
        row["verdict"]
        == "cannot tell whether anything changed: nothing could be tested, the runs have 60 and 1 documents"
    )
    assert row["outcomes_untested"] == len(
        {one["measure"] for one in rows(found["outcomes"]) if one["tested"]}
    )
    measures = {(one["measure"], one["depth"]) for one in rows(found["layers"])}
    assert row["layers_untested"] == len(measures) > 0
    assert row["words_untested"] == (a.held.any(axis=0) | b.held.any(axis=0)).sum()
    states_of = {one["state"] for file in ("outcomes", "layers", "words") for one in rows(found[file])}
    assert states_of == {"not tested"}
    assert all(
        one["low"] is None or math.isnan(one["low"])
        for one in rows(found["outcomes"]) + rows(found["layers"])
    )


def test_the_same_night_twice_is_tested_and_found_unchanged() -> None:
    """No document changed: that tells more than any test, and must not be taken for none."""
    one = night(np.random.default_rng(10))
    found = compared(one, one, paired=True)
    told = {row["measure"]: row["state"] for row in rows(found["outcomes"])}
    assert told.pop("labelled share") == told.pop("new documents", "not tested") == "not tested"
    assert set(told.values()) == {"no change"}
    few = compared(_first(one, 40), _first(one, 40), paired=True)
    told = {row["measure"]: row["state"] for row in rows(few["outcomes"])}
    assert told["accuracy"] == "cannot tell"  # none of 40 documents changed: up to 5 of 100 may


@pytest.mark.parametrize("count", [1, 2])
def test_no_interval_is_made_of_one_or_two_values(count: int) -> None:
    values = np.array([0.3, 0.4])[:count]
    assert np.isnan(mean_intervals(values[None])).all()
    one = np.ones(1)
    assert np.isnan(expanded_intervals(count * one, one, one, 0 * one)).all()
    many = Sums.of(np.arange(9.0))
    few = Sums.of(values)
    assert np.isnan(t_interval(few)).all()
    assert np.isnan(t_interval(many, few)).all()
    assert np.isnan(t_interval(few, many)).all()
    assert np.isnan(share_interval(one, count * one, one, 50 * one)).all()
    assert np.isnan(paired_share_interval(0, 0, count)).all()
    assert not np.isnan(mean_intervals(np.array([[0.3, 0.4, 0.5]]))).any()


def test_an_interval_of_paired_shares_is_the_published_one() -> None:
    """Worked by hand: 5 lost and 15 gained of 100, a half added to each of the four counts."""
    half = 1.959964 * math.sqrt((5.5 + 15.5) / 102 - (10 / 102) ** 2) / math.sqrt(102)
    assert paired_share_interval(5, 15, 100) == pytest.approx((10 / 102 - half, 10 / 102 + half))
    low, high = paired_share_interval(0, 0, 300)
    assert low == -high
    assert high == pytest.approx(1.959964 / 302)
