"""The stages as plain functions, without Prefect."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from calig import stages
from calig.cli import _print_gates, _print_run
from calig.config import parse_config
from calig.corpus.order import places
from calig.errors import GateError, InputError
from calig.records import document_key
from calig.stages import Run
from calig.warehouse.gates import GateOutcome, GateState
from calig.warehouse.layout import Warehouse
from calig.warehouse.shards import held
from calig.workers import ModelCard
from tests.material.audits import begin
from tests.material.heads import run_stages
from tests.material.services import without_prefect
from tests.material.tiny import CLASSES, WORDS, Row, audit_config, run_manifest, select, write_parquet


@pytest.fixture
def run(tmp_path: Path, tiny_model: Path, tiny_rows: list[Row]) -> Run:
    """A run under way, over 9 documents of which two are the same text, in shards of 3."""
    rows = [*tiny_rows[:5], tiny_rows[2], *tiny_rows[5:8]]
    corpus = write_parquet(tmp_path / "corpus.parquet", rows)
    config = audit_config(tiny_model, corpus, tmp_path / "w", runtime={"shard_documents": 3})
    stages.precheck(Warehouse.open(config.warehouse), config)
    return begin(config)


def test_a_model_card_says_what_the_model_is(run: Run, tiny_model: Path) -> None:
    assert run.model == ModelCard(str(tiny_model), None, run.model.hash, CLASSES, 3)
    assert len(run.model.hash) == 64


def test_a_model_in_use_keeps_its_fingerprint(tmp_path: Path, run: Run, tiny_model: Path) -> None:
    """A tokenizer keeps how it last truncated: what was saved with a limit must not change by being used."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(7)
    tokenizer.save(str(model / "tokenizer.json"))
    corpus = Path(str(run.config.corpus.path))
    config = audit_config(model, corpus, tmp_path / "other", method={"baseline": "token:the"})
    card = stages.describe_model(config)
    warehouse = Warehouse.open(config.warehouse)
    manifest = stages.bring_in(warehouse, config, card)
    stages.learn_schedule(warehouse, config, card, manifest)
    assert stages.describe_model(config) == card


def test_a_started_run_is_running_and_knows_its_documents(run: Run, tiny_rows: list[Row]) -> None:
    manifest = run_manifest(run.warehouse.root, run.run_id)
    assert manifest["status"] == "running"
    assert manifest["finished"] is None
    assert manifest["model"]["classes"] == list(CLASSES)
    assert set(manifest["versions"]) >= {"calig", "torch", "transformers", "prefect", "duckdb"}
    documents = pq.read_table(run.warehouse.run(run.run_id) / "documents.parquet")
    assert documents.column_names == ["run_id", "doc_id", "source_id", "doc_key", "label", "topic"]
    assert set(documents["run_id"].to_pylist()) == {run.run_id}
    assert documents["source_id"].to_pylist()[:6] == ["r0", "r1", "r2", "r3", "r4", "r2"]


def test_two_runs_of_one_second_have_two_ids(run: Run) -> None:
    schedule = run.warehouse.schedules / f"{run.schedule_key}.json"
    ids = {
        stages.start_run(run.warehouse, run.config, run.model, run.corpus, schedule).run_id for _ in range(3)
    }
    assert len({run.run_id, *ids}) == 4


def in_order(run: Run) -> list[int]:
    """The documents of the run's corpus, of the same text the first, in the order of a hash of their keys."""
    rows = pq.read_table(run.warehouse.run(run.run_id) / "documents.parquet")
    first = dict(zip(rows["doc_key"].to_pylist()[::-1], rows["doc_id"].to_pylist()[::-1], strict=True))
    return [first[key] for key in sorted(first, key=lambda key: int(places([key])[0]))]


def test_missing_shards_hold_every_text_once_in_the_order_of_the_corpus(run: Run) -> None:
    found = in_order(run)
    assert sorted(found) == [0, 1, 2, 3, 4, 6, 7, 8] != found
    assert list(stages.missing_shards(run)) == [found[:3], found[3:6], found[6:]]


def test_a_finished_shard_is_missing_no_more(run: Run, tiny_rows: list[Row]) -> None:
    first, second, third = stages.missing_shards(run)
    done: list[int] = []
    manifest = stages.attribute_shard(run, second, done.append)
    assert (manifest.documents, manifest.failures) == (3, 0)
    assert sum(done) == 3
    rows = [*tiny_rows[:5], tiny_rows[2], *tiny_rows[5:8]]
    assert held(run.warehouse.files, run.folder) == {document_key(rows[i]["text"]) for i in second}
    assert list(stages.missing_shards(run)) == [first, third]


