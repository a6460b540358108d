"""Ingest: what goes in comes out, whatever it is stored in, and what cannot go in gets one line."""

import bz2
import datetime
import gzip
import json
import lzma
import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from calig.config import CorpusConfig
from calig.corpus import (
    CorpusManifest,
    fingerprint,
    ingest,
    lines,
    load_corpus,
    parts,
    verify,
)
from calig.errors import InputError
from calig.files import Files
from calig.records import document_key
from tests.material.fuzz import examples
from tests.material.parts import source_rows

CLASSES = ["negative", "positive"]


@pytest.fixture
def root(tmp_path):
    return tmp_path / "warehouse"


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def write_csv(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8", newline="")
    return path


def write_jsonl(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def write_parquet(path: Path, columns: dict[str, object]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def take(path: Path, root: Path, classes: list[str] = CLASSES, **fields: object) -> pa.Table:
    return source_rows(ingest(CorpusConfig(path=str(path), **fields), classes, Files(root)), root)


def refused(path: Path | str, root: Path, **fields: object) -> str:
    with pytest.raises(InputError) as caught:
        ingest(CorpusConfig(path=str(path), **fields), CLASSES, Files(root))
    message = str(caught.value)
    assert "\n" not in message
    corpora = root / "corpora"
    assert not corpora.exists() or not list(corpora.iterdir()), "a refused corpus leaves nothing behind"
    return message


# ---- what comes out


def test_columns_are_the_contract(source, root):
    path = write_parquet(
        source / "a.parquet", {"text": ["a", "b"], "label": [1, 0], "name": ["x", "y"], "stars": [2.5, None]}
    )
    rows = take(path, root, label="label", id="name")
    assert rows.schema.equals(
        pa.schema(
            [
                ("doc_id", pa.int64()),
                ("source_id", pa.string()),
                ("doc_key", pa.string()),
                ("text", pa.string()),
                ("label", pa.int32()),
                ("stars", pa.float64()),
            ]
        )
    )
    assert rows.to_pylist() == [
        {"doc_id": 0, "source_id": "x", "doc_key": document_key("a"), "text": "a", "label": 1, "stars": 2.5},
        {"doc_id": 1, "source_id": "y", "doc_key": document_key("b"), "text": "b", "label": 0, "stars": None},
    ]


def test_the_manifest_says_what_there_is(source, root):
    path = write_parquet(source / "a.parquet", {"text": ["a"], "n": [1], "raw": [b"\0"], "none": pa.nulls(1)})
    corpus = CorpusConfig(path=str(path))
    manifest = ingest(corpus, CLASSES, Files(root))
    assert manifest.source == str(path)
    assert manifest.documents == 1
    assert manifest.columns == {"n": "int64"}
    assert manifest.left_out == {"raw": "binary", "none": "null"}
    assert manifest.labelled is False
    assert len(manifest.key) == 32
    assert set(manifest.files) == {"part-00000.parquet"}
    assert manifest.files["part-00000.parquet"]["bytes"] == manifest.parts(root)[0].stat().st_size
    assert load_corpus(Files(root), manifest.key) == manifest
    assert CorpusManifest.from_json(manifest.to_json()) == manifest


def test_without_ids_the_ordinal_is_the_id(source, root):
    path = write_jsonl(source / "a.jsonl", [{"text": "a", "id": "p"}, {"text": "b", "id": None}])
    assert take(path, root)["source_id"].to_pylist() == ["0", "1"]
    assert take(path, root, id="id")["source_id"].to_pylist() == ["p", "1"]


def test_whole_number_ids_become_text(source, root):
    path = write_parquet(source / "a.parquet", {"text": ["a", "b"], "id": [7, 7]})
    assert take(path, root, id="id")["source_id"].to_pylist() == ["7", "7"]


def test_null_text_is_empty_text(source, root):
    path = write_parquet(source / "a.parquet", {"text": ["a", None]})
    assert take(path, root)["text"].to_pylist() == ["a", ""]


def test_a_document_has_one_key_whatever_its_label(source, root):
    path = write_parquet(source / "a.parquet", {"text": ["a", "a"], "label": [1, None]})
    corpus = CorpusConfig(path=str(path), label="label")
    plain = ingest(corpus, CLASSES, Files(root))
    assert ingest(corpus, CLASSES, Files(root), one_class=True).key == plain.key
    assert source_rows(plain, root)["doc_key"].to_pylist() == [document_key("a")] * 2


def test_a_label_that_is_to_be_explained_is_a_class(source, root):
    path = write_parquet(source / "a.parquet", {"text": ["a", "b"], "label": [1, 7]})
    with pytest.raises(
        InputError, match=r"row 2: label '7' is not a class of the model, and method\.target: label"
    ):
        ingest(CorpusConfig(path=str(path), label="label"), CLASSES, Files(root), one_class=True)


def test_names_of_the_view_get_a_prefix_and_what_still_clashes_a_number(source, root, caplog):
    columns = {
        "sentence": ["a"],
        "text": ["b"],
        "Label": [3],
        "doc_id": [5],
        "corpus_doc_id": [6],
        "tokens": [7],
    }
    corpus = CorpusConfig(path=str(write_parquet(source / "a.parquet", columns)), text="sentence")
    manifest = ingest(corpus, CLASSES, Files(root))
    rows = source_rows(manifest, root)
    assert rows.column_names[5:] == [
        "corpus_text",
        "corpus_Label",
        "corpus_doc_id_1",
        "corpus_doc_id",
        "corpus_tokens",
    ]
    assert (rows["corpus_doc_id"].to_pylist(), rows["corpus_doc_id_1"].to_pylist()) == ([6], [5])
    assert rows["text"].to_pylist() == ["a"]
    [note] = manifest.notes
    assert note == (
        "columns whose names are taken, or not possible in SQL: 'text' is called corpus_text, 'Label' is called "
        "corpus_Label, 'doc_id' is called corpus_doc_id_1, 'tokens' is called corpus_tokens"
    )
    assert [record.getMessage() for record in caplog.records] == [f"corpus {corpus.path}: {note}"]


def test_names_that_differ_by_case_only_stay_apart_in_sql(source, root):
    manifest = ingest(
        CorpusConfig(path=str(write_parquet(source / "a.parquet", {"text": ["a"], "x": [1], "X": [2]}))),
        CLASSES,
        Files(root),
    )
    assert list(manifest.columns) == ["x", "X_1"]
    assert duckdb.sql(f"SELECT x, X_1 FROM '{manifest.parts(root)[0]}'").fetchall() == [(1, 2)]


def test_dots_in_column_names_are_not_paths(source, root):
    columns = {"text": ["a"], "a.b": [1], "a": [{"b": 2}], "a.b.c": [3]}
    row = take(write_parquet(source / "a.parquet", columns), root).to_pylist()[0]
    assert (row["a.b"], row["a"], row["a.b.c"]) == (1, {"b": 2}, 3)


def test_types_that_duckdb_reads_are_kept(source, root):
    columns = {
        "text": pa.array(["a"], pa.large_string()),
        "category": pa.array(["c"]).dictionary_encode(),
        "half": pa.array([1.5], pa.float16()),
        "flag": [True],
        "day": [datetime.date(2024, 2, 29)],
        "moment": pa.array([1], pa.timestamp("ns")),
        "zoned": pa.array([1], pa.timestamp("us", "UTC")),
        "spans": [[{"start": 1, "end": 2}]],
        "big": pa.array([2**63], pa.uint64()),
        "wait": pa.array([1], pa.duration("s")),
        "image": [{"bytes": b"\0", "path": "p"}],
    }
    path = source / "a.parquet"
    pq.write_table(pa.table(columns), path)
    manifest = ingest(CorpusConfig(path=str(path)), CLASSES, Files(root))
    assert list(manifest.columns) == ["category", "half", "flag", "day", "moment", "zoned", "spans", "big"]
    assert set(manifest.left_out) == {"wait", "image"}
    found = duckdb.sql(
        f"SELECT category, half, flag, day, spans[1].end, big FROM '{manifest.parts(root)[0]}'"
    ).fetchall()
    assert found == [("c", 1.5, True, datetime.date(2024, 2, 29), 2, 2**63)]


@pytest.mark.parametrize(
    "kind",
    [pa.date32(), pa.date64(), pa.time32("s"), pa.time64("ns"), pa.timestamp("s"), pa.timestamp("ns", "UTC")],
)
def test_times_beyond_those_of_python(source, root, kind):
    storage = pa.int32() if kind.bit_width == 32 else pa.int64()
    highest = {"date32[day]": 10_000_000, "date64[ms]": 10_000_000 * 86_400_000}
    highest |= {"time32[s]": 86_399, "time64[ns]": 86_399_999_999_999, "timestamp[s]": 10**12}
    columns = [pa.array([n, None], storage).cast(kind) for n in (0, highest.get(str(kind), 2**63 - 1))]
    path = write_parquet(source / "a.parquet", {"text": ["a", "b"], "low": columns[0], "high": columns[1]})
    manifest = ingest(CorpusConfig(path=str(path)), CLASSES, Files(root))
    swapped = write_parquet(source / "b.parquet", {"text": ["a", "b"], "low": columns[1], "high": columns[0]})
    assert list(manifest.columns) == ["low", "high"]
    assert ingest(CorpusConfig(path=str(swapped)), CLASSES, Files(root)).key != manifest.key


def test_progress_counts_documents(source, root):
    seen: list[int] = []
    path = write_parquet(source / "a.parquet", {"text": ["a"] * 4500})
    ingest(CorpusConfig(path=str(path)), CLASSES, Files(root), progress=seen.append)
    assert seen == [2000, 4000, 4500]


@pytest.mark.parametrize("limit", [1, 2, 3, 2500, 9999])
def test_limit_takes_the_first_rows_over_files(source, root, limit):
    write_parquet(source / "a.parquet", {"text": ["a", "b"]})
    write_parquet(source / "b.parquet", {"text": [f"c{n}" for n in range(3000)]})
    rows = take(source, root, limit=limit)
    everything = ["a", "b", *(f"c{n}" for n in range(3000))]
    assert rows["text"].to_pylist() == everything[:limit]
    assert rows["doc_id"].to_pylist() == list(range(min(limit, 3002)))


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_limit_leaves_what_follows_unread(source, root, ending):
    good = "text\na\n" if ending == "csv" else '{"text": "a"}\n'
    path = source / f"a.{ending}"
    path.write_text(good + ("b\n" if ending == "csv" else '{"text": "b"}\n') * 5000 + '"broken')
    assert take(path, root, limit=1)["text"].to_pylist() == ["a"]


def test_large_corpora_have_several_parts(source, root, monkeypatch):
    monkeypatch.setattr(parts, "PART_ROWS", 5000)
    monkeypatch.setattr(parts, "GROUP_ROWS", 2000)
    path = write_parquet(source / "a.parquet", {"text": [str(n) for n in range(11_000)]})
    manifest = ingest(CorpusConfig(path=str(path)), CLASSES, Files(root))
    assert sorted(manifest.files) == ["part-00000.parquet", "part-00001.parquet"]
    assert [pq.read_metadata(part).num_rows for part in manifest.parts(root)] == [6000, 5000]
    assert source_rows(manifest, root)["doc_id"].to_pylist() == list(range(11_000))


# ---- the key, and what is there already


def test_the_key_is_of_the_content_not_of_its_storage(source, root):
    texts, labels, stars = [f"text {n}" for n in range(300)], [n % 2 for n in range(300)], list(range(300))
    rows = [{"text": t, "label": y, "stars": s} for t, y, s in zip(texts, labels, stars, strict=True)]
    whole = write_parquet(source / "a.parquet", {"text": texts, "label": labels, "stars": stars})
    pq.write_table(pq.read_table(whole), source / "groups.parquet", row_group_size=7)
    write_jsonl(source / "a.jsonl", rows)
    write_csv(
        source / "a.csv",
        "text,label,stars\n" + "".join(f"{r['text']},{r['label']},{r['stars']}\n" for r in rows),
    )
    keys = {
        ingest(
            CorpusConfig(path=str(path), label="label", types={"stars": "integer"}), CLASSES, Files(root)
        ).key
        for path in sorted(source.iterdir())
    }
    assert len(keys) == 1
    assert len(list((root / "corpora").iterdir())) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"text": ["a", "c"], "label": [0, 1], "x": [1, 2]},
        {"text": ["b", "a"], "label": [1, 0], "x": [2, 1]},
        {"text": ["a", "b"], "label": [0, None], "x": [1, 2]},
        {"text": ["a", "b"], "label": [0, 1], "x": [1, 3]},
        {"text": ["a", "b"], "label": [0, 1], "x": [1.0, 2.0]},
        {"text": ["a", "b"], "label": [0, 1], "y": [1, 2]},
        {"text": ["a", "b", ""], "label": [0, 1, None], "x": [1, 2, None]},
    ],
)
def test_any_change_of_content_changes_the_key(source, root, changed):
    same = {"text": ["a", "b"], "label": [0, 1], "x": [1, 2]}
    one = ingest(
        CorpusConfig(path=str(write_parquet(source / "a.parquet", same)), label="label"), CLASSES, Files(root)
    )
    other = ingest(
        CorpusConfig(path=str(write_parquet(source / "b.parquet", changed)), label="label"),
        CLASSES,
        Files(root),
    )
    assert one.key != other.key


