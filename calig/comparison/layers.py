"""The layer profiles of two runs compared: each measure at each depth, per class and over all documents."""

from __future__ import annotations

from typing import Any

import numpy as np

from calig.bootstrap import Doubles
from calig.comparison.adjust import adjusted
from calig.comparison.drift import stability
from calig.comparison.limits import Limits
from calig.comparison.rows import Row, both, mean_row

MEASURES = (
    *("cancellation", "effective_tokens", "special_share", "rank_agreement"),
    *("sign_agreement", "context_ratio"),
)
"""The measures compared: columns of the table `document_depths`."""


def compare_layers(
    a: Doubles, b: Doubles, target_a: Any, target_b: Any, paired: bool, limits: Limits
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
        When a difference is a change; classes with fewer documents than `limits.documents` are left out.

    Returns
    -------
    Rows of the table `comparison_layers`, but for the ids, with NaN for null.
    """
    if paired:
        target_b = target_a
    names = sorted(set(target_a) | set(target_b))
    rows: list[Row] = []
    for name in ["*", *(names if len(names) > 1 else ())]:
        own_a, own_b = (a, b) if name == "*" else (a[target_a == name], b[target_b == name])
        for depth in range(min(a.shape[1], b.shape[1])):
            for place, measure in enumerate(MEASURES):
                values = both(own_a[:, depth, place], own_b[:, depth, place], paired)
                if min(map(len, values)) >= limits.documents:
                    psi, js = stability(*values, paired)
                    row = {"class": name, "depth": depth, "measure": measure, **mean_row(*values, paired)}
                    rows.append(row | {"psi": psi, "js": js})
    q = adjusted(np.array([row["p"] for row in rows]), limits.family)
    for row, own in zip(rows, q, strict=True):
        row["q"] = float(own)
        row["changed"] = bool(own <= limits.family and abs(row["size"]) >= limits.size)
    return rows
