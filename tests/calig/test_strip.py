"""`calig explain --image`: the strip of depths, and what is said beside it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calig.cli import main
from calig.strip import overlay, png, summary
from tests.material import zoo


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return caught.value.code, out, err


def test_blue_marks_what_speaks_for_the_class_and_orange_what_speaks_against() -> None:
    grey = Image.new("RGB", (40, 20), (128, 128, 128))
    shown = np.asarray(overlay(grey, np.array([[1.0, -1.0, 0.1, 0.0]], dtype=np.float32))).astype(int)
    strong_for, strong_against, weak, none = (shown[10, x] for x in (5, 15, 25, 35))
    assert strong_for[2] > strong_for[0] + 60
    assert strong_against[0] > strong_against[2] + 60
    assert 0 < weak[2] - weak[0] < 30
    assert len(set(none)) == 1


def test_nothing_to_show_is_a_grey_image() -> None:
    shown = np.asarray(overlay(Image.new("RGB", (20, 20), "red"), np.zeros((2, 2), np.float32)))
    assert (shown == shown[0, 0]).all()
    assert len(set(shown[0, 0].tolist())) == 1


def test_a_panel_for_the_image_each_depth_and_the_score() -> None:
    (a,) = zoo.explainer("vit", steps=6).explain(zoo.pictures(1))
    page = Image.open(io.BytesIO(png(a, zoo.images.CLASSES)))
    assert page.size == (6 * (160 + 12) + 12, 30 + 160 + 40 + 12 + 12)
    lines = summary(a, zoo.images.CLASSES)
    effect = a.layer_ig[:-1].mean(axis=0)
    effect[a.is_special] = -np.inf
    best = int(np.argmax(effect))
    assert f"({a.tokens[best]}) {effect[best]:+.3f}" in lines[1]
    assert zoo.images.CLASSES[a.target] in lines[0]


def test_explain_writes_the_strip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    zoo.pictures(1)[0].save("a photo.png")
    code, out, err = run(
        capsys, "explain", "--model", zoo.folder("vit"), "--image", "a photo.png", "--target", "dog"
    )
    assert code == 0, err
    assert "dog" in out
    assert "a photo-explained.png" in out
    assert Image.open("a photo-explained.png").format == "PNG"
    code, out, err = run(
        capsys, "explain", "--model", zoo.folder("vit"), "--image", "a photo.png", "--out", "b.png"
    )
    assert (code, Path("b.png").is_file()) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--text or --image, one of them"),
        (["--text", "a", "--image", "good.png"], "--text or --image, one of them"),
        (["--text", "a"], "this is a model of images; give it --image"),
        (["--image", "none.png"], "none.png cannot be read: No such file"),
        (["--image", "text.png"], "text.png: not a readable image"),
        (["--image", "good.png", "--out", "a.jpg"], "end it in .png"),
        (["--image", "good.png", "--out", "text.png/a.png"], "cannot be written"),
        (["--image", "good.png", "--target", "cow"], "'cow' is not a class of the model"),
        (["--image", "good.png", "--baseline", "token:a"], "'token:a' is not one of zero, mean, blur"),
    ],
)
def test_explain_refuses_what_makes_no_sense_in_one_line(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    zoo.pictures(1)[0].save("good.png")
    Path("text.png").write_text("a text")
    code, _, err = run(capsys, "explain", "--model", zoo.folder("vit"), *arguments)
    assert code == 2
    assert says in " ".join(err.split())
    assert len(err.strip().splitlines()) == 1


def test_an_image_for_a_model_of_texts_is_refused(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo.pictures(1)[0].save(tmp_path / "good.png")
    code, _, err = run(capsys, "explain", "--model", tiny_model, "--image", tmp_path / "good.png")
    assert (code, "this is a model of texts; give it --text" in err) == (2, True)