def test_values_do_not_run_together_over_batches(source, root):
    keys = set()
    for pair in ([1, 23], [12, 3]):
        path = write_parquet(source / "a.parquet", {"text": ["a"] * 2001, "x": [0] * 1999 + pair})
        keys.add(ingest(CorpusConfig(path=str(path)), CLASSES, Files(root)).key)
    assert len(keys) == 2


def test_a_corpus_that_is_there_is_not_written_again(source, root):
    path = write_parquet(source / "a.parquet", {"text": ["a"]})
    first = ingest(CorpusConfig(path=str(path)), CLASSES, Files(root))
    before = {file: file.stat().st_mtime_ns for file in first.folder(root).iterdir()}
    again = ingest(CorpusConfig(path=str(source)), CLASSES, Files(root))
    assert {file: file.stat().st_mtime_ns for file in first.folder(root).iterdir()} == before
    assert again.key == first.key
    assert again.source == str(source)


@pytest.mark.parametrize("damage", ["flip", "cut", "part", "manifest", "garbled"])
def test_a_damaged_corpus_is_seen_and_replaced(source, root, damage):
    path = write_parquet(source / "a.parquet", {"text": ["a"]})
    manifest = ingest(CorpusConfig(path=str(path)), CLASSES, Files(root))
    (part,) = manifest.parts(root)
    held = part.read_bytes()
    if damage == "flip":
        part.write_bytes(bytes([held[0] ^ 1]) + held[1:])
    elif damage == "cut":
        part.write_bytes(held[:-1])
    elif damage == "part":
        part.unlink()
    elif damage == "manifest":
        (manifest.folder(root) / "manifest.json").unlink()
    else:
        (manifest.folder(root) / "manifest.json").write_text("{")
    assert verify(Files(root), manifest) is (damage in ("manifest", "garbled"))
    with pytest.raises(InputError, match=manifest.key):
        load_corpus(Files(root), manifest.key)
    assert ingest(CorpusConfig(path=str(path)), CLASSES, Files(root)) == manifest
    assert load_corpus(Files(root), manifest.key) == manifest


