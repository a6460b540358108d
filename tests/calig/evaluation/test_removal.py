"""What is left when content is removed, and the model's answers on it, against inputs written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calig.errors import InputError
from calig.evaluation.removal import Removal, answers, check_removals, default_removals, removals_of, remove
from calig.evaluation.subject import Case, Subject
from calig.records import Document, document_key
from tests.calig.evaluation.planted import cases
from tests.material import zoo
from tests.material.tiers import few

FAMILIES = ("bert", "roberta", "deberta-v2", "albert", "electra", "modernbert", "gpt2", "llama", "opt")


def gone_of(case: Case, seed: int = 0) -> np.ndarray:
    """Every other content token or so, the last one always: a decoder's head reads there."""
    gone = (np.random.default_rng(seed).random(len(case.encoded)) < 0.5) & case.content
    gone[np.flatnonzero(case.content)[-1]] = True
    gone[np.flatnonzero(case.content)[0]] = False
    return gone


@pytest.mark.parametrize("name", few(FAMILIES, zoo.QUICK, zoo.MATRIX))
def test_deleted_tokens_leave_the_models_own_answer_on_the_rest(name: str) -> None:
    subject = Subject(zoo.explainer(name))
    found = cases(subject, zoo.TEXTS)
    removals = [Removal(case, gone_of(case, i), "delete") for i, case in enumerate(found)]
    model = subject.explainer.pretrained.model
    for removal, logits in zip(removals, answers(subject, removals), strict=True):
        ids = torch.from_numpy(removal.case.encoded.ids[~removal.gone].astype(np.int64))[None]  # type: ignore[attr-defined]
        assert ids.shape[1] < len(removal.case.encoded)
        with torch.no_grad():
            own = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        assert logits == pytest.approx(own.numpy(), abs=1e-9)


@pytest.mark.parametrize("name", few(FAMILIES, zoo.QUICK, zoo.MATRIX))
@pytest.mark.parametrize("how", ["pad", "mask"])
def test_stand_ins_change_embeddings_and_neither_positions_nor_the_row_that_is_pooled(
    name: str, how: str
) -> None:
    family, subject = zoo.TEXT_FAMILIES[name], Subject(zoo.explainer(name))
    tokenizer, model = subject.explainer.pretrained.tokenizer, subject.explainer.pretrained.model
    assert tokenizer is not None
    stand_in = tokenizer.pad_token_id if how == "pad" else tokenizer.mask_token_id
    found = cases(subject, zoo.TEXTS)
    removals = [Removal(case, gone_of(case, i), how) for i, case in enumerate(found)]
    for removal, logits in zip(removals, answers(subject, removals), strict=True):
        ids = torch.from_numpy(removal.case.encoded.ids.astype(np.int64))[None]  # type: ignore[attr-defined]
        mask = torch.ones_like(ids)
        numbers = zoo.positions(family, ids, mask)
        changed = torch.where(torch.from_numpy(removal.gone), stand_in, ids)
        with torch.no_grad():
            own = zoo.answer(family, model, changed, mask, numbers)[0]
        assert logits == pytest.approx(own.numpy(), abs=1e-9)
        assert np.abs(logits - removal.case.logits).max() > 1e-3


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_a_text_that_loses_everything_keeps_its_special_tokens_or_its_first(name: str) -> None:
    subject = Subject(zoo.explainer(name))
    (case,) = cases(subject, ["a good film"])
    left = remove(subject, case, np.ones(len(case.encoded), dtype=np.bool_), "delete")
    assert left.tokens == (["[CLS]", "[SEP]"] if name == "bert" else case.encoded.tokens[:1])
    assert np.isfinite(answers(subject, [Removal(case, case.content, "delete")])).all()


def test_every_row_of_a_text_loses_the_same_tokens() -> None:
    subject = Subject(zoo.explainer("bert"))
    document = Document(document_key("a good film", pair="never dull"), "a good film", pair="never dull")
    (case,) = subject.cases([document])
    assert isinstance(case, Case)
    gone = np.array([token in ("good", "never") for token in case.encoded.tokens])
    left = remove(subject, case, gone, "delete")
    assert left.tokens == ["[CLS]", "a", "film", "[SEP]", "dull", "[SEP]"]
    assert left.segments.tolist() == [-1, 0, 0, -1, 1, -1]
    assert left.types.tolist() == [0, 0, 0, 0, 1, 1]  # type: ignore[attr-defined]
    assert left.word_ids.tolist() == [-1, 0, 2, -1, 4, -1]
    assert [document.text[s:e] for s, e in left.char_spans[1:3]] == ["a", "film"]
    assert left.is_special.tolist() == [True, False, False, True, False, True]
    assert len(case.encoded) == 8  # the document's own input stays as it is


