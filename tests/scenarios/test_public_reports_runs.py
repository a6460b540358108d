"""Inputs that ended, hung or broke the runs and pages of other tools, each through an audit and its page.

Each test names the reports: owner/repository#number. What was tried beyond these is in
`tests/benchmarks/results/public_reports.md`.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from calig import stages
from calig.config import parse_config
from calig.warehouse.layout import Warehouse
from tests.material.html import Page
from tests.material.nights import audit_night
from tests.material.tiers import extended
from tests.material.tiny import CLASSES, MAX_TOKENS, make_rows, select, write_parquet

pytestmark = extended("an audit and its page for each report")


@pytest.fixture
def audit(tiny_model: Path, tmp_path: Path) -> Any:
    """Audit a corpus of the test's folder; return the warehouse and the run's page."""

    def audited(path: str, **corpus: Any) -> tuple[Path, str]:
        warehouse = tmp_path / "warehouse"
        data: dict[str, Any] = {"name": "a", "model": {"id": str(tiny_model)}, "warehouse": str(warehouse)}
        data |= {"corpus": {"path": str(tmp_path / path), **corpus}, "runtime": {"threads": 1}}
        run_id, _ = audit_night(parse_config(data))
        return warehouse, (warehouse / "runs" / run_id / "report" / "index.html").read_text("utf-8")

    return audited


def test_numbers_that_json_cannot_hold_and_a_class_without_labels(audit: Any, tmp_path: Path) -> None:
    """elementary-data/elementary#1788; evidentlyai/evidently#1275, #1070, #516."""
    odd = (float("nan"), float("inf"), float("-inf"))
    rows = [row | {"label": 1, "price": odd[place % 3]} for place, row in enumerate(make_rows(12))]
    write_parquet(tmp_path / "a.parquet", rows)
    warehouse, page = audit("a.parquet", label="label")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert json.loads(Page(page).inside["script"][0], parse_constant=refuse)["documents"]
    found = select(warehouse, "SELECT class, labelled, recall IS NULL FROM class_stats ORDER BY class_id")
    assert found == [(CLASSES[0], 0, True), (CLASSES[1], 12, False)]
    assert page.count('<table class="matrix">') == 1
    assert select(warehouse, "SELECT count(*) FROM documents WHERE NOT isfinite(price)") == [(12,)]


def test_texts_without_words_half_characters_and_a_line_without_a_space(audit: Any, tmp_path: Path) -> None:
    """urchade/GLiNER#63, explosion/spaCy#3880, clarinsi/classla#37; openai/tiktoken#82; shinpr/mcp-local-rag#178."""
    long = (f'"{"x" * 400_000}"', f'"{"a film " * 60_000}"')
    texts = ['"a film"', '""', r'"a film \ud83d plot"', *long, r'" \t\n"', '""']
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": {text}}}\n' for text in texts))
    warehouse, page = audit("a.jsonl", text="text")
    found = select(warehouse, "SELECT failure, tokens, truncated FROM documents ORDER BY doc_id")
    empty = ("empty", None, None)
    assert found == [
        (None, 4, False), empty, (None, 6, False), (None, 3, False), (None, MAX_TOKENS, True), empty, empty,
    ]  # fmt: skip
    assert select(warehouse, "SELECT text FROM documents WHERE doc_id = 2") == [("a film � plot",)]
    assert len(page.encode()) < 500_000


def test_a_file_of_excel_s_begins_with_a_mark_that_is_no_column_s(audit: Any, tmp_path: Path) -> None:
    """biolab/orange3#7000, solgenomics/sgn#5700."""
    (tmp_path / "a.csv").write_bytes("\ufefftext,label\r\na film,0\r\nthe plot,1\r\n".encode())
    warehouse, page = audit("a.csv", label="label")
    found = select(warehouse, "SELECT text, label_id FROM documents ORDER BY doc_id")
    assert found == [("a film", 0), ("the plot", 1)]
    assert not re.search("\ufeff", page)


def test_runs_that_start_in_one_second_have_names_of_their_own(
    tiny_model: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nsursock/dirty-fin-reports#16, mvanhorn/cli-printing-press#2723."""
    config = parse_config(
        {
            "name": "a",
            "model": {"id": str(tiny_model)},
            "corpus": {"path": str(tiny_corpus)},
            "warehouse": str(tmp_path),
        }
    )
    model = stages.describe_model(config)
    warehouse = Warehouse.open(config.warehouse)
    corpus = stages.bring_in(warehouse, config, model)
    schedule = stages.learn_schedule(warehouse, config, model, corpus)

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2026, 3, 1, 2, tzinfo=tz or UTC)

    monkeypatch.setattr(stages, "datetime", Stopped)
    runs = [stages.start_run(warehouse, config, model, corpus, schedule) for _ in range(3)]
    assert [run.run_id for run in runs] == [f"20260301-020000-a{end}" for end in ("", "-2", "-3")]
