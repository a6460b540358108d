"""The words of two runs compared: in how many documents they are, and what they do there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from calig.bootstrap import Doubles
from calig.comparison.adjust import adjusted, adjusted_extremes
from calig.comparison.limits import Limits
from calig.comparison.permutation import (
    Counts,
    Sums,
    paired_floor,
    paired_p,
    paired_values_floor,
    samples_floor,
    samples_p,
    samples_values_floor,
    t_interval,
)
from calig.comparison.shares import all_in_b, share_interval, shares_floor, shares_p
from calig.comparison.states import states, within

BATCH = 1_000_000
"""Values held at once."""

EXTREME = 0.5
"""Part of the family's level that is for words new or gone altogether; the rest is for all other differences."""

Values: TypeAlias = Callable[[Counts], tuple[Doubles, Any, Counts]]
"""Of some rows of words: their documents' effects, which are the run's (False: the reference's), where each begins.

Paired: their documents' changes; the second is not looked at.
"""


def compare_words(words: Mapping[str, Any], values: Values, paired: bool, limits: Limits) -> dict[str, Any]:
    """Compare words, each once per document and class.

    Effects are tested per explained class, since over all documents they have no one sign, by permutation of documents.
    Shares are tested per class and over all documents, of two samples: paired documents hold the same words. Words that
    are in documents of one run alone are tested on their own beside, over all documents: of 400 documents against 400,
    15 are enough, however many common words there are (`adjusted_extremes`). What is new over all is new in each class.

    Parameters
    ----------
    words
        Columns of equal length, a row per word and class (* is all): class, word; documents_a, documents_b that hold
        it; of_a, of_b documents of the class; mean_a, mean_b, variance_a, variance_b of its effects; and, paired,
        pairs, change and variance of the changes.
    values
        Gives what the permutation test needs of some of the rows.
    paired
        Whether documents are paired.
    limits
        When a difference is a change.

    Returns
    -------
    Columns of the table `comparison_words`, but for the ids and `flips`, with NaN for null. The state is
    no change where all that is meant to be tested of a row (its effect in a class; of two samples, its share) has none.
    """
    a, b = (Sums(*(words[f"{name}_{side}"] for name in ("documents", "mean", "variance"))) for side in "ab")
    with np.errstate(invalid="ignore"):  # of classes that a run has no document of
        share_a, share_b = a.count / words["of_a"], b.count / words["of_b"]
    everywhere = words["class"] == "*"
    share_p, share_floor, shares_meant = _shares(words, paired, limits)
    change = Sums(words["pairs"], words["change"], words["variance"]) if paired else None
    p, floor, alike = _effects(a, b, change, everywhere, values, limits)
    interval = t_interval(change) if change is not None else t_interval(a, b)
    rest = 1.0 if paired else 1 - EXTREME
    floors = np.concatenate([share_floor, floor])
    q = adjusted(np.concatenate([share_p, p]), rest * limits.family, floors) / rest
    share_q, effect_q = np.split(np.minimum(q, 1), 2)
    share_q = np.fmin(share_q, _alone(words, share_p))
    share_p, p = (
        np.where(np.isnan(own), np.nan, tests) for own, tests in ((share_q, share_p), (effect_q, p))
    )
    p, effect_q = (np.where(alike, 1.0, own) for own in (p, effect_q))
    difference = b.mean - a.mean
    more = (share_q <= limits.family) & (np.abs(share_b - share_a) >= limits.share)
    differs = (effect_q <= limits.family) & (np.abs(difference) >= limits.effect)
    sign_flip = _clear_sign(a) * _clear_sign(b) < 0
    shares = share_interval(*(words[name] for name in ("documents_a", "of_a", "documents_b", "of_b")))
    tested, effect_tested = ~np.isnan(share_p), ~np.isnan(p)
    none = (tested | effect_tested) & (
        ~shares_meant | tested & within(shares[:, 0], shares[:, 1], limits.share)
    )
    none &= everywhere | effect_tested & within(interval[:, 0], interval[:, 1], limits.effect)
    return {
        **{name: words[name] for name in ("class", "word")},
        "documents_a": a.count.astype(np.int64),
        "documents_b": b.count.astype(np.int64),
        "share_a": share_a,
        "share_b": share_b,
        "share_p": share_p,
        "share_q": share_q,
        "effect_a": a.mean,
        "effect_b": b.mean,
        "difference": difference,
        "low": interval[:, 0],
        "high": interval[:, 1],
        "p": p,
        "q": effect_q,
        "sign_flip": sign_flip,
        "change": _named(a, b, more, share_b > share_a, differs, sign_flip, effect_q < share_q),
        "changed": more | differs,
        "state": states(more | differs, tested | effect_tested, none),
    }


