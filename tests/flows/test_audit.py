"""The whole audit through its flow, and what a second one finds done."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from calig.config import parse_config
from tests.material.tiers import extended, few
from tests.material.tiny import (
    Audited,
    Row,
    assert_same_tables,
    audit_config,
    audit_dict,
    run_manifest,
    select,
    shard_times,
    tables,
    write_csv,
    write_parquet,
)

pytestmark = pytest.mark.usefixtures("prefect_server")


def _audit(model: Path, corpus: Path, warehouse: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """Audit, and return the run's manifest."""
    from flows.audit import audit

    return run_manifest(warehouse, audit(audit_config(model, corpus, warehouse, **sections)).run_id)


def _model_predictions(model: Path, texts: list[str]) -> list[int]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    classifier = AutoModelForSequenceClassification.from_pretrained(model).eval()
    with torch.inference_mode():
        return [int(classifier(**tokenizer(text, return_tensors="pt")).logits.argmax()) for text in texts]


def _artifact(key: str, saying: str = "") -> Any:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])), sort=ArtifactSort.CREATED_DESC
        )
    return next(artifact for artifact in found if saying in f"{artifact.description} {artifact.data}")


def test_a_pair_corpus_and_a_head_go_through_the_flow(tmp_path: Path, tiny_model: Path) -> None:
    """The same texts under another head are another audit: model and corpus are not taken from the cache."""
    rows = [
        {"id": str(i), "a": a, "b": b, "label": i % 2}
        for i, (a, b) in enumerate((("the film", "a dull cast"), ("good story", None), ("", "bad music")))
    ]
    data = audit_dict(tiny_model, write_parquet(tmp_path / "pairs.parquet", rows), tmp_path / "w")
    data["corpus"] |= {"text": "a", "text_pair": "b"}
    from flows.audit import audit

    for head in ("auto", "multi_label"):
        data["model"]["head"] = head
        audit(parse_config(data))
    found = select(
        tmp_path / "w",
        "SELECT text_pair, label, correct, head FROM documents JOIN runs USING (run_id) ORDER BY doc_id",
        "all",
    )
    assert {row[3] for row in found} == {"single_label", "multi_label"}
    assert [row[0] for row in found] == ["a dull cast"] * 2 + [""] * 2 + ["bad music"] * 2
    assert len(select(tmp_path / "w", "FROM documents WHERE labels IS NOT NULL")) == 3


def test_audit_fills_the_warehouse(audited: Audited, tiny_rows: list[Row]) -> None:
    manifest = run_manifest(audited.warehouse, audited.run_id)
    assert manifest["status"] == "complete"
    assert manifest["attributed"] == len(tiny_rows)
    assert manifest["reused"] == 0
    assert manifest["depths"] == 4
    assert set(manifest["timings"]) == {"ingest", "pilot", "attribute"}
    assert audited.report == audited.warehouse / "runs" / audited.run_id / "report" / "index.html"
    assert "<html" in audited.report.read_text()
    counts = {table: len(rows) for table, rows in tables(audited.warehouse, audited.run_id).items()}
    assert counts["runs"] == 1
    assert counts["document_depths"] == 4 * len(tiny_rows)
    assert counts["settling"] == len(tiny_rows)
    assert counts["completeness"] == 4
    assert counts["class_stats"] == 2
    assert counts["failures"] == 0
    assert min(counts[table] for table in ("layer_stats", "token_stats", "word_stats")) > 0


def test_texts_labels_and_columns_come_back_as_they_were(audited: Audited, tiny_rows: list[Row]) -> None:
    found = select(
        audited.warehouse, "SELECT source_id, text, label_id, topic FROM documents ORDER BY doc_id"
    )
    assert found == [(row["id"], row["text"], row["label"], row["topic"]) for row in tiny_rows]