def test_ingests_at_the_same_time_agree(source, root):
    path = write_parquet(source / "a.parquet", {"text": [str(n) for n in range(3000)]})
    together = threading.Barrier(4)

    def run(_: int) -> CorpusManifest:
        together.wait()
        return ingest(CorpusConfig(path=str(path)), CLASSES, Files(root))

    with ThreadPoolExecutor(4) as pool:
        manifests = list(pool.map(run, range(4)))
    assert manifests == [load_corpus(Files(root), manifests[0].key)] * 4
    assert [folder.name for folder in (root / "corpora").iterdir()] == [manifests[0].key]


def test_an_unknown_key(root):
    with pytest.raises(InputError, match="not in the warehouse"):
        load_corpus(Files(root), "0" * 32)


def test_a_crash_leaves_nothing_that_counts(source, root, monkeypatch):
    path = write_parquet(source / "a.parquet", {"text": ["a"]})

    def crash(*_: object) -> None:
        raise OSError(5, "I/O error")

    monkeypatch.setattr(parts.pq.ParquetWriter, "write_table", crash)
    with pytest.raises(OSError, match="I/O error"):
        ingest(CorpusConfig(path=str(path)), CLASSES, Files(root))
    assert list((root / "corpora").iterdir()) == []


def test_what_killed_ingests_left_is_cleared_after_a_day(source, root):
    path = write_parquet(source / "a.parquet", {"text": ["a"]})
    old, young = root / "corpora" / ".ingest-old", root / "corpora" / ".ingest-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    ingest(CorpusConfig(path=str(path)), CLASSES, Files(root))
    assert young.exists()
    assert not old.exists()


