"""Audits that compare themselves with earlier ones, through the flow; and `calig compare`."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from calig.warehouse.layout import Warehouse
from tests.material.tiny import audit_config, make_rows, select, write_parquet


def test_each_night_is_compared_with_the_one_before(
    prefect_server: str,
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from calig.cli import main
    from flows.audit import audit

    rows = make_rows(30), make_rows(30, seed=5)
    for row in rows[1][:15]:
        row["text"] += " zendex"
    runs = []
    for night, own in enumerate(rows):
        corpus = write_parquet(tmp_path / f"{night}.parquet", own)
        config = audit_config(tiny_model, corpus, tmp_path / "w")
        runs.append(audit(config.model_copy(update={"compare_to": ("previous",)})).run_id)
    assert select(tmp_path / "w", "FROM comparisons", runs[0]) == []
    ask = "SELECT reference_id, requested, alpha, verdict FROM comparisons"
    [(reference, requested, alpha, verdict)] = select(tmp_path / "w", ask, runs[1])
    assert (reference, requested, alpha) == (runs[0], "previous", 1 / 365)
    assert verdict.startswith("'zendex' is new: in 15 of 30 documents")
    asked = {}

    def build(warehouse: Warehouse, run_id: str, reference_id: str) -> Path:
        asked["page"] = (warehouse.root, run_id, reference_id)
        return warehouse.root / "page.html"

    page = types.ModuleType("calig.report.changes")
    page.build = build  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "calig.report.changes", page)
    monkeypatch.setattr("calig.report.changes", page, raising=False)
    for alpha in ([], ["--alpha", "0.01"]):
        with pytest.raises(SystemExit) as stopped:
            main(["compare", runs[0], "latest", *alpha, "--warehouse", str(tmp_path / "w")])
        captured = capsys.readouterr()
        assert stopped.value.code == 0, captured.err
        assert ("starting Prefect" in captured.err) == bool(alpha)  # what is there is not made again
        assert "'zendex' is new: in 15 of 30 documents" in captured.out
        [line] = [line for line in captured.out.splitlines() if line.startswith(" zendex") and " * " in line]
        assert line.split()[:6] == ["zendex", "*", "new", "0", "→", "15"]
        assert captured.out.splitlines()[-1] == f"page:   {(tmp_path / 'w' / 'page.html').as_uri()}"
    assert asked["page"] == (tmp_path / "w", runs[1], runs[0])
    assert select(tmp_path / "w", "SELECT alpha, requested FROM comparisons", runs[1]) == [(0.01, "previous")]
