"""On real models and real documents: CA-LIG tells what counts better than chance, and what the model has learnt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from calig.attribution.explainer import Explainer
from calig.attribution.method import Method
from calig.config.evaluation import METHODS
from calig.evaluation.evaluate import Design, evaluate
from calig.evaluation.methods import score, titles
from calig.evaluation.removal import default_removals
from calig.evaluation.sanity import randomisation
from calig.evaluation.subject import Case, Subject
from calig.models.loading import load_pretrained
from calig.records import Document, document_key, image_key
from calig.warehouse.statistics import LOWER_IS_BETTER, paired
from tests.calig.evaluation.peer_cases import explained
from tests.material.tiers import extended, few

SHARED = Path(os.environ.get("CALIG_SHARED", "../shared")).resolve()
REAL = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real corpora and models: set CALIG_SHARED")
SLOW = "real models on real corpora take half a minute each"
CORPORA = {
    "sst2-dev": ("minilm-sst2", 24, None),
    "movie_reviews-train": ("minilm-sst2", 12, 128),
    "toxic_spans-train": ("minilm-toxic", 24, None),
    "afrisenti-hau-dev": ("xlmr-afrisenti", 40, None),
    "cifar10-train": ("vit-mae-cifar10", 80, None),
}


def cases_of(corpus: str) -> tuple[Subject, list[Case]]:
    model, count, longest = CORPORA[corpus]
    method = Method(tolerance=0.05, max_length=longest)
    subject = Subject(Explainer(load_pretrained(str(SHARED / "models" / model)), method))
    rows = pq.read_table(SHARED / "corpora" / f"{corpus}.parquet").slice(100, count).to_pylist()
    documents = [
        Document(image_key(row["image"]["bytes"]), image=row["image"]["bytes"])
        if "image" in row
        else Document(document_key(row["text"]), row["text"])
        for row in rows
    ]
    return subject, [case for case in subject.cases(documents) if isinstance(case, Case)]


@pytest.mark.shared
@REAL
@pytest.mark.parametrize("corpus", few(CORPORA, ["afrisenti-hau-dev"], SLOW))
def test_it_is_more_faithful_than_chance_by_disjoint_intervals(corpus: str) -> None:
    subject, cases = cases_of(corpus)
    design = Design(
        ("ca-lig", "random"), ("faithfulness",), default_removals(subject), (0.1, 0.2, 0.3, 0.4, 0.5)
    )
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for one in evaluate(subject, design, cases):
        for value in one.values:
            if value.share is None:
                key = value.metric, str(value.removal)
                found.setdefault(key, {}).setdefault(value.method, []).append(value.value)
    metrics = (
        ("auc_positive", "auc_negative") if subject.explainer.modality == "image" else ("comprehensiveness",)
    )
    for metric in metrics:
        for removal in design.removals:
            both = found[metric, removal]
            values = np.array([both["ca-lig"], both["random"]])
            if metric in LOWER_IS_BETTER:
                values = -values
            ours, chance = paired(values, 0)
            assert ours.documents == len(cases)
            assert ours.low > chance.high, (metric, removal)


@pytest.mark.shared
@extended(SLOW)
@REAL
@pytest.mark.parametrize("corpus", ["sst2-dev", "cifar10-train"])
def test_the_map_of_a_randomised_model_is_another(corpus: str) -> None:
    subject, cases = cases_of(corpus)

    def run(other: Subject, some: Any) -> list[dict[str, Any]]:
        return [{"ca-lig": own["ca-lig"].scores} for own in score(other, some, ["ca-lig"])]

    values = randomisation(subject, cases[:4], run(subject, cases[:4]), run)
    means = [value.value for own in values for value in own if value.share is None]
    assert len(means) == 4
    assert np.mean(means) < 0.4


def test_the_configuration_knows_every_method() -> None:
    subject, _ = explained("bert")
    assert {name for name in titles(subject) if not name.startswith("lig-")} == set(METHODS)