# ---- formats


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_csv_with_line_breaks_quotes_and_commas(source, root, ending):
    path = write_csv(source / f"a.{ending}", 'text,label\n"one\r\ntwo, ""three""",1\n\n"x",0\n')
    if ending == "csv.gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    rows = take(path, root, label="label")
    assert rows["text"].to_pylist() == ['one\r\ntwo, "three"', "x"]
    assert rows["label"].to_pylist() == [1, 0]


def test_csv_columns_with_a_role_stay_as_written(source, root):
    path = write_csv(source / "a.csv", "id,text,label\n007,1,1\n1.10,two,0\n,,\n")
    rows = take(path, root, id="id", label="label")
    assert rows["source_id"].to_pylist() == ["007", "1.10", "2"]
    assert rows["text"].to_pylist() == ["1", "two", ""]
    assert rows["label"].to_pylist() == [1, 0, None]


def test_csv_files_need_not_agree(source, root):
    write_csv(source / "a.csv", "text,zip\na,1\n")
    write_csv(source / "b.csv", "zip,text\nB2,b\n")
    assert take(source, root)["zip"].to_pylist() == ["1", "B2"]


def test_csv_without_a_header_name_gets_one(source, root):
    assert take(write_csv(source / "a.csv", ",text\n0,a\n"), root).column_names[-1] == "column_0"


def test_gzip_and_byte_order_marks(source, root):
    (source / "a.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbftext\nsmall\n"))
    assert take(source / "a.csv.gz", root)["text"].to_pylist() == ["small"]
    (source / "a.jsonl.gz").write_bytes(gzip.compress(b'\xef\xbb\xbf{"text": "small"}\n'))
    assert take(source / "a.jsonl.gz", root)["text"].to_pylist() == ["small"]


def test_jsonl_keys_may_come_and_go_and_numbers_widen(source, root):
    rows: list[object] = [{"text": f"t{n}"} for n in range(2100)]
    rows += [{"text": "x", "n": 1, "deep": {"a": 1}}, {"n": 0.5, "text": None, "deep": {"b": ["y"]}}]
    table = take(write_jsonl(source / "a.jsonl", rows), root)
    assert table["n"].to_pylist()[-3:] == [None, 1.0, 0.5]
    assert table["deep"].to_pylist()[-2:] == [{"a": 1, "b": None}, {"a": None, "b": ["y"]}]
    assert table["text"].to_pylist()[-1] == ""


def test_jsonl_blank_lines_are_no_rows(source, root):
    path = source / "a.jsonl"
    path.write_text('{"text": "a"}\n\n  \n{"text": "b"}')
    assert take(path, root)["text"].to_pylist() == ["a", "b"]


def test_lone_surrogates_are_replaced_and_pairs_kept(source, root):
    path = source / "a.jsonl"
    path.write_text(r'{"text": "a\ud800b \ud83d\ude00 \udc00", "x": {"\ud800": ["\udfff"]}}' + "\n")
    rows = take(path, root)
    assert rows["text"].to_pylist() == ["a\ufffdb 😀 \ufffd"]
    assert rows["x"].to_pylist() == [{"\ufffd": ["\ufffd"]}]


def test_nul_is_text(source, root):
    assert take(write_jsonl(source / "a.jsonl", [{"text": "a\0b"}]), root)["text"].to_pylist() == ["a\0b"]
    assert take(write_csv(source / "a.csv", "text\na\0b\n"), root)["text"].to_pylist() == ["a\0b"]


def test_long_documents(source, root):
    text = "word " * 200_000
    assert take(write_csv(source / "a.csv", f"text\n{text}\n"), root)["text"].to_pylist() == [text]


