"""Statistics of two runs: what differs by more than chance, documents being the sample. Pure numbers, no files."""

from calig.comparison.adjust import adjusted, adjusted_extremes
from calig.comparison.drift import cohens_d, jensen_shannon, of_counts, stability
from calig.comparison.permutation import (
    Sums,
    paired_floor,
    paired_p,
    paired_values_floor,
    samples_floor,
    samples_p,
    samples_values_floor,
)
from calig.comparison.shares import (
    all_in_b,
    mcnemar_p,
    paired_share_interval,
    share_interval,
    shares_floor,
    shares_p,
)

__all__ = [
    "Sums",
    "adjusted",
    "adjusted_extremes",
    "all_in_b",
    "cohens_d",
    "jensen_shannon",
    "mcnemar_p",
    "of_counts",
    "paired_floor",
    "paired_p",
    "paired_share_interval",
    "paired_values_floor",
    "samples_floor",
    "samples_p",
    "samples_values_floor",
    "share_interval",
    "shares_floor",
    "shares_p",
    "stability",
]
