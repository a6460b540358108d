from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from calig.errors import InputError
from calig.warehouse.aggregate import aggregate
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import corpus_columns, query
from calig.warehouse.questions import asked, questions
from tests.material.tiers import few
from tests.material.warehouses import make_warehouse

ESCAPES = [
    "COPY (SELECT 1) TO '{out}'",
    "COPY (SELECT 1) TO '{root}/x.parquet'",
    "COPY (SELECT 1) TO '{tokens}' (FORMAT parquet)",
    "COPY runs FROM '{secret}'",
    "WITH x AS (COPY (SELECT 1) TO '{tokens}' (FORMAT parquet)) SELECT * FROM x",
    "WITH x AS (COPY (SELECT 1) TO '{out}') SELECT * FROM x",
    "SELECT * FROM (WITH x AS (COPY (SELECT 1) TO '{out}') SELECT * FROM x)",
    "WITH x AS (INSERT INTO runs (run_id) VALUES ('x') RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM runs RETURNING *) SELECT * FROM x",
    "WITH x AS (UPDATE runs SET name = 'x' RETURNING *) SELECT * FROM x",
    "ATTACH '{out}' AS other",
    "ATTACH '{root}/calig.duckdb' AS other",
    "DETACH calig",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_csv_auto('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM read_parquet('{tokens}')",
    "SELECT * FROM parquet_metadata('{tokens}')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM read_duckdb('{root}/calig.duckdb')",
    "FROM '{secret}'",
    "FROM '{other}'",
    "FROM '{root}/attributions/*/tokens-*.parquet'",
    "FROM '/etc/passwd'",
    "SELECT (SELECT content FROM read_text('{secret}'))",
    "SELECT 1 WHERE EXISTS (FROM READ_TEXT('{secret}'))",
    "SELECT * FROM \"read_text\"('{secret}')",
    "SELECT * FROM system.main.read_text('{secret}')",
    "SELECT * FROM query('FROM read_text(''{secret}'')')",
    "SELECT * FROM query_table('{secret}')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM enable_logging(storage = 'file', storage_path = '{out}')",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM checkpoint('calig')",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "SET memory_limit = '100GB'",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "SELECT getenv('HOME')",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{out}'",
    "CREATE TABLE x AS SELECT 1",
    "CREATE TEMP VIEW tokens AS SELECT 1",
    "CREATE MACRO f(a) AS a",
    "CREATE SECRET s (TYPE s3)",
    "INSERT INTO runs (run_id) VALUES ('x')",
    "DROP TABLE runs",
    "ALTER TABLE runs ADD COLUMN x INTEGER",
    "EXPORT DATABASE '{out}'",
    "IMPORT DATABASE '{out}'",
    "CALL range(3)",
    "PREPARE p AS SELECT 1",
    "EXPLAIN ANALYZE SELECT 1",
    "PIVOT (FROM read_csv('{secret}')) ON a USING count(*)",
    "PIVOT '{secret}' ON a",
    "PIVOT (FROM read_parquet('{other}')) ON doc_key",
    "WITH x AS (COPY (SELECT 1 AS a) TO '{out}') PIVOT x ON a",
    "WITH x AS (COPY (SELECT 1 AS a) TO '{tokens}') PIVOT runs ON name USING count(*) GROUP BY run_id",
    "PIVOT (FROM read_csv('{secret}') /* IN ( */) ON a -- IN ('x')",
    "PIVOT runs ON name USING count(*); COPY (SELECT 1) TO '{out}'",
    "VACUUM",
    "CHECKPOINT",
    "BEGIN",
    "",
    "-- nothing",
]


def state(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("escape", ESCAPES)
def test_no_query_gets_out(warehouse: Warehouse, tmp_path: Path, escape: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a,b\nhidden,1\n")
    tokens = next(warehouse.attributions("attribution-60-7-1").glob("tokens-*.parquet"))
    other = next(warehouse.attributions("attribution-120-4-0").glob("tokens-*.parquet"))
    names = {"out": tmp_path / "out", "root": warehouse.root, "secret": secret}
    names |= {"tokens": tokens, "other": other}  # files of the run that is asked, and of another
    before = state(warehouse.root)
    filled = escape
    for name, path in names.items():
        filled = filled.replace(f"{{{name}}}", str(path).replace("'", "''"))
    with pytest.raises(InputError) as error:
        query(warehouse, filled)
    assert "hidden" not in str(error.value)
    assert "\n" not in str(error.value)
    assert state(warehouse.root) == before
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_python_variables_are_no_tables(warehouse: Warehouse) -> None:
    import pyarrow as pa

    runs_of_python = pa.table({"a": [1]})
    assert runs_of_python.num_rows == 1
    with pytest.raises(InputError, match="runs_of_python"):
        query(warehouse, "FROM runs_of_python")


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r) SELECT count(*) FROM r",
        "SELECT count(*) FROM range(1000000000) a, range(1000000000) b",
        "SELECT sum(a.ig_00) FROM tokens a, tokens b, tokens c, tokens d, tokens e",
    ],
)
def test_a_query_without_end_is_stopped(warehouse: Warehouse, sql: str) -> None:
    with pytest.raises(InputError, match=r"stopped after 0.5 s"):
        query(warehouse, sql, seconds=0.5)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT list(range) FROM range(1000000000)",
        "SELECT string_agg(repeat('a', 100000), '') FROM range(100000)",
    ],
)
def test_a_query_that_hoards_memory_is_stopped(warehouse: Warehouse, sql: str) -> None:
    with pytest.raises(InputError, match="needs more than 200MB of memory"):
        query(warehouse, sql, memory="200MB")


