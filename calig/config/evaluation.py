"""What `calig evaluate` may be told: which methods are measured, on which documents, by which metrics."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from calig.config.fields import Integer, Number, Section, Text

METHODS = (
    *("ca-lig", "ca-lig-0", "ca-lig-column", "ca-lig-rollout", "ca-lig-trace", "lig", "ig"),
    *("input-x-gradient", "smoothgrad", "gradient-shap", "deeplift", "lime", "kernel-shap", "occlusion"),
    *("attention-rollout", "attention-x-gradient", "attcat", "attention-grad-cam", "random"),
)
"""Names of methods of explanation; besides them lig-1, lig-2 and so on: layer-wise IG at one depth."""

MetricGroup: TypeAlias = Literal["faithfulness", "published", "plausibility", "sanity", "context"]
Removal: TypeAlias = Literal["delete", "mask", "pad", "zero", "mean", "blur"]


def _method(name: str) -> str:
    if name not in METHODS and not re.fullmatch(r"lig-[1-9]\d*", name):
        raise ValueError(f"should be one of {', '.join(METHODS)}, or lig-1, lig-2, … for one depth")
    return name


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"names {name} twice: keep one")
    return names


def _rising(shares: tuple[float, ...]) -> tuple[float, ...]:
    if any(a >= b for a, b in pairwise(shares)):
        raise ValueError("should be shares in rising order, for example [0.1, 0.2, 0.5]")
    return shares


MethodName = Annotated[str, AfterValidator(_method)]
Share = Annotated[Number, Field(gt=0, lt=1)]


class EvaluationConfig(Section):
    """What methods of explanation are measured on, and how."""

    documents: Integer | None = Field(
        default=200,
        ge=1,
        title="Documents",
        description="How many documents of the corpus, drawn by the seed; null: all.",
    )
    seed: Integer = Field(
        default=0,
        ge=0,
        title="Seed",
        description="Of everything random: the sample, the methods that draw at random, the randomised models.",
    )
    methods: Annotated[tuple[MethodName, ...], Field(min_length=1), AfterValidator(_once)] | None = Field(
        default=None,
        title="Methods",
        description="Names of methods of explanation; null: the default list.",
    )
    metrics: Annotated[tuple[MetricGroup, ...], Field(min_length=1), AfterValidator(_once)] | None = Field(
        default=None,
        title="Metrics",
        description=(
            "Of faithfulness, plausibility, sanity, context and published (protocols as others published them); null: "
            "faithfulness and sanity, plausibility where corpus.rationale is given, context where evaluation.pairs is."
        ),
    )
    removals: Annotated[tuple[Removal, ...], Field(min_length=1), AfterValidator(_once)] | None = Field(
        default=None,
        title="Removals",
        description=(
            "How content is taken away: of texts delete, mask or pad; of images zero, mean or blur; null: what suits "
            "the model."
        ),
    )
    shares: Annotated[tuple[Share, ...], Field(min_length=1), AfterValidator(_rising)] = Field(
        default=(0.1, 0.2, 0.3, 0.4, 0.5),
        title="Shares",
        description="Shares of the content that are taken away, or kept, most relevant first.",
    )
    samples: Integer = Field(
        default=256,
        ge=2,
        title="Samples",
        description="Model evaluations that LIME and KernelSHAP may spend on a document.",
    )
    sanity_documents: Integer = Field(
        default=16,
        ge=1,
        title="Documents of sanity metrics",
        description="How many of the documents the sanity metrics, which cost more, are measured on.",
    )
    pairs: Text | None = Field(
        default=None,
        title="Contrast pairs",
        description=(
            "sentiment (pairs made by the package, in English), or the path of a file of contrast pairs; adds the "
            "metrics of context."
        ),
    )

    @model_validator(mode="after")
    def _paired(self) -> EvaluationConfig:
        if "context" in (self.metrics or ()) and self.pairs is None:
            raise ValueError(
                "evaluation.metrics: context needs contrast pairs; set evaluation.pairs to sentiment or a file"
            )
        return self
