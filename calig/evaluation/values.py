"""What evaluation finds: one number per document, method, metric and, where there are such, removal and share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Value:
    """One number.

    Attributes
    ----------
    method
        Name of the method of explanation.
    metric
        Name of the metric.
    value
        The number; NaN where the metric has no value on this document.
    removal
        How content was removed; None for metrics that remove nothing.
    share
        The share of content that was removed or kept; None for a mean over shares and for metrics without.
    """

    method: str
    metric: str
    value: float
    removal: str | None = None
    share: float | None = None
