"""The section `evaluation`: its defaults, what it adds up to, and the one line it answers to mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from calig.config import AuditConfig, parse_config
from calig.config.evaluation import METHODS
from calig.errors import InputError


def parsed(rationale: str | None = None, **section: Any) -> AuditConfig:
    corpus = {"path": "a.csv", "rationale": rationale}
    return parse_config({"model": {"id": "m"}, "corpus": corpus, "evaluation": section})


def test_defaults_are_the_documented_ones() -> None:
    assert parsed().evaluation.model_dump() == {
        "documents": 200,
        "seed": 0,
        "methods": None,
        "metrics": None,
        "removals": None,
        "shares": (0.1, 0.2, 0.3, 0.4, 0.5),
        "samples": 256,
        "sanity_documents": 16,
        "pairs": None,
    }


@pytest.mark.parametrize(
    ("rationale", "section", "groups"),
    [
        (None, {}, ("faithfulness", "sanity")),
        ("why", {}, ("faithfulness", "plausibility", "sanity")),
        ("why", {"pairs": "sentiment"}, ("faithfulness", "plausibility", "sanity", "context")),
        ("why", {"metrics": ["sanity"]}, ("sanity",)),
        (None, {"metrics": ["sanity"], "pairs": "a.csv"}, ("sanity", "context")),
        (None, {"metrics": ["context", "sanity"], "pairs": "a.csv"}, ("context", "sanity")),
    ],
)
def test_what_is_measured_follows_from_what_there_is(
    rationale: str | None, section: dict[str, Any], groups: tuple[str, ...]
) -> None:
    assert parsed(rationale, **section).metric_groups == groups


def test_every_method_and_every_depth_can_be_named() -> None:
    names = [*METHODS, "lig-1", "lig-24"]
    assert parsed(methods=names).evaluation.methods == tuple(names)


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ({"methods": ["ca-lig", "grad"]}, "evaluation.methods.1 is 'grad', but should be one of ca-lig, "),
        ({"methods": ["lig-0"]}, "evaluation.methods.0 is 'lig-0', but should be one of"),
        ({"methods": ["ig", "ig"]}, "names ig twice: keep one"),
        ({"methods": []}, "evaluation.methods is [], but "),
        ({"methods": "ig"}, "evaluation.methods is 'ig', but "),
        ({"metrics": ["speed"]}, "evaluation.metrics.0 is 'speed', but should be 'faithfulness'"),
        ({"metrics": ["sanity", "sanity"]}, "names sanity twice"),
        (
            {"metrics": ["plausibility"]},
            "evaluation.metrics: plausibility needs human rationales; name their",
        ),
        ({"metrics": ["context"]}, "evaluation.metrics: context needs contrast pairs; set evaluation.pairs"),
        ({"removals": ["cut"]}, "evaluation.removals.0 is 'cut', but should be 'delete'"),
        ({"shares": [0.5, 0.1]}, "should be shares in rising order"),
        ({"shares": [0.1, 1]}, "evaluation.shares.1 is 1, but should be less than 1"),
        ({"shares": [True]}, "evaluation.shares.0 is True, but should be a number"),
        ({"documents": 0}, "evaluation.documents is 0, but should be greater"),
        ({"document": 5}, "evaluation.document is not a known field: did you mean evaluation.documents?"),
        ({"seed": -1}, "evaluation.seed is -1"),
        ({"samples": 1}, "evaluation.samples is 1"),
        ({"sanity_documents": 0}, "evaluation.sanity_documents is 0"),
        ({"pairs": ""}, "evaluation.pairs is empty"),
    ],
)
def test_a_mistake_is_one_line(section: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError) as error:
        parsed(**section)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_the_configuration_survives_json() -> None:
    config = parsed("why", methods=["ig"], shares=[0.25], pairs="sentiment", documents=None)
    assert AuditConfig.model_validate_json(config.model_dump_json()) == config
