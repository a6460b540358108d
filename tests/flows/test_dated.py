"""Audits of dated corpora as flows: the pattern stays in the parameters, each run fills it in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from calig.errors import InputError
from tests.material.tiny import audit_config, make_rows, run_manifest, select, write_parquet


def test_a_flow_fills_in_its_own_day(prefect_server: str, tmp_path: Path, tiny_model: Path) -> None:
    from flows.audit import audit

    today = datetime.now(UTC).date()
    if datetime.now(UTC).hour == 23 and datetime.now(UTC).minute > 55:
        pytest.skip("the day is about to end")
    rows = make_rows(6)
    for day, part in ((today, rows[:4]), (today - timedelta(1), rows[2:])):
        write_parquet(tmp_path / "data" / f"dt={day}" / "reviews.parquet", part)
    config = audit_config(tiny_model, tmp_path / "data" / "dt={{ today }}", tmp_path / "w")
    result = audit(config)
    manifest = run_manifest(tmp_path / "w", result.run_id)
    assert manifest["corpus"]["source"] == str(tmp_path / "data" / f"dt={today}")
    assert manifest["config"]["corpus"]["path"] == str(tmp_path / "data" / "dt={{ today }}")
    assert manifest["config"]["date"] == manifest["corpus"]["date"] == str(today)
    assert select(tmp_path / "w", "SELECT DISTINCT dt FROM documents") == [(str(today),)]
    again = audit(config.model_copy(update={"date": today - timedelta(1)}))
    assert select(tmp_path / "w", "SELECT DISTINCT dt FROM documents") == [(str(today - timedelta(1)),)]
    assert run_manifest(tmp_path / "w", again.run_id)["attributed"] == 2
    with pytest.raises(InputError, match=f"dt={today + timedelta(1)}"):
        audit(config.model_copy(update={"date": today + timedelta(1)}))
