"""What an evaluation's metrics and methods are called, which way a metric is better, and what it means in a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["faithfulness", "eraser", "plausibility", "sanity", "context", "published", "other"]

SUBJECT = "ca-lig"
"""The method that all others are compared with."""
RANDOM = "random"
GROUPS: dict[Group, str] = {
    "faithfulness": "Faithfulness",
    "plausibility": "Plausibility",
    "sanity": "Sanity",
    "context": "Context",
    "eraser": "ERASER’s shares",
    "published": "As published",
    "other": "Other",
}
"""Groups of metrics, in the order they are shown."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric: `better` is 1 where higher is better, −1 where lower is, 0 where neither is."""

    name: str
    title: str
    group: Group
    better: int
    meaning: str

    @property
    def arrow(self) -> str:
        """`↓` where lower is better, `↑` where higher is."""
        return {1: "↑", -1: "↓", 0: ""}[self.better]


_KNOWN = (
    Measure(
        "comprehensiveness",
        "Comprehensiveness",
        "faithfulness",
        1,
        "How far the probability falls when the top k % are removed, averaged over k (AOPC).",
    ),
    Measure(
        "sufficiency",
        "Sufficiency",
        "faithfulness",
        -1,
        "How far the probability falls when only the top k % are kept, averaged over k (AOPC).",
    ),
    Measure(
        "log_ratio",
        "Log ratio",
        "faithfulness",
        -1,
        "log of the probability without the top k % over that with them, averaged over k.",
    ),
    Measure(
        "auc_positive",
        "AUC, most first",
        "faithfulness",
        -1,
        "Area under the curve of the probability while patches are removed, most relevant first.",
    ),
    Measure(
        "auc_negative",
        "AUC, least first",
        "faithfulness",
        1,
        "Area under the curve of the probability while patches are removed, least relevant first.",
    ),
    Measure(
        "comprehensiveness_eraser",
        "Comprehensiveness",
        "eraser",
        1,
        "Comprehensiveness at ERASER’s shares: 1, 5, 10, 20 and 50 %.",
    ),
    Measure(
        "sufficiency_eraser",
        "Sufficiency",
        "eraser",
        -1,
        "Sufficiency at ERASER’s shares: 1, 5, 10, 20 and 50 %.",
    ),
    Measure(
        "token_f1",
        "Token F1",
        "plausibility",
        1,
        "F1 of the top words with the words people marked; as many words are taken as they marked.",
    ),
    Measure(
        "auprc",
        "AUPRC",
        "plausibility",
        1,
        "Area under precision and recall of the scores as a detector of the words people marked.",
    ),
    Measure(
        "iou_f1",
        "IOU F1",
        "plausibility",
        1,
        "F1 of stretches of words; one counts as found where it overlaps a marked one by half or more.",
    ),
    Measure(
        "randomisation",
        "Randomisation",
        "sanity",
        -1,
        "Spearman of |scores| with the original’s while blocks are randomised from the head down. "
        "A method that stays near 1 does not look at the weights.",
    ),
    Measure(
        "sensitivity_max",
        "Max sensitivity",
        "sanity",
        -1,
        "The largest relative change of the scores under small changes of the embeddings.",
    ),
    Measure(
        "determinism",
        "Determinism",
        "sanity",
        -1,
        "The largest relative difference from one run to the next.",
    ),
    Measure(
        "batch_invariance",
        "Batch invariance",
        "sanity",
        -1,
        "The largest relative difference made by what else is in the batch.",
    ),
    Measure(
        "context_sensitivity",
        "Context sensitivity",
        "context",
        1,
        "How far a word’s score turns when its context turns its meaning, from −1 to 1 (the score changes sign).",
    ),
    Measure(
        "context_agreement",
        "Context agreement",
        "context",
        1,
        "The share of pairs in which a word’s score changes in the direction in which the model’s output does.",
    ),
    Measure(
        "context_control",
        "Context control",
        "context",
        -1,
        "How far a word’s score turns when its context changes and its meaning does not.",
    ),
    Measure(
        "aopc_as_published",
        "AOPC of AttCAT",
        "published",
        1,
        "As AttCAT’s authors published it: the mean over nine steps of |p₀ − pᵢ|; for comparison with their tables.",
    ),
    Measure(
        "log_odds_as_published",
        "LOdds of AttCAT",
        "published",
        -1,
        "As AttCAT’s authors published it: the mean over nine steps of log(pᵢ/p₀); for comparison with their tables.",
    ),
)
KNOWN: dict[str, Measure] = {measure.name: measure for measure in _KNOWN}
MAIN = ("comprehensiveness", "sufficiency", "auc_positive", "auc_negative", "token_f1")
"""The metrics that the verdict is about."""
CURVES = ("comprehensiveness", "sufficiency", "curve_positive", "curve_negative")
"""Metrics that are drawn over the share removed."""


def measure(name: str) -> Measure | None:
    """What is known of a metric; None for the points of a curve, which have no column of their own."""
    if name in KNOWN:
        return KNOWN[name]
    if name in CURVES:
        return None
    title = name.replace("_", " ").capitalize()
    return Measure(name, title, "other", 0, "A metric that this version of the report does not know.")


def own(method: str) -> bool:
    """Whether a method is CA-LIG, a part or a variant of it, or the control: not a peer."""
    return method.startswith(("ca-lig", "lig")) or method == RANDOM