texts = st.lists(st.text(st.characters(exclude_categories=[])), min_size=1, max_size=8)
relaxed = examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def without_surrogates(text: str) -> str:
    return "".join("\ufffd" if 0xD800 <= ord(sign) <= 0xDFFF else sign for sign in text)


@relaxed
@given(written=texts)
def test_any_text_survives_jsonl(tmp_path, written):
    # a high surrogate followed by a low one is, as JSON escapes, one character: read back what is written
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in written])
    meant = [without_surrogates(json.loads(json.dumps(text))) for text in written]
    rows = take(path, tmp_path / "warehouse")
    assert rows["text"].to_pylist() == meant
    assert rows["doc_key"].to_pylist() == [document_key(text) for text in meant]


@relaxed
@given(written=st.lists(st.text() | st.none(), min_size=1, max_size=8))
def test_any_text_survives_parquet(tmp_path, written):
    path = write_parquet(tmp_path / "a.parquet", {"text": pa.array(written, pa.string())})
    assert take(path, tmp_path / "warehouse")["text"].to_pylist() == [text or "" for text in written]


@relaxed
@given(
    written=st.lists(
        st.text(st.characters(codec="utf-8")).map(lambda text: "w" + text), min_size=1, max_size=8
    )
)
def test_any_text_survives_csv(tmp_path, written):
    quoted = ['"' + text.replace('"', '""') + '"' for text in written]
    path = write_csv(tmp_path / "a.csv", "text\n" + "\n".join(quoted))
    assert take(path, tmp_path / "warehouse")["text"].to_pylist() == written


@relaxed
@given(
    columns=st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda name: name != "text"),
        st.sampled_from([1, 2.5, "x", True, None, [1], {"a": 1}, math.nan, {}]),
        max_size=5,
    )
)
def test_any_extra_columns_come_through_to_sql(tmp_path, columns):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a", **columns}])
    manifest = ingest(CorpusConfig(path=str(path)), CLASSES, Files(tmp_path / "warehouse"))
    assert len(manifest.columns) + len(manifest.left_out) == len(columns)
    assert len({name.lower() for name in manifest.columns}) == len(manifest.columns)
    part = manifest.parts(tmp_path / "warehouse")[0]
    assert len(duckdb.sql(f"SELECT * FROM '{part}'").fetchall()[0]) == 5 + len(manifest.columns)


# ---- labels


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None, 0], pa.int8()),
        pa.array([1.0, math.nan, 0.0]),
        pa.array([True, None, False]),
        pa.array(["Positive", None, "NEGATIVE"]),
        pa.array(["LABEL_1", "", "LABEL_0"]),
        pa.array(["positive", None, "negative"]).dictionary_encode(),
    ],
)
def test_label_columns_of_any_type(source, root, column):
    path = write_parquet(source / "a.parquet", {"text": ["a", "b", "c"], "label": column})
    manifest = ingest(CorpusConfig(path=str(path), label="label"), CLASSES, Files(root))
    assert source_rows(manifest, root)["label"].to_pylist() == [1, None, 0]
    assert manifest.labelled


def test_labels_outside_are_counted_and_their_documents_kept(source, root):
    write_parquet(source / "a.parquet", {"text": ["a"] * 2500, "label": [0] * 2500})
    write_parquet(source / "b.parquet", {"text": ["a"] * 2500, "label": [0] * 2300 + [3] * 199 + [-7]})
    manifest = ingest(CorpusConfig(path=str(source), label="label"), CLASSES, Files(root))
    assert source_rows(manifest, root)["label"].to_pylist() == [0] * 4800 + [None] * 200
    [note] = manifest.notes
    assert note == (
        "200 documents have in column 'label' what is not a class of the model (negative, positive), and no label "
        f"therefore: '3' (199), '-7' (1); first in {source / 'b.parquet'}, row 2301"
    )


def test_a_label_column_of_lists(source, root):
    path = write_parquet(source / "a.parquet", {"text": ["a"], "label": [[1]]})
    assert "label column 'label' is list<" in refused(path, root, label="label")


# ---- what cannot go in


@pytest.mark.parametrize(
    ("role", "fields"), [("text", {"text": "body"}), ("label", {"label": "y"}), ("id", {"id": "key"})]
)
@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_missing_column_lists_those_there_are(source, root, ending, role, fields):
    path = source / f"a.{ending}"
    if ending == "parquet":
        write_parquet(path, {"text": ["a"], "n": [1]})
    elif ending == "csv":
        write_csv(path, "text,n\na,1\n")
    else:
        write_jsonl(path, [{"text": "a", "n": 1}])
    (name,) = fields.values()
    message = refused(path, root, **fields)
    assert message == f"{path} has no column {name!r} for corpus.{role}; it has text, n"


def test_one_of_several_files_lacks_the_column(source, root):
    write_parquet(source / "a.parquet", {"text": ["a"]})
    write_parquet(source / "b.parquet", {"body": ["a"]})
    assert refused(source, root).startswith(f"{source / 'b.parquet'} has no column 'text'")


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_numbers_are_not_text(source, root, ending):
    path = source / f"a.{ending}"
    if ending == "parquet":
        write_parquet(path, {"text": [1], "body": ["b"]})
    else:
        write_jsonl(path, [{"text": 1, "body": "b"}])
    message = refused(path, root)
    assert "column 'text' is int64, not text" in message
    assert "text columns are body" in message


