"""The table `watched`: worked by hand on a few documents, and derived a second way on many."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calig.files import write_json
from calig.records import Attribution, Failure, document_key
from calig.warehouse import watched
from calig.warehouse.aggregate import aggregate, rebuild
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import query
from calig.warehouse.questions import question
from calig.warehouse.shards import write_shard
from tests.material.derived_tables import Expected, Explained, interval
from tests.material.tiers import few
from tests.material.warehouses import CLASSES, make_attribution, make_warehouse


def watch(root: Path, run_id: str, lists: dict[str, list[str]]) -> None:
    """Write watch lists into a run's configuration."""
    path = root / "runs" / run_id / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["config"]["watch"] = lists
    write_json(path, manifest)


def rows(
    root: Path, run: str = "latest", sql: str = "FROM watched"
) -> dict[tuple[str, str, str], dict[str, Any]]:
    answer = query(Warehouse.open(root), sql, run)
    found = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    index = {(row["list"], row["term"], row["class"]): row for row in found}
    assert len(index) == len(found)
    return index


@dataclass(frozen=True)
class Doc:
    """A document, or pair, with its tokens as (text's number, the token's span, its effect in logits)."""

    texts: tuple[str, ...]
    tokens: Sequence[tuple[int, int, int, float]]
    target: int = 1

    @property
    def key(self) -> str:
        return document_key(self.texts[0], pair=self.texts[1] if len(self.texts) > 1 else None)

    def attribution(self) -> Attribution:
        """Of a model of one block: the effects are those at depth 0. [CLS] has an effect of 100."""
        base = make_attribution("x", 2, 0)
        count = len(self.tokens) + 1
        spans = np.array([(0, 0), *((start, end) for _, start, end, _ in self.tokens)], np.int32)
        special = np.arange(count) == 0
        effects = np.array([100.0, *(effect for *_, effect in self.tokens)], np.float32)
        return replace(
            base,
            key=self.key,
            tokens=["[CLS]", *(self.texts[n][start:end] for n, start, end, _ in self.tokens)],
            word_ids=np.arange(-1, count - 1, dtype=np.int32),
            char_spans=spans,
            segments=np.array([-1, *(n for n, *_ in self.tokens)], np.int32),
            is_special=special,
            layer_ig=np.stack([effects, effects]),
            context=np.zeros((1, count), np.float32),
            relevance=np.zeros((1, count), np.float32),
            scores=np.zeros(count, np.float32),
            target=self.target,
            predicted=self.target,
        )


def make_run(
    root: Path, documents: Sequence[Doc], lists: dict[str, list[str]], failed: Sequence[str] = ()
) -> None:
    """Write a run over these documents, and texts that failed, and aggregate it."""
    run_id = make_warehouse(root, documents=3, depths=2, shards=1)
    warehouse = Warehouse.open(root)
    texts = [*(document.texts for document in documents), *((text,) for text in failed)]
    keys = [*(document.key for document in documents), *(document_key(text) for text in failed)]
    numbers = pa.array(range(len(texts)), pa.int64())
    pairs = {"text_pair": [own[1] for own in texts]} if len(texts[0]) > 1 else {}
    own = {"doc_id": numbers, "source_id": list(map(str, range(len(texts)))), "doc_key": keys}
    for path in warehouse.corpus("corpus-3-0").glob("part-*"):
        path.unlink()
    pq.write_table(
        pa.table({**own, "text": [text[0] for text in texts], **pairs}),
        warehouse.corpus("corpus-3-0") / "part-0.parquet",
    )
    labels = pa.nulls(len(texts), pa.int32())
    pq.write_table(
        pa.table({"run_id": [run_id] * len(texts), **own, "label": labels}),
        warehouse.run(run_id) / "documents.parquet",
    )
    items: list[Attribution | Failure] = [document.attribution() for document in documents]
    items += [Failure(document_key(text), "non_finite", "no") for text in failed]
    write_shard(warehouse.files, warehouse.attributions("attribution-3-2-0"), items, seconds=1.0)
    watch(root, run_id, lists)
    aggregate(warehouse, run_id)


def words(text: str, *effects: float, target: int = 1) -> Doc:
    """A document whose tokens are its words."""
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    return Doc((text,), [(0, *span, effect) for span, effect in zip(spans, effects, strict=True)], target)