def test_shards_without_a_size_hold_a_minute_of_the_pilots_work(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from calig.attribution.schedule import Schedule

    config = run.config.model_copy(
        update={"runtime": run.config.runtime.model_copy(update={"shard_documents": None})}
    )
    path = run.warehouse.schedules / f"{run.schedule_key}.json"
    schedule = Schedule.from_json(path.read_text())
    for seconds, size in ((0.0001, 10_000), (0.5, 120), (100.0, 16)):
        changed = replace(schedule, seconds_per_document=seconds)
        path.write_text(changed.to_json())
        assert stages.shard_size(changed) == size
    assert list(stages.missing_shards(replace(run, config=config))) == [in_order(run)]


def test_the_schedule_is_learnt_once_and_again_when_damaged(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run.warehouse.schedules / f"{run.schedule_key}.json"
    before = path.read_text(), path.stat().st_mtime_ns
    assert stages.learn_schedule(run.warehouse, run.config, run.model, run.corpus) == path
    assert (path.read_text(), path.stat().st_mtime_ns) == before
    path.write_text("{")
    assert stages.learn_schedule(run.warehouse, run.config, run.model, run.corpus) == path
    stages.start_run(run.warehouse, run.config, run.model, run.corpus, path)


def test_a_model_that_changes_meanwhile_is_noticed(run: Run) -> None:
    changed = replace(run, model=replace(run.model, hash="0" * 64))
    with pytest.raises(InputError, match=r"model\.id: .* changed while the audit ran"):
        stages.attribute_shard(changed, [0])


def test_a_closed_run_counts_what_was_computed_and_reused(run: Run) -> None:
    for doc_ids in stages.missing_shards(run):
        stages.attribute_shard(run, doc_ids)
    stages.aggregate_run(run, 6, {"attribute": 1.23456})
    manifest = run_manifest(run.warehouse.root, run.run_id)
    assert (manifest["status"], manifest["attributed"], manifest["reused"]) == ("aggregated", 6, 2)
    assert manifest["timings"] == {"attribute": 1.235}
    row = stages.summary(run.warehouse, run.run_id)
    assert (row["documents"], row["failures"], row["attributed"]) == (9, 0, 6)
    stages.enforce_gates(run, stages.check_gates(run))
    assert stages.write_report(run).is_file()
    stages.complete_run(run)
    assert select(run.warehouse.root, "SELECT count(*), count(DISTINCT doc_key) FROM documents") == [(9, 8)]


def test_a_run_marked_failed_is_not_the_latest(run: Run) -> None:
    for doc_ids in stages.missing_shards(run):
        stages.attribute_shard(run, doc_ids)
    stages.aggregate_run(run, 8, {})
    stages.complete_run(run)
    schedule = run.warehouse.schedules / f"{run.schedule_key}.json"
    second = stages.start_run(run.warehouse, run.config, run.model, run.corpus, schedule)
    stages.stop_run(second)
    manifest = run_manifest(run.warehouse.root, second.run_id)
    assert manifest["status"] == "failed"
    assert manifest["finished"] is not None
    assert select(run.warehouse.root, "SELECT DISTINCT run_id FROM documents") == [(run.run_id,)]


def test_what_it_is_to_be_compared_with_is_looked_at_before_anything_starts(run: Run) -> None:
    config = run.config.model_copy(update={"compare_to": ("previous", "baseline")})
    warehouse = Warehouse.open(config.warehouse)
    stages.precheck(warehouse, config)  # the first night
    for shard in stages.missing_shards(run):
        stages.attribute_shard(run, shard)
    stages.aggregate_run(run, 8, {})
    stages.complete_run(run)
    with pytest.raises(InputError, match="compare_to: run baseline: "):
        stages.precheck(warehouse, config)
    again = run.config.model_copy(update={"compare_to": (run.run_id[:12], "previous")})
    stages.precheck(Warehouse.open(again.warehouse), again)
    model = again.model.model_copy(update={"head": "multi_label"})
    with pytest.raises(InputError, match="head is single_label, and this one's multi_label"):
        stages.precheck(
            Warehouse.open(again.model_copy(update={"model": model}).warehouse),
            again.model_copy(update={"model": model}),
        )


def test_gates_are_stored_before_they_are_enforced(run: Run) -> None:
    sections = {
        "gates": {"min_accuracy": 1, "max_failure_share": 0, "max_watched_share": {"all/the": 1, "all": 0.9}},
        "watch": {"all": WORDS},
    }
    run = replace(run, config=parse_config(run.config.model_dump(mode="json") | sections))
    for doc_ids in stages.missing_shards(run):
        stages.attribute_shard(run, doc_ids)
    stages.aggregate_run(run, 8, {})
    outcomes = stages.check_gates(run)
    stages.complete_run(run)
    [(right,)] = select(run.warehouse.root, "SELECT count(*) FILTER (correct) FROM documents")
    assert right < 9
    found = select(run.warehouse.root, "SELECT gate, passed FROM gates ORDER BY gate")
    watched = [("max_watched_share.all", False), ("max_watched_share.all/the", True)]
    plain = [("max_failure_share", True), ("max_unconverged_share", True)]
    assert found == [*plain, *watched, ("min_accuracy", False)]
    [(share,)] = select(run.warehouse.root, "SELECT value FROM gates WHERE gate = 'max_watched_share.all'")
    assert share == pytest.approx(1), "all words of all texts are watched"
    with pytest.raises(
        GateError, match=rf"^gates\.min_accuracy: {right} of 9 labelled .*; see: \S*calig query"
    ) as caught:
        stages.enforce_gates(run, outcomes)
    assert caught.value.run_id == run.run_id
    assert pickle.loads(pickle.dumps(caught.value)).run_id == run.run_id


def test_gates_that_make_no_sense_are_refused_before_anything_starts(run: Run) -> None:
    data = run.config.model_dump(mode="json")
    wrong = parse_config(data | {"gates": {"max_watched_share": {"brands": 0.1}}})
    warehouse = Warehouse.open(wrong.warehouse)
    with pytest.raises(InputError, match=r"^gates\.max_watched_share\.brands: no such watch list"):
        stages.precheck(warehouse, wrong)
    schedule = run.warehouse.schedules / f"{run.schedule_key}.json"
    with pytest.raises(InputError, match=r"^gates\.max_watched_share\.brands: no such watch list"):
        stages.start_run(warehouse, wrong, run.model, run.corpus, schedule)
    assert [folder.name for folder in run.warehouse.runs.glob("[!.]*")] == [run.run_id]
    right = {"gates": {"max_watched_share": {"brands": 0.1}}, "watch": {"brands": ["good"]}}
    stages.precheck(warehouse, parse_config(data | right))


def test_the_models_stamp_changes_with_its_files(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    weights, adapter = folder / "model.safetensors", folder / "adapter_config.json"
    (folder / "config.json").write_text("{}")
    config = run.config.model_copy(update={"model": run.config.model.model_copy(update={"id": str(folder)})})
    seen = [stages.model_stamp(config)]
    os.utime(folder / "config.json", (1, 1))
    assert stages.model_stamp(config) == seen[0], "only touched"
    base = tmp_path / "base"
    base.mkdir()
    for path, content in (
        (weights, "one"),
        (weights, "two"),
        (adapter, json.dumps({"base_model_name_or_path": str(base)})),
        (base / "model.safetensors", "one"),
        (base / "model.safetensors", "two"),
    ):
        path.write_text(content)
        os.utime(path, (1, 1))
        seen.append(stages.model_stamp(config))
    assert len(set(seen)) == 6


def test_the_stamp_of_an_adapter_changes_with_the_model_below(tmp_path: Path, run: Run) -> None:
    below, adapter = tmp_path / "below", tmp_path / "adapter"
    below.mkdir()
    adapter.mkdir()
    (below / "model.safetensors").write_bytes(b"1")
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(below)}))
    config = run.config.model_copy(update={"model": run.config.model.model_copy(update={"id": str(adapter)})})
    before = stages.model_stamp(config)
    (below / "model.safetensors").write_bytes(b"22")
    assert stages.model_stamp(config) != before


