"""A stage that fails in passing is tried again, visibly in Prefect; wrong input is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from calig import stages
from calig.errors import GateError, InputError
from tests.material.tiny import Row, audit_config, run_manifest, write_parquet

STAGES = {
    "fingerprint_model": "describe_model",
    "ingest_corpus": "bring_in",
    "learn_schedule": "learn_schedule",
    "start_run": "start_run",
    "attribute_shard": "attribute_shard",
    "aggregate_run": "aggregate_run",
    "check_gates": "check_gates",
    "write_report": "write_report",
    "publish_run": "summary",
}
"""Each stage's task, and the function of calig that it calls."""


@pytest.fixture(scope="module")
def no_delays(prefect_server: str) -> Iterator[None]:
    """Let retries come at once."""
    from tasks import aggregate, attribute, gates, ingest, report

    modules = (aggregate, attribute, gates, ingest, report)
    with pytest.MonkeyPatch.context() as patch:
        for name in STAGES:
            [task] = [getattr(module, name) for module in modules if hasattr(module, name)]
            patch.setattr(task, "retry_delay_seconds", 0)
            patch.setattr(task, "retry_jitter_factor", None)
        yield


def _fail(patch: pytest.MonkeyPatch, function: str, error: Exception, times: int) -> None:
    """Let a function of calig.stages fail so many times before it works."""
    works: Any = getattr(stages, function)
    calls: Counter[str] = Counter()

    def flaky(*args: Any, **kwargs: Any) -> Any:
        calls[function] += 1
        if calls[function] <= times:
            raise error
        return works(*args, **kwargs)

    patch.setattr(stages, function, flaky)


@pytest.fixture(scope="module")
def shaky_audit(
    no_delays: None,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_model: Path,
    tiny_rows: list[Row],
) -> dict[str, Any]:
    """What Prefect saw of an audit, of one shard, each of whose stages failed twice with OSError."""
    from flows.audit import audit
    from tests.material.prefect_runs import seen, tagged

    folder = tmp_path_factory.mktemp("shaky")
    corpus = write_parquet(folder / "corpus.parquet", tiny_rows[:6])
    with pytest.MonkeyPatch.context() as patch, tagged() as tag:
        for function in STAGES.values():
            _fail(patch, function, OSError("the disk hiccups"), times=2)
        patch.setattr(stages, "model_stamp", lambda config: str(folder))  # not cached by another test
        result = audit(audit_config(tiny_model, corpus, folder / "w"))
    assert run_manifest(folder / "w", result.run_id)["status"] == "complete"
    return seen(tag, **dict.fromkeys(STAGES, 1))


@pytest.mark.parametrize("task", STAGES)
def test_a_stage_that_fails_twice_succeeds_on_the_third_try(task: str, shaky_audit: dict[str, Any]) -> None:
    [run] = shaky_audit[task]
    assert run.run_count == 3
    assert run.states[-1] == "Completed"
    assert run.states.count("Retrying") == 2


@pytest.mark.usefixtures("no_delays")
@pytest.mark.parametrize(("task", "function"), STAGES.items())
def test_wrong_input_is_not_tried_again(
    task: str, function: str, tmp_path: Path, tiny_model: Path, tiny_rows: list[Row]
) -> None:
    from flows.audit import audit
    from tests.material.prefect_runs import seen, tagged

    corpus = write_parquet(tmp_path / "corpus.parquet", tiny_rows[:2])
    with pytest.MonkeyPatch.context() as patch, tagged() as tag:
        _fail(patch, function, InputError("corpus.path: wrong"), times=1)
        if task == "fingerprint_model":  # else what the cache holds would do
            patch.setattr(stages, "model_stamp", lambda config: str(tmp_path))
        with pytest.raises(InputError, match=r"^corpus\.path: wrong$"):
            audit(audit_config(tiny_model, corpus, tmp_path / "w"))
    [run] = seen(tag, **{task: 1})[task]
    assert run.run_count == 1
    assert run.states[-1] == "Failed"


@pytest.mark.usefixtures("no_delays")
def test_a_stage_that_keeps_failing_fails_after_its_retries_and_the_run_says_so(
    tmp_path: Path, tiny_model: Path, tiny_rows: list[Row]
) -> None:
    """The other shards are finished all the same, and the next audit does the one that is missing."""
    from flows.audit import audit
    from tests.material.prefect_runs import seen, tagged

    corpus = write_parquet(tmp_path / "corpus.parquet", tiny_rows[:6])
    config = audit_config(tiny_model, corpus, tmp_path / "w", runtime={"shard_documents": 2, "retries": 1})
    with pytest.MonkeyPatch.context() as patch, tagged() as tag:
        _fail(patch, "attribute_shard", OSError("no space left"), times=2)
        with pytest.raises(OSError, match="no space left"):
            audit(config)
    shards = {run.name: run for run in seen(tag, attribute_shard=3)["attribute_shard"]}
    assert shards["shard 1 of 3"].run_count == 2
    assert [shards[f"shard {n} of 3"].states[-1] for n in (1, 2, 3)] == ["Failed", "Completed", "Completed"]
    [manifest] = (tmp_path / "w" / "runs").glob("*/manifest.json")
    assert run_manifest(tmp_path / "w", manifest.parent.name)["status"] == "failed"
    assert run_manifest(tmp_path / "w", audit(config).run_id)["attributed"] == 2


def test_a_gate_is_not_tried_again(no_delays: None, tmp_path: Path, tiny_model: Path) -> None:
    from flows.audit import audit
    from tests.material.prefect_runs import flow_runs, seen, tagged

    corpus = write_parquet(tmp_path / "corpus.parquet", [{"id": "a", "text": "", "label": 0}])
    with (
        tagged() as tag,
        pytest.raises(GateError, match=r"^gates\.max_failure_share: 1 of 1 documents failed"),
    ):
        audit(audit_config(tiny_model, corpus, tmp_path / "w"))
    tasks = seen(tag, check_gates=1, publish_gates=1, write_report=1)
    for name in ("check_gates", "write_report", "publish_run", "publish_gates"):
        [task] = tasks[name]
        assert (task.run_count, task.states[-1]) == (1, "Completed")
    [run_folder] = (tmp_path / "w" / "runs").glob("[!.]*")
    names = {"audit tiny", "ingest tiny", "attribute tiny", f"aggregate {run_folder.name}"}
    assert set(flow_runs(tag)) == names | {f"report {run_folder.name}"}