def test_an_id_column_of_lists(source, root):
    path = write_parquet(source / "a.parquet", {"text": ["a"], "id": [[1]]})
    assert "column 'id' is list<" in refused(path, root, id="id")


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_no_rows(source, root, ending):
    path = source / f"a.{ending}"
    if ending == "parquet":
        write_parquet(path, {"text": pa.array([], pa.string())})
    elif ending == "csv":
        write_csv(path, "text\n")
    else:
        path.touch()
    manifest = ingest(CorpusConfig(path=str(path)), CLASSES, Files(root))
    assert (manifest.documents, manifest.labelled) == (0, False)
    assert manifest.notes == ["there are no documents: no file has a row"]
    rows = source_rows(manifest, root)
    assert (rows.num_rows, rows.column_names) == (0, ["doc_id", "source_id", "doc_key", "text", "label"])
    verify(Files(root), load_corpus(Files(root), manifest.key))


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_no_rows_of_what_the_configuration_names(source, root, ending):
    """Labels, ids, a sample by a column, rationales: none of them needs a row."""
    names = ["text", "label", "id", "topic", "marked"]
    path = source / f"a.{ending}"
    if ending == "parquet":
        kinds = [pa.string()] * 4 + [pa.list_(pa.string())]
        write_parquet(path, {name: pa.array([], kind) for name, kind in zip(names, kinds, strict=True)})
    elif ending == "csv":
        write_csv(path, ",".join(names) + "\n")
    else:
        path.touch()
    asked = {"label": "label", "id": "id", "rationale": "marked", "sample": {"documents": 5, "by": "topic"}}
    config = CorpusConfig(path=str(path), **asked)
    assert ingest(config, CLASSES, Files(root), audit="a").documents == 0
    if ending == "jsonl":  # the columns of the nights with documents are the same as ever
        row = {"text": "good", "label": "positive", "id": "1", "topic": 3, "marked": [[0, 4]]}
        write_jsonl(source / "b.jsonl", [row])
        later = ingest(
            config.model_copy(update={"path": str(source / "b.jsonl")}), CLASSES, Files(root), audit="a"
        )
        assert source_rows(later, root)["topic"].to_pylist() == [3]
        assert later.rationale == "marked"


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_file_without_rows_among_others(source, root, ending):
    if ending == "parquet":
        write_parquet(source / "a.parquet", {"text": pa.array([], pa.string())})
        write_parquet(source / "b.parquet", {"text": ["good"]})
    elif ending == "csv":
        write_csv(source / "a.csv", "text\n")
        write_csv(source / "b.csv", "text\ngood\n")
    else:
        (source / "a.jsonl").touch()
        write_jsonl(source / "b.jsonl", [{"text": "good"}])
    manifest = ingest(CorpusConfig(path=str(source)), CLASSES, Files(root))
    assert (manifest.documents, manifest.notes) == (1, [])


def test_a_table_of_images_without_rows(source, root):
    write_csv(source / "a.csv", "image,label\n")
    config = CorpusConfig(path=str(source / "a.csv"), label="label")
    assert ingest(config, CLASSES, Files(root), modality="image").documents == 0


def test_an_empty_csv(source, root):
    assert "must name the columns" in refused(write_csv(source / "a.csv", ""), root)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "csv.gz", "jsonl.gz"])
def test_not_utf8(source, root, ending):
    first = b"text\n" if ending.startswith("csv") else b'{"text": "a"}\n'
    second = b"caf\xe9\n" if ending.startswith("csv") else b'{"text": "caf\xe9"}\n'
    path = source / f"a.{ending}"
    data = first + second
    path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    message = refused(path, root)
    assert f"{path} is not UTF-8 at line 2, byte {data.index(0xE9) + 1}" in message
    assert "iconv -f latin1 -t utf-8" in message


def test_parquet_strings_that_are_not_utf8(source, root):
    raw = pa.array([b"ok", b"caf\xe9"], pa.binary())
    column = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    path = write_parquet(source / "a.parquet", {"text": column})
    assert f"{path}, row 2: column 'text' is not UTF-8" in refused(path, root)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": ', "not JSON"),
        ("[1]", "is no JSON object"),
        ("3", "is no JSON object"),
        ("[" * 100_000, "nested"),
    ],
)
def test_a_malformed_line(source, root, line, reason):
    path = source / "a.jsonl"
    path.write_text('{"text": "a"}\n\n' + line + "\n")
    message = refused(path, root)
    assert message.startswith(f"{path}, line 3: ")
    assert reason in message


def test_a_text_column_of_json_lines_is_text_throughout(source, root):
    path = write_jsonl(source / "a.jsonl", [{"text": "a"}] * 2100 + [{"text": 5}])
    assert refused(path, root) == f"{path}, row 2101: column 'text' is 5, not text: make it text"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("text,n\na,1\nb\n", 3, "1 fields, header has 2"),
        ("text\na\nb,c\n", 3, "2 fields, header has 1"),
        ('text,n\n"a\nb",1\n"x"y,2\n', 4, "not CSV"),
        ('text\na\n"open\n', 3, "not CSV"),
    ],
)
def test_malformed_csv(source, root, text, line, reason):
    path = write_csv(source / "a.csv", text)
    message = refused(path, root)
    assert message.startswith(f"{path}, line {line}: ")
    assert reason in message


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_two_columns_of_one_name(source, root, ending):
    path = source / f"a.{ending}"
    if ending == "csv":
        write_csv(path, "text,n,n\na,1,2\n")
    else:
        pq.write_table(pa.table([["a"], [1], [2]], names=["text", "n", "n"]), path)
    assert "two columns named 'n'" in refused(path, root)


