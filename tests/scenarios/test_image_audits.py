"""Audits of images from the files to the tables and the page: awkward photos, the example on a real model."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from calig import stages
from calig.attribution.explainer import Explainer
from calig.config import load_config, parse_config
from calig.errors import InputError
from calig.warehouse.questions import questions
from tests.material import zoo
from tests.material.heads import run_stages, select
from tests.material.tiers import extended

SHARED = Path(os.environ.get("CALIG_SHARED", "../shared")).resolve()
ROOT = Path(__file__).parents[2]
IMAGES = 16


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photos(folder: Path) -> None:
    """Twelve good pictures in folders by class, and what else people have."""
    for number, picture in enumerate(zoo.pictures(12, side=40)):
        path = folder / zoo.images.CLASSES[number % 3] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    picture = zoo.pictures(1, seed=9)[0]
    deep = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 8
    awkward = {
        "24mp.jpg": encoded(Image.new("RGB", (6000, 4000), "green"), "JPEG"),
        "one.png": encoded(Image.new("RGB", (1, 1), "red"), "PNG"),
        "animated.gif": encoded(picture, "GIF", save_all=True, append_images=zoo.pictures(3)),
        "deep.png": encoded(Image.fromarray(deep), "PNG"),
        "cmyk.jpg": encoded(picture.convert("CMYK"), "JPEG"),
        "clear.png": encoded(Image.new("RGBA", (30, 30), (255, 0, 0, 40)), "PNG"),
        "turned.jpg": encoded(picture, "JPEG", exif=exif),
        "grey.webp": encoded(picture.convert("L"), "WEBP"),
        "truncated.jpg": encoded(zoo.pictures(1, side=200)[0], "JPEG")[:1500],
        "text.png": b"I am a text.",
        "nothing.png": b"",
    }
    for name, data in awkward.items():
        (folder / "fox" / name).write_bytes(data)
    (folder / "fox" / "gone.png").symlink_to(folder / "nowhere.png")


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> stages.Run:
    folder = tmp_path_factory.mktemp("photos")
    photos(folder / "photos")
    zoo.save("vit", folder / "model")
    config = parse_config(
        {
            "name": "photos",
            "model": {"id": str(folder / "model")},
            "corpus": {"path": str(folder / "photos"), "label": "label"},
            "warehouse": str(folder / "warehouse"),
            "gates": {"max_failure_share": 0.5},
            "runtime": {"device": "cpu", "shard_documents": 7},
        }
    )
    run = run_stages(config)
    stages.write_report(run)
    return run


def test_every_photo_is_explained_or_recorded(audited: stages.Run) -> None:
    found = dict(select(audited.warehouse.root, "SELECT source_id, failure FROM documents"))
    failed = {Path(name).name: reason for name, reason in found.items() if reason}
    assert failed == {
        "truncated.jpg": "undecodable",
        "text.png": "undecodable",
        "nothing.png": "empty",
        "gone.png": "no-file",
    }
    assert len(found) == 24
    reasons = select(audited.warehouse.root, "SELECT reason, count(*) FROM failures GROUP BY 1 ORDER BY 1")
    assert reasons == [("empty", 1), ("no-file", 1), ("undecodable", 2)]


def test_the_class_is_the_folder_and_answers_are_the_model_s(audited: stages.Run) -> None:
    model = AutoModelForImageClassification.from_pretrained(audited.model.id).eval()
    processor = AutoImageProcessor.from_pretrained(audited.model.id, backend="pil")
    rows = select(
        audited.warehouse.root,
        "SELECT image, label, logits FROM documents WHERE image LIKE '%.png' AND failure IS NULL "
        "AND label <> 'fox' ORDER BY doc_id",
    )
    assert len(rows) == 8
    for path, label, logits in rows:
        assert Path(path).parent.name == label
        with torch.no_grad():
            own = model(**processor(images=Image.open(path).convert("RGB"), return_tensors="pt")).logits[0]
        assert logits == pytest.approx(own.tolist(), abs=1e-4)


def test_the_library_gives_the_same_explanation(audited: stages.Run) -> None:
    (row,) = select(
        audited.warehouse.root, "SELECT doc_id, image FROM documents WHERE source_id = 'cat/00.png'"
    )
    explainer = Explainer.from_pretrained(audited.model.id)
    (a,) = explainer.explain([Image.open(row[1])])
    stored = select(
        audited.warehouse.root, f"SELECT logit_effect FROM tokens WHERE doc_id = {row[0]} ORDER BY position"
    )
    effect = a.layer_ig[:-1].mean(axis=0)
    assert np.linalg.norm(np.array(stored)[:, 0] - effect) <= 2e-2 * np.linalg.norm(effect)


def test_the_report_shows_the_pictures_and_the_failures(audited: stages.Run) -> None:
    page = (audited.warehouse.run(audited.run_id) / "report" / "index.html").read_text("utf-8")
    assert "data:image/" in page or '"thumbnail"' in page
    assert "text.png" in page
    assert "not a readable image" in page


def test_the_same_again_computes_nothing(audited: stages.Run) -> None:
    again = run_stages(
        audited.config.model_copy(update={"method": audited.config.method.model_copy(update={"weight": 0.2})})
    )
    assert not stages.missing_shards(again)
    rows = select(
        again.warehouse.root, "SELECT attributed, reused FROM runs WHERE run_id = '" + again.run_id + "'"
    )
    assert rows == [(0, 24)]


def test_questions_are_answered(audited: stages.Run) -> None:
    for one in questions():
        if one.name != "by-category":
            select(audited.warehouse.root, one.sql)


def test_a_text_corpus_for_an_image_model(audited: stages.Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nhello\n")
    config = audited.config.model_copy(
        update={"corpus": audited.config.corpus.model_copy(update={"path": str(tmp_path), "label": None})}
    )
    with pytest.raises(InputError, match=r"no column 'image' for corpus\.image"):
        run_stages(config)


@extended("an audit of a real model")
@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real corpora and models: set CALIG_SHARED")
def test_the_example_audit_is_the_model_s_own_and_within_tolerance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALIG_SHARED", str(SHARED))
    config = load_config(
        ROOT / "infra/audits/cifar10.yaml", [f"corpus.limit={IMAGES}"], str(tmp_path / "warehouse")
    )
    run = run_stages(config)
    folder = SHARED / "models/vit-mae-cifar10"
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    import pyarrow.parquet as pq

    given = pq.read_table(SHARED / "corpora/cifar10-test.parquet").slice(0, IMAGES).to_pylist()
    pictures = [Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in given]
    with torch.no_grad():
        own = model(**processor(images=pictures, return_tensors="pt")).logits
    right = float((own.argmax(-1) == torch.tensor([row["label"] for row in given])).double().mean())
    assert select(run.warehouse.root, "SELECT accuracy, failures, converged_share FROM runs") == [
        (pytest.approx(right), 0, 1.0)
    ]
    logits = select(run.warehouse.root, "SELECT logits FROM documents ORDER BY doc_id")
    np.testing.assert_allclose(np.array([row[0] for row in logits]), own.numpy(), atol=1e-4)
    worst = """
        SELECT max(abs(net - change) / greatest(abs(change), 0.05 * gross, 1e-3)), max(error_estimate)
        FROM document_depths JOIN (
            SELECT run_id, doc_id, error_estimate, logit - baseline_logit AS change FROM documents
        ) USING (run_id, doc_id)
    """
    assert all(value <= 0.01 for value in select(run.warehouse.root, worst)[0])


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real corpora and models: set CALIG_SHARED")
def test_a_masked_autoencoder_that_is_only_pretrained_is_refused_with_what_is_missing() -> None:
    says = r"its encoder is whole, but classifier\.bias and classifier\.weight are missing"
    with pytest.raises(InputError, match=says):
        Explainer.from_pretrained(str(SHARED / "models/vit-mae-cifar10-pretrained"))