def test_removals_of_many_documents_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Subject(zoo.explainer("roberta"))
    found = cases(subject, zoo.TEXTS)
    removals = [
        Removal(case, gone_of(case, i), how)
        for i, case in enumerate(found)
        for how in ("mask", "delete", "pad")
    ]
    alone = np.concatenate([answers(subject, [removal]) for removal in removals])
    together = answers(subject, removals)
    monkeypatch.setattr("calig.evaluation.removal._CHUNK", 2)
    assert together == pytest.approx(alone, abs=1e-9)
    assert answers(subject, removals) == pytest.approx(alone, abs=1e-9)
    assert len(np.unique(alone.round(6), axis=0)) == len(removals)


@pytest.mark.parametrize("name", few(["vit", "deit", "ijepa"], zoo.QUICK, zoo.MATRIX))
@pytest.mark.parametrize("how", ["zero", "mean", "blur"])
def test_patches_are_replaced_pixel_by_pixel(name: str, how: str) -> None:
    subject = Subject(zoo.explainer(name))
    images = zoo.pixels(zoo.pictures(2))
    found = cases(subject, images)
    special = len(zoo.IMAGE_FAMILIES[name].special)
    gone = np.zeros(special + 9, dtype=np.bool_)
    gone[[special + 1, special + 5]] = True  # row 0, column 1, and row 1, column 2
    removals = [Removal(case, gone, how) for case in found]
    for image, removal, logits in zip(images, removals, answers(subject, removals), strict=True):
        expected = image.clone()
        for rows, columns in ((slice(0, 8), slice(8, 16)), (slice(8, 16), slice(16, 24))):
            if how == "zero":
                expected[:, rows, columns] = 0
            elif how == "mean":
                expected[:, rows, columns] = image.mean(dim=(1, 2))[:, None, None]
            else:
                from scipy.ndimage import gaussian_filter

                blurred = gaussian_filter(image.numpy(), (0, 3, 3), mode="nearest", truncate=3)
                expected[:, rows, columns] = torch.from_numpy(blurred)[:, rows, columns]
        changed = remove(subject, removal.case, gone, how)
        assert torch.allclose(changed.pixels, expected, atol=1e-9)  # type: ignore[attr-defined]
        with torch.no_grad():
            own = subject.explainer.pretrained.model(pixel_values=expected[None]).logits[0]
        assert logits == pytest.approx(own.numpy(), abs=1e-9)


def test_a_removal_that_a_model_does_not_have_is_refused_in_one_line() -> None:
    pretrained = zoo.load("bert")
    assert pretrained.tokenizer is not None
    subject = Subject(zoo.explainer("bert", pretrained=pretrained))
    assert removals_of(subject) == ("delete", "mask", "pad")
    assert default_removals(subject) == ("delete", "mask")
    pretrained.tokenizer.mask_token = None
    assert removals_of(subject) == ("delete", "pad")
    assert default_removals(subject) == ("delete", "pad")
    with pytest.raises(InputError, match=r"'mask' is not one of delete, pad, .* has no mask token") as error:
        check_removals(subject, ["delete", "mask"])
    assert "\n" not in str(error.value)
    (case,) = cases(subject, ["a good film"])
    with pytest.raises(InputError, match="'zero' is not one of"):
        answers(subject, [Removal(case, case.content, "zero")])
    pictured = Subject(zoo.explainer("vit"))
    assert removals_of(pictured) == ("zero", "mean", "blur")
    with pytest.raises(InputError, match=r"'delete' is not one of zero, mean, blur.* it reads images"):
        check_removals(pictured, ["delete"])


@pytest.mark.parametrize("baseline", ["zero", "mean", "blur", "pad", "mask"])
def test_a_default_removal_is_always_another_than_the_methods_baseline(baseline: str) -> None:
    text = baseline in ("pad", "mask")
    explainer = zoo.explainer("bert", baseline=baseline) if text else zoo.explainer("vit", baseline=baseline)
    assert set(default_removals(Subject(explainer))) - {baseline}