def test_files_whose_types_widen_are_one_corpus(source, root):
    write_parquet(source / "a.parquet", {"text": ["a"], "n": pa.array([1], pa.int32())})
    write_parquet(source / "b.parquet", {"n": [2.5], "text": pa.array(["b"], pa.large_string()), "m": [1]})
    rows = take(source, root)
    assert rows["n"].to_pylist() == [1.0, 2.5]
    assert rows["m"].to_pylist() == [None, 1]


def test_files_whose_types_do_not_meet(source, root):
    for name, value in (("a", 1), ("b", "x")):
        write_parquet(source / f"{name}.parquet", {"text": ["a"], "n": [value]})
    message = refused(source, root)
    assert message.startswith(f"{source}/b.parquet: column 'n' is string, but int64 in the files before it")
    assert "n" not in take(source, root, columns={"without": ["n"]}).column_names
    assert take(source, root, types={"n": "text"})["n"].to_pylist() == ["1", "x"]


def test_numbers_too_large_for_the_common_type(source, root):
    write_parquet(source / "a.parquet", {"text": ["a"], "n": [2**60 + 1]})
    write_parquet(source / "b.parquet", {"text": ["a"], "n": [0.5]})
    assert "column 'n' is int64 and does not fit the double" in refused(source, root)


def test_truncated_parquet(source, root):
    path = write_parquet(source / "a.parquet", {"text": ["a"] * 1000})
    path.write_bytes(path.read_bytes()[:-20])
    assert f"{path} is truncated or damaged" in refused(path, root)


def test_parquet_damaged_inside(source, root):
    path = source / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(5000)]}), path, compression="zstd")
    data = bytearray(path.read_bytes())
    data[200:2000] = bytes(1800)
    path.write_bytes(data)
    assert f"{path} is truncated or damaged" in refused(path, root)


@pytest.mark.parametrize("ending", ["csv.gz", "jsonl.gz"])
@pytest.mark.parametrize("damage", ["cut", "plain"])
def test_damaged_gzip(source, root, ending, damage):
    data = b"text\n" + b"a\n" * 9999 if ending == "csv.gz" else b'{"text": "a"}\n' * 9999
    path = source / f"a.{ending}"
    path.write_bytes(gzip.compress(data)[:-10] if damage == "cut" else data)
    assert f"{path} is truncated or no gzip file" in refused(path, root)


# ---- which files


def test_folders_globs_and_order(source, root):
    (source / "deep").mkdir()
    (source / ".hidden").mkdir()
    write_csv(source / "b.csv", "text\nb\n")
    write_csv(source / "a.csv", "text\na\n")
    write_csv(source / "deep" / "c.csv", "text\nc\n")
    write_csv(source / ".hidden" / "x.csv", "text\nx\n")
    write_csv(source / "_SUCCESS", "")
    write_csv(source / "README.md", "about")
    assert take(source, root)["text"].to_pylist() == ["a", "b", "c"]
    assert take(source / "*.csv", root)["text"].to_pylist() == ["a", "b"]
    assert take(source / "**" / "c.csv", root)["text"].to_pylist() == ["c"]
    assert take(source / "deep" / ".." / "[ab].csv", root)["text"].to_pylist() == ["a", "b"]


def test_relative_paths_start_at_the_current_directory(source, root, monkeypatch):
    write_csv(source / "a.csv", "text\na\n")
    monkeypatch.chdir(source)
    assert take(Path("a.csv"), root)["text"].to_pylist() == ["a"]
    assert take(Path("*.csv"), root)["text"].to_pylist() == ["a"]


def test_a_file_named_like_a_glob(source, root):
    assert take(write_csv(source / "a[1].csv", "text\na\n"), root)["text"].to_pylist() == ["a"]


def test_extensions_in_capitals(source, root):
    assert take(write_csv(source / "A.CSV", "text\na\n"), root)["text"].to_pylist() == ["a"]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("none.csv", "no such file or folder"),
        ("*.csv", "matches no file"),
        ("empty", "has no .parquet, .csv"),
        ("a.txt", "is .txt; known are .parquet, .csv"),
        ("a.json", "jq -c '.[]'"),
        ("a", "is without extension; known are"),
        ("a.*", "file in it; it has 1 .json (a.json), 1 .txt (a.txt): one JSON object per line"),
        ("s4://bucket/a.csv", "corpus.path s4://bucket/a.csv: Protocol not known: s4"),
        ("~nobody-of-this-name/a.csv", "write the path out"),
    ],
)
def test_paths_to_nothing_usable(source, root, name, answer):
    (source / "empty").mkdir()
    for file in ("a.txt", "a.json", "a"):
        (source / file).touch()
    assert answer in refused(name if name.startswith(("s4:", "~")) else source / name, root)


