"""Columns in the names of folders, held against what pyarrow's datasets make of the same files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from calig.config import CorpusConfig
from calig.corpus import ingest
from calig.errors import InputError
from calig.files import Files
from tests.material.parts import source_rows

Rows = Sequence[dict[str, Any]]


def _parquet(path: Path, rows: Rows) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows)), path.with_suffix(".parquet"))


def _csv(path: Path, rows: Rows) -> None:
    with path.with_suffix(".csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _jsonl(path: Path, rows: Rows) -> None:
    path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


WRITERS = {"parquet": _parquet, "csv": _csv, "jsonl": _jsonl}


@pytest.fixture(params=sorted(WRITERS))
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, Rows], None]:
    def put(folder: str, rows: Rows) -> None:
        place = tmp_path / "data" / folder
        place.mkdir(parents=True, exist_ok=True)
        WRITERS[request.param](place / "part", rows)

    return put


def _ingested(tmp_path: Path, path: str = "data", **options: Any) -> list[dict[str, Any]]:
    config = CorpusConfig(path=str(tmp_path / path), **options)
    manifest = ingest(config, ["no", "yes"], Files(tmp_path / "w"))
    names = [*manifest.columns, "text", "label"]
    return source_rows(manifest, tmp_path / "w").select(names).to_pylist()


def test_folders_become_columns(write: Callable[[str, Rows], None], tmp_path: Path) -> None:
    write("dt=2026-11-24/hour=01", [{"text": "one"}, {"text": "two"}])
    write("dt=2026-11-25/hour=12", [{"text": "three"}])
    expected = [("one", "2026-11-24", "01"), ("two", "2026-11-24", "01"), ("three", "2026-11-25", "12")]
    found = _ingested(tmp_path)
    assert [(row["text"], row["dt"], row["hour"]) for row in found] == expected
    one = _ingested(tmp_path, "data/dt=2026-11-24/*/part.*")
    assert [(row["text"], row["dt"], row["hour"]) for row in one] == expected[:2]


def test_they_have_the_types_that_are_asked_for(write: Callable[[str, Rows], None], tmp_path: Path) -> None:
    write("dt=2026-11-24/hour=01", [{"text": "one"}])
    write("dt=__HIVE_DEFAULT_PARTITION__/hour=12", [{"text": "two"}])
    found = _ingested(tmp_path, types={"dt": "date", "hour": "integer"})
    assert [(row["dt"], row["hour"]) for row in found] == [(date(2026, 11, 24), 1), (None, 12)]
    with pytest.raises(
        InputError, match=r"row 1: column 'dt' is '2026-11-24', which does not fit corpus.types: number"
    ):
        _ingested(tmp_path, types={"dt": "number"})


def test_they_are_what_pyarrow_reads_as_text(tmp_path: Path) -> None:
    folders = ["m=01/k=a%20b", "m=-7/k=__HIVE_DEFAULT_PARTITION__", "n=9999999999", "=x/k=", "m=3/other"]
    for number, folder in enumerate(folders):
        place = tmp_path / "data" / folder
        place.mkdir(parents=True)
        _parquet(place / "part", [{"text": f"text {number}"}])
    as_text = ds.partitioning(pa.schema([(name, pa.string()) for name in "mkn"]), flavor="hive")
    wanted = ds.dataset(tmp_path / "data", partitioning=as_text).to_table().to_pylist()
    found = _ingested(tmp_path)
    key = {row["text"]: row for row in wanted}
    assert len(found) == 5
    for row in found:
        theirs = key[row["text"]]
        assert {name: row[name] for name in ("m", "k", "n")} == {
            name: theirs[name] for name in ("m", "k", "n")
        }


def test_a_column_of_the_same_kind_gives_way_as_in_pyarrow(tmp_path: Path) -> None:
    place = tmp_path / "data" / "dt=2026-11-24"
    place.mkdir(parents=True)
    _parquet(place / "part", [{"text": "one", "dt": "inside"}])
    assert ds.dataset(tmp_path / "data", partitioning="hive").to_table()["dt"].to_pylist() == ["2026-11-24"]
    assert [row["dt"] for row in _ingested(tmp_path)] == ["2026-11-24"]
    manifest = ingest(CorpusConfig(path=str(tmp_path / "data")), ["no", "yes"], Files(tmp_path / "w"))
    assert manifest.notes == [
        "columns of the files whose values are those of the folders of the same names: 'dt'"
    ]


def test_a_column_of_another_kind_keeps_its_type(tmp_path: Path) -> None:
    place = tmp_path / "data" / "dt=2026-11-24"
    place.mkdir(parents=True)
    _parquet(place / "part", [{"text": "one", "dt": date(2020, 1, 1)}])
    assert [row["dt"] for row in _ingested(tmp_path)] == [date(2026, 11, 24)]
    _parquet(place / "part", [{"text": "one", "dt": 7}])
    with pytest.raises(
        InputError, match=r"part\.parquet: column 'dt' is int64, which '2026-11-24' of the folder dt=… is"
    ):
        _ingested(tmp_path)


def test_a_folder_may_be_the_label(write: Callable[[str, Rows], None], tmp_path: Path) -> None:
    write("sentiment=yes", [{"text": "good"}])
    write("sentiment=no", [{"text": "bad"}])
    found = _ingested(tmp_path, label="sentiment")
    assert [(row["text"], row["label"]) for row in found] == [("bad", 0), ("good", 1)]


def test_names_of_the_warehouse_are_kept_apart(write: Callable[[str, Rows], None], tmp_path: Path) -> None:
    write("logit=3", [{"text": "good"}])
    assert [row["corpus_logit"] for row in _ingested(tmp_path)] == ["3"]


def test_a_folder_called_as_the_texts_column_is_refused(
    write: Callable[[str, Rows], None], tmp_path: Path
) -> None:
    """All texts would be the folder's value."""
    write("text=abc", [{"text": "one"}, {"text": "two"}])
    with pytest.raises(InputError, match=r"the folder text=… gives a column 'text', which the file has too"):
        _ingested(tmp_path)


def test_rows_are_counted_where_all_columns_are_in_the_folders(
    write: Callable[[str, Rows], None], tmp_path: Path
) -> None:
    write("text=abc", [{"stars": 1}, {"stars": 2}])
    assert [row["text"] for row in _ingested(tmp_path, columns=[])] == ["abc", "abc"]