def _shares(words: Mapping[str, Any], paired: bool, limits: Limits) -> tuple[Doubles, Doubles, Any]:
    """p-values of the shares, NaN where they are not tested, the smallest that each could have, and which are meant."""
    a, of_a, b, of_b = (words[name] for name in ("documents_a", "of_a", "documents_b", "of_b"))
    everywhere = words["class"] == "*"
    p, floor = np.full(len(everywhere), np.nan), shares_floor(a + b, of_a, of_b)
    several = len(set(words["class"][~everywhere])) > 1
    meant = (everywhere | several) & (not paired)
    tested = meant & (floor <= limits.family) & (_largest_change(a + b, of_a, of_b) >= limits.share)
    p[tested] = shares_p(a[tested], of_a[tested], b[tested], of_b[tested])
    return p, floor, meant


def _alone(words: Mapping[str, Any], p: Doubles) -> Doubles:
    """Adjusted p-values of words that one run alone holds, over all documents and so in each class; NaN of others."""
    a, of_a, b, of_b = (words[name] for name in ("documents_a", "of_a", "documents_b", "of_b"))
    tested = (words["class"] == "*") & ~np.isnan(p)
    held = (a + b)[tested]
    chances = all_in_b(held, of_a[tested], of_b[tested]), all_in_b(held, of_b[tested], of_a[tested])
    new, gone = np.split(np.minimum(adjusted_extremes(np.concatenate(chances)) / EXTREME, 1), 2)
    q = np.where(a[tested] == 0, new, np.where(b[tested] == 0, gone, np.nan))
    over_all = dict(zip(words["word"][tested], q, strict=True))
    alone = ~np.isnan(p) & (np.minimum(a, b) == 0)
    return np.array(
        [
            over_all.get(word, np.nan) if own else np.nan
            for word, own in zip(words["word"], alone, strict=True)
        ]
    )


def _effects(
    a: Sums, b: Sums, change: Sums | None, everywhere: Any, values: Values, limits: Limits
) -> tuple[Doubles, Doubles, Any]:
    """p-values of the effects, NaN where they are not tested, the smallest that each could have, and which are alike.

    The smallest is first known from how many documents there are, and then, higher where values are tied, from all
    values. Where all documents have one effect, or all pairs no change, that is a test which found none. It does not
    burden the others: its p-value is left to be filled in.
    """
    if change is not None:
        counts, floor = change.count, paired_floor(change.count)
        enough, alike = change.count >= limits.documents, (change.variance == 0) & (change.mean == 0)
    else:
        counts, floor = a.count + b.count, samples_floor(a.count, b.count)
        enough = (a.count >= limits.documents) & (b.count >= limits.documents)
        alike = (a.variance == 0) & (b.variance == 0) & (a.mean == b.mean)
    tested = enough & ~everywhere & (floor <= limits.family)
    p = np.full(len(counts), np.nan)
    for rows in _batches(np.flatnonzero(tested & ~alike), counts):
        found, second, starts = values(rows)
        if change is not None:
            p[rows], floor[rows] = paired_p(found, starts), paired_values_floor(found, starts)
        else:
            p[rows] = samples_p(found, second, starts)
            floor[rows] = samples_values_floor(found, second, starts)
    return np.where(floor <= limits.family, p, np.nan), floor, tested & alike


def _batches(rows: Counts, counts: Doubles) -> Iterator[Counts]:
    """Cut the rows so that those of a piece have about `BATCH` values together."""
    if len(rows):
        pieces = (np.cumsum(counts[rows]) // BATCH).astype(np.int64)
        yield from np.split(rows, np.flatnonzero(np.diff(pieces)) + 1)


def _largest_change(held: Doubles, of_a: Doubles, of_b: Doubles) -> Doubles:
    """The largest difference of shares that there can be where so many documents of both runs hold a word."""
    with np.errstate(divide="ignore"):
        return np.maximum(np.minimum(held / of_a, 1), np.minimum(held / of_b, 1))


def _clear_sign(side: Sums) -> Doubles:
    """−1 or 1 where the 95 % interval of the mean is on one side of 0, else 0."""
    low, high = t_interval(side).T
    return np.where(low > 0, 1.0, np.where(high < 0, -1.0, 0.0))


def _named(
    a: Sums, b: Sums, more: Any, rose: Any, differs: Any, sign_flip: Any, surer: Any
) -> list[str | None]:
    """What changed of each word, in a word; where both share and effect did, what is `surer` of the effect or not."""
    new, gone = more & (a.count == 0), more & (b.count == 0)
    frequency = more & ~(differs & surer)
    grown = np.abs(b.mean) > np.abs(a.mean)
    cases = [
        (new, "new"),
        (gone, "gone"),
        (frequency & rose, "more frequent"),
        (frequency, "less frequent"),
        (differs & sign_flip, "reversed"),
        (differs & grown, "stronger"),
        (differs, "weaker"),
    ]
    names = np.select([own for own, _ in cases], [name for _, name in cases], "")
    return [str(name) or None for name in names]