def test_one_kind_of_file_at_a_time(source, root):
    write_csv(source / "a.csv", "text\na\n")
    write_jsonl(source / "a.jsonl", [{"text": "a"}])
    assert "has CSV and JSONL files: name one kind" in refused(source, root)


def test_no_permission(source, root, monkeypatch):
    path = write_jsonl(source / "a.jsonl", [{"text": "a"}])

    def deny(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(lines, "open_binary", deny)
    assert f"{path} is not readable: permission denied" in refused(path, root)


def test_passing_errors_pass(source, root, monkeypatch):
    path = write_jsonl(source / "a.jsonl", [{"text": "a"}])

    def fail(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(lines, "open_binary", fail)
    with pytest.raises(OSError, match="Input/output error"):
        ingest(CorpusConfig(path=str(path)), CLASSES, Files(root))


@pytest.mark.parametrize("packed", ["", ".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "ndjson"])
def test_endings_that_are_read(source, root, kind, packed):
    text = {
        "csv": 'text,n\n"one, two",1\n',
        "tsv": "text\tn\none, two\t1\n",
    }.get(kind, '{"text": "one, two", "n": 1}\n')
    pack = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
    }.get(packed, bytes)
    path = source / f"a.{kind}{packed}"
    path.write_bytes(pack(text.encode()))
    assert take(source, root)["text"].to_pylist() == ["one, two"]
    if packed:
        path.write_bytes(pack(text.encode())[:-6])
        assert f"{path} is truncated or" in refused(source, root.with_name("other"))


def test_what_is_left_out_is_counted_and_named(source, root):
    for name in ("a.csv", "b.xlsx", "c.json", "_SUCCESS", ".git/x.csv", "d.csv.crdownload"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("text\na\n")
    (source / "e.csv").symlink_to("none")
    os.mkfifo(source / "f.csv")
    expected = {
        "hidden": [".git/", "_SUCCESS"],
        ".crdownload": ["d.csv.crdownload"],
        ".json": ["c.json"],
        ".xlsx": ["b.xlsx"],
        "link to nothing": ["e.csv"],
        "neither file nor folder": ["f.csv"],
    }
    for place in (source, source / "*"):
        manifest = ingest(CorpusConfig(path=str(place)), CLASSES, Files(root))
        assert manifest.documents == 1
        hidden = expected["hidden"] if place is source else ["_SUCCESS"]
        assert {kind: found["first"] for kind, found in manifest.files_left_out.items()} == {
            **expected,
            "hidden": hidden,
        }
        assert load_corpus(Files(root), manifest.key).documents == 1


def test_what_is_left_out_changes_the_fingerprint(source):
    """Else the run would say what was left out on the night before."""
    write_csv(source / "a.csv", "text\na\n")
    before = fingerprint(CorpusConfig(path=str(source)))
    (source / "b.xlsx").touch()
    assert fingerprint(CorpusConfig(path=str(source))) != before


# ---- fingerprint


def test_the_fingerprint_follows_the_files(source):
    path = write_csv(source / "a.csv", "text\na\n")
    seen = {fingerprint(CorpusConfig(path=str(path)))}
    assert fingerprint(CorpusConfig(path=str(path))) in seen
    os.utime(path, ns=(0, 1))
    assert fingerprint(CorpusConfig(path=str(path))) in seen, "only touched"
    write_csv(path, "text\nb\n")
    os.utime(path, ns=(0, 1))
    seen.add(fingerprint(CorpusConfig(path=str(path))))
    path.rename(source / "b.csv")
    seen.add(fingerprint(CorpusConfig(path=str(source / "b.csv"))))
    assert len(seen) == 3


def test_the_fingerprint_holds_every_field(source):
    path = str(write_csv(source / "a.csv", "text\na\n"))
    corpora = [
        CorpusConfig(path=path),
        CorpusConfig(path=path, text="t"),
        CorpusConfig(path=path, label="l"),
        CorpusConfig(path=path, id="i"),
        CorpusConfig(path=path, limit=1),
        CorpusConfig(path=path, sample=1),
        CorpusConfig(path=path, sample={"documents": 1, "by": "label"}),
        CorpusConfig(dataset=str(source)),
        CorpusConfig(dataset=str(source), split="test"),
        CorpusConfig(dataset=str(source), config="c"),
        CorpusConfig(dataset=str(source), revision="r"),
    ]
    assert len({fingerprint(corpus) for corpus in corpora}) == len(corpora)


def test_the_fingerprint_of_nothing(source):
    with pytest.raises(InputError, match="no such file"):
        fingerprint(CorpusConfig(path=str(source / "none.csv")))


# ---- the real ones


@pytest.mark.shared
@pytest.mark.skipif("CALIG_SHARED" not in os.environ, reason="needs $CALIG_SHARED")
def test_a_real_corpus(root):
    path = Path(os.environ["CALIG_SHARED"]) / "corpora" / "toxic_spans-test.parquet"
    original = pq.read_table(path)
    rows = take(path, root, ["civil", "toxic"], label="label", id="id")
    assert rows["text"].to_pylist() == original["text"].to_pylist()
    assert rows["label"].to_pylist() == original["label"].to_pylist()
    assert rows["source_id"].to_pylist() == original["id"].to_pylist()
    assert rows["rationale"].to_pylist() == original["rationale"].to_pylist()