def test_worked_by_hand(tmp_path: Path) -> None:
    documents = [
        words("In New  York City now", 0.5, 1.0, -3.0, 2.0, 0.5),  # Σ|effect| 7
        words("old York and YORK", 1.0, 2.0, 0.0, -1.0),  # 4
        words("nothing here", 1.0, -1.0),  # 2
        words("york", -2.0, target=0),  # 2
    ]
    lists = {"cities": ["york", "new york", "new york city", "paris"], "odd": ["here"]}
    make_run(tmp_path, documents, lists, failed=["York york"])
    found = rows(tmp_path)
    assert list(found)[:3] == [("cities", "*", "*"), ("cities", "*", "negative"), ("cities", "*", "positive")]
    assert {key[2] for key in found} == {"*", "positive", "negative"}
    assert len(found) == (4 + 1 + 1 + 1) * 3

    def numbers(*key: str) -> tuple[Any, ...]:
        row = found[key]  # type: ignore[index]
        names = ("documents", "occurrences", "document_share", "share", "effect")
        return tuple(row[name] for name in names)

    # york: -3 in the first document, 2 and -1 in the second, of 13 logits in the class; -2 of 2 in the other class
    assert numbers("cities", "york", "positive") == pytest.approx((2, 3, 2 / 3, 6 / 13, (-3 + 1) / 2))
    assert numbers("cities", "york", "negative") == pytest.approx((1, 1, 1, 1, -2))
    assert numbers("cities", "york", "*") == pytest.approx((3, 4, 3 / 4, 8 / 15, (-3 + 1 - 2) / 3))
    assert numbers("cities", "new york", "positive") == pytest.approx((1, 1, 1 / 3, 4 / 13, -2))
    assert numbers("cities", "new york city", "positive") == pytest.approx((1, 1, 1 / 3, 6 / 13, 0))
    # of the list, New, York and City count once in the first document
    assert numbers("cities", "*", "positive") == pytest.approx((2, 5, 2 / 3, 9 / 13, (0 + 1) / 2))
    assert numbers("cities", "*", "*") == pytest.approx((3, 6, 3 / 4, 11 / 15, (0 + 1 - 2) / 3))
    assert numbers("cities", "paris", "*") == (0, 0, 0, 0, None)
    assert numbers("odd", "*", "*") == numbers("odd", "here", "*") == pytest.approx((1, 1, 1 / 4, 1 / 15, -1))
    assert all(row["effect_low"] is None for row in found.values())


def test_a_term_is_what_its_tokens_say_whole_or_in_part(tmp_path: Path) -> None:
    """Sub-words, a token over the blank before a word, and one over more than the term."""
    text = "by TT-4711, ok"
    tokens = [
        (0, 0, 2, 1.0),
        (0, 2, 5, 0.25),
        (0, 5, 8, 0.5),
        (0, 8, 11, -4.0),
        (0, 11, 14, 2.0),
    ]  # by| TT|-47|11,| ok
    make_run(tmp_path, [Doc((text,), tokens)], {"ids": ["tt-4711"]})
    row = rows(tmp_path)["ids", "tt-4711", "*"]
    assert (row["occurrences"], row["effect"]) == (1, -3.25)
    assert row["share"] == pytest.approx(4.75 / 7.75)


def test_each_text_of_a_pair_is_looked_at(tmp_path: Path) -> None:
    first = Doc(("bad acme", "acme bad bad"), [(0, 4, 8, 1.0), (1, 0, 4, 10.0), (1, 5, 8, 5.0)])
    second = Doc(("none", ""), [(0, 0, 4, 4.0)])
    make_run(tmp_path, [first, second], {"brands": ["acme"]})
    row = rows(tmp_path)["brands", "acme", "*"]
    assert (row["documents"], row["occurrences"], row["effect"], row["share"]) == (1, 2, 11.0, 11 / 20)


def test_what_the_model_did_not_read_does_not_count(tmp_path: Path) -> None:
    cut = Doc(("acme and acme",), [(0, 0, 4, 1.0), (0, 5, 8, 1.0)])
    unread = Doc(("one two acme",), [(0, 0, 3, 1.0)])
    make_run(tmp_path, [cut, unread], {"brands": ["acme"]})
    row = rows(tmp_path)["brands", "acme", "*"]
    assert (row["documents"], row["occurrences"], row["document_share"]) == (1, 1, 0.5)