def test_accuracy_is_the_models_own(audited: Audited, tiny_model: Path, tiny_rows: list[Row]) -> None:
    predictions = _model_predictions(tiny_model, [row["text"] for row in tiny_rows])
    assert len(set(predictions)) == 2
    right = sum(p == row["label"] for p, row in zip(predictions, tiny_rows, strict=True))
    assert select(audited.warehouse, "SELECT accuracy FROM runs") == [
        (pytest.approx(right / len(tiny_rows)),)
    ]
    found = select(audited.warehouse, "SELECT predicted_id FROM documents ORDER BY doc_id")
    assert [row[0] for row in found] == predictions


def test_attributions_are_the_librarys_own(audited: Audited, tiny_model: Path, tiny_rows: list[Row]) -> None:
    """Token by token the warehouse's score is what `Explainer.explain` gives, within the tolerance."""
    from calig import Explainer

    [attribution] = Explainer.from_pretrained(str(tiny_model), tolerance=1e-4).explain([tiny_rows[0]["text"]])
    found = select(audited.warehouse, "SELECT token, score FROM tokens WHERE doc_id = 0 ORDER BY position")
    assert [token for token, _ in found] == attribution.tokens
    assert [score for _, score in found] == pytest.approx(attribution.scores.tolist(), abs=0.05)


def test_prefect_shows_progress_numbers_and_report(audited: Audited, tiny_rows: list[Row]) -> None:
    from prefect.client.schemas.objects import Artifact

    artifact: Artifact
    for key, kind in (
        ("calig-progress", "progress"),
        ("calig-tiny", "table"),
        ("calig-tiny-report", "markdown"),
    ):
        artifact = _artifact(key)
        assert artifact.type == kind
    progress = _artifact("calig-progress", f"attributing: {len(tiny_rows)} of {len(tiny_rows)} documents")
    assert float(progress.data) == 100.0
    assert audited.run_id in _artifact("calig-tiny-report", str(audited.report)).data


def test_a_form_made_run_is_an_audit_too(tmp_path: Path, tiny_model: Path, tiny_corpus: Path) -> None:
    """As the Prefect UI starts it: the parameters as plain JSON."""
    from flows.audit import audit

    parameters: Any = audit_dict(tiny_model, tiny_corpus, tmp_path / "w")
    result = audit(config=parameters)
    assert run_manifest(tmp_path / "w", result.run_id)["status"] == "complete"


def test_the_flows_schema_draws_a_form() -> None:
    from flows.audit import audit

    schema = audit.parameters.model_dump()
    config = schema["definitions"]["AuditConfig"]
    assert set(config["required"]) == {"model", "corpus"}
    fields = [field for part in schema["definitions"].values() for field in part["properties"].values()]
    assert len(fields) > 25
    assert all(field.get("title") for field in fields)
    assert all(field.get("description") for field in fields if "$ref" not in field)


def test_nothing_is_computed_twice(tmp_path: Path, tiny_model: Path, tiny_rows: list[Row]) -> None:
    """Not by the same audit, nor on a subset, nor in another order or format, nor for another weight."""
    warehouse = tmp_path / "w"
    rows = [*tiny_rows, {**tiny_rows[0], "id": "twin"}]
    whole = write_parquet(tmp_path / "whole.parquet", rows)
    first = _audit(tiny_model, whole, warehouse)
    assert first["attributed"] == len(tiny_rows), "a text that is there twice is attributed once"
    times = shard_times(warehouse)
    assert sorted(select(warehouse, "SELECT source_id FROM documents WHERE doc_key = ("
        "SELECT doc_key FROM documents WHERE source_id = 'twin')")) == [("r0",), ("twin",)]  # fmt: skip

    shuffled = random.Random(5).sample(rows, len(rows))
    others = [
        (whole, {}),
        (write_parquet(tmp_path / "subset.parquet", rows[3:11]), {}),
        (write_csv(tmp_path / "shuffled.csv", shuffled), {}),
        (whole, {"method": {"weight": 0.9}}),
    ]
    for corpus, sections in others:
        again = _audit(tiny_model, corpus, warehouse, **sections)
        assert again["attributed"] == 0
        assert again["reused"] == again["corpus"]["documents"] - (corpus.name != "subset.parquet")
        assert shard_times(warehouse) == times
        assert again["attribution_key"] == first["attribution_key"]
    assert select(warehouse, "SELECT text FROM documents ORDER BY doc_id", "previous") == [
        (row["text"],) for row in shuffled
    ]


