from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calig.warehouse.aggregate import aggregate
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import ddl, describe, open_run, query
from tests.material.derived_tables import Expected
from tests.material.warehouses import CATEGORIES, CLASSES, HEADS, make_warehouse

EXPECTED = Expected(120, 4, 0)


def select(warehouse: Warehouse, sql: str, run_id: str = "run-0") -> list[tuple[Any, ...]]:
    with open_run(warehouse, run_id) as connection:
        return connection.execute(sql).fetchall()


def test_tokens_are_the_attributions_tokens_with_effect_and_score(warehouse: Warehouse) -> None:
    found = iter(
        select(
            warehouse,
            "SELECT doc_id, position, token, is_special, ig_03, ctx_02, logit_effect, score FROM tokens "
            "ORDER BY doc_id, position",
        )
    )
    for d in EXPECTED.explained:
        for t, token in enumerate(d.a.tokens):
            doc_id, position, name, special, ig, ctx, effect, score = next(found)
            assert (doc_id, position, name, special) == (d.doc_id, t, token, bool(d.a.is_special[t]))
            assert (ig, ctx) == (d.a.layer_ig[3, t], d.a.context[1, t])
            assert effect == pytest.approx(d.effects[t], abs=1e-7)
            assert (
                score == pytest.approx(d.scores[t], abs=1e-6) == pytest.approx(float(d.a.scores[t]), abs=1e-5)
            )
    assert next(found, None) is None


def test_words_join_sub_words_and_leave_out_special_tokens(warehouse: Warehouse) -> None:
    found = select(
        warehouse,
        "SELECT doc_id, word_id, word, text, char_start, char_end, logit_effect, score FROM words "
        "ORDER BY doc_id, word_id",
    )
    expected = [(d, *item) for d in EXPECTED.explained for item in d.words.items()]
    assert len(found) == len(expected)
    for row, (d, word_id, (word, effect, score)) in zip(found, expected, strict=True):
        written = d.text.split(" ")[word_id]
        assert row[:4] == (d.doc_id, word_id, word, written)
        assert d.text[row[4] : row[5]] == written
        assert row[6:] == pytest.approx((effect, score), abs=1e-6)


def test_documents_have_names_of_classes_worst_errors_and_the_corpus_columns(warehouse: Warehouse) -> None:
    found = {
        row[0]: row[1:]
        for row in select(
            warehouse,
            "SELECT doc_id, text, label, predicted, target_id, correct, probability, error_estimate, "
            "completeness_error, converged, nodes, tokens, settling_depth, failure, category FROM documents",
        )
    }
    assert sorted(found) == list(range(120))
    for d in EXPECTED.explained:
        row = found[d.doc_id]
        assert row[0] == d.text
        assert row[1] == (None if d.label is None else CLASSES[d.label])
        assert row[2:4] == (CLASSES[d.a.predicted], d.a.target)
        assert row[4] == (None if d.label is None else d.label == d.a.predicted)
        assert row[5] == pytest.approx(math.exp(d.a.logit) / sum(map(math.exp, d.a.logits)), rel=1e-5)
        assert row[6:8] == (d.a.error_estimate.max(), d.a.completeness_error.max())
        assert row[8:12] == (d.a.converged.all(), d.a.nodes.sum(), len(d.a.tokens), d.settling_depth)
        assert row[12:] == (None, CATEGORIES[d.doc_id % 3])
    failed = {row["doc_id"] for row in EXPECTED.failures()}
    assert {doc_id for doc_id, row in found.items() if row[12] is not None} == failed


def test_the_long_form_is_the_wide_one_unpivoted(warehouse: Warehouse) -> None:
    found = select(warehouse, "FROM relevance_long ORDER BY doc_id, position, depth")
    wide = select(warehouse, "SELECT * FROM tokens ORDER BY doc_id, position")
    assert len(found) == 4 * len(wide)
    for number, row in enumerate(wide):
        igs, ctxs = row[12:16], (None, *row[16:19])
        assert [item[2:] for item in found[4 * number : 4 * number + 4]] == [
            (row[3], row[4], row[8], depth, igs[depth], ctxs[depth]) for depth in range(4)
        ]


def test_runs_of_different_depth_unite_by_name(warehouse: Warehouse) -> None:
    rows = query(
        warehouse,
        "SELECT run_id, max(depth), count(*) FILTER (ctx IS NULL) = count(*) FILTER (depth = 0) "
        "FROM relevance_long GROUP BY run_id ORDER BY run_id",
        run="all",
    ).rows
    assert rows == [("run-0", 3, True), ("run-1", 6, True)]
    assert query(warehouse, "SELECT count(ig_06), count(DISTINCT run_id) FROM tokens", "all").rows[0][1] == 2


