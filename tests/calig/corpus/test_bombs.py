"""Files that are small and stand for much: one line, or the documents, in bounded memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calig.config import CorpusConfig
from calig.corpus import ingest, source
from calig.errors import InputError
from calig.files import Files
from tests.material.parts import source_rows
from tests.material.tiers import extended

MB = 2**20
INGEST = """
import json, resource, sys
from pathlib import Path
from calig.config import CorpusConfig
from calig.corpus import ingest
from calig.errors import InputError
from calig.files import Files
def peak():  # of this process: that of getrusage may be its parent's
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))) // 1024
asked = json.loads(sys.argv[1])
root, modality, short = Path(asked.pop("root")), asked.pop("modality"), asked.pop("memory")
before = peak()
if short:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + short * 2**20,) * 2)
try:
    said = ingest(CorpusConfig(**asked), ["a", "b"], Files(root), modality=modality).documents
except InputError as error:
    said = str(error)
print(json.dumps([said, peak() - before]))
"""


def brought_in(path: Path, modality: str = "text", memory: int = 0, **corpus: Any) -> tuple[int | str, int]:
    """Ingest in a process of its own; return the documents, or what was said, and the memory (MB) that it took.

    `memory` (MB) is all that the process may have beyond what it has.
    """
    asked = {
        "path": str(path),
        "root": str(path.parent / "w"),
        "modality": modality,
        "memory": memory,
        **corpus,
    }
    done = subprocess.run(
        [sys.executable, "-c", INGEST, json.dumps(asked)],
        capture_output=True, text=True, cwd=Path(__file__).parents[3], timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    said, taken = json.loads(done.stdout.splitlines()[-1])
    assert "\n" not in str(said)
    return said, taken


def members(path: Path, *pieces: tuple[bytes, int]) -> Path:
    """Write a gzip file of pieces, each so many times over, without ever holding it."""
    with path.open("wb") as stream:
        for piece, times in pieces:
            packed = gzip.compress(piece)
            for _ in range(times):
                stream.write(packed)
    return path


def test_gzip_that_expands_a_thousandfold(tmp_path: Path) -> None:
    row = b'{"text": "' + b"x" * (MB - 20) + b'"}\n'
    path = members(tmp_path / "a.jsonl.gz", (row * 40, 6))
    assert path.stat().st_size * 900 < 240 * MB
    said, taken = brought_in(path)
    assert said == 240
    assert taken < 400


LONG = b"x" * 32 * MB
"""A part of a row of 2 GB."""


@pytest.mark.parametrize(
    ("name", "pieces", "says"),
    [
        ("a.jsonl.gz", [(b'{"text": "', 1), (LONG, 64)], "line 1: is longer than 64 MB: cut or leave out"),
        ("a.csv.gz", [(b"text\n", 1), (LONG, 64)], "line 2: is longer than 64 MB"),
        ("a.csv.gz", [(b'text\n"', 1), (LONG[:MB] + b"\n", 2048)], "one row is longer than 64 MB: look for a missing"),
        ("a.csv.gz", [(b"text\n", 1), (b'"' + LONG[: MB] + b'\n",', 2048)], "one row is longer than 64 MB"),
        ("a.jsonl.gz", [(b'{"text": "\xff', 1), (LONG, 64)], "line 1: is longer than 64 MB"),
        ("a.csv.gz", [(b"text\n", 1), (b"\xff" + LONG, 64)], "line 2: is longer than 64 MB"),
    ],
    ids=["json", "csv", "quoted", "many fields", "not UTF-8 in json", "not UTF-8 in csv"],
)  # fmt: skip
def test_a_row_of_two_gigabytes(
    tmp_path: Path, name: str, pieces: list[tuple[bytes, int]], says: str
) -> None:
    said, taken = brought_in(members(tmp_path / name, *pieces))
    assert says in str(said)
    assert taken < 700


def repeated(value: Any, rows: int, kind: pa.DataType) -> pa.Array:
    """A column of one value, which is in memory and file once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([value], kind))


