"""Content taken out of a document: which ways there are."""

from __future__ import annotations

from collections.abc import Sequence

from calig.errors import InputError
from calig.evaluation.subject import Subject


def default_removals(subject: Subject) -> tuple[str, ...]:
    """Ways of removal that suit what the model reads."""
    return ("delete", "mask") if subject.explainer.modality == "text" else ("zero", "mean")


def check_removals(subject: Subject, removals: Sequence[str]) -> None:
    """Raise an InputError if content of this model's inputs cannot be removed so."""
    have = ("delete", "mask", "pad") if subject.explainer.modality == "text" else ("zero", "mean", "blur")
    for how in removals:
        if how not in have:
            raise InputError(f"evaluation.removals: {how!r} is not one of {', '.join(have)}")
