"""Words in the warehouse: tokens that hold two words, runs of before words were found in the text, and segmenters."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calig.errors import InputError
from calig.warehouse import words
from calig.warehouse.aggregate import aggregate, rebuild
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_run
from calig.warehouse.runs import read_run
from calig.warehouse.views import run_files
from calig.words import boundaries
from tests.material import warehouses

RUN = "run-0"


def two_by_two(text: str) -> list[tuple[str, int, int, int]]:
    """Tokens of two words each, all of one word id, as tokenizers give that know no words; the last is a line break."""
    spans, start = [], 0
    for word in text.split(" "):
        spans.append((start, start + len(word)))
        start += len(word) + 1
    pairs = [(spans[n][0], spans[min(n + 1, len(spans) - 1)][1]) for n in range(0, len(spans), 2)]
    return [(text[start:end], 0, start, end) for start, end in pairs]


@pytest.fixture
def across(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    uninstall(monkeypatch)  # whatever is installed here
    monkeypatch.setattr(warehouses, "pieces", two_by_two)
    warehouses.make_warehouse(tmp_path, 40, 3)
    warehouse = Warehouse.open(tmp_path)
    aggregate(warehouse, RUN)
    return warehouse


def select(warehouse: Warehouse, sql: str) -> list[tuple[Any, ...]]:
    with closing(open_run(warehouse, RUN)) as connection:
        return connection.execute(sql).fetchall()


def state(warehouse: Warehouse) -> dict[str, tuple[int, bytes]]:
    """All files of attributions but those of words."""
    files = [
        path
        for path in warehouse.attributions("").rglob("*")
        if path.is_file() and path.parent.name != "words"
    ]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files if path.name != ".lock"}


def words_file(warehouse: Warehouse) -> Path:
    [path] = warehouse.attributions("").glob("*/words/*.parquet")
    return path


def test_a_token_gives_each_of_its_words_its_share(across: Warehouse) -> None:
    texts = dict(select(across, "SELECT doc_id, text FROM documents WHERE failure IS NULL"))
    tokens: dict[int, list[tuple[float, float]]] = {}
    for doc_id, *values in select(
        across,
        "SELECT doc_id, logit_effect, score FROM tokens WHERE NOT is_special ORDER BY doc_id, position",
    ):
        tokens.setdefault(doc_id, []).append(tuple(values))
    found = select(
        across, "SELECT doc_id, word_id, text, logit_effect, score FROM words ORDER BY doc_id, word_id"
    )
    expected = []
    for doc_id, text in sorted(texts.items()):
        written = text.split(" ")
        for n, word in enumerate(written):
            length = sum(len(one) for one in written[n // 2 * 2 : n // 2 * 2 + 2])
            expected.append(
                (doc_id, n, word, *(value * len(word) / length for value in tokens[doc_id][n // 2]))
            )
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert row[3:] == pytest.approx(other[3:], rel=1e-9, abs=1e-12)


def test_words_special_tokens_and_the_rest_sum_to_the_document(across: Warehouse) -> None:
    sums = select(
        across,
        """
        SELECT t.total, w.total + coalesce(r.total, 0)
        FROM (SELECT doc_id, sum(logit_effect) AS total FROM tokens GROUP BY doc_id) AS t
        JOIN (SELECT doc_id, sum(logit_effect) AS total FROM words GROUP BY doc_id) AS w USING (doc_id)
        LEFT JOIN (SELECT doc_id, sum(logit_effect) AS total FROM tokens WHERE word_id < 0 GROUP BY doc_id) AS r
            USING (doc_id)
        """,
    )
    assert len(sums) > 30
    for total, parts in sums:
        assert parts == pytest.approx(total, rel=1e-9, abs=1e-12)


def test_the_tables_of_words_are_means_of_the_view(across: Warehouse) -> None:
    rows = select(across, "SELECT class, word, documents, effect FROM word_stats ORDER BY ALL")
    expected = select(
        across,
        """
        SELECT target, word, count(*), avg(effect)
        FROM (
            SELECT d.target, w.word, w.doc_id, sum(w.logit_effect) AS effect
            FROM words AS w JOIN documents AS d USING (doc_id) WHERE d.in_statistics GROUP BY ALL
        )
        GROUP BY target, word HAVING count(*) >= 5 ORDER BY ALL
        """,
    )
    assert len(rows) > 5
    assert [row[:3] for row in rows] == [row[:3] for row in expected]
    assert [row[3] for row in rows] == pytest.approx([row[3] for row in expected], rel=1e-9)


def test_a_token_s_word_is_the_one_that_holds_most_of_it(across: Warehouse) -> None:
    found = select(
        across,
        "SELECT t.word_id, arg_max(w.word_id, (w.characters, -w.word_id)) FROM tokens t JOIN word_tokens w "
        "USING (doc_id, position) GROUP BY t.doc_id, t.position, t.word_id",
    )
    assert len({word for word, _ in found}) > 3
    assert all(word == most for word, most in found)


def test_a_run_of_before_keeps_its_tokenizer_s_words_until_its_tables_are_made_again(
    across: Warehouse,
) -> None:
    new = select(across, "SELECT doc_id, word_id, text FROM words ORDER BY ALL")
    attributions = state(across)
    path = across.run(RUN) / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["versions"].pop("words") == boundaries.rule()
    path.write_text(json.dumps(manifest))
    words_file(across).unlink()
    old = select(across, "SELECT w.word_id, w.text = d.text FROM words w JOIN documents d USING (doc_id)")
    assert set(old) == {(0, True)}, "one word id for the whole text"
    assert select(across, "SELECT DISTINCT word_id FROM tokens ORDER BY 1") == [(-1,), (0,)]

    rebuild(across)
    assert select(across, "SELECT doc_id, word_id, text FROM words ORDER BY ALL") == new
    assert read_run(across, RUN).words == boundaries.rule()
    assert state(across) == attributions, "nothing is attributed again, or written anew"


def test_the_file_of_words_is_made_once_and_again_where_it_is_damaged(across: Warehouse) -> None:
    path = words_file(across)
    made, content = path.stat().st_mtime_ns, path.read_bytes()
    aggregate(across, RUN)
    assert path.stat().st_mtime_ns == made
    path.write_bytes(content[:-9])
    aggregate(across, RUN)
    assert path.read_bytes() == content


def uninstall(monkeypatch: pytest.MonkeyPatch, segmenter: str | None = None) -> None:
    for module in (words, boundaries):
        monkeypatch.setattr(module, "segmenter", lambda: segmenter)


def name_rule(warehouse: Warehouse, rule: str) -> None:
    path = warehouse.run(RUN) / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["versions"]["words"] = rule
    path.write_text(json.dumps(manifest))


def test_a_missing_segmenter_is_refused_where_earlier_runs_used_it(
    across: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    words.check_segmenter(across, "synthetic")
    name_rule(across, "uax29+icu-78.3")
    words.check_segmenter(across, "another")
    with pytest.raises(
        InputError,
        match=r"^audit synthetic: its run run-0 took words from uax29\+icu-78\.3, and no segmenter is installed: "
        r"pip install 'calig\[segment\]'$",
    ):
        words.check_segmenter(across, "synthetic")
    with pytest.raises(
        InputError, match=r"^run run-0: its words are made with .* pip install 'calig\[segment\]'$"
    ):
        rebuild(across)
    uninstall(monkeypatch, "icu-79.1")
    words.check_segmenter(across, "synthetic")


def test_a_run_keeps_its_words_where_its_segmenter_is_gone(across: Warehouse) -> None:
    path = words_file(across)
    name_rule(across, "uax29+icu-78.3")
    path.rename(path.with_name(path.name.replace("uax29", "uax29+icu-78.3")))
    before = select(across, "SELECT doc_id, word_id, text FROM words ORDER BY ALL")
    rebuild(across)
    assert before
    assert select(across, "SELECT doc_id, word_id, text FROM words ORDER BY ALL") == before
    assert read_run(across, RUN).words == "uax29+icu-78.3"


def test_a_comparison_reads_the_reference_s_words_by_the_newer_rule(
    across: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_files(across, RUN)
    newer = replace(run.manifest, versions={"words": "uax29+icu-79.1"})
    uninstall(monkeypatch)
    with pytest.raises(
        InputError, match=r"^run run-0: .* by uax29\+icu-79\.1, .* pip install 'calig\[segment\]'$"
    ):
        words.with_rule_of(across, run, newer)
    uninstall(monkeypatch, "icu-79.1")
    found = words.with_rule_of(across, run, newer)
    assert found.words is not None
    assert found.words.is_file()
    assert found.words.name.endswith(".uax29+icu-79.1.parquet")
    assert words.with_rule_of(across, run, run.manifest) is run
