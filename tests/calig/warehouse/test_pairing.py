"""Documents of two runs in pairs: what is said of them is true in every mixture."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from calig.comparison.layers import MEASURES, SUMS
from calig.warehouse.pairing import Pairing

CLASSES = ("negative", "positive")


@dataclass(frozen=True)
class Doc:
    """A document: what it holds, what its corpus calls it, and the class that is predicted and explained."""

    content: str
    id: str | None
    predicted: str
    exact: bool = True


def pairing_of(connection: duckdb.DuckDBPyConnection, a: list[Doc], b: list[Doc]) -> Pairing:
    """The two runs as `pairing` lays them out; an id that a run has twice names no document."""
    for side, own in (("a", a), ("b", b)):
        count, times = len(own), Counter(doc.id for doc in own)
        numbers = np.arange(count, dtype=np.float64)
        called = [None if doc.id is None or times[doc.id] > 1 else doc.id for doc in own]
        columns = {
            "doc_id": np.arange(count),
            "doc_key": pa.array([doc.content for doc in own], pa.string()),
            "content": pa.array([doc.content for doc in own], pa.string()),
            "id": pa.array(called, pa.string()),
            **{
                name: pa.array([doc.predicted for doc in own], pa.string())
                for name in ("target", "predicted")
            },
            **dict.fromkeys(
                ("correct", "probability", "logit", "label_value", "completeness_error", "settling_depth"),
                numbers,
            ),
            "in_statistics": np.array([doc.exact for doc in own], dtype=np.bool_),
            "labels": pa.array([["x"]] * count, pa.list_(pa.string())),
            "confidence": numbers,
        }
        items = {
            "doc_id": np.arange(count),
            "word": pa.array(["w"] * count, pa.string()),
            "effect": numbers + 1,
        }
        depths = {
            "doc_id": np.arange(count),
            "depth": np.zeros(count, int),
            **dict.fromkeys((*MEASURES, *SUMS), numbers),
        }
        for kind, table in (("documents", columns), ("items", items), ("depths", depths)):
            connection.register("taken", pa.table(table))
            extra = ", false AS within" if kind == "items" else ""
            connection.execute(f"CREATE TEMP TABLE {side}_{kind} AS SELECT *{extra} FROM taken")
            connection.unregister("taken")
    contents = [sorted(doc.content for doc in own) for own in (a, b)]
    found = Pairing(connection, contents[0] == contents[1])
    found.settle()
    return found


def mixture(rng: np.random.Generator) -> tuple[list[Doc], list[Doc]]:
    """Two runs, of which any part is the same, edited, copied, called alike or not at all; one may be empty."""
    pool = [f"text {number}" for number in range(int(rng.integers(1, 8)))]
    names = [None, *(f"id {number}" for number in range(int(rng.integers(0, 10))))]

    def docs(count: int) -> list[Doc]:
        return [
            Doc(*(str(rng.choice(pool)), names[rng.integers(len(names))], CLASSES[rng.integers(2)]))
            for _ in range(count)
        ]

    a = docs(int(rng.integers(0, 12)))
    kind = rng.integers(4)
    if kind == 0:
        return a, docs(int(rng.integers(0, 12)))
    b = [Doc(doc.content, doc.id, CLASSES[rng.integers(2)]) for doc in a]
    if kind > 1:
        b = [Doc(doc.content + "!" * int(rng.random() < 0.3), doc.id, doc.predicted) for doc in b]
    if kind > 2:
        b = [doc for doc in b if rng.random() < 0.7] + docs(3)
    return a, [b[place] for place in rng.permutation(len(b))]


def test_documents_outside_the_tolerance_are_in_no_words_and_layers() -> None:
    """Of pairs both must be within; of two samples each counts for itself. Predictions are those of all."""
    a = [Doc(f"text {n}", None, "negative", exact=n > 0) for n in range(5)]
    b = [Doc(f"text {n}", None, "negative", exact=n > 1) for n in range(5)]
    for other, inexact, counted in ((b, 2, (3, 3)), ([*b, Doc("text 9", None, "negative")], 3, (4, 4))):
        with duckdb.connect(config={"threads": 1}) as connection:
            pair = pairing_of(connection, a, other)
            assert pair.inexact() == inexact
            assert tuple(len(pair.depths(side, 1)[0]) for side in "ab") == counted
            words = pair.words(1)
            assert (words["of_a"][0], words["of_b"][0]) == counted
            assert (pair.count("a"), pair.count("b"), pair.shared()) == (5, len(other), 5)
            assert len(pair.documents("a")["predicted"]) == 5


@pytest.mark.parametrize("seed", range(60))
def test_what_is_said_of_pairs_is_true_in_every_mixture(seed: int) -> None:
    a, b = mixture(np.random.default_rng(seed))
    with duckdb.connect(config={"threads": 1}) as connection:
        pair = pairing_of(connection, a, b)
        table = pair.pairs()
        shared, edited, left_out = pair.shared(), pair.text_changed(), pair.left_out()
        counts = pair.count("a"), pair.count("b")
    rows = list(zip(*(table[name] for name in ("doc_id_a", "doc_id_b", "text_changed")), strict=True))
    for side in (0, 1):
        used = [row[side] for row in rows]
        assert len(used) == len(set(used))  # no document is in two pairs
    same = [(a[i], b[j]) for i, j, text in rows if not text]
    changed = [(a[i], b[j]) for i, j, text in rows if text]
    assert (len(same), len(changed), counts) == (shared, edited, (len(a), len(b)))
    assert all(one.content == other.content for one, other in same)
    contents = [Counter(doc.content for doc in own) for own in (a, b)]
    assert shared == (contents[0] & contents[1]).total()  # as many as there can be
    ids = [Counter(doc.id for doc in own) for own in (a, b)]
    for one, other in changed:
        assert one.id == other.id is not None
        assert one.content != other.content
        assert ids[0][one.id] == ids[1][one.id] == 1
    free = [
        {doc.id for place, doc in enumerate(own) if place not in {row[side] for row in rows}}
        for side, own in enumerate((a, b))
    ]
    assert not [own for own in free[0] & free[1] if own is not None and ids[0][own] == ids[1][own] == 1]
    once = {own for own in ids[0] if own is not None and ids[0][own] == ids[1].get(own) == 1}
    held = [{doc.id: doc for doc in own} for own in (a, b)]
    for own in once:  # of copies, those of one id are one pair
        if held[0][own].content == held[1][own].content:
            assert (held[0][own], held[1][own]) in same
    assert left_out == sum(one.predicted != other.predicted for one, other in same)
    for place, (i, j, text) in enumerate(rows):
        comparable = a[i].predicted == b[j].predicted
        assert bool(table["flipped"][place]) == (not comparable)
        assert table["logit_b"][place] == pytest.approx(j if comparable else np.nan, nan_ok=True)
        expected = j - i if comparable and not text else np.nan
        assert table["word_change"][place] == pytest.approx(expected, nan_ok=True)