@pytest.mark.parametrize(
    "fusion", few(["agreement", "column"], ["agreement"], "the same with another fusion")
)
def test_another_weight_is_another_score_without_computing(
    audited: Audited, tmp_path: Path, tiny_model: Path, tiny_corpus: Path, fusion: str
) -> None:
    """score = Σ_l w_l·((1−λ)·ig_{l−1} + λ·H·ctx_l), or of the column fusion, recomputed from the stored columns."""
    weight = 0.3
    warehouse = shutil.copytree(audited.warehouse, tmp_path / "w")
    times = shard_times(warehouse)
    manifest = _audit(tiny_model, tiny_corpus, warehouse, method={"weight": weight, "fusion": fusion})
    assert manifest["attributed"] == 0
    assert shard_times(warehouse) == times
    folder = warehouse / "attributions" / manifest["attribution_key"]
    documents = ds.dataset(sorted(folder.glob("documents-*.parquet"))).to_table().to_pylist()
    scales = {row["doc_key"]: row for row in documents}
    expected = {}
    for token in ds.dataset(sorted(folder.glob("tokens-*.parquet"))).to_table().to_pylist():
        own = scales[token["doc_key"]]
        total = 0.0
        for block in (1, 2, 3):
            ig, context = token[f"ig_{block - 1:02}"], token[f"ctx_{block:02}"]
            if fusion == "column":
                ig, context = ig / own["ig_norm"][block - 1], context / own["context_norm"][block - 1]
            else:
                share = own["depth_weight"][block - 1]
                ig, context = share * ig, share * own["heads"] * context
            total += (1 - weight) * ig + weight * context
        expected[token["doc_key"], token["position"]] = total
    found = {
        (key, at): score
        for key, at, score in select(warehouse, "SELECT doc_key, position, score FROM tokens")
    }
    assert found == pytest.approx(expected, abs=1e-6)


def test_another_model_or_tolerance_is_computed_anew(
    audited: Audited, tmp_path: Path, tiny_corpus: Path, tiny_rows: list[Row], tiny_model: Path
) -> None:
    from safetensors.torch import load_file, save_file

    warehouse = shutil.copytree(audited.warehouse, tmp_path / "w")
    model = shutil.copytree(tiny_model, tmp_path / "model")
    first = run_manifest(warehouse, audited.run_id)
    same = _audit(model, tiny_corpus, warehouse)
    assert same["attributed"] == 0, "a copy of the model is the same model"
    weights = load_file(model / "model.safetensors")
    weights["classifier.weight"][0, 0] += 0.01
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    changed = _audit(model, tiny_corpus, warehouse)
    assert changed["attributed"] == len(tiny_rows)
    assert changed["model"]["hash"] != first["model"]["hash"]
    tighter = _audit(tiny_model, tiny_corpus, warehouse, method={"tolerance": 1e-3})
    assert tighter["attributed"] == len(tiny_rows)
    assert tighter["model"]["hash"] == first["model"]["hash"]
    assert len({run["attribution_key"] for run in (first, changed, tighter)}) == 3


@extended("two processes that each import all; test_engines kills one")
def test_two_workers_give_the_tables_of_one(
    audited: Audited, tmp_path: Path, tiny_model: Path, tiny_corpus: Path
) -> None:
    manifest = _audit(tiny_model, tiny_corpus, tmp_path / "w", runtime={"workers": 2, "shard_documents": 3})
    assert_same_tables(tmp_path / "w", manifest["run_id"], audited.warehouse, audited.run_id, 5e-4)
