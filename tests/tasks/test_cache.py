"""Prefect's cache serves model and corpus while their sources and files are as they were, and no longer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from calig import stages
from calig.config import AuditConfig
from calig.corpus import CorpusManifest, verify
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

    Its argument is how many runs of the corpus's task to wait for.
    """
    from flows.ingest import ingest as flow
    from tests.material.prefect_runs import seen, tagged

    def run(ingests: int = 1) -> tuple[ModelCard, CorpusManifest, list[str], list[str]]:
        with tagged() as tag:
            model, corpus = flow(config)
        runs = seen(tag, fingerprint_model=1, ingest_corpus=ingests)
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
    assert not verify(root, manifest)
    _, again, model_states, corpus_states = ingest(2)
    assert again.key == manifest.key
    assert verify(root, again)
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
    assert model_states == ["Completed"]
    assert after == before


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