LISTS = {
    "praise": ["great", "SUPERB", "great superb", "film was", "was"],
    "scripts": ["한국", "naïve", "🎬", "ünder", "unbelievable"],
    "none": ["absent", "un"],
}


def places(document: Explained, term: str) -> list[tuple[int, int]]:
    """First and last word of every place of the term: the synthetic texts are words with single blanks between."""
    spelt, wanted = [word.lower() for word in document.text.split(" ")], term.lower().split(" ")
    ends = range(len(wanted), len(spelt) + 1)
    return [(end - len(wanted), end) for end in ends if spelt[end - len(wanted) : end] == wanted]


def derived(expected: Expected) -> dict[tuple[str, str, str], dict[str, Any]]:
    found = {}
    for name, terms in LISTS.items():
        for term in (*terms, "*"):
            own = terms if term == "*" else [term]
            for label in ("*", *CLASSES):
                chosen = [d for d in expected.counted if label in ("*", d.target)]
                effects, gross, total, occurrences = [], 0.0, 0.0, 0
                for d in chosen:
                    total += sum(abs(e) for e, w in zip(d.effects, d.a.word_ids, strict=True) if w >= 0)
                    spans = {span for one in own for span in places(d, one)}
                    held = [
                        effect
                        for effect, word in zip(d.effects, d.a.word_ids, strict=True)
                        if any(start <= word < end for start, end in spans)
                    ]
                    occurrences += len(spans)
                    gross += sum(map(abs, held))
                    effects += [sum(held)] if spans else []
                low, high = interval(effects) if len(effects) > 4 else (None, None)
                found[name, term, label] = {
                    "documents": len(effects),
                    "occurrences": occurrences,
                    "document_share": len(effects) / len(chosen),
                    "share": gross / total,
                    "effect": statistics.fmean(effects) if effects else None,
                    "effect_low": low,
                    "effect_high": high,
                }
    return found


@pytest.mark.parametrize("held", few([7, 1024], [7], "the same with all that is held at once"))
def test_derived_a_second_way(held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of documents read at once; a later list is another run's; rebuilt, it is the same."""
    monkeypatch.setattr(watched, "DOCUMENTS", held)
    root = tmp_path / "it's [a] house"
    watch(root, make_warehouse(root, documents=120), LISTS)
    watch(root, make_warehouse(root, documents=20, seed=1), {"other": ["great", "film"]})
    warehouse = Warehouse.open(root)
    for run_id in ("run-0", "run-1"):
        aggregate(warehouse, run_id)
    found, wanted = rows(root, "run-0"), derived(Expected(120, 4, 0))
    assert set(found) == set(wanted)
    for key, row in wanted.items():
        for name, value in row.items():
            close = value if value is None else pytest.approx(value, rel=1e-6, abs=1e-9)
            assert found[key][name] == close, (key, name)
    assert any(row["effect_low"] is not None for row in found.values())
    assert {key[:2] for key in rows(root, "run-1")} == {("other", term) for term in ("*", "great", "film")}
    aggregate(warehouse, "run-0")
    once_more = [rows(root, "all", "SELECT * FROM watched WHERE run_id = 'run-0'")]
    rebuild(warehouse)
    once_more.append(rows(root, "all", "SELECT * FROM watched WHERE run_id = 'run-0'"))
    for again in once_more:
        assert set(again) == set(found)
        for key, row in found.items():
            for name, value in row.items():  # the same but for the order in which threads add up
                number = isinstance(value, float)
                assert again[key][name] == (pytest.approx(value, rel=1e-12) if number else value), (key, name)


def test_the_bundled_question_has_the_whole_lists_first(tmp_path: Path) -> None:
    watch(tmp_path, make_warehouse(tmp_path, documents=60), LISTS)
    aggregate(Warehouse.open(tmp_path), "run-0")
    found = list(rows(tmp_path, sql=question("watched").sql))
    assert len(found) == len(rows(tmp_path))
    assert found[0][1:] == ("*", "*")


def test_without_lists_there_is_nothing(tmp_path: Path) -> None:
    aggregate(Warehouse.open(tmp_path), make_warehouse(tmp_path, documents=20))
    assert rows(tmp_path) == {}
