"""Some changes of one field of config.json; `python -m tests.config_fuzz` tries a thousand, of every family."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import config_fuzz
from tests.config_fuzz import FAILURES, FAMILIES, Change, change_of, outcome, read_fields
from tests.material.tiers import extended


@extended("a change of each family")
@pytest.mark.parametrize("number", range(len(FAMILIES)))
def test_a_change_is_explained_as_transformers_answers_or_refused_in_one_line(
    number: int, tmp_path: Path
) -> None:
    found = outcome(change_of(5, number), tmp_path)
    assert found.kind not in FAILURES, found
    assert not found.miss, found


@pytest.mark.parametrize(
    ("field", "after", "kind"),
    [
        ("layer_norm_eps", 1e-5, "explained"),
        ("hidden_act", "relu", "explained"),
        ("num_hidden_layers", 2, "refused"),
        ("hidden_size", 48, "refused"),
        ("max_position_embeddings", -1, "refused"),
        ("id2label", {"0": "no"}, "refused"),
    ],
)
def test_what_comes_of_a_change_is_told_apart(field: str, after: object, kind: str, tmp_path: Path) -> None:
    assert outcome(Change("bert", field, None, after), tmp_path).kind.startswith(kind)


def test_fields_are_those_that_the_forward_reads() -> None:
    fields = read_fields("bert")
    assert {"hidden_act", "layer_norm_eps", "num_attention_heads", "vocab_size", "dtype"} <= set(fields)
    assert not {"finetuning_task", "architectures", "position_biased_input"} & set(fields)


def test_a_model_that_answers_otherwise_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = config_fuzz.plain
    monkeypatch.setattr(
        config_fuzz,
        "plain",
        lambda *given: (usual(*given)[0] + 0.1, ""),  # type: ignore[operator]
    )
    assert outcome(Change("bert", "layer_norm_eps", None, 1e-5), tmp_path).kind == "other logits"
