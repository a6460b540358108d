"""A sample holds the same rows whatever their order, files or shards, and is what sorting all rows would give."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calig.config import CorpusConfig
from calig.config.schema import SampleConfig
from calig.corpus import ingest
from calig.corpus.sample import draw, pick
from calig.corpus.source import Batch
from calig.errors import InputError
from calig.files import Files
from calig.records import document_key
from tests.material.parts import source_rows

Row = dict[str, Any]
ROWS: list[Row] = [
    {"text": f"text {i}", "kind": "common" if i < 900 else "rare" if i < 990 else "rarest", "n": i}
    for i in range(1000)
]


def bring(rows: Sequence[Row], folder: Path, files: int = 1, **fields: Any) -> list[Row]:
    """The rows of the parts, of a corpus in so many files."""
    folder.mkdir()
    for number in range(files):
        pq.write_table(pa.Table.from_pylist(rows[number::files]), folder / f"{number}.parquet")
    manifest = ingest(CorpusConfig(path=str(folder), **fields), ("a", "b"), Files(folder.parent / "w"))
    found: list[Row] = source_rows(manifest, folder.parent / "w").to_pylist()
    assert manifest.rows == len(rows)
    assert [row["doc_id"] for row in found] == list(range(len(found)))
    return found


def numbers(rows: Sequence[Row]) -> list[int]:
    return sorted(row["n"] for row in rows)


@pytest.mark.parametrize("sample", [50, {"documents": 50, "by": "kind"}, {"documents": 50, "by": "n"}])
def test_the_same_rows_in_any_order_and_files(tmp_path: Path, sample: Any) -> None:
    shuffled = random.Random(1).sample(ROWS, len(ROWS))
    one = bring(ROWS, tmp_path / "one", sample=sample)
    assert len(one) == 50
    assert numbers(bring(shuffled, tmp_path / "other", files=7, sample=sample)) == numbers(one)
    assert max(numbers(one)) > 100, "not the first rows"


def test_rows_keep_their_numbers_as_ids(tmp_path: Path) -> None:
    rows = bring(ROWS, tmp_path / "in", sample=20)
    assert [row["source_id"] for row in rows] == [str(n) for n in numbers(rows)]


def test_by_a_column_values_share_the_sample_evenly(tmp_path: Path) -> None:
    kinds = Counter(
        row["kind"] for row in bring(ROWS, tmp_path / "in", sample={"documents": 100, "by": "kind"})
    )
    assert kinds == {"common": 45, "rare": 45, "rarest": 10}
    days = tmp_path / "days"
    for day in (1, 2):
        (days / f"dt={day}").mkdir(parents=True)
        pq.write_table(
            pa.table({"text": [f"{day} {i}" for i in range(50)]}), days / f"dt={day}" / "a.parquet"
        )
    corpus = CorpusConfig(path=str(days), sample={"documents": 10, "by": "dt"})
    manifest = ingest(corpus, ("a", "b"), Files(tmp_path / "w"))
    dates = source_rows(manifest, tmp_path / "w")["dt"].to_pylist()
    assert [str(day) for day in dates] == ["1"] * 5 + ["2"] * 5


def test_more_than_there_is_is_all(tmp_path: Path) -> None:
    assert len(bring(ROWS[:10], tmp_path / "in", sample=11)) == 10


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no column 'day' for corpus\.sample\.by; it has text, kind, n"):
        bring(ROWS[:10], tmp_path / "in", sample={"documents": 1, "by": "day"})


def test_errors_name_the_row_of_the_file(tmp_path: Path) -> None:
    rows = [{**row, "count": "none of them"} for row in ROWS]
    with pytest.raises(InputError) as caught:
        bring(rows, tmp_path / "in", sample=1, types={"count": "integer"})
    [first] = bring(ROWS, tmp_path / "good", sample=1)
    assert f"0.parquet, row {first['n'] + 1}:" in str(caught.value)


def batches(rows: Sequence[tuple[str, str, int]], sizes: Iterator[int]) -> Iterator[Batch]:
    first = 0
    while first < len(rows):
        own = rows[first : first + next(sizes)]
        columns = [list(column) for column in zip(*own, strict=True)]
        yield Batch(pa.table(dict(zip(("text", "by", "n"), columns, strict=True))), "file", first + 1)
        first += len(own)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([f"t{i}" for i in range(40)]), st.sampled_from("abcd"), st.integers(0, 2))
    ),
    st.integers(1, 60),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_it_is_what_sorting_all_rows_gives(
    rows: list[tuple[str, str, int]], documents: int, stratified: bool, rng: random.Random
) -> None:
    """Derived from all rows at once, and drawn in any order and batches, dropping what is out at every chance."""

    def place(row: tuple[str, str, int]) -> tuple[bytes, str]:
        key = hashlib.sha256(f"sample {document_key(row[0])}".encode()).digest()[:16]
        return key, f'[{{"by": "{row[1]}", "n": {row[2]}}}]'

    strata: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        strata[row[1] if stratified else ""].append(row)
    ranked = [
        (rank, place(row), row) for own in strata.values() for rank, row in enumerate(sorted(own, key=place))
    ]
    expected = sorted(row for _, _, row in sorted(ranked)[:documents])

    shuffled = rng.sample(rows, len(rows))
    sample = SampleConfig(documents=documents, by="by" if stratified else None)

    def keys(batch: Batch) -> list[str]:
        return [document_key(text) for text in batch.table["text"].to_pylist()]

    sizes = [rng.randint(1, 9) for _ in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calig.corpus.sample.SPARE", 0)
        drawn = draw(batches(shuffled, iter(sizes)), sample, keys, ["text"])
    assert drawn.rows == len(rows)
    picked = list(pick(batches(shuffled, iter(sizes)), drawn.chosen))
    found = [
        tuple(row.values())
        for batch, _ in picked
        for row in batch.table.select(["text", "by", "n"]).to_pylist()
    ]
    assert sorted(found) == expected
    assert [
        number for batch, first in picked for number in range(first, first + batch.table.num_rows)
    ] == list(drawn.chosen)
    assert all(batch.row == first + 1 for batch, first in picked)
