"""What differs in how two runs were explained: each part of the key, in words, before anything that was found."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from calig import formats
from calig.attribution import explainer
from calig.attribution.schedule import Schedule
from calig.changes import print_changes
from calig.comparing import again, stages
from calig.comparing import differences as module
from calig.comparing.differences import Differences, differences, made_by
from calig.config.history import CompareConfig
from calig.files import write_atomic
from calig.formats import ENGINE_VERSION, FORMAT
from calig.report import changes
from calig.report.build import build
from calig.warehouse.layout import Warehouse
from calig.warehouse.references import Reference
from calig.warehouse.views import RunFiles, run_files
from tests.material.heads import run_stages
from tests.material.tiers import extended
from tests.material.tiny import audit_config, make_rows, save_model, write_parquet
from tests.material.warehouses import make_warehouse


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Warehouse, RunFiles, RunFiles]:
    """One run twice, the second under another key."""
    warehouse = Warehouse.open(tmp_path_factory.mktemp("pair"))
    run = run_files(warehouse, make_warehouse(warehouse.root, documents=6, depths=2, shards=1))
    return warehouse, run, replace(run, manifest=replace(run.manifest, attribution_key="another"))


def changed(run: RunFiles, **values: Any) -> RunFiles:
    return replace(run, manifest=replace(run.manifest, **values))


def test_runs_of_one_key_were_explained_alike(pair: tuple[Warehouse, RunFiles, RunFiles]) -> None:
    warehouse, a, _ = pair
    assert differences(warehouse, a, a) == Differences(True, ())
    fused = changed(a, method={**a.manifest.method, "weight": 0.25})
    assert differences(warehouse, a, fused).said == ("the setting method.weight changed from 0.5 to 0.25",)


@pytest.mark.parametrize(
    ("values", "same", "said"),
    [
        (
            {"engine_version": ENGINE_VERSION + 1},
            False,
            f"version {ENGINE_VERSION}, then {ENGINE_VERSION + 1}",
        ),
        (
            {"engine_version": None},
            None,
            "may have changed between these runs (run-0 does not say its version)",
        ),
        ({"format": FORMAT + 1}, True, f"(format {FORMAT}, then {FORMAT + 1}), the engine did not"),
        (
            {"config": {"runtime": {"dtype": "bfloat16"}}},
            True,
            "the setting runtime.dtype changed from float32 to bfloat16",
        ),
        ({"schedule": "new"}, True, "the step schedule is another one"),
        ({}, True, "it is not recorded by what"),
    ],
)
def test_each_part_of_the_key_is_told(
    pair: tuple[Warehouse, RunFiles, RunFiles], values: dict[str, Any], same: bool | None, said: str
) -> None:
    warehouse, a, b = pair
    a = changed(a, schedule="old", config={"runtime": {"dtype": "float32"}})
    b = changed(b, **{"schedule": "old", **values})
    found = differences(warehouse, a, b)
    assert found.same_engine == same
    assert said in found.said[0]
    assert len(found.said) == 1


@pytest.mark.parametrize("part", ["weights", "configuration", "reader"])
def test_of_the_model_it_is_told_which_part_changed(
    pair: tuple[Warehouse, RunFiles, RunFiles], part: str
) -> None:
    warehouse, a, b = pair
    hashes = {"weights": "w", "configuration": "c", "reader": "r"}
    a = changed(a, model={**a.manifest.model, "hashes": hashes})
    other = {**b.manifest.model, "hash": "other"}
    told = {"reader": "tokenizer"}.get(part, part)
    known = changed(b, model={**other, "hashes": hashes | {part: "new"}})
    assert differences(warehouse, a, known).said == (f"the model is another one: its {told} changed",)
    unknown = differences(warehouse, a, changed(b, model=other)).said
    assert unknown == ("the model is another one: its weights, configuration or tokenizer",)


def test_what_of_the_method_changes_numbers_is_told(pair: tuple[Warehouse, RunFiles, RunFiles]) -> None:
    warehouse, a, b = pair
    method = {**b.manifest.method, "baseline": "mask", "max_length": 64, "target": "label"}
    assert differences(warehouse, a, changed(b, method=method)).said == (
        "the setting method.target changed from predicted to label",
        "the setting method.baseline changed from pad to mask",
        "the setting method.max_length changed from not set to 64",
    )


@extended("three audits; the parts are tested one by one")
def test_a_changed_engine_is_said_before_any_finding(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the report, on the comparison's page and in the terminal; documents are paired, none is explained by both."""
    corpus = write_parquet(tmp_path / "corpus.parquet", make_rows(12))
    other = save_model(tmp_path / "other", 1)
    root = tmp_path / "warehouse"
    first = run_stages(audit_config(tiny_model, corpus, root)).run_id
    for place in (formats, explainer, module, again):
        monkeypatch.setattr(place, "ENGINE_VERSION", ENGINE_VERSION + 1)
    second = run_stages(audit_config(tiny_model, corpus, root)).run_id
    warehouse = Warehouse.open(root)
    of_two = [run_files(warehouse, run_id).manifest for run_id in (first, second)]
    assert of_two[0].attribution_key != of_two[1].attribution_key
    assert [made_by(warehouse, run)[0] for run in of_two] == [ENGINE_VERSION, ENGINE_VERSION + 1]
    row = compare(warehouse, first, second)
    sentence = (
        f"the engine changed between these runs (version {ENGINE_VERSION}, then {ENGINE_VERSION + 1}): numbers of the "
        "same documents may differ by that alone"
    )
    assert (row["paired"], row["tests_paired"], row["same_engine"]) == (12, True, False)
    assert row["differences"] == [sentence]
    said = f"{sentence[0].upper()}{sentence[1:]}."
    page = changes.build(warehouse, second, first).read_text()
    assert 0 < page.index(said) < page.index('eyebrow">')
    report = build(warehouse, second).read_text()
    assert 0 < report.index(said) < report.index('id="changes"')
    out = Console(file=io.StringIO(), width=400)
    print_changes(warehouse, second, first, out)
    printed = out.file.getvalue()  # type: ignore[attr-defined]
    assert 0 < printed.index(said) < printed.index(row["verdict"])
    [(_, verdict)] = stages.verdicts(warehouse, second)
    assert verdict == f"{sentence}; {row['verdict']}"
    retrained = run_stages(audit_config(other, corpus, root)).run_id
    for place in (formats, explainer, module, again):
        monkeypatch.setattr(place, "ENGINE_VERSION", ENGINE_VERSION)
    row = compare(warehouse, first, retrained)
    assert (row["explained_again"], row["left_out"]) == (0, row["flips"])
    assert "its weights changed" in row["differences"][1]


def compare(warehouse: Warehouse, reference: str, run: str) -> dict[str, Any]:
    wanted = stages.Wanted(run, Reference(reference, reference), CompareConfig(), 0.05)
    return stages.compare_runs(warehouse, wanted)


def test_the_engine_of_a_run_that_does_not_record_it_is_found_by_its_key(
    pair: tuple[Warehouse, RunFiles, RunFiles], tmp_path: Path
) -> None:
    warehouse, schedule = Warehouse.open(tmp_path), Schedule((12,), (1.5,))
    write_atomic(warehouse.schedules / "some.json", Schedule((8,), (2.0,)).to_json().encode())
    write_atomic(warehouse.schedules / "used.json", schedule.to_json().encode())
    old = replace(pair[1].manifest, format=1, engine_version=None)
    for engine in (1, ENGINE_VERSION):
        key = module._key_of_format_1(old, engine, schedule.key)
        assert made_by(warehouse, replace(old, attribution_key=key)) == (engine, schedule.key)
    assert made_by(warehouse, replace(old, attribution_key="0" * 32)) == (None, None)
