"""A stage that fails in passing is tried again, visibly in Prefect; wrong input is not. Of audits and evaluations."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

from calig import stages as audit_stages
from calig.errors import GateError, InputError
from calig.evaluating import stages as evaluation_stages
from tests.material.tiers import extended
from tests.material.tiny import Row, audit_config, run_manifest, select, shard_times, write_parquet


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow under test.

    stages
        Each stage's task, by Prefect's name, and the function of `module` that it calls.
    shard
        The task of a shard.
    folder
        Where in the warehouse the manifests of its runs are.
    sections
        What its configuration has beyond the usual.
    """

    name: str
    module: ModuleType
    stages: dict[str, str]
    shard: str
    folder: str
    sections: dict[str, Any]

    def run(self, config: Any) -> Any:
        """Run it."""
        import flows.audit
        import flows.evaluate

        return {"audit": flows.audit.audit, "evaluate": flows.evaluate.evaluate}[self.name](config)

    def config(self, model: Path, folder: Path, rows: list[Row], **runtime: Any) -> Any:
        """Configure it for a corpus of these rows, and the warehouse `folder/w`."""
        corpus = write_parquet(folder / "corpus.parquet", rows)
        return audit_config(model, corpus, folder / "w", **self.sections, runtime=runtime)

    def manifest(self, warehouse: Path) -> dict[str, Any]:
        """The manifest of its only run."""
        [path] = (warehouse / self.folder).glob("[!.]*/manifest.json")
        content: dict[str, Any] = json.loads(path.read_text())
        return content


AUDIT = Flow(
    "audit",
    audit_stages,
    {
        "fingerprint_model": "describe_model",
        "ingest_corpus": "bring_in",
        "learn_schedule": "learn_schedule",
        "start_run": "start_run",
        "attribute_shard": "attribute_shard",
        "aggregate_run": "aggregate_run",
        "check_gates": "check_gates",
        "write_report": "write_report",
        "complete_run": "complete_run",
        "publish_run": "summary",
    },
    "attribute_shard",
    "runs",
    {},
)
EVALUATION = Flow(
    "evaluate",
    evaluation_stages,
    {
        "start_evaluation": "start_evaluation",
        "evaluate_shard": "evaluate_portion",
        "close_evaluation": "close_evaluation",
        "write_evaluation_report": "write_report",
        "publish_evaluation": "ranking",
    },
    "evaluate_shard",
    "evaluations",
    {"evaluation": {"methods": ["ca-lig", "random"], "metrics": ["faithfulness"], "shares": [0.5]}},
)
FLOWS = (AUDIT, EVALUATION)
STAGES = [pytest.param(flow, task, id=f"{flow.name}-{task}") for flow in FLOWS for task in flow.stages]
QUICK = ("ingest_corpus", "attribute_shard", "evaluate_shard")
ONE_RUN_EACH = extended("the same for every stage: one run of the flow each")
STAGES_ONE_BY_ONE = [
    pytest.param(flow, task, marks=() if task in QUICK else ONE_RUN_EACH, id=f"{flow.name}-{task}")
    for flow in FLOWS
    for task in flow.stages
]


@pytest.fixture(scope="module")
def no_delays(prefect_server: str) -> Iterator[None]:
    """Let retries come at once."""
    from tasks import aggregate, attribute, evaluate, gates, ingest, report

    modules = (aggregate, attribute, evaluate, gates, ingest, report)
    with pytest.MonkeyPatch.context() as patch:
        for name in (name for flow in FLOWS for name in flow.stages):
            [task] = [getattr(module, name) for module in modules if hasattr(module, name)]
            patch.setattr(task, "retry_delay_seconds", 0)
            patch.setattr(task, "retry_jitter_factor", None)
        yield


def _fail(patch: pytest.MonkeyPatch, module: ModuleType, function: str, error: Exception, times: int) -> None:
    """Let a stage's function fail so many times before it works."""
    works: Any = getattr(module, function)
    calls: Counter[str] = Counter()

    def flaky(*args: Any, **kwargs: Any) -> Any:
        calls[function] += 1
        if calls[function] <= times:
            raise error
        return works(*args, **kwargs)

    patch.setattr(module, function, flaky)


@pytest.fixture(scope="module")
def shaky(
    no_delays: None, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_rows: list[Row]
) -> dict[str, Any]:
    """What Prefect saw of an audit and an evaluation, of one shard each, all of whose stages failed twice."""
    from tests.material.prefect_runs import seen, tagged

    found: dict[str, Any] = {}
    for flow in FLOWS:
        folder = tmp_path_factory.mktemp(flow.name)
        with pytest.MonkeyPatch.context() as patch, tagged() as tag:
            for function in flow.stages.values():
                _fail(patch, flow.module, function, OSError("the disk hiccups"), times=2)
            patch.setattr(audit_stages, "model_stamp", lambda config, at=folder: str(at))  # not in the cache
            flow.run(flow.config(tiny_model, folder, tiny_rows[:6]))
        assert flow.manifest(folder / "w")["status"] == "complete"
        found[flow.name] = seen(tag, **dict.fromkeys(flow.stages, 1))
    assert select(folder / "w", "SELECT status, documents FROM evaluations") == [("complete", 6)]
    return found