def test_a_huge_answer_is_cut(warehouse: Warehouse) -> None:
    result = query(warehouse, "SELECT * FROM range(1000000000000)", max_rows=5000)
    assert (len(result.rows), result.truncated) == (5000, True)
    assert result.rows[-1] == (4999,)
    exact = query(warehouse, "SELECT * FROM range(5000)", max_rows=5000)
    assert (len(exact.rows), exact.truncated) == (5000, False)
    with pytest.raises(InputError, match="more than 64 MB of text"):
        query(warehouse, "SELECT repeat('x', 100000) FROM range(1000)")


def test_limits_that_duckdb_does_not_know_are_named(warehouse: Warehouse) -> None:
    with pytest.raises(InputError, match="refuses the limits"):
        query(warehouse, "SELECT 1", memory="plenty")


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT wrd FROM words", 'SQL: Binder Error: .*"wrd" not found.*Candidate bindings: "word"'),
        ("FROM documnts", 'SQL: Catalog Error: .*documnts does not exist.*Did you mean "documents"'),
        ("SELEC 1", 'SQL: Parser Error: syntax error at or near "SELEC"'),
        ("SELECT 'a'::INTEGER", "SQL: Conversion Error"),
        ("SELECT 1; SELECT 2", "2 statements; only one SELECT"),
        ("DROP TABLE runs", "a DROP statement; only one SELECT"),
        ("FROM read_text('x')", "the table function read_text is off"),
        ("SELECT * FROM " + "(SELECT * FROM " * 800 + "runs" + ")" * 800, "nested too deeply"),
        ("SELECT " + "NOT " * 5000 + "true", "Max expression depth"),
    ],
)
def test_wrong_sql_is_answered_in_one_line(warehouse: Warehouse, sql: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        query(warehouse, sql)
    assert "\n" not in str(error.value)


def test_what_may_be_asked_is_answered(warehouse: Warehouse) -> None:
    result = query(warehouse, "FROM runs SELECT run_id, depths, started ORDER BY ALL; -- all of them")
    assert (result.columns, result.types) == (
        ["run_id", "depths", "started"],
        ["VARCHAR", "INTEGER", "TIMESTAMP"],
    )
    assert [row[:2] for row in result.rows] == [("run-0", 4), ("run-1", 7)]
    assert query(warehouse, "WITH a AS (SELECT 1 AS x) SELECT x FROM a UNION ALL VALUES (2)").rows == [
        (1,),
        (2,),
    ]
    assert ("words",) in query(warehouse, "SHOW TABLES").rows
    assert len(query(warehouse, "DESCRIBE words").rows) == 10
    assert query(warehouse, "SELECT DISTINCT run_id FROM documents", run="previous").rows == [("run-0",)]
    assert query(warehouse, "SELECT count(COLUMNS('ig_.*')) FROM tokens").rows


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("PIVOT layers ON depth USING sum(documents)", {"0", "1", "2", "3"}),
        ("-- é\nPIVOT layers ON depth /* , */ USING sum(documents) ORDER BY 1;\n", {"0", "1", "2", "3"}),
        ("PIVOT layers ON depth IN (0, 2) USING sum(documents)", {"0", "2"}),
        ("PIVOT layers ON depth IN (0), run_id USING sum(documents)", {"0_run-0"}),
        ("PIVOT layers ON run_id, depth IN (1)", {"run-0_1"}),
        ("SELECT * FROM (PIVOT layers ON depth) LIMIT 1", {"0", "1", "2", "3"}),
        ("WITH p AS (PIVOT layers ON depth USING max(documents)) FROM p", {"0", "1", "2", "3"}),
        ("UNPIVOT layers ON documents INTO NAME n VALUE v", {"n", "v"}),
        ("SUMMARIZE layers", {"column_name", "min", "max"}),
        ("\n\n/* all */ -- of them\nFROM layers", {"depth", "documents"}),
    ],
)
def test_sql_is_taken_as_people_write_it(warehouse: Warehouse, sql: str, columns: set[str]) -> None:
    layers = "(SELECT run_id, depth, documents FROM layer_stats WHERE class = '*')"
    result = query(warehouse, sql.replace("layers", layers), run="run-0")
    assert columns <= set(result.columns)
    assert result.rows


