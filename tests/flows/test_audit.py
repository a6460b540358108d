"""The whole audit through its flow, and what a second one finds done."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.material import (
    Row,
    audit_config,
    audit_dict,
    run_manifest,
    select,
)

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def audited(
    prefect_server: str, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_corpus: Path
) -> tuple[Path, str, Path]:
    """A warehouse with one audit: its folder, the run's id, its report."""
    from flows.audit import audit

    warehouse = tmp_path_factory.mktemp("audited") / "warehouse"
    result = audit(audit_config(tiny_model, tiny_corpus, warehouse))
    return warehouse, result.run_id, result.report


def _model_predictions(model: Path, texts: list[str]) -> list[int]:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    classifier = AutoModelForSequenceClassification.from_pretrained(model).eval()
    with torch.inference_mode():
        return [
            int(classifier(**tokenizer(text, return_tensors="pt")).logits.argmax()) for text in texts
        ]


def test_audit_fills_the_warehouse(audited: tuple[Path, str, Path], tiny_rows: list[Row]) -> None:
    warehouse, run_id, report = audited
    manifest = run_manifest(warehouse, run_id)
    assert manifest["status"] == "complete"
    assert manifest["attributed"] == len(tiny_rows)
    assert manifest["reused"] == 0
    assert manifest["depths"] == 4
    assert report == warehouse / "runs" / run_id / "report" / "index.html"
    assert "<html" in report.read_text()
    assert select(warehouse, "SELECT count(*) FROM documents") == [(len(tiny_rows),)]
    assert select(warehouse, "SELECT count(*) FROM document_depths") == [(4 * len(tiny_rows),)]
    assert select(warehouse, "SELECT sum(documents) FROM layer_stats WHERE class = '*' AND depth = 0") == [
        (len(tiny_rows),)
    ]


def test_accuracy_is_the_models_own(
    audited: tuple[Path, str, Path], tiny_model: Path, tiny_rows: list[Row]
) -> None:
    predictions = _model_predictions(tiny_model, [row["text"] for row in tiny_rows])
    assert len(set(predictions)) == 2
    right = sum(p == row["label"] for p, row in zip(predictions, tiny_rows, strict=True))
    assert select(audited[0], "SELECT accuracy FROM runs") == [(pytest.approx(right / len(tiny_rows)),)]
    found = select(audited[0], "SELECT predicted_id FROM documents ORDER BY doc_id")
    assert [row[0] for row in found] == predictions


def test_a_form_made_run_is_an_audit_too(tmp_path: Path, tiny_model: Path, tiny_corpus: Path) -> None:
    """As the Prefect UI starts it: the parameters as plain JSON."""
    from flows.audit import audit

    result = audit(audit_dict(tiny_model, tiny_corpus, tmp_path / "w"))  # type: ignore[arg-type]
    assert run_manifest(tmp_path / "w", result.run_id)["status"] == "complete"