@pytest.mark.parametrize(("flow", "task"), STAGES)
def test_a_stage_that_fails_twice_succeeds_on_the_third_try(
    flow: Flow, task: str, shaky: dict[str, Any]
) -> None:
    [run] = shaky[flow.name][task]
    assert run.run_count == 3
    assert run.states[-1] == "Completed"
    assert run.states.count("Retrying") == 2


@pytest.mark.usefixtures("no_delays")
@pytest.mark.parametrize(("flow", "task"), STAGES_ONE_BY_ONE)
def test_wrong_input_is_not_tried_again(
    flow: Flow, task: str, tmp_path: Path, tiny_model: Path, tiny_rows: list[Row]
) -> None:
    from tests.material.prefect_runs import seen, tagged

    with pytest.MonkeyPatch.context() as patch, tagged() as tag:
        _fail(patch, flow.module, flow.stages[task], InputError("corpus.path: wrong"), times=1)
        if task == "fingerprint_model":  # else what the cache holds would do
            patch.setattr(audit_stages, "model_stamp", lambda config: str(tmp_path))
        with pytest.raises(InputError, match=r"^corpus\.path: wrong$"):
            flow.run(flow.config(tiny_model, tmp_path, tiny_rows[:2]))
    [run] = seen(tag, **{task: 1})[task]
    assert run.run_count == 1
    assert run.states[-1] == "Failed"


@pytest.mark.usefixtures("no_delays")
@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_a_shard_that_keeps_failing_fails_the_run_and_is_the_only_one_done_the_next_time(
    flow: Flow, tmp_path: Path, tiny_model: Path, tiny_rows: list[Row]
) -> None:
    """The other shards are finished all the same."""
    from tests.material.prefect_runs import seen, tagged

    warehouse = tmp_path / "w"
    config = flow.config(tiny_model, tmp_path, tiny_rows[:6], shard_documents=2, retries=1)
    with pytest.MonkeyPatch.context() as patch, tagged() as tag:
        _fail(patch, flow.module, flow.stages[flow.shard], OSError("no space left"), times=2)
        with pytest.raises(OSError, match="no space left"):
            flow.run(config)
    shards = {run.name: run for run in seen(tag, **{flow.shard: 3})[flow.shard]}
    assert shards["shard 1 of 3"].run_count == 2
    assert [shards[f"shard {n} of 3"].states[-1] for n in (1, 2, 3)] == ["Failed", "Completed", "Completed"]
    assert flow.manifest(warehouse)["status"] == "failed"
    before = shard_times(warehouse)
    assert len(before) == 2
    result = flow.run(config)
    after = shard_times(warehouse)
    assert {name: after[name] for name in before} == before
    assert len(after) == 3
    rows = [
        row
        for name in after
        for row in pq.read_table(
            (warehouse / name).parent / f"documents-{Path(name).stem[9:]}.parquet"
        ).to_pylist()
    ]
    if flow is AUDIT:
        assert run_manifest(warehouse, result.run_id)["attributed"] == 2
        assert len({row["doc_key"] for row in rows}) == len(rows) == 6, "no document twice"
    else:
        assert flow.manifest(warehouse)["status"] == "complete"
        assert sorted(row["doc_id"] for row in rows) == list(range(6)), "no document twice"


def test_a_gate_is_not_tried_again(no_delays: None, tmp_path: Path, tiny_model: Path) -> None:
    from tests.material.prefect_runs import flow_runs, seen, tagged

    config = AUDIT.config(tiny_model, tmp_path, [{"id": "a", "text": "", "label": 0}])
    with (
        tagged() as tag,
        pytest.raises(GateError, match=r"^gates\.max_failure_share: 1 of 1 documents failed"),
    ):
        AUDIT.run(config)
    tasks = seen(tag, check_gates=1, publish_gates=1, write_report=1)
    for name in ("check_gates", "write_report", "publish_run", "publish_gates"):
        [task] = tasks[name]
        assert (task.run_count, task.states[-1]) == (1, "Completed")
    [run_folder] = (tmp_path / "w" / "runs").glob("[!.]*")
    names = {"audit tiny", "ingest tiny", "attribute tiny", f"aggregate {run_folder.name}"}
    assert set(flow_runs(tag)) == names | {f"report {run_folder.name}"}
