"""Whatever a table holds, its rows are documents in their order, or one line says what is wrong."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from calig.config import CorpusConfig
from calig.corpus import CorpusManifest, ingest
from calig.errors import InputError
from calig.files import Files
from tests.material.fuzz import examples
from tests.material.parts import source_rows

CLASSES = ["negative", "positive"]
relaxed = examples(120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.one_of(
    *(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), texts),
    st.sampled_from(["", "0", "1", "positive", "NaN", "a\nb", '"', "</script>", "\x1b[31m", "‮abc"]),
)
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(texts, scalars, max_size=2)
odd_rows = st.lists(
    st.fixed_dictionaries(
        {"text": texts | values}, optional={"label": values, "id": values, "more": values, "Doc_ID": values}
    ),
    max_size=6,
)


def taken(path: Path, root: Path, **columns: str) -> CorpusManifest | None:
    """What was brought in, or None where one clear line refused it; nothing else is raised."""
    try:
        return ingest(CorpusConfig(path=str(path), **columns), CLASSES, Files(root))
    except InputError as error:
        message = str(error)
    assert len(message.splitlines()) == 1, message
    assert path.name in message or "corpus." in message or "column" in message, message
    return None


def rows_of(manifest: CorpusManifest, root: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = source_rows(manifest, root).to_pydict()
    return found


def check(path: Path, count: int, **columns: str) -> dict[str, list[Any]] | None:
    """Bring a file in twice, into two warehouses: the same rows in the same order, under the same key."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        manifest = taken(path, Path(one), **columns)
        again = taken(path, Path(two), **columns)
        assert (manifest is None) == (again is None)
        if manifest is None or again is None:
            return None
        assert manifest.key == again.key
        rows = rows_of(manifest, Path(one))
        assert manifest.documents == len(rows["doc_id"]) == count
        assert rows["doc_id"] == list(range(count))
        assert all(isinstance(text, str) for text in rows["text"])
        assert repr(rows) == repr(rows_of(again, Path(two)))
        return rows


@relaxed
@given(rows=odd_rows, roles=st.sets(st.sampled_from(["label", "id"])))
@example(rows=[{"text": None, "label": None}, {"text": "a", "label": "1"}], roles={"label"})
@example(rows=[{"text": "a", "id": 1e300}, {"text": "b", "id": True}], roles={"id"})
def test_any_json_lines(tmp_path: Path, rows: list[dict[str, Any]], roles: set[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = check(path, len(rows), **{role: role for role in roles})
    if found is not None:
        assert found["text"] == [row["text"] or "" for row in rows]
        if "id" in roles:
            given_ids = [row.get("id") for row in rows]
            assert all(
                own == str(number) if wanted is None else own
                for number, (own, wanted) in enumerate(zip(found["source_id"], given_ids, strict=True))
            )


def columns_of(rows: Sequence[dict[str, Any]]) -> pa.Table | None:
    try:
        return pa.table({name: [row.get(name) for row in rows] for name in ("text", "label", "id", "more")})
    except (pa.ArrowException, OverflowError):
        return None


@relaxed
@given(rows=odd_rows.filter(bool), roles=st.sets(st.sampled_from(["label", "id"])))
def test_any_parquet(tmp_path: Path, rows: list[dict[str, Any]], roles: set[str]) -> None:
    table = columns_of(rows)
    if table is None:
        return
    path = tmp_path / "a.parquet"
    try:
        pq.write_table(table, path)
    except pa.ArrowException:
        return
    check(path, len(rows), **{role: role for role in roles})


@relaxed
@given(
    lines=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=25), max_size=6),
    header=st.sampled_from(["text", "text,label", "text,id,more", '"text"', "﻿text"]),
    roles=st.sets(st.sampled_from(["label", "id"])),
)
def test_any_csv(tmp_path: Path, lines: list[str], header: str, roles: set[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join([header, *lines]), encoding="utf-8", newline="")
    with tempfile.TemporaryDirectory() as root:
        manifest = taken(path, Path(root), **{role: role for role in roles if role in header})
        if manifest is not None:
            assert rows_of(manifest, Path(root))["doc_id"] == list(range(manifest.documents))


@relaxed
@given(content=st.binary(max_size=200), name=st.sampled_from(["a.jsonl", "a.csv", "a.parquet", "a.csv.gz"]))
def test_any_bytes(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with tempfile.TemporaryDirectory() as root:
        taken(path, Path(root))


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz", "a.csv.gz"])
def test_any_flipped_byte(tmp_path: Path, name: str) -> None:
    """Of a good file, at a hundred places: rows, whichever, or one line."""
    import gzip
    import random

    rows = [{"text": f"text {n}", "label": n % 2} for n in range(50)]
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name == "a.jsonl.gz":
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    else:
        content = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows)
        path.write_bytes(gzip.compress(content.encode()))
    whole = path.read_bytes()
    rng = random.Random(0)
    for place in rng.sample(range(len(whole)), min(100, len(whole))):
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with tempfile.TemporaryDirectory() as root:
            taken(path, Path(root), label="label")
