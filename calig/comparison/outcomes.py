"""What came out of two runs, compared: accuracy, classes, confidence, and how well the explanation went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calig.bootstrap import Doubles
from calig.comparison.drift import Binned, Codes, of_counts, stability
from calig.comparison.exchange import Chance, largest_by_chance
from calig.comparison.limits import Limits
from calig.comparison.rows import Row, judge, mean_row, share_row

Documents = Mapping[str, Any]
"""Columns of a run's explained documents, arrays of one length.

target, predicted (names, None where there is none), predicted_classes, labels (lists of names, or None), correct,
probability, logit, label_value, confidence, completeness_error, settling_depth (float64, NaN where there is none).
"""

SHARES = ("accuracy", "predicted share", "labelled share")


def compare_outcomes(
    a: Documents, b: Documents, paired: bool, classes: Sequence[str], depths_agree: bool, limits: Limits
) -> list[Row]:
    """Compare the outcomes of two runs' documents.

    Parameters
    ----------
    a, b
        The reference's documents, and the run's; paired, the same ones in one order.
    paired
        Whether they are. Labels are then the same, and not tested.
    classes
        Names of the classes; none of a regression.
    depths_agree
        Whether both models have as many blocks: else settling depths are not compared.
    limits
        When a difference is a change.

    Returns
    -------
    Rows of the table `comparison_outcomes`, but for the ids, with NaN for null; `size` is what the limit is put to, and
    `tested` whether it is meant to be tested at all.
    """
    rows: list[Row] = []

    def take(measure: str, name: str, row: Row, tested: bool = True) -> None:
        if row["documents_a"] or row["documents_b"]:
            rows.append({"measure": measure, "class": name, **row, "tested": tested})

    if classes:
        take("accuracy", "*", share_row(a["correct"], b["correct"], paired))
        for name in classes:
            take(
                "predicted share",
                name,
                share_row(_among(a["predicted_classes"], name), _among(b["predicted_classes"], name), paired),
            )
        for name in classes:
            take(
                "labelled share",
                name,
                share_row(_among(a["labels"], name), _among(b["labels"], name), paired),
                not paired,
            )
        take("probability", "*", mean_row(a["probability"], b["probability"], paired))
        for name in classes:
            take("probability", name, mean_row(*_of_class(a, b, "probability", name, paired), paired))
    else:
        take("output", "*", mean_row(a["logit"], b["logit"], paired))
        errors = [np.abs(side["logit"] - side["label_value"]) for side in (a, b)]
        take("error", "*", mean_row(errors[0], errors[1], paired))
    if depths_agree:
        take("settling depth", "*", mean_row(a["settling_depth"], b["settling_depth"], paired))
    take("completeness error", "*", mean_row(a["completeness_error"], b["completeness_error"], paired))
    judge(rows, paired, limits, [limits.share if row["measure"] in SHARES else limits.size for row in rows])
    return rows


def class_drift(a: Documents, b: Documents, paired: bool, classes: Sequence[str]) -> tuple[float, float]:
    """PSI and Jensen-Shannon divergence of the predicted classes."""
    counts = [[float((side["predicted"] == name).sum()) for name in classes] for side in (a, b)]
    return of_counts(counts[0], counts[1], paired)


def classes_by_chance(
    a: Documents,
    b: Documents,
    paired: bool,
    classes: Sequence[str],
    level: float,
    groups: tuple[Codes, Codes] | None,
) -> Chance:
    """What chance alone does to the population stability index of the predicted classes (see `class_drift`).

    Parameters
    ----------
    level
        Chance of more than `by_chance`.
    groups
        (n,) and (m,) numbers of groups that documents are exchanged within; None: among all.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    first, second = (
        np.array([numbers.get(name, -1) for name in side["predicted"]], np.int64)[:, None] for side in (a, b)
    )
    binned = Binned(first, second, np.array([len(classes)], np.int64))
    return largest_by_chance(binned, paired, level, groups)


def confidence_drift(a: Documents, b: Documents, paired: bool) -> tuple[float, float]:
    """PSI and Jensen-Shannon divergence of the predicted class's probability, over tenths of both runs."""
    first, second = (side["confidence"][~np.isnan(side["confidence"])] for side in (a, b))
    return stability(first, second, paired)


def _among(labels: Any, name: str) -> Doubles:
    return np.array([np.nan if own is None else name in own for own in labels], dtype=np.float64)


def _of_class(a: Documents, b: Documents, column: str, name: str, paired: bool) -> tuple[Doubles, Doubles]:
    """The values of documents of which this class is explained; of pairs, in the reference."""
    mine = a["target"] == name
    return a[column][mine], b[column][mine if paired else b["target"] == name]
