"""Audits of one corpus that explain different classes: what is computed, what each shows, and what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from calig.attribution.explainer import Explainer
from calig.config import AuditConfig, parse_config
from calig.stages import Run
from calig.warehouse.compact import compact
from calig.warehouse.prune import prune
from calig.warehouse.query import query
from calig.warehouse.shards import completed, held_rows
from tests.material.heads import run_stages
from tests.material.tiers import extended
from tests.material.tiny import CLASSES, Row, audit_dict, make_rows, run_manifest, write_parquet

SHOWN = (
    "SELECT doc_id, label, predicted, target, round(logit, 4), round(probability, 4), tokens, converged, failure "
    "FROM documents ORDER BY ALL",
    "SELECT doc_id, word, round(logit_effect, 4), round(score, 4) FROM words ORDER BY ALL",
    "SELECT class, depth, round(cancellation, 3) FROM layer_stats ORDER BY ALL",
    "SELECT doc_id, reason FROM failures ORDER BY ALL",
)
KEYS = "SELECT DISTINCT doc_key, target_id FROM documents WHERE failure IS NULL"


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What is computed: text and class of each explanation."""
    found: list[tuple[str, int]] = []
    attribute = Explainer.attribute

    def spy(self: Explainer, documents: Sequence[Any], *rest: Any, **options: Any) -> Any:
        items = attribute(self, documents, *rest, **options)
        found.extend(
            (document.text, item.target)
            for document, item in zip(documents, items, strict=True)
            if item.target is not None
        )
        return items

    monkeypatch.setattr(Explainer, "attribute", spy)
    return found


@pytest.fixture
def pilots(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many documents each pilot was learnt from."""
    found: list[int] = []
    pilot = Explainer.pilot

    def spy(self: Explainer, documents: Sequence[Any], *rest: Any) -> Any:
        found.append(len(documents))
        return pilot(self, documents, *rest)

    monkeypatch.setattr(Explainer, "pilot", spy)
    return found


def rows_of(count: int) -> list[Row]:
    """Rows of which the first text is there again with the other label, and the last two have none."""
    rows = make_rows(count)
    rows.append(rows[0] | {"id": "again", "label": 1 - rows[0]["label"]})
    return [*rows, *({**row, "label": None} for row in make_rows(2, seed=7))]


def audit_of(model: Path, corpus: Path, warehouse: Path, target: str, **method: int) -> AuditConfig:
    data = audit_dict(model, corpus, warehouse, method={"target": target, **method})
    return parse_config({**data, "gates": {"max_failure_share": 1}})


def shown(run: Run) -> list[list[tuple[Any, ...]]]:
    """What a run shows, whatever it computed itself."""
    return [ask(run, sql) for sql in SHOWN]


def ask(run: Run, sql: str) -> list[tuple[Any, ...]]:
    return query(run.warehouse, sql, run.run_id).rows


def counts(run: Run) -> tuple[int, int]:
    manifest = run_manifest(run.warehouse.root, run.run_id)
    return manifest["attributed"], manifest["reused"]


def test_a_document_is_paid_for_once_for_each_class_that_is_asked_for(
    tmp_path: Path, tiny_model: Path, explained: list[tuple[str, int]], pilots: list[int]
) -> None:
    rows = rows_of(6)
    corpus = write_parquet(tmp_path / "corpus.parquet", rows)
    first = run_stages(audit_of(tiny_model, corpus, tmp_path / "w", "predicted"))
    predicted = dict(explained)
    assert counts(first) == (8, 0)
    explained.clear()
    second = run_stages(audit_of(tiny_model, corpus, tmp_path / "w", "label"))
    labelled = {(row["text"], row["label"]) for row in rows if row["label"] is not None}
    new = {(text, label) for text, label in labelled if predicted[text] != label}
    assert 0 < len(new) < 7, "in some the label is what is predicted"
    assert sorted(explained) == sorted(new)
    assert counts(second) == (len(new), 7 - len(new))
    assert pilots == [8]
    assert (first.schedule_key, first.attribution_key) == (second.schedule_key, second.attribution_key)
    classes = [None if row["label"] is None else CLASSES[row["label"]] for row in rows]
    asked = [(name, None if name else "no-label") for name in classes]
    assert (
        query(second.warehouse, "SELECT target, failure FROM documents ORDER BY doc_id", second.run_id).rows
        == asked
    )
    assert query(
        first.warehouse, "SELECT count(*) FILTER (target = predicted) FROM documents", first.run_id
    ).rows == [(9,)]


@extended("four audits of a model")
def test_each_run_shows_what_an_audit_alone_shows(tmp_path: Path, tiny_model: Path) -> None:
    """Before and after shards are merged, and while the others' rows are pruned."""
    corpus = write_parquet(tmp_path / "corpus.parquet", rows_of(7))
    targets = ("predicted", "runner-up", "label")
    together = [
        run_stages(audit_of(tiny_model, corpus, tmp_path / "w", target, steps=6)) for target in targets
    ]
    seen = [shown(run) for run in together]
    assert shown(run_stages(audit_of(tiny_model, corpus, tmp_path / "alone", "label", steps=6))) == seen[2]
    folder, last = together[0].folder, together[2]
    files = last.warehouse.files
    rows = held_rows(files, folder)
    assert len(rows) == 18, "of 9 documents two classes each"
    assert counts(last) == (0, 8)
    compact(files, folder, min_files=2)
    assert len(completed(files, folder)) == 1
    assert held_rows(files, folder) == rows
    assert [shown(run) for run in together[1:]] == seen[1:]
    assert len(prune(last.warehouse, 1).runs) == 2
    assert shown(last) == seen[2]
    needed = {f"{key} {target}" for key, target in ask(last, KEYS)}
    assert len(needed) == 8
    assert held_rows(files, folder) == needed, "8 of 18 rows stay: the shard is written anew"
