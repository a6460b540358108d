"""The layer profiles of two runs compared: each measure at each depth, per class and over all documents."""

from __future__ import annotations

from typing import Any

import numpy as np

from calig.bootstrap import Doubles
from calig.comparison.drift import Binned, Codes, stability
from calig.comparison.exchange import Chance, largest_by_chance
from calig.comparison.limits import Limits
from calig.comparison.rows import Row, both, judge, mean_row, ratio_row

MEASURES = (
    *("cancellation", "effective_tokens", "special_share", "rank_agreement"),
    *("sign_agreement", "context_ratio"),
)
"""The measures compared: columns of the table `document_depths`."""

SUMS = ("gross", "net")
"""Cancellation is the ratio of the sums of these over documents, as in the table `layer_stats`; others are means."""


def compare_layers(
    a: Doubles,
    b: Doubles,
    target_a: Any,
    target_b: Any,
    paired: bool,
    limits: Limits,
    sums: tuple[Doubles, Doubles],
) -> list[Row]:
    """Compare two runs' layer profiles.

    Parameters
    ----------
    a, b
        (n, L+1, 6) each document's measures, in the order of `MEASURES`, NaN where there is none; paired, of the same
        documents in one order.
    target_a, target_b
        (n,) names of the explained classes; paired, the reference's count.
    paired
        Whether documents are paired.
    limits
        When a difference is a change. Measures that fewer than `limits.documents` documents of a run have are not
        tested, and have no numbers.
    sums
        (n, L+1, 2) each document's `SUMS`, of the reference and of the run.

    Returns
    -------
    Rows of the table `comparison_layers`, but for the ids, with NaN for null.
    """
    if paired:
        target_b = target_a
    names = sorted(set(target_a) | set(target_b))
    rows: list[Row] = []
    for name in ["*", *(names if len(names) > 1 else ())]:
        chosen = (slice(None), slice(None)) if name == "*" else (target_a == name, target_b == name)
        own_a, own_b, sums_a, sums_b = (
            of[own] for of, own in zip((a, b, *sums), (*chosen, *chosen), strict=True)
        )
        for depth in range(min(a.shape[1], b.shape[1])):
            for place, measure in enumerate(MEASURES):
                values = both(own_a[:, depth, place], own_b[:, depth, place], paired)
                row = {"class": name, "depth": depth, "measure": measure}
                if min(map(len, values)) >= limits.documents:
                    if measure == "cancellation":
                        compared = ratio_row(sums_a[:, depth].T, sums_b[:, depth].T, paired)
                    else:
                        compared = mean_row(*values, paired)
                    psi, js = stability(*values, paired)
                    rows.append(row | compared | {"psi": psi, "js": js})
                elif max(map(len, values)):
                    documents = {
                        f"documents_{side}": len(own) for side, own in zip("ab", values, strict=True)
                    }
                    rows.append(
                        row | dict.fromkeys(_NUMBERS, np.nan) | documents | {"tested": False, "varies": False}
                    )
    judge(rows, paired, limits, [limits.size] * len(rows))
    return rows


def layers_by_chance(
    a: Doubles, b: Doubles, paired: bool, limits: Limits, level: float, groups: tuple[Codes, Codes] | None
) -> Chance:
    """What chance alone does to the largest population stability index of all measures and depths, over all documents.

    Parameters
    ----------
    a, b, paired, limits
        As `compare_layers` takes them.
    level
        Chance of more than `by_chance`.
    groups
        (n,) and (m,) numbers of groups that documents are exchanged within; None: among all.
    """
    depths = min(a.shape[1], b.shape[1])
    flat = [side[:, :depths].reshape(len(side), depths * len(MEASURES)) for side in (a, b)]
    if paired:
        there = ~(np.isnan(flat[0]) | np.isnan(flat[1]))
        flat = [np.where(there, side, np.nan) for side in flat]
    enough = np.min([(~np.isnan(side)).sum(axis=0) for side in flat], axis=0) >= limits.documents
    binned = Binned.of_values(flat[0][:, enough], flat[1][:, enough])
    return largest_by_chance(binned, paired, level, groups)


_NUMBERS = ("a", "b", "difference", "low", "high", "p", "size", "unit", "psi", "js")
