"""What only images have: baselines that are images, patches, grids of other sizes, and pixel values."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from calig.attribution.explainer import Explainer
from calig.errors import DocumentError, InputError
from calig.records import Document
from tests.material import zoo
from tests.material.tiers import few

Float64 = npt.NDArray[np.float64]


@pytest.mark.parametrize("baseline", ["pad", "zero", "mean", "blur", "blur:2.5"])
def test_baselines_are_images(baseline: str) -> None:
    """Σ LIG is the change of the logit from a baseline image made here, with loops."""
    picture = zoo.pictures(1)[0]
    pixels = zoo.pixels([picture])
    (a,) = zoo.explainer("vit", baseline=baseline, tolerance=1e-3).explain([picture])
    assert a.truncated is False
    if baseline in ("pad", "zero"):
        other = torch.zeros_like(pixels)
    elif baseline == "mean":
        other = torch.stack([torch.full_like(channel, channel.mean()) for channel in pixels[0]])[None]
    else:
        other = _blurred(pixels[0].numpy(), 2.5 if ":" in baseline else zoo.SIDE / 8)[None]
    model = zoo.shared("vit").model
    at_input, at_baseline = (model(pixel_values=p).logits[0, a.target] for p in (pixels, other))
    assert a.logit == pytest.approx(float(at_input), abs=1e-6)
    assert a.baseline_logit == pytest.approx(float(at_baseline), abs=1e-6)
    total = a.layer_ig.sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(total, float(at_input - at_baseline), rtol=2e-3, atol=2e-3)


def _blurred(image: Float64, sigma: float) -> torch.Tensor:
    """(C, H, W), each pixel the Gaussian-weighted mean of its surroundings, edges repeated."""
    radius = int(3 * sigma + 0.5)
    weights = {o: np.exp(-(o**2) / (2 * sigma**2)) for o in range(-radius, radius + 1)}
    total = sum(weights.values())
    found = image
    for axis in (1, 2):
        found = sum(
            weight
            / total
            * np.take(found, np.clip(np.arange(image.shape[axis]) + o, 0, image.shape[axis] - 1), axis)
            for o, weight in weights.items()
        )
    return torch.from_numpy(np.asarray(found))


@pytest.mark.parametrize(
    "name", few([n for n, f in zoo.IMAGE_FAMILIES.items() if f.mask], ["beit"], zoo.MATRIX)
)
def test_the_mask_baseline_hides_every_patch_as_the_model_was_taught_to(name: str) -> None:
    pretrained = zoo.load(name)
    family, model = zoo.IMAGE_FAMILIES[name], pretrained.model
    picture = zoo.pictures(1)[0]
    (a,) = zoo.explainer(name, pretrained=pretrained, baseline="mask", tolerance=1e-3).explain([picture])
    hidden = torch.ones((1, (zoo.SIDE // zoo.PATCH) ** 2), dtype=torch.bool)
    embeddings = model.get_submodule(family.embeddings)
    own = embeddings.forward
    embeddings.forward = lambda pixels, *args, **kw: own(pixels, **{**kw, "bool_masked_pos": hidden})
    logits = model(pixel_values=zoo.pixels([picture])).logits[0]
    assert a.baseline_logit == pytest.approx(float(logits[a.target]), abs=1e-6)
    assert a.converged.all()


@pytest.mark.parametrize("name", few(zoo.IMAGE_FAMILIES, zoo.QUICK, zoo.MATRIX))
def test_tokens_are_patches_after_special_tokens(name: str) -> None:
    special = zoo.IMAGE_FAMILIES[name].special
    (a,) = zoo.explainer(name, steps=6).explain(zoo.pictures(1))
    side = zoo.SIDE // zoo.PATCH
    places = [(row, column) for row in range(side) for column in range(side)]
    assert a.tokens == [*special, *(f"{row},{column}" for row, column in places)]
    assert a.patches is not None
    assert a.patches.tolist() == [[-1, -1]] * len(special) + [list(place) for place in places]
    assert a.is_special.tolist() == [True] * len(special) + [False] * len(places)
    assert a.grid == (side, side)
    assert np.abs(a.layer_ig[0, a.is_special]).max(initial=0) == 0, "the same in the baseline"
    assert set(a.word_ids) == set(a.segments) == {-1}


def test_a_patch_that_alone_differs_from_the_baseline_has_all_relevance_at_the_embeddings() -> None:
    pixels = torch.zeros((3, zoo.SIDE, zoo.SIDE))
    pixels[:, 8:16, 16:24] = torch.randn((3, 8, 8), generator=torch.Generator().manual_seed(1))
    (a,) = zoo.explainer("vit").explain([pixels])
    at = [t for t, value in zip(a.tokens, a.layer_ig[0], strict=True) if value != 0]
    assert at == ["1,2"]
    assert a.layer_ig[0].sum() == pytest.approx(a.logit - a.baseline_logit, rel=1e-2)


def test_pictures_bytes_and_pixel_values_are_the_same_image() -> None:
    explainer = zoo.explainer("vit", steps=6)
    picture = zoo.pictures(1)[0]
    array = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    found = explainer.explain([picture, array, zoo.pixels([picture])[0]])
    for other in found[1:]:
        np.testing.assert_allclose(other.layer_ig, found[0].layer_ig, rtol=1e-4, atol=1e-6)


def test_results_do_not_depend_on_neighbours_of_other_sizes() -> None:
    explainer = zoo.explainer("vit")
    small, large = zoo.pixels(zoo.pictures(2)), zoo.pixels(zoo.pictures(2, side=40, seed=5))
    mixed = explainer.explain([small[0], large[0], small[1], large[1]])
    alone = [explainer.explain([image])[0] for image in (small[0], large[0], small[1], large[1])]
    for one, other in zip(mixed, alone, strict=True):
        assert one.grid == other.grid
        np.testing.assert_allclose(one.layer_ig, other.layer_ig, rtol=1e-6, atol=1e-9)


def test_more_images_than_a_window_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    explainer = zoo.explainer("vit", steps=6)
    pictures = zoo.pictures(7)
    whole = explainer.explain(pictures, target=[i % 3 for i in range(7)])
    monkeypatch.setattr(type(explainer.engine.encoder), "window", 3)
    done: list[int] = []
    documents = [Document(str(i), image=p) for i, p in enumerate(pictures)]
    windowed = explainer.attribute(documents, [i % 3 for i in range(7)], done.append)
    assert sum(done) == 7
    for one, other in zip(whole, windowed, strict=True):
        assert (one.target, other.key) == (other.target, str(whole.index(one)))
        np.testing.assert_allclose(one.layer_ig, other.layer_ig, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("size", "grid"), [((3, 30, 30), (3, 3)), ((3, 29, 17), (3, 2)), ((3, 8, 15), (1, 1))]
)
def test_sides_need_be_no_multiple_of_a_patch(size: tuple[int, ...], grid: tuple[int, int]) -> None:
    """What is left to the right and below is read by no model: other values there change nothing."""
    image = torch.rand(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    height, width = grid[0] * zoo.PATCH, grid[1] * zoo.PATCH
    other = torch.zeros_like(image)
    other[:, :height, :width] = image[:, :height, :width]
    explainer = zoo.explainer("vit", tolerance=1e-3)
    found, same = explainer.explain([image, other])
    assert found.grid == grid
    assert len(found.tokens) == 1 + grid[0] * grid[1]
    assert np.array_equal(found.logits, same.logits)
    assert found.converged.all()
    total = found.layer_ig.sum(axis=1, dtype=np.float64)
    assert np.allclose(total, found.logit - found.baseline_logit, rtol=2e-3, atol=1e-5)
    assert found.thumbnail is not None
    assert Image.open(io.BytesIO(found.thumbnail)).size == (width, height)


def test_a_model_s_own_size_need_be_no_multiple_of_a_patch(tmp_path: Path) -> None:
    """As that of SigLIP's shape-optimised model of 384 pixels and patches of 14."""
    zoo.save("siglip", tmp_path, image_size=30)
    zoo.processor(size={"height": 30, "width": 30}).save_pretrained(tmp_path)
    (found,) = Explainer.from_pretrained(tmp_path, steps=8).explain(zoo.pictures(1))
    assert found.grid == (3, 3)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (torch.zeros((3, 24, 7)), "24 × 7 pixels are less than a patch of 8 × 8"),
        (torch.zeros((1, 24, 24)), r"the model takes \(3, height, width\)"),
        (torch.full((3, 24, 24), torch.nan), "NaN or infinite"),
    ],
)
def test_pixel_values_of_a_wrong_shape_are_refused(image: torch.Tensor, says: str) -> None:
    with pytest.raises(DocumentError, match=says):
        zoo.explainer("vit", steps=6).explain([image])


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("photo.png", "open it with PIL.Image.open"),
        (b"bytes", "give a PIL image or a tensor"),
        (torch.zeros((3, 4), dtype=torch.uint8), r"give \(channels, height, width\)"),
        (torch.zeros((3, 24, 24), dtype=torch.int64), "of bytes"),
    ],
)
def test_anything_but_an_image_is_refused(item: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        zoo.explainer("vit", steps=6).explain([item])


def test_one_image_for_a_list_is_refused() -> None:
    explainer = zoo.explainer("vit", steps=6)
    for one in (Image.new("RGB", (24, 24)), torch.zeros((3, 24, 24))):
        with pytest.raises(InputError, match=r"explain\(\[image\]\)"):
            explainer.explain(one)


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ({"baseline": "token:a"}, "'token:a' is not one of zero, mean, blur"),
        ({"baseline": "blur:0"}, "'blur:0' is not one of"),
        ({"baseline": "blur:x"}, "'blur:x' is not one of"),
        ({"baseline": "mask"}, "ViTForImageClassification has no mask token"),
        ({"max_length": 10}, "method.max_length: the model reads images"),
        ({"image_size": 7}, "7 is less than a patch of 8 × 8"),
    ],
)
def test_choices_that_images_do_not_have_are_refused(method: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        zoo.explainer("vit", **method)
