"""Prefect's cache serves model and corpus while their sources and files are as they were, and no longer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from calig import stages
from calig.config import AuditConfig
from calig.corpus import CorpusManifest, verify
from calig.files import Files
from calig.warehouse.layout import Warehouse
from calig.workers import ModelCard
from tests.material.tiny import Row, audit_config, save_model, write_parquet

Ingest = Callable[..., tuple[ModelCard, CorpusManifest, list[str], list[str]]]


@pytest.fixture
def model(tmp_path: Path, tiny_model: Path) -> Path:
    return shutil.copytree(tiny_model, tmp_path / "model")


@pytest.fixture
def corpus(tmp_path: Path, tiny_rows: list[Row]) -> Path:
    return write_parquet(tmp_path / "corpus.parquet", tiny_rows)


@pytest.fixture
def config(model: Path, corpus: Path, tmp_path: Path) -> AuditConfig:
    return audit_config(model, corpus, tmp_path / "w")


@pytest.fixture
def ingest(prefect_server: str, config: AuditConfig) -> Ingest:
    """Run the ingest flow; gives model, corpus, and the last states of the tasks for either.

    Its arguments are how many runs of the model's and of the corpus's task to wait for.
    """
    from flows.ingest import ingest as flow
    from tests.material.prefect_runs import seen, tagged

    def run(ingests: int = 1, models: int = 1) -> tuple[ModelCard, CorpusManifest, list[str], list[str]]:
        with tagged() as tag:
            model, corpus = flow(Warehouse.open(config.warehouse), config)
        runs = seen(tag, fingerprint_model=models, ingest_corpus=ingests)
        states = [[r.states[-1] for r in runs[task]] for task in ("fingerprint_model", "ingest_corpus")]
        return model, corpus, *states

    return run


def test_the_second_ingest_is_cached(ingest: Ingest) -> None:
    first, second = ingest(), ingest()
    assert first[2:] == (["Completed"], ["Completed"])
    assert second[2:] == (["Cached"], ["Cached"])
    assert second[:2] == first[:2]


@pytest.mark.parametrize("damage", ["deleted", "changed"])
def test_a_damaged_corpus_is_brought_in_again(damage: str, ingest: Ingest, config: AuditConfig) -> None:
    root = Path(config.warehouse)
    _, manifest, *_ = ingest()
    part = manifest.parts(root)[0]
    if damage == "deleted":
        part.unlink()
    else:
        content = bytearray(part.read_bytes())
        content[len(content) // 2] ^= 1
        part.write_bytes(content)
    assert not verify(Files(root), manifest)
    _, again, model_states, corpus_states = ingest(2)
    assert again.key == manifest.key
    assert verify(Files(root), again)
    assert model_states == ["Cached"]
    assert corpus_states == ["Cached", "Completed"]
    assert ingest()[3] == ["Cached"]


def test_a_changed_source_is_brought_in_anew(ingest: Ingest, corpus: Path, tiny_rows: list[Row]) -> None:
    _, before, *_ = ingest()
    write_parquet(corpus, tiny_rows[:5])
    _, after, model_states, corpus_states = ingest()
    assert (model_states, corpus_states) == (["Cached"], ["Completed"])
    assert after.key != before.key
    assert after.documents == 5


def test_a_changed_model_gets_a_new_fingerprint(ingest: Ingest, model: Path) -> None:
    before, *_ = ingest()
    save_model(model, seed=1)
    after, _, model_states, _ = ingest()
    assert model_states == ["Completed"]
    assert after.hash != before.hash


def test_a_model_only_touched_keeps_its_fingerprint(ingest: Ingest, model: Path) -> None:
    before, *_ = ingest()
    os.utime(model / "model.safetensors", (1, 1))
    after, _, model_states, _ = ingest()
    assert model_states == ["Cached"]
    assert after == before


def test_a_model_of_the_same_size_and_time_is_another_one(ingest: Ingest, model: Path) -> None:
    """What reproducible images and `cp -p` make: nothing but the content tells the two apart."""

    def stamp() -> dict[str, int]:
        for path in model.iterdir():
            os.utime(path, (0, 0))
        return {path.name: path.stat().st_size for path in model.iterdir()}

    sizes = stamp()
    before, *_ = ingest()
    save_model(model, seed=1)
    assert stamp() == sizes
    after, _, model_states, _ = ingest()
    assert model_states == ["Completed"]
    assert after.hash != before.hash


@pytest.mark.parametrize("changing", ["model", "corpus"])
def test_what_changes_while_it_is_read_is_read_again(
    changing: str,
    ingest: Ingest,
    model: Path,
    corpus: Path,
    tiny_rows: list[Row],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the cache would hold the later content under the earlier one's key."""
    stage = {"model": "describe_model", "corpus": "bring_in"}[changing]
    real: Any = getattr(stages, stage)
    calls: list[int] = []

    def late(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            save_model(model, seed=1) if changing == "model" else write_parquet(corpus, tiny_rows[:5])
        return real(*given)

    kept = shutil.copytree(model, model.with_name("kept")), shutil.copy(corpus, corpus.with_name("rows"))
    monkeypatch.setattr(stages, stage, late)
    changed = ingest(models=2, ingests=1) if changing == "model" else ingest(models=1, ingests=2)
    monkeypatch.undo()
    shutil.rmtree(model)
    shutil.copytree(kept[0], model)
    shutil.copy(kept[1], corpus)
    before = ingest(models=2, ingests=1) if changing == "model" else ingest(models=1, ingests=2)
    assert before[2 if changing == "model" else 3] == ["Cached", "Completed"], (
        "what is cached is of another content"
    )
    if changing == "model":
        assert before[0].hash != changed[0].hash
    else:
        assert (changed[1].documents, before[1].documents) == (5, len(tiny_rows))


def test_a_hub_models_new_commit_is_noticed(config: AuditConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A branch may move on the hub while id and revision stay."""
    hub = config.model_copy(update={"model": config.model.model_copy(update={"id": "owner/model"})})
    commit = {"now": "1" * 40}
    monkeypatch.setattr(
        "calig.models.configuration.read_config", lambda *_: SimpleNamespace(_commit_hash=commit["now"])
    )
    before = stages.model_stamp(hub)
    assert stages.model_stamp(hub) == before
    commit["now"] = "2" * 40
    assert stages.model_stamp(hub) != before