def test_weights_that_are_not_read_are_told_at_the_end_of_an_audit(
    tmp_path: Path, tiny_model: Path, tiny_rows: list[Row], capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    weights = {**load_file(model / "model.safetensors"), "cls.predictions.bias": torch.ones(3)}
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    corpus = write_parquet(tmp_path / "corpus.parquet", tiny_rows[:3])
    config = audit_config(model, corpus, tmp_path / "w")
    card = stages.describe_model(config)
    [note] = card.notes
    assert "cls.predictions.bias are in its files" in note
    plain = audit_config(tiny_model, corpus, tmp_path / "w")
    assert card.hash == stages.describe_model(plain).hash
    run = begin(config)
    stages.attribute_shard(run, [0, 1, 2])
    stages.aggregate_run(run, 3, {})
    stages.complete_run(run)
    _print_run(run.warehouse, config, run.run_id, 0.0)
    assert [line for line in capsys.readouterr().err.splitlines() if "cls." in line] == [f"note: {note}"]


def test_a_text_with_two_labels_is_explained_for_both(
    tmp_path: Path, tiny_model: Path, tiny_rows: list[Row]
) -> None:
    rows = [tiny_rows[0] | {"label": 0}, tiny_rows[0] | {"label": 1}]
    corpus = write_parquet(tmp_path / "corpus.parquet", rows)
    config = audit_config(tiny_model, corpus, tmp_path / "w", method={"target": "label"})
    run = begin(config)
    [shard] = stages.missing_shards(run)
    assert stages.attribute_shard(run, shard).documents == 2
    stages.aggregate_run(run, 2, {})
    stages.complete_run(run)
    assert select(tmp_path / "w", "SELECT label, target FROM documents ORDER BY doc_id") == [
        ("negative", "negative"),
        ("positive", "positive"),
    ]


LIGHT = (
    *("calig", "calig.stages", "calig.evaluating.stages", "calig.standings"),
    *("calig.cli", "calig.doctor", "calig.report.build"),
)


def test_the_library_knows_nothing_of_prefect() -> None:
    """Nor does it import torch before it is used; one process imports one module after the other."""
    code = (
        "import importlib, sys\n"
        f"for module in {LIGHT}:\n"
        "    importlib.import_module(module)\n"
        "    print(module, *sorted({'prefect', 'tasks', 'flows', 'torch'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == list(LIGHT)


def test_prefect_reads_the_environment_that_the_tasks_prepare() -> None:
    code = (
        "import flows.audit\n"
        "from prefect.settings import get_current_settings\n"
        "server = get_current_settings().server\n"
        "print(server.ephemeral.startup_timeout_seconds, server.analytics_enabled)"
    )
    environment = without_prefect()
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["120", "False"]


def test_stages_run_without_prefect(run: Run) -> None:
    """The fixture went through the first four; a process where Prefect cannot be imported does a shard."""
    code = (
        "import sys, pickle; sys.modules['prefect'] = None\n"
        "from calig import stages\n"
        "from calig.engines.work import Outcome, Worker\n"
        "def tell(message):\n"
        "    if isinstance(message, Outcome):\n"
        "        print(message.get().documents)\n"
        "run = pickle.load(sys.stdin.buffer)\n"
        "Worker(tell).perform(stages.attribute_shard, (run, [0, 1]))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(run), cwd=root, capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "2"
    assert Warehouse.open(run.config.warehouse) == run.warehouse


def test_a_run_says_which_rows_it_is_of_and_what_is_left_out(
    tmp_path: Path, tiny_model: Path, tiny_rows: list[Row], caplog: pytest.LogCaptureFixture
) -> None:
    write_parquet(tmp_path / "in" / "a.parquet", tiny_rows)
    for name in ("b.xlsx", "c.xlsx", ".DS_Store"):
        (tmp_path / "in" / name).touch()
    corpus = {"sample": {"documents": 4, "by": "label"}}
    run = run_stages(audit_config(tiny_model, tmp_path / "in", tmp_path / "w", corpus=corpus))
    row = stages.summary(run.warehouse, run.run_id)
    assert (row["documents"], row["corpus_rows"], row["left_out"]) == (4, len(tiny_rows), 3)
    assert row["left_out_files"] == "2 .xlsx (b.xlsx, c.xlsx), 1 hidden (.DS_Store)"
    assert f"left out: {row['left_out_files']}" in caplog.text
    page = stages.write_report(run).read_text("utf-8")
    assert "in equal numbers by <bdi>label</bdi>" in page
    assert row["left_out_files"] in page


def test_gates_that_could_not_tell_are_named_and_those_that_fail_are_left_to_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def outcome(gate: str, severity: str, passed: bool | None, state: GateState | None) -> GateOutcome:
        return GateOutcome("r", gate, severity, passed, None, 0.1, None, f"{gate} said", state=state)  # type: ignore[arg-type]

    _print_gates(
        [
            outcome("held", "error", True, "holds"),
            outcome("failed", "error", False, "fails"),
            outcome("warned", "warn", False, "fails"),
            outcome("unchecked", "warn", None, "not checked"),
            outcome("fatal", "error", None, "not checked"),
            outcome("small", "error", True, "too few documents"),
            outcome("old", "error", None, None),
        ]
    )
    printed = capsys.readouterr()
    assert printed.out == "gates:  2 of 7 hold\n"
    assert printed.err.splitlines() == [
        "warning: gates.warned: warned said",
        "not checked: gates.unchecked: unchecked said",
        "too few documents: gates.small: small said",
        "not checked: gates.old: old said",
    ]
