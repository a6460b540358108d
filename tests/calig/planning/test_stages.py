"""A plan of a small audit, the audit, and the one beside the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from calig import stages
from calig.attribution.explainer import Explainer
from calig.config import AuditConfig
from calig.errors import InputError
from calig.files import Files
from calig.planning.stages import SMALL, make_plan
from calig.records import Document
from calig.warehouse.layout import Warehouse
from calig.warehouse.plans import Figure, Plan, plan_path, read_plan
from calig.warehouse.shards import completed, held
from tests.material.heads import run_stages
from tests.material.tiers import extended
from tests.material.tiny import audit_config, make_rows, write_parquet

ROWS = 120


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, of which one comes twice and one is empty."""
    rows = make_rows(ROWS, seed=11)
    rows += [{**rows[0], "id": "again"}, {**rows[0], "id": "empty", "text": ""}]
    return write_parquet(tmp_path_factory.mktemp("plans") / "corpus.parquet", rows)


def _config(model: Path, corpus: Path, folder: Path) -> AuditConfig:
    gates = {"drift": True, "max_layer_psi": 0.25, "slow_drift": True}
    runtime = {"shard_documents": 25, "workers": 1}
    config = audit_config(model, corpus, folder / "warehouse", runtime=runtime, gates=gates)
    return config.model_copy(update={"compare_to": ("previous",)})


def _plan(config: AuditConfig, documents: int | None = None) -> Plan:
    made = make_plan(Warehouse.open(config.warehouse), config, documents, lambda _: None)
    assert made is not None
    return made


def _figures(plan: Plan) -> dict[str, Figure]:
    return {figure.name: figure for figure in plan.figures}


def test_a_plan_and_the_run_that_follows_agree(tiny_model: Path, corpus: Path, tmp_path: Path) -> None:
    config = _config(tiny_model, corpus, tmp_path)
    plan = _plan(config)
    warehouse = Warehouse.open(config.warehouse)
    folder = warehouse.attributions(plan.attribution_key)
    (pilot,) = completed(Files(folder), folder)
    assert 0 < pilot.documents <= (ROWS + 1) // 2
    assert (plan.device, plan.threads, plan.workers, plan.actual) == ("cpu", 1, 1, None)
    predicted = _figures(plan)
    for figure in plan.figures:
        assert 0 <= figure.low <= figure.value <= figure.high, figure
        assert figure.basis

    assert [said.partition(": ")[0] for said in plan.cannot_see] == ["drift", "max_layer_psi"]
    run = run_stages(config)
    read = read_plan(warehouse, run.run_id)
    assert (read.figures, read.cannot_see) == (plan.figures, plan.cannot_see)
    assert read.actual is not None
    left = ROWS + 1 - pilot.documents
    assert predicted["documents"].value == read.actual["documents"] == left
    assert "122 in the corpus" in predicted["documents"].basis
    assert predicted["shards"].value == read.actual["shards"] == -(-left // 25)
    assert predicted["files"].value == read.actual["files"] == 3 * read.actual["shards"]

    documents = [
        pq.read_table(path) for m in completed(Files(folder), folder) for path in m.paths(folder, "documents")
    ]
    all_tokens = sum(sum(t for t in table["tokens"].to_pylist() if t) for table in documents)
    assert predicted["tokens"].value == pytest.approx(read.actual["tokens"])
    assert read.actual["tokens"] == all_tokens - pilot.tokens
    for name in ("block passes", "tokens Parquet", "documents Parquet"):
        assert predicted[name].value == pytest.approx(read.actual[name], rel=0.25), name
    assert not plan_path(warehouse, plan.attribution_key, plan.corpus_key, plan.asked).exists(), (
        "it waits for no other run"
    )
    assert len(held(Files(folder), folder)) == ROWS + 1


def test_a_run_without_a_plan_says_how_to_get_one(
    tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    run = run_stages(_config(tiny_model, tiny_corpus, tmp_path))
    with pytest.raises(InputError, match="no plan was made before it"):
        read_plan(run.warehouse, run.run_id)


@extended("two more pilots")
def test_a_plan_for_more_documents_is_in_proportion_and_waits_for_no_run(
    tiny_model: Path, corpus: Path, tmp_path: Path
) -> None:
    config = _config(tiny_model, corpus, tmp_path)
    millions = _figures(_plan(config, 10_000_000))
    one = _plan(config)
    warehouse = Warehouse.open(config.warehouse)
    assert plan_path(warehouse, one.attribution_key, one.corpus_key, one.asked).exists()
    assert millions["documents"].value == 10_000_000
    assert millions["shards"].value == 400_000
    assert millions["tokens"].low < millions["tokens"].value < millions["tokens"].high, "of a sample, then"
    mean = _figures(one)["tokens"].value / _figures(one)["documents"].value
    assert millions["tokens"].value == pytest.approx(10_000_000 * mean, rel=0.2)


def test_what_an_interrupted_pilot_explained_is_kept(
    tiny_model: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(tiny_model, corpus, tmp_path)
    whole = Explainer.attribute
    calls: list[int] = []

    def interrupted(self: Explainer, documents: Sequence[Document], **options: Any) -> Any:
        calls.append(len(documents))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, documents, **options)

    said: list[str] = []
    seconds: list[float] = []
    warehouse = Warehouse.open(config.warehouse)
    with monkeypatch.context() as patch:
        patch.setattr(Explainer, "attribute", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_plan(warehouse, config, None, said.append, seconds.append)
    (folder,) = warehouse.attributions("").iterdir()
    assert calls[:2] == [8, 8]
    assert len(held(Files(folder), folder)) == 16
    assert said[:2] == ["loading the model …", "bringing in the corpus …"]
    assert said[2] == "learning steps from documents: 0 of 64 …"
    assert said[-1] == "explaining documents of the pilot: 16 of 32 …"
    assert 0 < seconds[0] < SMALL, "an audit of 120 short texts is small"


def test_workers_share_the_hours_but_not_the_core_hours(
    tiny_model: Path, corpus: Path, tmp_path: Path
) -> None:
    from calig.planning.figures import figures
    from calig.planning.pilot import run_pilot
    from calig.planning.stages import planned_run

    config = _config(tiny_model, corpus, tmp_path)
    model = stages.describe_model(config)
    warehouse = Warehouse.open(config.warehouse)
    manifest = stages.bring_in(warehouse, config, model)
    run = planned_run(
        warehouse,
        config,
        model,
        manifest,
        stages.learn_schedule(warehouse, config, model, manifest),
    )
    pilot = run_pilot(run, range(ROWS), lambda _: None)
    one, ten = ({f.name: f for f in figures(pilot, 100_000, "", 100, workers)} for workers in (1, 10))
    assert one["core-hours"] == ten["core-hours"]
    alone = one["attribution"].value - pilot.load_seconds
    assert ten["attribution"].value - pilot.load_seconds == pytest.approx(alone / 10)
    per_document = pilot.other_seconds + 3600 * one["core-hours"].value / 100_000
    assert alone == pytest.approx(100_000 * per_document)


def test_nothing_is_left_to_plan_when_all_is_held(
    tiny_model: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    config = _config(tiny_model, tiny_corpus, tmp_path)
    run_stages(config)
    warehouse = Warehouse.open(config.warehouse)
    assert make_plan(warehouse, config, None, lambda _: None) is None
    with pytest.raises(InputError, match="none is left for a pilot"):
        make_plan(warehouse, config, 1000, lambda _: None)