def test_a_pivots_times_are_kept(warehouse: Warehouse) -> None:
    """They are text where Python would round them, as in any answer."""
    sql = "PIVOT (SELECT name, INTERVAL 1 MONTH AS a FROM runs) ON name USING first(a)"
    assert query(warehouse, sql).rows == [("1 month",)]


def test_a_pivot_without_end_is_stopped(warehouse: Warehouse) -> None:
    sql = "PIVOT (SELECT a.range % 2 AS x FROM range(1000000000) a, range(1000000) b) ON x USING count(*)"
    with pytest.raises(InputError, match="stopped after"):
        query(warehouse, sql, seconds=0.5)


def test_questions_take_parameters(warehouse: Warehouse) -> None:
    question, given = asked("@by-category column=target")
    rows = query(warehouse, question.sql_with(given), run="run-0").rows
    expected = "SELECT target, count(*) FROM documents GROUP BY target"
    assert {row[1:3] for row in rows} == set(query(warehouse, expected, run="run-0").rows)
    question, given = asked("  @least-converged   rows=3 ")
    assert len(query(warehouse, question.sql_with(given)).rows) == 3
    assert asked('@by-category column=two words "quoted"')[1] == {"column": 'two words "quoted"'}
    assert '"two words ""quoted"""' in asked('@by-category column=two words "quoted"')[0].sql_with(
        {"column": 'two words "quoted"'}
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("@nothing", "no question @nothing; there are: @top-words"),
        ("@by-category rows=3", "no parameter 'rows'; it has column=category"),
        ("@least-converged rows=1; DROP TABLE runs", "write a whole number, such as rows=50"),
        ("@least-converged 3", "'3' is no parameter, written name=value; it has rows=20"),
        ("@runs rows=3", "it has no parameters"),
    ],
)
def test_wrong_parameters_are_named(text: str, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        (lambda found: found[0].sql_with(found[1]))(asked(text))


def test_the_columns_of_the_corpus_are_told_apart(warehouse: Warehouse) -> None:
    there, own = corpus_columns(warehouse)
    assert own == ["category"]
    assert {"run_id", "predicted", "category"} <= set(there)


def test_without_aggregates_the_cure_is_named(tmp_path: Path) -> None:
    run_id = make_warehouse(tmp_path)
    warehouse = Warehouse.open(tmp_path)
    with pytest.raises(InputError, match=r"calig\.duckdb is missing: run `calig rebuild`"):
        query(warehouse, "SELECT 1")
    warehouse.database.write_bytes(b"garbage" * 4000)
    with pytest.raises(InputError, match=r"cannot be read .*run `calig rebuild`"):
        query(warehouse, "SELECT 1")
    warehouse.database.unlink()
    aggregate(warehouse, run_id)
    with pytest.raises(InputError, match="no such run"):
        query(warehouse, "SELECT 1", run="nothing")


def test_a_query_leaves_no_file(warehouse: Warehouse) -> None:
    before = state(warehouse.root)
    query(warehouse, "SELECT count(*) FROM tokens a, tokens b WHERE a.ig_00 < b.ig_00 - 3")
    assert state(warehouse.root) == before


@pytest.mark.parametrize("number", few(range(10), [0, 4, 8], "the other questions"))
def test_every_question_has_an_answer(warehouse: Warehouse, number: int) -> None:
    question = questions()[number]
    assert question.title.endswith("?")
    for run, names in (("run-0", {"run-0"}), ("all", {"run-0", "run-1"})):
        result = query(warehouse, question.sql, run=run)
        assert result.rows, question.name
        assert result.columns[0] == "run_id"
        assert {row[0] for row in result.rows} <= (names if question.name != "runs" else {"run-0", "run-1"})


def test_questions_have_names_of_their_own() -> None:
    assert len(questions()) == len({question.name for question in questions()}) >= 18


def test_the_planted_words_are_found(warehouse: Warehouse) -> None:
    top = next(question for question in questions() if question.name == "top-words")
    rows = query(warehouse, top.sql, run="run-0").rows
    first = {label: next(row[2] for row in rows if row[1] == label) for label in ("negative", "positive")}
    assert first == {"negative": "awful", "positive": "superb"}
    against = next(question for question in questions() if question.name == "contrary-words")
    found = {(row[1], row[2]) for row in query(warehouse, against.sql, run="run-0").rows}
    assert {("negative", "great"), ("positive", "awful")} <= found


EXACT = [
    ("interval 1 month", "1 month"),
    ("'2026-01-01 00:00:00.123456789'::timestamp_ns", "2026-01-01 00:00:00.123456789"),
    ("'infinity'::date", "infinity"),
    ("'290000-01-01'::date", "290000-01-01"),
    ("date '2026-11-01'", "2026-11-01"),
    ("timestamptz '2026-11-01 12:00:00+02'", "2026-11-01 10:00:00+00"),
    ("'a\\xFF'::blob", "a\\xFF"),
    ("170141183460469231731687303715884105727", 170141183460469231731687303715884105727),
    ("{'since': interval 1 month, 'n': 1}", {"since": "1 month", "n": 1}),
    ("[date '2026-11-01', NULL]", ["2026-11-01", None]),
    ("MAP {date '2026-11-01': interval 1 month}", {"2026-11-01": "1 month"}),
    ("array_value(interval 1 month, NULL)", ("1 month", None)),
    ("union_value(k := interval 1 month)", "1 month"),
    ("row(1, interval 1 month)", (1, "1 month")),
]


def test_values_that_python_would_round_are_text(warehouse: Warehouse) -> None:
    answer = query(warehouse, "SELECT " + ", ".join(sql for sql, _ in EXACT))
    assert dict(zip((sql for sql, _ in EXACT), answer.rows[0], strict=True)) == dict(EXACT)
    assert answer.types[:3] == ["INTERVAL", "TIMESTAMP_NS", "DATE"]


def test_two_columns_of_one_name_stay_two(warehouse: Warehouse) -> None:
    answer = query(warehouse, "SELECT 1 AS text, 2 AS text, 3 AS text_1, interval 1 month AS text")
    assert answer.columns == ["text", "text_2", "text_1", "text_3"]
    assert answer.rows == [(1, 2, 3, "1 month")]


def test_rows_keep_their_order_when_columns_become_text(warehouse: Warehouse) -> None:
    sql = "SELECT date '2026-01-01' + i::INTEGER AS day, i FROM range(5000) t(i) ORDER BY i DESC; -- newest first"
    assert [row[1] for row in query(warehouse, sql).rows] == list(range(4999, -1, -1))
