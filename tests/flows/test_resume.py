"""What a kill, a damaged file or a bad document leaves, and how the next audit goes on from there."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from calig.errors import GateError
from calig.warehouse.layout import Warehouse
from calig.warehouse.lost import is_lost
from calig.warehouse.runs import list_runs
from tests.crash import processes_of
from tests.material.processes import start, wait_for_shards
from tests.material.services import wait_for
from tests.material.tiers import extended, few
from tests.material.tiny import (
    BROKEN,
    Audited,
    Row,
    assert_same_tables,
    audit_config,
    audit_dict,
    make_rows,
    run_manifest,
    save_model,
    select,
    shard_times,
    write_parquet,
)

SLOW = {"method": {"steps": 400}, "runtime": {"shard_documents": 2, "threads": 1}}
"""Shards of two documents, each of many nodes: about a second of work."""


def _write_audit(path: Path, model: Path, corpus: Path, warehouse: Path, **sections: Any) -> Path:
    path.write_text(yaml.safe_dump(audit_dict(model, corpus, warehouse, **sections)))
    return path


def _audit(model: Path, corpus: Path, warehouse: Path, **sections: Any) -> dict[str, Any]:
    from flows.audit import audit

    return run_manifest(warehouse, audit(audit_config(model, corpus, warehouse, **sections)).run_id)


def test_after_kill_9_only_the_missing_shards_are_done(
    prefect_server: str, tmp_path: Path, tiny_model: Path, processes: list[subprocess.Popen[str]]
) -> None:
    corpus = write_parquet(tmp_path / "corpus.parquet", make_rows(16, seed=3))
    warehouse = tmp_path / "killed"
    config = _write_audit(tmp_path / "audit.yaml", tiny_model, corpus, warehouse, **SLOW)
    process = start("audit", config, tmp_path, processes, prefect_server)
    wait_for_shards(warehouse, 2, process)
    process.kill()
    process.wait()

    before = shard_times(warehouse)
    assert 2 <= len(before) < 8
    held = sum(
        pq.read_metadata(path).num_rows
        for name in before
        for path in [(warehouse / name).parent / f"documents-{Path(name).stem[9:]}.parquet"]
    )
    [killed] = list_runs(Warehouse.open(warehouse))
    assert is_lost(Warehouse.open(warehouse), killed)
    resumed = _audit(tiny_model, corpus, warehouse, **SLOW)
    assert run_manifest(warehouse, killed.run_id)["status"] == "failed"
    after = shard_times(warehouse)
    assert {name: after[name] for name in before} == before
    assert len(after) == 8
    assert resumed["attributed"] == 16 - held
    assert resumed["reused"] == held

    undisturbed = _audit(tiny_model, corpus, tmp_path / "undisturbed", **SLOW)
    assert undisturbed["attributed"] == 16
    assert_same_tables(warehouse, resumed["run_id"], tmp_path / "undisturbed", undisturbed["run_id"])


@pytest.mark.parametrize(
    ("engine", "server"),
    few(
        [
            pytest.param("threads", "shared", id="threads"),
            pytest.param("threads", "own", id="its own server"),
            pytest.param("processes", "own", id="processes"),
        ],
        ["threads"],
        "the same with a server of its own, and with worker processes",
    ),
)
def test_ctrl_c_stops_with_one_line(
    engine: str, server: str, request: Any, tmp_path: Path, tiny_model: Path, processes: list[Any]
) -> None:
    corpus = write_parquet(tmp_path / "corpus.parquet", make_rows(400, seed=3))
    runtime = {**SLOW["runtime"], "engine": engine, "workers": 2}
    config = _write_audit(
        tmp_path / "audit.yaml", tiny_model, corpus, tmp_path / "w", **{**SLOW, "runtime": runtime}
    )
    url = request.getfixturevalue("prefect_server") if server == "shared" else None
    process = start("audit", config, tmp_path, processes, url)
    wait_for_shards(tmp_path / "w", 1, process)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of the command's processes
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    slow = ("learning steps: ", "attributing: ")  # said every half a minute
    assert [line for line in errors.splitlines() if line.strip() and not line.startswith(slow)] == [
        "starting Prefect …",
        "calig: stopped; what was finished is kept, and the same command goes on from there",
    ]
    assert len(shard_times(tmp_path / "w")) < 100
    wait_for(lambda: not processes_of(tmp_path / "prefect"), 60, "the end of all processes")
    [manifest] = (tmp_path / "w" / "runs").glob("*/manifest.json")
    assert run_manifest(tmp_path / "w", manifest.parent.name)["status"] == "failed"


@extended("an audit in a process of its own")
def test_sigterm_stops_with_one_line(
    prefect_server: str, tmp_path: Path, tiny_model: Path, processes: list[subprocess.Popen[str]]
) -> None:
    corpus = write_parquet(tmp_path / "corpus.parquet", make_rows(400, seed=3))
    many_steps = {**SLOW, "method": {"steps": 150}}  # none are learnt first
    config = _write_audit(tmp_path / "audit.yaml", tiny_model, corpus, tmp_path / "w", **many_steps)
    process = start("audit", config, tmp_path, processes, prefect_server)
    wait_for_shards(tmp_path / "w", 1, process)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert [line for line in errors.splitlines()[1:] if not line.startswith("attributing: ")] == [
        "calig: stopped by SIGTERM; what was finished is kept, and the same command goes on from there"
    ]
    [manifest] = (tmp_path / "w" / "runs").glob("*/manifest.json")
    assert run_manifest(tmp_path / "w", manifest.parent.name)["status"] == "failed"


@pytest.mark.usefixtures("prefect_server")
def test_a_shard_with_a_flipped_byte_or_without_manifest_is_done_again(
    audited: Audited, tmp_path: Path, tiny_model: Path, tiny_corpus: Path
) -> None:
    warehouse = shutil.copytree(audited.warehouse, tmp_path / "w")
    before = shard_times(warehouse)
    flipped, lost, kept = (warehouse / name for name in before)
    damaged = flipped.parent / f"tokens-{flipped.stem[9:]}.parquet"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    lost.unlink()

    again = _audit(tiny_model, tiny_corpus, warehouse)
    after = shard_times(warehouse)
    assert again["attributed"] == 16
    assert again["reused"] == 8
    assert after[str(kept.relative_to(warehouse))] == before[str(kept.relative_to(warehouse))]
    assert_same_tables(warehouse, again["run_id"], audited.warehouse, audited.run_id, 5e-4)


@pytest.fixture(scope="module")
def broken_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, but one word's embedding is NaN."""
    return save_model(tmp_path_factory.mktemp("broken") / "model", broken=True)


