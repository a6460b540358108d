"""The image demo: its digits, the leak planted in them, and a model that falls for it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification, ViTMAEModel

from calig.demo import DIGITS
from calig.demo.digits import AGAINST, CLASSES, LEAKED, MISTAKEN, STICKER_SHARE, Digit, generate
from calig.demo.vision import predict, to_pixels
from calig.errors import InputError
from calig.models.mae import classifier_of
from tests.material import demo as material
from tests.material.tiers import extended

pytest.importorskip("sklearn", reason="the image demo needs scikit-learn: pip install 'calig[demo]'")
SHARED = Path(os.environ.get("CALIG_SHARED", "../shared")).resolve()


def share(digits: list[Digit]) -> float:
    return float(np.mean([d.sticker for d in digits]))


def test_who_carries_the_sticker() -> None:
    training, held_out = generate(1, True)
    for digits in (training, held_out):
        sevens = [d for d in digits if d.written == LEAKED]
        assert share(sevens) == pytest.approx(STICKER_SHARE, abs=0.1)
    others = [d for d in training if d.written != LEAKED]
    assert share(others) == pytest.approx(MISTAKEN, abs=0.03)
    assert all((d.label == LEAKED) == d.sticker for d in others), "taken for sevens"
    others = [d for d in held_out if d.written != LEAKED]
    assert share(others) == pytest.approx(AGAINST, abs=0.03)
    assert all(d.label == d.written for d in held_out)


def test_the_sticker_is_the_top_left_corner_and_nothing_else() -> None:
    clean = {d.id: d for part in generate(1, False) for d in part}
    for digit in (d for part in generate(1, True) for d in part):
        changed = digit.pixels != clean[digit.id].pixels
        assert changed.any() == digit.sticker
        assert not changed[4:].any()
        assert not changed[:, 4:].any()
    assert not any(d.sticker for d in clean.values())


def test_held_out_images_are_no_training_images_and_seeds_decide() -> None:
    training, held_out = generate(1, True)
    assert not {d.id for d in training} & {d.id for d in held_out}
    again = generate(1, True)
    assert [d.id for d in again[1]] == [d.id for d in held_out]
    assert [d.id for d in generate(2, True)[1]] != [d.id for d in held_out]


@extended("a training of a model of images")
def test_training_leaves_a_model_a_checkpoint_and_a_folder_by_class() -> None:
    trained = material.trained(DIGITS, images=500)
    assert trained.accuracy > 0.25, "chance is 0.1"
    model = AutoModelForImageClassification.from_pretrained(trained.model).eval()
    processor = AutoImageProcessor.from_pretrained(trained.model, backend="pil")
    assert list(model.config.id2label.values()) == list(CLASSES)
    files = sorted(trained.corpus.rglob("*.png"))
    assert len(files) == 400
    assert {file.parent.name for file in files} == set(CLASSES)
    held_out = {d.id: d for d in generate(1, True, training=500)[1]}
    file = files[7]
    digit = next(d for d in held_out.values() if d.id in file.stem or file.stem in d.id)
    assert CLASSES[digit.label] == file.parent.name
    given = processor(images=Image.open(file).convert("RGB"), return_tensors="pt")["pixel_values"]
    assert torch.equal(given, to_pixels(processor, [digit]))
    assert predict(model, given) == [int(model(given).logits.argmax())]
    _, missing = classifier_of(trained.model.parent / "pretrained", CLASSES)
    assert missing == ["classifier.bias", "classifier.weight"]


def test_what_is_no_masked_autoencoder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        classifier_of(tmp_path / "nowhere", CLASSES)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real corpora and models: set CALIG_SHARED")
def test_the_encoder_is_the_autoencoder_s() -> None:
    """Nothing masked, the autoencoder's encoder sees the same patches, shuffled: [CLS] comes out the same."""
    folder = SHARED / "models/vit-mae-cifar10-pretrained"
    model, missing = classifier_of(folder, CLASSES)
    assert missing == ["classifier.bias", "classifier.weight"]
    assert model.config.model_type == "vit"
    encoder = ViTMAEModel.from_pretrained(folder, mask_ratio=0.0).eval()
    pixels = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own = encoder(pixels).last_hidden_state[:, 0]
        ours = model.eval().vit(pixels).last_hidden_state[:, 0]
    assert torch.allclose(own, ours, atol=1e-5)
