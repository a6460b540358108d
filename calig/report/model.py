"""What a report shows, as plain values: the interface between the warehouse's SQL and the page.

L is the number of blocks, depths run from 0 (embeddings) to L. Effects are in logits unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from calig.records import Head, Modality
from calig.warehouse.runs import FINISHED

FEW_DOCUMENTS = 50
"""Below it, a word in five documents, as `word_stats` has them, is in more than a tenth: "the", or a comma."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The run's row and the counts of its verdict; `config`, `versions` and `timings` are parsed JSON."""

    run_id: str
    name: str
    status: str
    started: datetime | None
    finished: datetime | None
    model: str
    model_revision: str
    model_hash: str
    head: Head
    modality: Modality
    corpus: str
    corpus_key: str
    corpus_rows: int | None
    left_out: int
    left_out_files: str
    attribution_key: str
    method: Mapping[str, Any]
    depths: int
    classes: tuple[str, ...]
    documents: int
    attributed: int
    reused: int
    failures: int
    failure_limit: float | None
    truncated: int
    accuracy: float | None
    mean_absolute_error: float | None
    correlation: float | None
    largest_error: float | None
    converged_share: float | None
    worst_completeness_error: float | None
    worst_error_estimate: float | None
    block_passes: int
    attribution_seconds: float
    explained: int
    converged_documents: int
    unconverged: int | None
    labelled: int
    errors: int
    confident_errors: int
    tokens: int
    median_tokens: float | None
    max_tokens: int
    config: Mapping[str, Any]
    versions: Mapping[str, Any]
    timings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    label_order: tuple[str, ...] = ()
    label_order_accuracy: float | None = None

    @property
    def steps(self) -> int | None:
        """The fixed number of steps, where there is one: then no tolerance was asked for."""
        method = self.config.get("method")
        return method.get("steps") if isinstance(method, Mapping) else None

    @property
    def few(self) -> bool:
        """Whether so few texts are explained that the words of five or more are mostly those of any text."""
        return self.modality == "text" and 0 < self.explained < FEW_DOCUMENTS

    @property
    def failure_share(self) -> float:
        """Failed documents over all documents of the run, 0 for an empty run."""
        return self.failures / self.documents if self.documents else 0.0

    @property
    def passed(self) -> bool:
        """Whether the run came to its end and its share of failures is within the limit, where there is one."""
        within = self.failure_limit is None or self.failure_share <= self.failure_limit
        return within and self.status in FINISHED and self.explained > 0


@dataclass(frozen=True, slots=True)
class WordEffect:
    """A word's mean effect on an explained class, with its 95 % interval; `clear` when that excludes zero.

    `example` is the document in which it acts most in that direction.
    """

    label: str
    word: str
    supports: bool
    clear: bool
    documents: int
    occurrences: int
    effect: float
    low: float
    high: float
    same_sign_share: float
    example: int


@dataclass(frozen=True, slots=True)
class RegionEffect:
    """A region's mean effect on an explained class, with its 95 % interval; `clear` when that excludes zero.

    `share` is its mean share of Σ|logit effect| over patches, `area` its share of the patches, `lift` the one over the
    other. The region 'border' overlaps the nine others.
    """

    label: str
    region: str
    documents: int
    effect: float
    low: float
    high: float
    share: float | None
    area: float
    lift: float | None

    @property
    def supports(self) -> bool:
        """Whether the region speaks for the class on average."""
        return self.effect > 0

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True, eq=False)
class MeanMap:
    """The mean logit effect of every patch on an explained class, over images with this grid.

    `effects` and `shares` (of Σ|logit effect|) are (rows, columns); `others` counts the class's images with another
    grid.
    """

    label: str
    documents: int
    others: int
    effects: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """Where relevance sits at one depth (None: the final score), for an explained class or `*` for all images.

    Means over images; `border_area` is the border's share of the patches. A centre of 0 is the top or left edge.
    """

    label: str
    depth: int | None
    border_share: float | None
    border_area: float | None
    centre_row: float | None
    centre_column: float | None


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One depth of the layer profile of one explained class (`*` for all documents); None where undefined."""

    label: str
    depth: int
    documents: int
    cancellation: float | None
    effective_tokens: float | None
    special_share: float | None
    rank_agreement: float | None
    sign_agreement: float | None
    context_ratio: float | None


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class: how often it is labelled, predicted and explained, and how well it is recognised.

    Of a regression's output nothing is predicted or correct in that sense: None.
    """

    label: str
    labelled: int | None
    predicted: int | None
    correct: int | None
    precision: float | None
    recall: float | None
    mean_probability: float | None
    mean_settling_depth: float | None
    explained: int


@dataclass(frozen=True, slots=True)
class DepthRow:
    """Convergence at one depth: errors are relative (estimate) and in logits (completeness)."""

    depth: int
    documents: int
    converged: int
    median_error_estimate: float | None
    worst_error_estimate: float | None
    median_completeness_error: float | None
    worst_completeness_error: float | None
    mean_nodes: float | None
    max_nodes: int | None


@dataclass(frozen=True, slots=True)
class FailureReason:
    """One reason for failures, with (source id, detail) of its first documents."""

    reason: str
    documents: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Heat:
    """A document cut into U units (words, and special tokens), with the relevance of each.

    Attributes
    ----------
    gaps
        U + 1 strings: the text before, between and after the units.
    units
        U strings as written in the text.
    special
        (U,) true for special tokens.
    word_ids
        (U,) the word's number in the document, −1 for special tokens and tokens in no word.
    layer_ig
        (L+1, U) in logits, summed over the unit's tokens.
    scores
        (U,) final scores, without unit.
    second
        Of a pair: the first unit of the second text, U if it has none; the gap before it is the second text's.
    tail
        Of a pair: what follows the last unit of the first text.
    """

    gaps: tuple[str, ...]
    units: tuple[str, ...]
    special: npt.NDArray[np.bool_]
    word_ids: npt.NDArray[np.int64]
    layer_ig: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    second: int | None = None
    tail: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A sampled image: patches in rows and columns, and the file of its thumbnail, if there is one."""

    grid: tuple[int, int]
    thumbnail: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class SampleDocument:
    """A document worth reading; `reasons` holds (kind of group, weight), `words` the words' units by word.

    `label` and `predicted` are names, or names joined by commas; `label_value` is a regression's label, and `logit`
    what it predicts. An image has a `picture`; its units are the special tokens, then the patches row by row.
    """

    doc_id: int
    source_id: str
    label: str | None
    label_value: float | None
    predicted: str
    target: str
    correct: bool | None
    probability: float | None
    logit: float
    baseline_logit: float
    error_estimate: float | None
    completeness_error: float | None
    converged: bool
    tokens: int
    truncated: bool
    settling_depth: int | None
    reasons: tuple[tuple[str, float], ...]
    heat: Heat
    window: tuple[int, int, int] | None
    words: Mapping[str, tuple[int, ...]]
    picture: Picture | None = None


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything on the page; `regions`, `maps` and `places` are of runs on images, `words` of runs on texts."""

    run: RunSummary
    words: tuple[WordEffect, ...]
    layers: tuple[LayerRow, ...]
    settling: tuple[tuple[int | None, int], ...]
    classes: tuple[ClassRow, ...]
    confusion: Mapping[tuple[str, str], int]
    convergence: tuple[DepthRow, ...]
    failures: tuple[FailureReason, ...]
    documents: tuple[SampleDocument, ...]
    regions: tuple[RegionEffect, ...] = ()
    maps: tuple[MeanMap, ...] = ()
    places: tuple[PlaceRow, ...] = ()
