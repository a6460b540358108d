"""What a model's logits mean: found in its configuration, or said by the user where that is possible."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from calig.errors import InputError
from calig.models.classifier import Classifier
from calig.models.heads import class_names, find_head, notes_on_names
from calig.models.loading import Pretrained, fingerprint, load_pretrained
from calig.models.text import TextEncoder
from calig.records import Head
from tests.material import zoo

ONE = {"id2label": {0: "spam"}, "label2id": {"spam": 0}}


def load(path: Path, head: str | None = None, name: str = "bert", **config: Any) -> Pretrained:
    zoo.save(name, path, **config)
    return load_pretrained(str(path), dtype="float64", head=head)


@pytest.mark.parametrize(
    ("labels", "problem", "head"),
    [
        (3, None, "single_label"),
        (3, "single_label_classification", "single_label"),
        (2, "multi_label_classification", "multi_label"),
        (3, "multi_label_classification", "multi_label"),
        (3, "regression", "regression"),
        (1, None, "regression"),
        (1, "regression", "regression"),
        (1, "single_label_classification", "binary"),
        (1, "multi_label_classification", "binary"),
    ],
)
def test_the_head_is_what_the_configuration_says(labels: int, problem: str | None, head: str) -> None:
    config = SimpleNamespace(num_labels=labels, problem_type=problem)
    assert find_head(config) == find_head(config, head) == head


@pytest.mark.parametrize(
    ("labels", "asked", "possible"),
    [
        (1, "single_label", ("binary", "regression")),
        (1, "multi_label", ("binary", "regression")),
        (3, "binary", ("single_label", "multi_label")),
        (3, "regression", ("single_label", "multi_label")),
    ],
)
def test_the_user_may_say_otherwise_where_it_is_possible(
    labels: int, asked: str, possible: tuple[str, str]
) -> None:
    config = SimpleNamespace(num_labels=labels, problem_type=None)
    assert [find_head(config, head) for head in possible] == list(possible)
    with pytest.raises(InputError, match=r"^model\.head: a model of .* cannot be " + asked) as caught:
        find_head(config, asked)
    assert f"use {possible[0]} or {possible[1]}" in str(caught.value)
    with pytest.raises(InputError, match=r"^model\.head: 'ranking' is not one of single_label, multi_label"):
        find_head(config, "ranking")


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_one_logit_is_read_as_two_classes(name: str, tmp_path: Path) -> None:
    """Softmax over (0, z) is the sigmoid of z."""
    pretrained = load(tmp_path, "binary", name, **ONE)
    assert (pretrained.head, pretrained.classes) == ("binary", ("not spam", "spam"))
    classifier = Classifier(pretrained.model, pretrained.head)
    encoder = TextEncoder(pretrained.model, pretrained.tokenizer)
    batch = encoder.batch(encoder.encode(zoo.TEXTS), pretrained.model.device)
    own = pretrained.model(**zoo.inputs(pretrained, zoo.TEXTS)).logits[:, 0]
    whole = classifier.run(batch)
    assert whole.logits.shape == (len(zoo.TEXTS), 2)
    torch.testing.assert_close(whole.logits.softmax(-1)[:, 1], own.sigmoid())
    for depth, state in enumerate(whole.states):
        torch.testing.assert_close(
            classifier.run_from(depth, state, batch), whole.logits, rtol=1e-12, atol=1e-13
        )
    found = classifier.run(batch, attention=True)
    torch.testing.assert_close(found.logits, whole.logits)
    assert len(torch.autograd.grad(found.logits[:, 1].sum(), found.probabilities)) == zoo.BLOCKS


@pytest.mark.parametrize(
    ("config", "head", "classes"),
    [
        ({"problem_type": "multi_label_classification"}, "multi_label", zoo.CLASSES),
        ({"problem_type": "regression"}, "regression", zoo.CLASSES),
        (ONE, "regression", ("spam",)),
        ({"problem_type": "multi_label_classification", **ONE}, "binary", ("not spam", "spam")),
    ],
)
def test_every_head_loads_and_other_heads_keep_their_logits(
    config: dict[str, Any], head: str, classes: tuple[str, ...], tmp_path: Path
) -> None:
    pretrained = load(tmp_path, **config)
    assert (pretrained.head, pretrained.classes) == (head, classes)
    encoder = TextEncoder(pretrained.model, pretrained.tokenizer)
    batch = encoder.batch(encoder.encode(zoo.TEXTS), pretrained.model.device)
    own = pretrained.model(**zoo.inputs(pretrained, zoo.TEXTS)).logits
    logits = Classifier(pretrained.model, head).run(batch).logits
    assert torch.equal(logits[:, -1:] if head == "binary" else logits, own)


def test_a_head_that_the_configuration_does_not_say_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    found = load(tmp_path, **ONE)
    said = load_pretrained(str(tmp_path), dtype="float64", head="regression")
    otherwise = load_pretrained(str(tmp_path), dtype="float64", head="binary")
    assert fingerprint(found) == fingerprint(said) != fingerprint(otherwise)


def test_an_impossible_head_is_refused_before_the_weights_are_read() -> None:
    with pytest.raises(InputError, match=r"^model\.head: a model of 3 logits cannot be binary"):
        load_pretrained(str(zoo.folder("bert")), head="binary")


@pytest.mark.parametrize(
    ("names", "head", "shown", "noted"),
    [
        (["no", "yes"], "single_label", ("no", "yes"), None),
        (["same", "same", "other"], "single_label", ("same (0)", "same (1)", "other"), "same (0), same (1)"),
        (["*", "yes"], "multi_label", ("* (0)", "yes"), "* (0)"),
        (
            ["a", "a", "a (0)"],
            "single_label",
            ("a (0) (0)", "a (1)", "a (0) (2)"),
            "a (0) (0), a (1), a (0) (2)",
        ),
        (["spam"], "binary", ("not spam", "spam"), None),
    ],
)
def test_classes_that_are_called_alike_get_their_index_and_are_noted(
    names: list[str], head: Head, shown: tuple[str, ...], noted: str | None
) -> None:
    config = SimpleNamespace(num_labels=len(names), id2label=dict(enumerate(names)))
    assert class_names(config, head) == shown
    notes = notes_on_names(config, head, "m")
    assert [note.rpartition(": ")[2] for note in notes] == ([] if noted is None else [noted])


def test_a_model_s_notes_name_the_classes_that_are_called_alike(tmp_path: Path) -> None:
    loaded = load(tmp_path, id2label={0: "x", 1: "x"}, label2id={"x": 0})
    assert loaded.classes == ("x (0)", "x (1)")
    assert [note for note in loaded.notes if note.endswith("told apart by their index: x (0), x (1)")]
