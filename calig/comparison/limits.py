"""When a difference is called a change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on chance and on size.

    Attributes
    ----------
    alpha
        Bound on the chance that anything is called changed in a comparison of runs where nothing is.
    effect
        Least change of a word's mean effect, in logits.
    share
        Least change of a share of documents.
    size
        Least change of a measure, in standard deviations over documents.
    documents
        Documents that must hold a word in each run, and have a measure or an outcome, for it to be tested.
    """

    alpha: float
    effect: float
    share: float
    size: float
    documents: int

    @property
    def family(self) -> float:
        """The level of each of the three families of tests: words, layers and outcomes."""
        return self.alpha / 3
