"""Files that are not what their names say: one line names what they are, and what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calig.config import CorpusConfig
from calig.corpus import ingest
from calig.errors import InputError
from calig.files import Files

CSV = b"text,label\nhello world,no\nbye,yes\n"
JSONL = b'{"text": "hello"}\n'
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def _zstd(data: bytes) -> bytes:
    buffer = pa.BufferOutputStream()
    with pa.CompressedOutputStream(buffer, "zstd") as stream:
        stream.write(data)
    return bytes(buffer.getvalue().to_pybytes())


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", CSV)
    return buffer.getvalue()


def _parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"]}), buffer)
    return buffer.getvalue()


CASES = [
    ("a.csv", gzip.compress(CSV), "a gzip file, whatever its name says: name it a.csv.gz"),
    ("a.tsv", bz2.compress(CSV), "a bzip2 file, whatever its name says: name it a.tsv.bz2"),
    ("a.jsonl", lzma.compress(JSONL), "an xz file, whatever its name says: name it a.jsonl.xz"),
    ("a.csv", _zstd(CSV), "a zstd file, whatever its name says: name it a.csv.zst"),
    ("a.parquet", gzip.compress(CSV), "a gzip file, whatever its name says: unpack it"),
    ("a.csv", _zip(), "a zip file, as those of Excel (.xlsx) are, whatever"),
    ("a.parquet", _zip(), "a zip file"),
    ("a.csv", _parquet(), "a Parquet file, whatever its name says: name it .parquet"),
    ("a.parquet", CSV, "text, not Parquet"),
    ("a.csv.gz", CSV, "no gzip file: it is text; name it a.csv"),
    ("a.csv.xz", CSV, "no xz file: it is text; name it"),
    ("a.csv.bz2", CSV, "no bzip2 file: it is text"),
    ("a.csv.zst", CSV, "no zstd file: it is text"),
    ("a.csv.gz", bz2.compress(CSV), "no gzip file: it is a bzip2 file; name it a.csv.bz2"),
    ("a.csv.gz", gzip.compress(gzip.compress(CSV)), "packed twice by gzip: unpack it once"),
    (
        "a.csv",
        CSV.decode().encode("utf-16"),
        "UTF-16, not UTF-8: convert it, for example iconv -f utf-16 -t",
    ),
    (
        "a.csv",
        CSV.decode().encode("utf-32"),
        "UTF-32, not UTF-8: convert it, for example iconv -f utf-32",
    ),
    ("a.csv", CSV.decode().encode("utf-16-le"), "iconv -f utf-16le -t utf-8 a.csv"),
    ("a.jsonl", JSONL.decode().encode("utf-16-be"), "iconv -f utf-16be -t utf-8 a.jsonl"),
    ("a.csv.gz", gzip.compress(CSV.decode().encode("utf-16")), "UTF-16, not UTF-8"),
    ("a.csv", b"<!DOCTYPE html>\n<html>404</html>\n", "a web page"),
    ("a.csv", POINTER, "a pointer of Git LFS in place of the data, whatever its name says: fetch"),
    ("a.parquet", POINTER, "git lfs pull"),
    ("a.jsonl", b'[\n{"text": "a"}\n]\n', "a JSON array, not one object per line: jq -c '.[]' a.jsonl"),
    ("a.jsonl", b'{\n "text": "a"\n}\n', "objects over several lines, not one per line: jq -c . a.jsonl"),
]
"""Name, content, and what is said; the tests are called by their numbers, since content is not the same each time."""


def _refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        ingest(CorpusConfig(path=str(path)), ["no", "yes"], Files(path.parent / "warehouse"))
    return str(caught.value)


@pytest.mark.parametrize(("name", "data", "says"), CASES, ids=range(len(CASES)))
def test_it_is_named_as_what_it_is(name: str, data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    message = _refused(tmp_path / name)
    assert message.startswith(f"{tmp_path / name} ")
    assert says in message


@pytest.mark.parametrize("start", ["BZh", "ORC", "PAR1", "Obj", "PK", "%PDF", "7z"])
def test_a_text_may_begin_as_a_kind_does(start: str, tmp_path: Path) -> None:
    """A column may have such a name."""
    path = tmp_path / "a.csv"
    path.write_text(f"{start},text\n1,hello\n")
    assert ingest(CorpusConfig(path=str(path)), ["no", "yes"], Files(tmp_path / "warehouse")).documents == 1


@pytest.mark.parametrize(
    ("between", "cure"), [(";", "write commas"), ("\t", "name the file .tsv"), ("|", "write commas")]
)
def test_columns_that_something_else_separates(between: str, cure: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text{between}label\nhello{between}yes\n")
    assert f"if {between!r} is what lies between its values, {cure}" in _refused(path)