@pytest.mark.usefixtures("prefect_server")
def test_bad_documents_are_recorded_and_the_others_explained(
    audited: Audited, tmp_path: Path, broken_model: Path, tiny_rows: list[Row]
) -> None:
    bad = [
        {**tiny_rows[0], "id": "nothing", "text": ""},
        {**tiny_rows[0], "id": "blank", "text": " \t\n"},
        {**tiny_rows[0], "id": "nan", "text": f"the film was {BROKEN} and good"},
        {**tiny_rows[0], "id": "long", "text": "good film " * 30},
    ]
    rows = [*tiny_rows[:8], *bad, *tiny_rows[8:]]
    corpus = write_parquet(tmp_path / "corpus.parquet", rows)
    manifest = _audit(broken_model, corpus, tmp_path / "w", gates={"max_failure_share": 0.2})
    assert manifest["status"] == "complete"
    failures = select(tmp_path / "w", "SELECT source_id, reason FROM failures ORDER BY doc_id")
    assert failures == [("nothing", "empty"), ("blank", "empty"), ("nan", "non-finite")]
    details = select(tmp_path / "w", "SELECT detail FROM failures")
    assert all(detail and "\n" not in detail for (detail,) in details)
    assert select(tmp_path / "w", "SELECT source_id, tokens FROM documents WHERE truncated") == [("long", 24)]

    scores = "SELECT source_id, position, score FROM tokens JOIN documents USING (doc_id) WHERE source_id LIKE 'r%'"
    healthy = {row[:2]: row[2] for row in select(audited.warehouse, scores)}
    beside = {row[:2]: row[2] for row in select(tmp_path / "w", scores)}
    assert beside == pytest.approx(healthy, abs=1e-4), "bad neighbours change no result"
    assert len(healthy) > 24


