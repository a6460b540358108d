"""`calig init`: what is found in a corpus for a model, and that the YAML runs as it is written."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from calig.cli import main
from calig.config import load_config
from calig.corpus import ingest
from calig.errors import InputError
from calig.files import Files
from calig.suggest import file_name, suggest
from tests.material.heads import run_stages
from tests.material.tiny import run_manifest

ROW = {
    "review_id": "r1",
    "title": "a",
    "body": "a good film",
    "sentiment": "positive",
    "stars": "5",
    "price": "3.10",
    "version": "3.10",
    "phone": "0171",
    "day": "2026-11-24",
    "sold": "true",
}
OTHER = {
    "review_id": "r2",
    "title": "b",
    "body": "a bad film, and long",
    "sentiment": "NEGATIVE",
    "stars": "",
    "price": "4.25",
    "version": "3.9",
    "phone": "1",
    "day": "2026-11-25",
    "sold": "false",
}


def _csv(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _suggested(model: Path, path: Path, tmp_path: Path, **options: Any) -> Any:
    place = tmp_path / "audit.yaml"
    warehouse = str(tmp_path / "w")
    place.write_text(suggest(str(model), str(path), name="a", warehouse=warehouse, **options).yaml, "utf-8")
    return load_config(place)


def test_columns_and_types_are_found(tiny_model: Path, tmp_path: Path) -> None:
    path = _csv(tmp_path / "reviews.csv", [ROW, OTHER])
    config = _suggested(tiny_model, path, tmp_path)
    corpus = config.corpus
    assert (corpus.text, corpus.label, corpus.id) == ("body", "sentiment", "review_id")
    assert corpus.types == {"stars": "integer", "price": "number", "day": "date", "sold": "boolean"}
    assert "single_label, 2 classes: negative, positive" in (tmp_path / "audit.yaml").read_text("utf-8")
    manifest = ingest(corpus, ["negative", "positive"], Files(tmp_path / "w"))
    assert (manifest.documents, manifest.labelled, manifest.notes) == (2, True, [])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"a": "x", "b": "long text here"}, {"a": "y", "b": "z"}], {"text": "b", "label": None}),
        ([{"sentence1": "x", "sentence2": "y", "label": "0"}], {"text_pair": "sentence2", "label": "label"}),
        ([{"text": "x", "label": "1"}, {"text": "y", "label": "LABEL_0"}], {"label": "label", "id": None}),
        ([{"text": "x", "verdict": "Positive"}], {"label": "verdict"}),
        ([{"text": "x", "label": "2"}], {"label": None}),
        ([{"text": "x", "id": "1"}, {"text": "y", "id": "1"}], {"id": None}),
        (
            [{"text": "x", "n": "1"}, {"text": "y", "n": "1.5"}, {"text": "y", "n": ""}],
            {"types": {"n": "number"}},
        ),
        ([{"text": "x", "n": "2026-11-24T10:00:00"}], {"types": {"n": "timestamp"}}),
        ([{"text": "x", "n": "007"}, {"text": "y", "n": "1e5"}], {"types": {}}),
    ],
)
def test_roles_follow_from_names_and_values(
    rows: list[dict[str, str]], expected: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    corpus = _suggested(tiny_model, _csv(tmp_path / "a.csv", rows), tmp_path).corpus
    assert {name: getattr(corpus, name) for name in expected} == expected


def test_files_without_a_row_are_told_by_their_names(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("review,label\n")
    assert _suggested(tiny_model, tmp_path / "a.csv", tmp_path).corpus.text == "review"
    (tmp_path / "a.csv").write_text("n\n")
    with pytest.raises(InputError, match="no column with texts in it; it has n"):
        suggest(str(tiny_model), str(tmp_path / "a.csv"), name="a")


def test_labels_that_are_no_classes_are_said(tiny_model: Path, tmp_path: Path) -> None:
    path = _csv(tmp_path / "a.csv", [{"text": "x", "label": "good"}, {"text": "y", "label": "bad"}])
    found = suggest(str(tiny_model), str(path), name="a")
    assert any(
        "column 'label' (bad, good) are not the model's classes (negative, positive)" in line
        for line in found.found
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [({"text": "nix"}, "--text: there is no column 'nix'"), ({"label": "nix"}, "--label: ")],
)
def test_columns_that_are_not_there(
    options: dict[str, str], says: str, tiny_model: Path, tmp_path: Path
) -> None:
    path = _csv(tmp_path / "a.csv", [{"text": "x"}])
    with pytest.raises(InputError, match=says):
        suggest(str(tiny_model), str(path), name="a", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/reviews.csv.gz", "reviews"),
        ("data/dt=*/*.csv", "data"),
        ("s3://bucket/in/", "in"),
        ("*.csv", "audit"),
        ("äö.csv", "audit"),
        ("a b.csv", "a-b"),
    ],
)
def test_an_audit_is_called_as_its_files(path: str, name: str) -> None:
    assert file_name(path) == name


def test_what_it_writes_runs_as_it_stands(
    tiny_model: Path,
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["init", "--model", str(tiny_model), "--corpus", str(tiny_corpus)]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 0
    assert f" audit {tiny_corpus.stem}.yaml\n" in capsys.readouterr().out
    run = run_stages(load_config(f"{tiny_corpus.stem}.yaml", ["corpus.limit=4"]))
    manifest = run_manifest(tmp_path / "warehouse", run.run_id)
    assert (manifest["status"], manifest["attributed"]) == ("complete", 4)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "is there: choose another, or write over it with --force" in capsys.readouterr().err
