"""Statistics of two runs: what differs by more than chance, documents being the sample. Pure numbers, no files."""

from calig.comparison.adjust import adjusted, adjusted_extremes
from calig.comparison.drift import cohens_d, jensen_shannon, of_counts, stability
from calig.comparison.permutation import Sums, paired_floor, paired_p, samples_floor, samples_p
from calig.comparison.shares import all_in_b, mcnemar_p, share_interval, shares_floor, shares_p

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
    "samples_floor",
    "samples_p",
    "share_interval",
    "shares_floor",
    "shares_p",
    "stability",
]
