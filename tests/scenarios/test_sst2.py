"""The example audit on a real classifier and real sentences, cut to a few documents."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from calig import stages
from calig.config import load_config
from calig.warehouse.query import query
from tests.material.audits import begin
from tests.material.tiers import extended

SHARED = Path(os.environ.get("CALIG_SHARED", "../shared")).resolve()
ROOT = Path(__file__).parents[2]
DOCUMENTS = 8


@extended("an audit of a real model")
@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real corpora and models: set CALIG_SHARED")
def test_the_example_audit_is_the_models_own_and_within_tolerance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALIG_SHARED", str(SHARED))
    config = load_config(
        ROOT / "infra" / "audits" / "sst2.yaml", [f"corpus.limit={DOCUMENTS}"], str(tmp_path / "warehouse")
    )
    run = begin(config)
    for doc_ids in stages.missing_shards(run):
        stages.attribute_shard(run, doc_ids)
    stages.aggregate_run(run, DOCUMENTS, {})
    stages.complete_run(run)

    folder = SHARED / "models" / "minilm-sst2"
    by_hand = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = query(
        run.warehouse, "SELECT text, label_id, predicted_id, logits FROM documents ORDER BY doc_id"
    ).rows
    for text, _, predicted, logits in rows:
        with torch.no_grad():
            expected = by_hand(**tokenizer(text, return_tensors="pt")).logits[0]
        assert predicted == int(expected.argmax())
        assert logits == pytest.approx(expected.tolist(), abs=1e-4)

    right = sum(label == predicted for _, label, predicted, _ in rows) / DOCUMENTS
    shown = query(run.warehouse, "SELECT accuracy, documents, failures FROM runs").rows
    assert shown == [(pytest.approx(right), DOCUMENTS, 0)]
    off = "SELECT count(*) FROM documents WHERE NOT converged OR error_estimate > 0.01"
    assert query(run.warehouse, off).rows == [(0,)]
    worst = query(
        run.warehouse,
        """
        SELECT max(abs(net - change) / greatest(abs(change), 0.05 * gross, 1e-3))
        FROM document_depths JOIN (
            SELECT run_id, doc_id, logit - baseline_logit AS change FROM documents
        ) USING (run_id, doc_id)
        """,
    ).rows[0][0]
    assert worst <= 0.01
