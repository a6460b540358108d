"""One document never ends an audit: whatever is raised at one of its steps is a row in `failures`, on each engine."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import AddedToken

from calig import Explainer, stages
from calig.config import parse_config
from calig.engines import open_engine
from calig.errors import DocumentError, InputError
from calig.evaluation.subject import Case, Subject
from calig.models.classifier import Classifier
from calig.records import Attribution, Document, Failure
from tests.calig.engines.jobs import STEPS, attribute_with_faults
from tests.material import zoo
from tests.material.audits import begin
from tests.material.heads import run_stages
from tests.material.tiers import extended, few
from tests.material.tiny import WORDS, audit_config, select, write_parquet

PLAIN = [word for word in WORDS if word not in STEPS]
GOOD = [" ".join(PLAIN[place : place + 6]) for place in range(0, 24, 2)]
BAD = {f"the film is {word} and good": reason for word, reason in STEPS.items()}


def rows() -> list[dict[str, Any]]:
    texts = [*GOOD[:5], *BAD, *GOOD[5:]]
    return [{"id": f"r{n}", "text": text, "label": n % 2} for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    "engine", few(["threads", "processes", "ray"], ["threads"], "processes that load a model of their own")
)
def test_what_raises_at_any_step_fails_alone(engine: str, tiny_model: Path, tmp_path: Path) -> None:
    if engine == "ray":
        pytest.importorskip("ray")
    corpus = write_parquet(tmp_path / "corpus.parquet", rows())
    config = audit_config(
        tiny_model,
        corpus,
        tmp_path / "w",
        runtime={"engine": engine, "workers": 1, "threads": 1, "shard_documents": 9, "device": "cpu"},
        gates={"max_failure_share": 0.5},
    )
    run = begin(config)
    done: list[int] = []
    with open_engine(config) as opened:
        for doc_ids in stages.missing_shards(run):
            opened.run(attribute_with_faults, run, doc_ids, progress=done.append)
    stages.aggregate_run(run, sum(done), {})
    outcomes = stages.check_gates(run)
    stages.complete_run(run)
    stages.enforce_gates(run, outcomes)
    assert sum(done) == len(rows())
    failed = select(tmp_path / "w", "SELECT text, failure FROM documents WHERE failure IS NOT NULL")
    assert dict(failed) == BAD
    details = dict(select(tmp_path / "w", "SELECT source_id, detail FROM failures ORDER BY doc_id"))
    assert list(details.values()) == [
        "tokenizing it raised PanicException: called `Option::unwrap()` on a `None` value",
        "tokenizing it raised ValueError: spans are not in order",
        "explaining it raised IndexError: index out of range in self",
        "explaining it raised RuntimeError: sizes of tensors do not match",
        "explaining it raised ZeroDivisionError: division by zero",
    ]
    alone = Explainer.from_pretrained(str(tiny_model))
    alone.engine.schedule = stages.schedule_of(run)
    for text, total in select(
        tmp_path / "w",
        "SELECT any_value(d.text), list(t.ig_00 ORDER BY t.position) FROM tokens AS t JOIN documents AS d "
        "USING (doc_id) GROUP BY d.doc_id",
    ):
        (own,) = alone.explain([text])
        assert total == pytest.approx(own.layer_ig[0].tolist(), abs=1e-5)


def test_a_token_that_is_not_embedded_fails_alone() -> None:
    """A token was added to the tokenizer, and the model not resized: on a GPU the device would be lost."""
    pretrained = zoo.load("bert")
    tokenizer: Any = pretrained.tokenizer
    tokenizer.add_tokens([AddedToken("brandnew")])
    size = len(tokenizer) - 1
    explainer = zoo.explainer("bert", pretrained=pretrained, steps=6)
    found = explainer.attribute([Document("a", "good film"), Document("b", "a brandnew film")])
    assert isinstance(found[0], Attribution)
    assert found[1] == Failure(
        "b",
        "not-embedded",
        f"the tokenizer gives token 'brandnew' the id {size}, and the model embeds {size} ids, from 0 on",
    )


def premultiplied() -> bytes:
    """A grey TIFF whose alpha is premultiplied: Pillow opens it as `La`, which it converts to nothing but `LA`."""
    stream = io.BytesIO()
    grey, alpha = Image.new("L", (8, 8), 100), Image.new("L", (8, 8), 200)
    Image.merge("LA", [grey, alpha]).save(stream, "TIFF")
    data = bytearray(stream.getvalue())
    (offset,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, offset)
    for place in range(offset + 2, offset + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, place)[0] == 338:  # ExtraSamples: 1 is associated alpha
            struct.pack_into("<H", data, place + 8, 1)
    return bytes(data)


def test_odd_pictures_are_read_or_fail_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    explainer = zoo.explainer("vit", steps=6)
    whole = zoo.pictures(1)[0]
    processor = explainer.engine.encoder._processor  # type: ignore[attr-defined]

    def faulty(images: Any, **options: Any) -> Any:
        if getattr(images, "size", None) == (13, 7):
            raise ZeroDivisionError("division by zero")
        return processor(images=images, **options)

    monkeypatch.setattr(explainer.engine.encoder, "_processor", faulty)
    given: dict[str, Any] = {
        "whole": whole,
        "premultiplied": premultiplied(),
        "no pixels": Image.new("RGB", (0, 5)),
        "processor": Image.new("RGB", (13, 7)),
        "channels": torch.zeros((7, 9, 9), dtype=torch.uint8),
        "also whole": whole,
        **{
            mode: Image.new(mode, (9, 9))
            for mode in ("1", "P", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "La", "RGBa", "PA", "I;16B")
        },
    }
    found = explainer.attribute([Document(key, image=image) for key, image in given.items()])
    failed = {item.key: (item.reason, item.detail) for item in found if isinstance(item, Failure)}
    assert failed.pop("channels")[0] == "undecodable"
    assert failed == {
        "no pixels": ("empty", "the picture has no pixels"),
        "processor": ("not-prepared", "the image processor raised ZeroDivisionError: division by zero"),
    }
    first, last = found[0], found[5]
    assert isinstance(first, Attribution)
    assert isinstance(last, Attribution)
    np.testing.assert_allclose(first.layer_ig, last.layer_ig, atol=1e-9)


def test_the_level_that_stands_for_transparent_in_16_bits_is_white() -> None:
    from calig.models.pictures import picture_of

    stream = io.BytesIO()
    values = np.array([[0, 1000], [40_000, 65_535]], dtype=np.uint16)
    Image.fromarray(values).save(stream, "PNG", transparency=1000)
    picture = picture_of(Document("k", image=stream.getvalue()), 1)
    assert np.asarray(picture).tolist() == [[0, 255], [156, 255]]


def test_the_lack_of_memory_and_what_the_user_has_to_mend_end_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    explainer = zoo.explainer("bert", steps=6)
    for error in (
        MemoryError(),
        RuntimeError("CUDA error: device-side assert triggered"),
        InputError("mend it"),
    ):

        def fail(*_: Any, error: BaseException = error) -> Any:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(Classifier, "answer", fail)
            with pytest.raises(type(error)):
                explainer.attribute([Document("a", "a good film"), Document("b", "not bad")])


def test_the_library_says_of_one_text_what_was_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise IndexError("index out of range in self")

    explainer = zoo.explainer("bert", steps=6)
    monkeypatch.setattr(Classifier, "answer", fail)
    with pytest.raises(
        DocumentError, match=r"^text 0: explaining it raised IndexError: index out of range"
    ) as caught:
        explainer.explain(["a good film"])
    assert caught.value.reason == "not-explained"


def test_a_document_without_the_label_that_is_explained_fails_alone() -> None:
    explainer = zoo.explainer("bert", steps=6, target="label")
    documents = [Document("a", "a good film", 1), Document("b", "not bad"), Document("c", "dull", 2)]
    a, b, c = explainer.attribute(documents)
    assert (getattr(a, "target", None), getattr(c, "target", None)) == (1, 2)
    detail = "it has no label, and method.target: label explains the labelled class"
    assert b == Failure("b", "no-label", detail)
    assert Subject(explainer).cases(documents)[1] == b


def test_a_model_that_raises_at_one_document_leaves_the_others_to_be_evaluated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = Subject(zoo.explainer("bert", steps=6))
    answer = Classifier.answer

    def faulty(classifier: Classifier, batch: Any) -> Any:
        if (batch.inputs["attention_mask"].sum(dim=1) == 3).any():
            raise RuntimeError("sizes of tensors do not match")
        return answer(classifier, batch)

    monkeypatch.setattr(Classifier, "answer", faulty)
    documents = [Document("a", "a good film"), Document("b", "dull"), Document("c", "never dull")]
    a, b, c = subject.cases(documents)
    assert isinstance(a, Case)
    assert isinstance(c, Case)
    assert b == Failure(
        "b", "not-explained", "running the model on it raised RuntimeError: sizes of tensors do not match"
    )


@extended("two whole audits")
def test_an_audit_of_damaged_pictures_ends_and_so_does_the_next(tmp_path: Path) -> None:
    zoo.save("vit", tmp_path / "model")
    folder = tmp_path / "photos" / "yes"
    folder.mkdir(parents=True)
    for number, picture in enumerate(zoo.pictures(4)):
        picture.save(folder / f"{number}.png")
    (folder / "scan.tif").write_bytes(premultiplied())
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:60])
    config = parse_config(
        {
            "name": "photos",
            "model": {"id": str(tmp_path / "model")},
            "corpus": {"path": str(folder.parent), "label": None},
            "warehouse": str(tmp_path / "w"),
            "gates": {"max_failure_share": 0.5},
            "runtime": {"device": "cpu"},
        }
    )
    for _ in range(2):
        run = run_stages(config)
        assert [
            reason for _, reason in select(run.warehouse.root, "SELECT source_id, reason FROM failures")
        ] == ["undecodable"]
