"""Audits of which documents are outside the tolerance: what counts, what is said, and what fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from calig import stages
from calig.errors import GateError, InputError
from calig.warehouse.runs import read_run
from calig.workers import ModelCard, load_explainer
from tests.material import zoo
from tests.material.heads import run_stages
from tests.material.tiers import extended
from tests.material.tiny import audit_config, make_rows, select, write_parquet


@extended("a whole audit, to a close tolerance")
def test_documents_outside_the_tolerance_fail_the_gate_and_are_in_no_statistics(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Closer than float32's rounding allows in some of them."""
    corpus = write_parquet(tmp_path / "corpus.parquet", make_rows(40, seed=3))
    config = audit_config(tiny_model, corpus, tmp_path / "w", method={"tolerance": 5e-5})
    with pytest.raises(GateError) as caught:
        run_stages(config)
    gate = select(tmp_path / "w", "SELECT value, detail FROM gates WHERE gate = 'max_unconverged_share'")
    [(pairs, outside)] = select(
        tmp_path / "w", "SELECT sum(documents), sum(documents - converged) FROM completeness"
    )
    [(documents, left_out)] = select(tmp_path / "w", "SELECT documents, unconverged FROM runs")
    assert 0 < left_out < documents
    assert gate[0][0] == pytest.approx(outside / pairs)
    assert f"{outside} of {pairs} (document, depth) pairs are outside the tolerance" in str(caught.value)
    own = select(tmp_path / "w", "SELECT count(*) FROM documents WHERE NOT converged AND NOT in_statistics")
    assert own == [(left_out,)]
    held = select(tmp_path / "w", "SELECT DISTINCT documents FROM layer_stats WHERE class = '*'")
    assert held == [(documents - left_out,)]
    tokens = select(tmp_path / "w", "SELECT class, token, documents FROM token_stats ORDER BY ALL")
    assert tokens == select(
        tmp_path / "w",
        "SELECT d.target, t.token, count(DISTINCT t.doc_id) FROM tokens AS t JOIN documents AS d USING (doc_id) "
        "WHERE d.converged GROUP BY ALL ORDER BY ALL",
    )


@extended("a whole audit")
def test_with_fixed_steps_no_tolerance_is_asked_for(
    tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    run_stages(audit_config(tiny_model, tiny_corpus, tmp_path / "w", method={"steps": 3, "rule": "midpoint"}))
    [(share, left_out)] = select(tmp_path / "w", "SELECT converged_share, unconverged FROM runs")
    assert share < 0.9
    assert left_out == 0
    assert select(tmp_path / "w", "SELECT bool_and(in_statistics) FROM documents") == [(True,)]
    assert select(tmp_path / "w", "SELECT gate FROM gates") == [("max_failure_share",)]


@extended("an audit of another model")
def test_an_audit_takes_another_row_for_a_padding_row_of_zeros(tmp_path: Path) -> None:
    shutil.copytree(zoo.folder("llama"), tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["model.embed_tokens.weight"][1] = 0
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    corpus = write_parquet(
        tmp_path / "corpus.parquet", [{"id": str(n), "text": t} for n, t in enumerate(zoo.TEXTS)]
    )
    columns = {"label": None}
    config = audit_config(tmp_path / "model", corpus, tmp_path / "w", corpus=columns)
    run = run_stages(config)
    assert select(run.warehouse.root, "SELECT baseline, unconverged FROM runs") == [("mask", 0)]
    manifest = read_run(run.warehouse, run.run_id)
    assert "is taken in its place" in manifest.model["notes"][-1]
    assert ModelCard.of_run(manifest).baseline == "mask"
    named = audit_config(
        tmp_path / "model", corpus, tmp_path / "w", corpus=columns, method={"baseline": "mask"}
    )
    assert run_stages(named).attribution_key == run.attribution_key
    before = ModelCard(run.model.id, None, run.model.hash, run.model.classes, run.model.depth)
    with pytest.raises(InputError, match="and this run was made without; run the audit again"):
        load_explainer(config, before)
    zero = audit_config(
        tmp_path / "model", corpus, tmp_path / "z", corpus=columns, method={"baseline": "zero"}
    )
    with pytest.raises(InputError, match="use 'mask', whose row is ordinary"):
        stages.describe_model(zero)
