"""Human rationales, by word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from calig.errors import InputError
from calig.evaluation.subject import Case
from calig.records import Bool


def rationale(value: Any, case: Case) -> Bool | None:
    """(W,) which of the document's words people marked; None where none is."""
    units, encoded = case.units, case.encoded
    found = np.zeros(int(units.max()) + 1, dtype=np.bool_)
    for span in value or ():
        if not isinstance(span, dict):
            raise InputError(f"corpus.rationale: {span!r} is no span")
        inside = (encoded.char_spans[:, 0] < span["end"]) & (encoded.char_spans[:, 1] > span["start"])
        found[units[inside & case.content]] = True
    return found if found.any() else None


def rationale_share(cases: Sequence[Case]) -> float:
    """Mean share of words that are in the rationale, over documents that have one; NaN if none has."""
    shares = [float(case.rationale.mean()) for case in cases if case.rationale is not None]
    return float(np.mean(shares)) if shares else float("nan")