@pytest.mark.usefixtures("prefect_server")
def test_too_many_failures_fail_the_gate_after_the_report(
    tmp_path: Path, tiny_model: Path, tiny_rows: list[Row], capsys: pytest.CaptureFixture[str]
) -> None:
    from calig.cli import main
    from tests.material.prefect_runs import tagged

    rows = [*tiny_rows[:8], {**tiny_rows[0], "text": ""}]
    corpus = write_parquet(tmp_path / "corpus.parquet", rows)
    gates = {
        "min_accuracy": {"limit": 1, "severity": "warn"},
        "max_completeness_error": 100,
        "sql": [
            {"name": "no-long-ones", "sql": "SELECT doc_id FROM documents WHERE tokens > 3 ORDER BY doc_id"}
        ],
    }
    config = _write_audit(tmp_path / "audit.yaml", tiny_model, corpus, tmp_path / "w", gates=gates)
    with tagged() as tag, pytest.raises(SystemExit) as stopped:
        main(["audit", str(config)])
    assert stopped.value.code == 1
    captured = capsys.readouterr()
    *_, warning, first, second = captured.err.splitlines()
    assert warning.startswith("warning: gates.min_accuracy: ")
    assert first.startswith(
        "calig: gates.max_failure_share: 1 of 9 documents failed (11.1%, limit 5.0%); see: "
    )
    assert second.startswith("gates.no-long-ones: 8 rows, the first: doc_id 0; doc_id 1; doc_id 2; see: ")
    assert all(line.endswith(f" --warehouse {tmp_path / 'w'}") for line in (first, second))
    assert "gates:  2 of 5 hold" in captured.out
    assert "report: file://" in captured.out
    _assert_shown_in_prefect(tag, tmp_path / "w", first.removeprefix("calig: "), second)
    [report] = (tmp_path / "w" / "runs").glob("*/report/index.html")
    assert run_manifest(tmp_path / "w", report.parents[1].name)["status"] == "complete"
    with pytest.raises(GateError):
        _audit(tiny_model, corpus, tmp_path / "w", gates={"max_failure_share": 0.1})
    assert _audit(tiny_model, corpus, tmp_path / "w", gates={"max_failure_share": 0.12})["attributed"] == 0


def _assert_shown_in_prefect(tag: str, warehouse: Path, *lines: str) -> None:
    """The flow run with the tag has failed with these lines as its message, and its gates are an artifact."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterKey,
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterTags,
    )
    from prefect.client.schemas.sorting import ArtifactSort

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["calig-audit"])),
            flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag])),
        )
        artifacts = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["calig-tiny-gates"])),
            sort=ArtifactSort.CREATED_DESC,
        )
    [run] = runs
    [artifact] = [one for one in artifacts if f"{warehouse.as_uri()}/" in str(one.description)]
    assert run.state is not None
    assert (run.state.name, run.state.message) == ("Failed", "\n".join(lines))
    rows = {row["gate"]: row for row in json.loads(artifact.data)}
    assert [row["passed"] for row in rows.values()] == [False, False, True, True, False]
    assert f"gates.no-long-ones: {rows['no-long-ones']['detail']}" == lines[1]
    assert rows["min_accuracy"]["severity"] == "warn"
    assert re.fullmatch(r"\[\d{8}-\d{6}-tiny\]\(file:///.*/report/index\.html\)", artifact.description)


@pytest.mark.usefixtures("prefect_server")
def test_a_corpus_of_failures_alone_is_reported(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from calig.cli import main

    corpus = write_parquet(tmp_path / "corpus.parquet", [{"id": "a", "text": "", "label": 0}])
    config = _write_audit(
        tmp_path / "audit.yaml", tiny_model, corpus, tmp_path / "w", gates={"max_failure_share": 1.0}
    )
    with pytest.raises(SystemExit) as stopped:
        main(["audit", str(config)])
    captured = capsys.readouterr()
    assert stopped.value.code == 0, captured.err
    assert "1 documents" in captured.out
    assert "1 failures" in captured.out
    assert "gates:  1 of 2 hold" in captured.out
    assert "not checked: gates.max_unconverged_share: no document is explained" in captured.err
    assert len(list((tmp_path / "w" / "runs").glob("*/report/index.html"))) == 1