def write(path: Path, column: pa.Array, name: str = "text") -> Path:
    options = {"compression": "zstd", "dictionary_pagesize_limit": 2**30, "store_schema": False}
    pq.write_table(pa.table({name: column}), path, **options)
    assert path.stat().st_size < 2 * MB
    return path


@extended("a process of its own, as for gzip")
def test_a_parquet_value_that_is_there_many_times(tmp_path: Path) -> None:
    """A hundred thousand rows of 10 MB are a terabyte; as many of them as are asked for come, few at a time."""
    path = write(tmp_path / "a.parquet", repeated("x" * 10 * MB, 100_000, pa.string()))
    said, taken = brought_in(path, limit=20)
    assert said == 20
    assert taken < 500


@extended("a process of its own, as for gzip")
def test_images_that_are_there_many_times(tmp_path: Path) -> None:
    images = repeated(b"x" * 10 * MB, 5_000, pa.binary())
    column = pa.StructArray.from_arrays([images], ["bytes"])
    said, taken = brought_in(write(tmp_path / "a.parquet", column, "image"), "image", limit=30)
    assert said == 30
    assert taken < 1500


@extended("a process of its own, as for gzip")
def test_a_parquet_row_that_is_too_long(tmp_path: Path) -> None:
    """A page is decoded as a whole: one row is found when it has been; if most are so, the footer says it."""
    rows = pa.array(["short"] + ["x" * 150 * MB] + ["short"] * 9)
    said, taken = brought_in(write(tmp_path / "a.parquet", rows))
    assert "row 2: has 150 MB of text or bytes, above the limit of 64 MB a row: cut" in str(said)
    assert taken < 7 * 150
    said, taken = brought_in(write(tmp_path / "b.parquet", pa.array(["short", "x" * 150 * MB])))
    assert "has rows of 75 MB, above the limit of 64 MB" in str(said)
    assert taken < 100


def test_a_parquet_list_without_end(tmp_path: Path) -> None:
    many = pa.ListArray.from_arrays(pa.array([0, 10**7], pa.int32()), pa.nulls(10**7, pa.int8()).fill_null(0))
    table = pa.table({"text": ["a"], "numbers": many})
    pq.write_table(table, tmp_path / "a.parquet")
    said, taken = brought_in(tmp_path / "a.parquet")
    assert "has rows of 76 MB, above the limit of 64 MB: cut or leave out" in str(said)
    assert taken < 200


@extended("a process of its own, as for gzip")
def test_memory_that_a_page_does_not_fit_into(tmp_path: Path) -> None:
    """A page is decoded as a whole, whatever is in it; where there is no room for it, that is said."""
    path = write(tmp_path / "a.parquet", pa.array(["x" * 300 * MB] + ["short"] * 9))
    said, _ = brought_in(path, memory=200)
    assert str(said).endswith(
        "takes more memory than there is: write it again in smaller rows, pages and row groups"
    )


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_rows_up_to_the_limit_are_documents(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "é" * (source.BATCH_BYTES // 2)
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table({"text": ["a", text, None, text, "b"]}), path)
    elif ending == "csv":
        path.write_text(f"text,n\na,1\n{text},2\n,3\n{text},4\nb,5\n")
    else:
        rows = ["a", text, None, text, "b"]
        path.write_text("".join(json.dumps({"text": row}, ensure_ascii=False) + "\n" for row in rows))
    manifest = ingest(CorpusConfig(path=str(path)), ["a"], Files(tmp_path / "w"))
    assert source_rows(manifest, tmp_path / "w")["text"].to_pylist() == ["a", text, "", text, "b"]


def test_columns_that_are_long_together(tmp_path: Path) -> None:
    columns = {name: pa.array(["x" * 40 * MB, *"abc"]) for name in ("text", "more")}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="row 1: has 80 MB of text or bytes"):
        ingest(CorpusConfig(path=str(tmp_path / "a.parquet")), ["a"], Files(tmp_path / "w"))