def test_the_weight_of_the_score_is_the_manifests(tmp_path: Path) -> None:
    run_id = make_warehouse(tmp_path, weight=0.0)
    warehouse = Warehouse.open(tmp_path)
    aggregate(warehouse, run_id)
    (difference,) = select(
        warehouse,
        "SELECT max(abs(t.score - (ig_00 / n[1] + ig_01 / n[2] + ig_02 / n[3]))) FROM tokens t JOIN ("
        "SELECT doc_id, [sum(abs(ig_00)), sum(abs(ig_01)), sum(abs(ig_02))] AS n FROM tokens GROUP BY ALL"
        ") USING (doc_id)",
    )[0]
    assert difference < 1e-6


def test_the_agreement_fusion_weighs_depths_by_how_they_agree_with_their_judge(tmp_path: Path) -> None:
    """score = Σ_l w_l·(0.75·ig_{l−1} + 0.25·H·ctx_l), w_l ∝ max(0, cosine of depth l−1 and the judge)².

    The judge is the direction of depth 0 plus that of Σ_l ctx_l, over the content.
    """
    run_id = make_warehouse(tmp_path, weight=0.25, fusion="agreement")
    warehouse = Warehouse.open(tmp_path)
    aggregate(warehouse, run_id)
    (difference, count) = select(
        warehouse,
        f"""
        WITH sizes AS (
            SELECT doc_id, sqrt(sum(ig_00 ** 2)) AS n, sqrt(sum((ctx_01 + ctx_02 + ctx_03) ** 2)) AS m
            FROM tokens WHERE NOT is_special GROUP BY doc_id
        ),
        c AS (
            SELECT *, ig_00 / n + (ctx_01 + ctx_02 + ctx_03) / m AS judge
            FROM tokens JOIN sizes USING (doc_id) WHERE NOT is_special
        ),
        s AS (
            SELECT doc_id,
                greatest(0, sum(judge * ig_00) / sqrt(sum(ig_00 ** 2) * sum(judge ** 2))) ** 2 AS a,
                greatest(0, sum(judge * ig_01) / sqrt(sum(ig_01 ** 2) * sum(judge ** 2))) ** 2 AS b,
                greatest(0, sum(judge * ig_02) / sqrt(sum(ig_02 ** 2) * sum(judge ** 2))) ** 2 AS d
            FROM c GROUP BY doc_id
        )
        SELECT max(abs(t.score - (
            a * (0.75 * ig_00 + 0.25 * {HEADS} * ctx_01)
            + b * (0.75 * ig_01 + 0.25 * {HEADS} * ctx_02)
            + d * (0.75 * ig_02 + 0.25 * {HEADS} * ctx_03)
        ) / (a + b + d))), count(*) FROM tokens t JOIN s USING (doc_id)
        """,
    )[0]
    assert difference < 1e-5
    assert count > 100


def test_a_column_of_the_corpus_never_hides_one_of_ours(tmp_path: Path) -> None:
    run_id = make_warehouse(tmp_path)
    warehouse = Warehouse.open(tmp_path)
    path = warehouse.run(run_id) / "documents.parquet"
    table = pq.read_table(path)
    for name in ("Probability", "tokens", 'a "b" c'):
        table = table.append_column(name, pa.array(["mine"] * 60))
    pq.write_table(table, path)
    aggregate(warehouse, run_id)
    sql = 'SELECT DISTINCT "corpus_Probability", corpus_tokens, "a ""b"" c" FROM documents'
    assert query(warehouse, sql).rows == [("mine", "mine", "mine")]
    assert query(warehouse, "SELECT typeof(tokens) FROM documents LIMIT 1").rows == [("INTEGER",)]


def test_the_listing_says_what_everything_means(warehouse: Warehouse) -> None:
    listing = describe(warehouse)
    assert all(meaning for *_, meaning in listing)
    assert [row[0] for row in listing if not row[1]][:4] == ["tokens", "words", "documents", "relevance_long"]
    assert ("documents", "category", "VARCHAR", "A column of the corpus") in listing
    with open_run(warehouse, "run-0") as connection:
        comments = connection.execute(
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE database_name = 'temp'"
        ).fetchall()
    assert {row for row in comments if row[0] == "words"} == {
        (table, column, meaning) for table, column, _, meaning in listing if table == "words" and column
    }


def test_the_ddl_works_in_another_duckdb(warehouse: Warehouse) -> None:
    with duckdb.connect() as connection:
        connection.execute(ddl(warehouse, "run-0"))
        count = connection.execute("SELECT count(*), count(settling_depth) > 0 FROM documents").fetchone()
    assert count == (120, True)


def test_a_moved_warehouse_still_answers(tmp_path: Path) -> None:
    run_id = make_warehouse(tmp_path / "before")
    aggregate(Warehouse.open(tmp_path / "before"), run_id)
    (tmp_path / "before").rename(tmp_path / "after")
    assert query(Warehouse.open(tmp_path / "after"), "SELECT count(*) FROM documents").rows == [(60,)]
