"""A stage of an evaluation that fails in passing is tried again, visibly in Prefect; wrong input is not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from calig.errors import InputError
from calig.evaluating import stages
from tests.material.tiny import Row, audit_config, select, shard_times, write_parquet

STAGES = {
    "start_evaluation": "start_evaluation",
    "evaluate_shard": "evaluate_portion",
    "close_evaluation": "close_evaluation",
    "write_evaluation_report": "write_report",
    "publish_evaluation": "ranking",
}
"""Each stage's task, by Prefect's name, and the function of calig that it calls."""
SECTION = {"methods": ["ca-lig", "random"], "metrics": ["faithfulness"], "shares": [0.5]}


@pytest.fixture(scope="module")
def no_delays(prefect_server: str) -> Iterator[None]:
    """Let retries come at once."""
    from tasks import evaluate

    with pytest.MonkeyPatch.context() as patch:
        for name in STAGES:
            patch.setattr(getattr(evaluate, name), "retry_delay_seconds", 0)
            patch.setattr(getattr(evaluate, name), "retry_jitter_factor", None)
        yield


def _fail(patch: pytest.MonkeyPatch, function: str, error: Exception, times: int) -> None:
    """Let a function of the stages fail so many times before it works."""
    works: Any = getattr(stages, function)
    calls: Counter[str] = Counter()

    def flaky(*args: Any, **kwargs: Any) -> Any:
        calls[function] += 1
        if calls[function] <= times:
            raise error
        return works(*args, **kwargs)

    patch.setattr(stages, function, flaky)


def _config(model: Path, folder: Path, rows: list[Row], **runtime: Any) -> Any:
    corpus = write_parquet(folder / "corpus.parquet", rows)
    return audit_config(model, corpus, folder / "w", evaluation=SECTION, runtime=runtime)


@pytest.fixture(scope="module")
def shaky(
    no_delays: None, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_rows: list[Row]
) -> dict[str, Any]:
    """What Prefect saw of an evaluation, of one shard, each of whose stages failed twice with OSError."""
    from flows.evaluate import evaluate
    from tests.material.prefect_runs import seen, tagged

    folder = tmp_path_factory.mktemp("shaky")
    with pytest.MonkeyPatch.context() as patch, tagged() as tag:
        for function in STAGES.values():
            _fail(patch, function, OSError("the disk hiccups"), times=2)
        evaluate(_config(tiny_model, folder, tiny_rows[:4]))
    assert select(folder / "w", "SELECT status, documents FROM evaluations") == [("complete", 4)]
    return seen(tag, **dict.fromkeys(STAGES, 1))


@pytest.mark.parametrize("task", STAGES)
def test_a_stage_that_fails_twice_succeeds_on_the_third_try(task: str, shaky: dict[str, Any]) -> None:
    [run] = shaky[task]
    assert run.run_count == 3
    assert run.states[-1] == "Completed"
    assert run.states.count("Retrying") == 2


@pytest.mark.usefixtures("no_delays")
@pytest.mark.parametrize(("task", "function"), STAGES.items())
def test_wrong_input_is_not_tried_again(
    task: str, function: str, tmp_path: Path, tiny_model: Path, tiny_rows: list[Row]
) -> None:
    from flows.evaluate import evaluate
    from tests.material.prefect_runs import seen, tagged

    with pytest.MonkeyPatch.context() as patch, tagged() as tag:
        _fail(patch, function, InputError("corpus.path: wrong"), times=1)
        with pytest.raises(InputError, match=r"^corpus\.path: wrong$"):
            evaluate(_config(tiny_model, tmp_path, tiny_rows[:2]))
    [run] = seen(tag, **{task: 1})[task]
    assert run.run_count == 1
    assert run.states[-1] == "Failed"


@pytest.mark.usefixtures("no_delays")
def test_a_shard_that_keeps_failing_is_the_only_one_done_the_next_time(
    tmp_path: Path, tiny_model: Path, tiny_rows: list[Row]
) -> None:
    from flows.evaluate import evaluate
    from tests.material.prefect_runs import seen, tagged

    config = _config(tiny_model, tmp_path, tiny_rows[:6], shard_documents=2, retries=1)
    with pytest.MonkeyPatch.context() as patch, tagged() as tag:
        _fail(patch, "evaluate_portion", OSError("no space left"), times=2)
        with pytest.raises(OSError, match="no space left"):
            evaluate(config)
    shards = {run.name: run for run in seen(tag, evaluate_shard=3)["evaluate_shard"]}
    assert shards["shard 1 of 3"].run_count == 2
    assert [shards[f"shard {n} of 3"].states[-1] for n in (1, 2, 3)] == ["Failed", "Completed", "Completed"]
    [manifest] = (tmp_path / "w" / "evaluations").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["status"] == "failed"
    before = shard_times(tmp_path / "w")
    assert len(before) == 2
    evaluate(config)
    after = shard_times(tmp_path / "w")
    assert {name: after[name] for name in before} == before
    ids = [
        doc_id
        for path in manifest.parent.glob("documents-*.parquet")
        for doc_id in pq.read_table(path)["doc_id"].to_pylist()
    ]
    assert sorted(ids) == list(range(6)), "no document twice"
    assert json.loads(manifest.read_text())["status"] == "complete"
