"""Every gate holding and failing, on tables made for it, and what is said of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from calig.config import AuditConfig, Limit, parse_config
from calig.errors import GateError, InputError
from calig.gates import check_configured, check_run, enforce
from calig.warehouse.aggregate import aggregate, rebuild
from calig.warehouse.gates import GateOutcome, read_gates, store_gates
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import query
from calig.warehouse.questions import question
from tests.calig.warehouse.test_watched import watch
from tests.material.derived_tables import Expected
from tests.material.warehouses import make_warehouse

EXPECTED = Expected(120, 4, 0)
NOWHERE = Warehouse(Path("not-looked-at"))
WATCH = {"praise": ["great", "superb"], "odd": ["{value}", "한국"]}
COMPARED: dict[str, Any] = {
    "run_id": "run-0",
    "reference_id": "run-9",
    "requested": "baseline",
    "documents_a": 100,
    "documents_b": 400,
    "paired": 80,
    "words_changed": 0,
    "layers_changed": 0,
    "outcomes_changed": 0,
    "words_tested": 4,
    "layers_tested": 252,
    "outcomes_tested": 1,
    "words_untested": 3120,
    "accuracy_a": 0.9,
    "accuracy_b": 0.88,
    "flips": 4,
    "flip_share": 0.05,
    "class_psi": 0.25,
    "layer_psi": 0.1,
}


@pytest.fixture(scope="module")
def aggregated(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A run of 120 documents, 6 of them failed, with watch lists; read only."""
    root: Path = tmp_path_factory.mktemp("gates") / "w"
    watch(root, make_warehouse(root, documents=120), WATCH)
    aggregate(Warehouse.open(root), "run-0")
    return Warehouse.open(root)


@pytest.fixture
def warehouse(aggregated: Warehouse, tmp_path: Path) -> Callable[..., Warehouse]:
    """The run in a warehouse of its own, with rows put into the tables of comparisons."""

    def make(**tables: list[dict[str, Any]]) -> Warehouse:
        root = tmp_path / "w"
        root.mkdir()
        for path in aggregated.root.iterdir():
            if path.is_dir():
                (root / path.name).symlink_to(path)
        aggregated_file = aggregated.database.read_bytes()
        (root / "calig.duckdb").write_bytes(aggregated_file)
        with duckdb.connect(root / "calig.duckdb") as connection:
            for table, rows in tables.items():
                for row in rows:
                    row = {"run_id": "run-0", "reference_id": "run-9"} | row
                    names = ", ".join(f'"{name}"' for name in row)
                    marks = ", ".join("?" for _ in row)
                    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values()))
        return Warehouse.open(root)

    return make


def config(gates: dict[str, Any], **others: Any) -> AuditConfig:
    return parse_config(
        {
            "model": {"id": "m"},
            "corpus": {"path": "a.csv"},
            "watch": WATCH,
            "gates": {"max_failure_share": None, "max_unconverged_share": None} | gates,
        }
        | others
    )


def check(warehouse: Warehouse, **gates: Any) -> list[GateOutcome]:
    return check_run(warehouse, "run-0", config(gates, compare_to="baseline"))


def the(outcomes: list[GateOutcome]) -> GateOutcome:
    [outcome] = outcomes
    return outcome


def value(warehouse: Warehouse, sql: str) -> Any:
    return query(warehouse, sql).rows[0][0]


def test_no_gate_no_outcome(aggregated: Warehouse) -> None:
    assert check(aggregated) == []


def test_pairs_outside_the_tolerance_are_looked_at_unless_none_was_asked_for(aggregated: Warehouse) -> None:
    """By default; not with fixed steps, nor where the least converged share says what may be."""
    asked: dict[str, Any] = {"max_unconverged_share": 0.05}
    assert [one.gate for one in check_run(aggregated, "run-0", config(asked))] == ["max_unconverged_share"]
    assert check_run(aggregated, "run-0", config(asked, method={"steps": 6})) == []
    least = check_run(aggregated, "run-0", config(asked | {"min_converged_share": 0.5}))
    assert [one.gate for one in least] == ["min_converged_share"]
    default = parse_config({"model": {"id": "m"}, "corpus": {"path": "a.csv"}})
    assert default.gates.max_unconverged_share == Limit(limit=0.05)


def own_numbers(warehouse: Warehouse) -> dict[str, float]:
    """The numbers of the gates about the run, derived a second way."""
    explained = EXPECTED.explained
    correct = [d.a.predicted == d.label for d in explained if d.label is not None]
    converged = [bool(flag) for d in explained for flag in d.a.converged]
    return {
        "max_failure_share": 1 - len(explained) / 120,
        "min_accuracy": sum(correct) / len(correct),
        "max_unconverged_share": converged.count(False) / len(converged),
        "min_converged_share": sum(converged) / len(converged),
        "max_completeness_error": float(max(d.a.completeness_error.max() for d in explained)),
        "max_watched_share": value(
            warehouse, "SELECT share FROM watched WHERE list = 'praise' AND term = '*' AND class = '*'"
        ),
    }


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("max_failure_share", r"6 of 120 documents failed \(5\.0%, limit 4\.9%\)"),
        ("min_accuracy", r"\d+ of \d+ labelled documents are predicted right \([\d.]+%, limit [\d.]+%\)"),
        (
            "max_unconverged_share",
            r"\d+ of \d+ \(document, depth\) pairs are outside the tolerance \([\d.]+%, limit [\d.]+%\), "
            r"at depth \d+ \d+ of 114",
        ),
        (
            "min_converged_share",
            r"[\d.]+% of \(document, depth\) pairs are within the tolerance \(limit [\d.]+%\)",
        ),
        ("max_completeness_error", r"the largest completeness residual is [\d.]+ logits \(limit [\d.]+\)"),
        (
            "max_watched_share",
            r"praise has [\d.]+% of the relevance \(limit [\d.]+%\), the most in \w+: [\d.]+%",
        ),
    ],
)
def test_a_gate_holds_up_to_its_limit(aggregated: Warehouse, gate: str, said: str) -> None:
    number = own_numbers(aggregated)[gate]
    slack = 1e-3 if gate.startswith("max") else -1e-3
    for limit, holds in ((number, True), (number + slack, True), (number - slack, False)):
        written: Any = {"praise": limit} if gate == "max_watched_share" else limit
        outcome = the(check(aggregated, **{gate: written}))
        assert outcome.gate == ("max_watched_share.praise" if gate == "max_watched_share" else gate)
        assert (outcome.passed, outcome.severity, outcome.reference_id) == (holds, "error", None)
        assert (outcome.value, outcome.limit) == (pytest.approx(number), limit)
        assert bool(outcome.documents) == (not holds and gate != "max_watched_share")
        assert re.match(said, outcome.detail) or limit != number - slack
        shown = re.search(r'see: calig query "(.+)" --run run-0$', outcome.detail)
        assert (shown is None) == holds
        if shown:
            assert "\n" not in outcome.detail
            sql = shown[1]
            assert query(aggregated, question(sql[1:]).sql if sql.startswith("@") else sql).rows
    assert format(number, ".3") in outcome.detail or f"{number:.1%}" in outcome.detail


def test_the_offending_documents_are_named(aggregated: Warehouse) -> None:
    failed = [n for n in range(120) if n not in {d.doc_id for d in EXPECTED.explained}]
    assert list(the(check(aggregated, max_failure_share=0)).documents) == failed
    worst = sorted(EXPECTED.explained, key=lambda d: (-d.a.completeness_error.max(), d.doc_id))
    limit = float(worst[3].a.completeness_error.max()) * (1 + 1e-6)
    outcome = the(check(aggregated, max_completeness_error=limit))
    assert list(outcome.documents) == [d.doc_id for d in worst if d.a.completeness_error.max() > limit]
    assert len(the(check(aggregated, max_completeness_error=0)).documents) == 20
    wrong = {d.doc_id for d in EXPECTED.explained if d.label is not None and d.label != d.a.predicted}
    assert set(the(check(aggregated, min_accuracy=1)).documents) <= wrong


def test_numbers_that_round_to_the_same_are_told_apart(aggregated: Warehouse) -> None:
    outcome = the(check(aggregated, max_failure_share=0.04999))
    assert "(5.000%, limit 4.999%)" in outcome.detail


def test_a_term_of_a_list_is_looked_at_over_all_documents(aggregated: Warehouse) -> None:
    sql = "SELECT share FROM watched WHERE term = 'great' AND class = '*'"
    outcomes = check(
        aggregated, max_watched_share={"praise/great": 0.5, "odd/{value}": {"limit": 0, "severity": "warn"}}
    )
    assert [outcome.passed for outcome in outcomes] == [True, True]
    assert [outcome.value for outcome in outcomes] == [value(aggregated, sql), 0]
    assert outcomes[1].severity == "warn"


def test_what_cannot_be_checked_says_why(aggregated: Warehouse, warehouse: Callable[..., Warehouse]) -> None:
    assert the(check(aggregated, max_mean_absolute_error=1)).detail == (
        "only a regression with labels has a mean absolute error"
    )
    gates = {
        "max_class_psi": 0.1,
        "max_layer_psi": 0.1,
        "max_flip_share": 0.1,
        "max_accuracy_drop": 0.1,
        "drift": True,
    }
    for outcome in check(aggregated, **gates):
        assert (outcome.passed, outcome.value) == (None, None)
        assert outcome.detail == "there is no earlier run to compare with yet"
    empty = dict.fromkeys(("accuracy_a", "flips", "flip_share", "class_psi"), None) | {
        "layer_psi": float("nan")
    }
    del gates["drift"]
    outcomes = check(warehouse(comparisons=[COMPARED | empty]), **gates)
    assert [outcome.passed for outcome in outcomes] == [None] * 4
    assert {outcome.reference_id for outcome in outcomes} == {"run-9"}
    assert all("run-9" in outcome.detail for outcome in outcomes)
    enforce("run-0", outcomes)


def test_without_labels_or_as_a_regression_there_is_no_accuracy(warehouse: Callable[..., Warehouse]) -> None:
    opened = warehouse()
    for head, why in (
        ("single_label", "no explained document has a label"),
        ("regression", "a regression has no"),
    ):
        with duckdb.connect(opened.database) as connection:
            connection.execute("UPDATE runs SET accuracy = NULL, head = ?, mean_absolute_error = 0.5", [head])
        accuracy, error = check(opened, min_accuracy=0.5, max_mean_absolute_error=0.4)
        assert accuracy.passed is None
        assert accuracy.detail.startswith(why)
        assert (error.passed, error.value) == (False, 0.5)
        assert error.detail.startswith("the mean absolute error is 0.5 (limit 0.4); see: calig query")


@pytest.mark.parametrize(
    ("gate", "number", "said"),
    [
        (
            "max_class_psi",
            0.25,
            "the predicted classes moved by a population stability index of 0.25 (limit 0.24)",
        ),
        ("max_layer_psi", 0.1, "the layer profile moved by a population stability index of 0.1 (limit 0.09)"),
        (
            "max_flip_share",
            0.05,
            "the prediction changed in 4 of 80 documents against baseline (run-9) (5.0%, limit 4.0%)",
        ),
        (
            "max_accuracy_drop",
            0.02,
            "accuracy went from 90.00% to 88.00% against baseline (run-9) (lower by 2.0%, limit 1.0%)",
        ),
    ],
)
def test_gates_about_comparisons(
    gate: str, number: float, said: str, warehouse: Callable[..., Warehouse]
) -> None:
    flipped = [
        {"doc_id_b": n, "flipped": n % 2 == 0, "probability_a": n / 100, "doc_key": str(n)} for n in range(50)
    ]
    other = {
        "reference_id": "run-8",
        "requested": "run-8",
        "class_psi": 0,
        "layer_psi": 0,
        "flip_share": 0,
        "accuracy_b": 1,
    }
    opened = warehouse(comparisons=[COMPARED, COMPARED | other], comparison_documents=flipped)
    for limit, holds in ((number, True), (round(number - 0.01, 2), False)):
        outcome, quiet = check(opened, **{gate: {"limit": limit, "severity": "warn"}})
        assert (outcome.gate, outcome.passed, outcome.severity) == (gate, holds, "warn")
        assert (outcome.value, outcome.reference_id) == (pytest.approx(number), "run-9")
        assert (quiet.passed, quiet.reference_id) == (True, "run-8")
    assert outcome.detail.startswith(said)
    query(opened, re.search(r'see: calig query "(.+)" --run', outcome.detail)[1])  # type: ignore[index]
    assert outcome.documents == (tuple(range(48, 8, -2)) if gate == "max_flip_share" else ())


WORDS = [
    {"class": "*", "word": "great", "documents_a": 0, "documents_b": 15, "share_a": 0.0, "share_b": 15 / 400}
    | {"share_q": 1e-6, "q": None, "change": "new", "changed": True},
    {
        "class": "positive",
        "word": "great",
        "documents_a": 0,
        "documents_b": 12,
        "share_a": 0.0,
        "share_b": 0.1,
    }
    | {"share_q": 1e-3, "q": None, "change": "new", "changed": True},
    {
        "class": "negative",
        "word": "awful",
        "documents_a": 30,
        "documents_b": 6,
        "share_a": 0.6,
        "share_b": 0.05,
    }
    | {"share_q": 1e-4, "q": 0.5, "change": "less frequent", "changed": True},
    {"class": "positive", "word": "dull", "documents_a": 9, "documents_b": 9, "share_a": 0.1, "share_b": 0.1}
    | {
        "share_q": 1,
        "q": 1e-5,
        "effect_a": -0.5,
        "effect_b": 0.25,
        "difference": 0.75,
        "change": "reversed",
        "changed": True,
    },
    {
        "class": "*",
        "word": "late",
        "documents_a": 10,
        "documents_b": 0,
        "share_a": 0.1,
        "share_b": 0.0,
        "q": 0.01,
        "change": "gone",
        "changed": True,
    },
    {"class": "*", "word": "still", "share_a": 0.1, "share_b": 0.1, "q": 1e-9, "changed": False},
]
LAYERS = [
    {
        "class": "*",
        "depth": 3,
        "measure": "special_share",
        "a": 0.34,
        "b": 0.12,
        "q": 0.001,
        "size": 0.9,
        "changed": True,
    }
]
OUTCOMES = [
    {"measure": "predicted share", "class": "positive", "a": 0.5, "b": 0.35, "q": 0.01, "changed": True}
    | {"difference": -0.15}
]


def test_drift_says_what_changed_most(warehouse: Callable[..., Warehouse]) -> None:
    counts = {"words_changed": 4, "layers_changed": 1, "outcomes_changed": 1}
    opened = warehouse(
        comparisons=[COMPARED | counts],
        comparison_words=WORDS,
        comparison_layers=LAYERS,
        comparison_outcomes=OUTCOMES,
    )
    outcome = the(check(opened, drift=True))
    assert (outcome.passed, outcome.value, outcome.limit, outcome.reference_id) == (False, 6, 0, "run-9")
    assert outcome.detail == (
        "against baseline (run-9) 1 outcome changed (predicted share of positive: 0.5 → 0.35); "
        "4 words (late: gone, in 10 of 100 → 0 of 400 documents, "
        "dull of positive: reversed, -0.5 → 0.25 logits, "
        "great: new, in 0 of 100 → 15 of 400 documents, …); "
        "1 measure of the layer profile (special share at depth 3: 0.34 → 0.12); "
        "see: calig query \"SELECT * FROM comparison_outcomes WHERE reference_id = 'run-9' AND changed\" --run run-0"
    )
    held = {d.doc_id for d in EXPECTED.explained if {"great", "late", "dull"} & set(d.text.lower().split())}
    assert len(outcome.documents) == 20
    assert set(outcome.documents) <= held
    only = the(check(opened, drift={"what": ["layers"], "severity": "warn"}))
    assert (only.value, only.severity, only.documents) == (1, "warn", ())
    assert only.detail.startswith(
        "against baseline (run-9) 1 measure of the layer profile changed (special share"
    )


def test_no_drift_in_the_families_named(warehouse: Callable[..., Warehouse]) -> None:
    words = [
        {"class": name, "word": word, "q": q if name == "positive" else None, "share_q": share_q}
        for word, q, share_q in (("great", 0.5, None), ("dull", None, 0.7), ("odd", None, None))
        for name in ("*", "positive")
    ]
    opened = warehouse(comparisons=[COMPARED | {"layers_changed": 2}], comparison_words=words)
    outcome = the(check(opened, drift={"what": ["words", "outcomes"]}))
    assert (outcome.passed, outcome.value, outcome.state) == (True, 0, "holds")
    assert outcome.detail == (
        "no change found among 2 words and 1 outcome against baseline (run-9) "
        "(too few documents to tell of 3,120 words)"
    )
    assert the(check(opened, drift=True)).passed is False


def test_drift_of_what_could_not_be_tested_is_not_checked(warehouse: Callable[..., Warehouse]) -> None:
    nothing = {"words_tested": 0, "layers_tested": 0, "outcomes_tested": 0, "documents_b": 1}
    opened = warehouse(comparisons=[COMPARED | nothing])
    outcome = the(check(opened, drift=True))
    assert (outcome.passed, outcome.value, outcome.state) == (None, None, "not checked")
    assert outcome.detail == (
        "nothing could be tested of words, measures of the layer profile and outcomes against baseline (run-9): "
        "it has 100 documents, and this run 1"
    )
    with duckdb.connect(opened.database) as connection:
        connection.execute("UPDATE comparisons SET outcomes_tested = 9")
    outcome = the(check(opened, drift=True))
    assert (outcome.passed, outcome.state) == (True, "holds")
    assert outcome.detail == (
        "no change found among 9 outcomes against baseline (run-9) "
        "(nothing could be tested of words and measures of the layer profile)"
    )
    with duckdb.connect(opened.database) as connection:
        connection.execute("UPDATE comparisons SET outcomes_changed = 1")
    outcome = the(check(opened, drift=True))
    assert outcome.state == "fails"
    assert "1 outcome changed (, …); nothing could be tested of words and measures" in outcome.detail


@pytest.mark.parametrize(("unchecked", "fails"), [("warn", False), ("fail", True)])
def test_what_becomes_of_a_gate_that_is_not_checked(
    unchecked: str, fails: bool, warehouse: Callable[..., Warehouse]
) -> None:
    opened = warehouse(comparisons=[COMPARED | {"class_psi": None, "layer_psi": None}])
    gates = {
        "unchecked": unchecked,
        "max_class_psi": 0.1,
        "max_layer_psi": {"limit": 0.1, "severity": "warn"},
        "max_accuracy_drop": 0.05,
    }
    outcomes = check(opened, **gates)
    told = {one.gate: (one.state, one.severity, one.fails_audit) for one in outcomes}
    assert told == {
        "max_class_psi": ("not checked", "error" if fails else "warn", fails),
        "max_layer_psi": ("not checked", "warn", False),
        "max_accuracy_drop": ("holds", "error", False),
    }
    if not fails:
        enforce("run-0", outcomes)
        return
    with pytest.raises(GateError) as caught:
        enforce("run-0", outcomes)
    assert str(caught.value) == (
        "gates.max_class_psi: the predicted classes cannot be compared with those of baseline (run-9); "
        "not checked, which fails the audit (gates.unchecked: fail)"
    )


def test_a_first_night_does_not_fail_by_what_it_has_no_run_to_compare_with(aggregated: Warehouse) -> None:
    outcomes = check(aggregated, unchecked="fail", drift=True, max_class_psi=0.1)
    assert [(one.state, one.severity) for one in outcomes] == [("not checked", "warn")] * 2
    enforce("run-0", outcomes)


def test_gates_of_a_run_without_documents_are_not_checked(warehouse: Callable[..., Warehouse]) -> None:
    opened = warehouse()
    with duckdb.connect(opened.database) as connection:
        connection.execute("UPDATE runs SET documents = 0, failures = 0")
    held = {"name": "held", "sql": "SELECT 1 FROM documents WHERE tokens > 10000"}
    size = {"name": "size", "sql": "SELECT documents FROM runs WHERE documents < 10"}
    outcomes = check(opened, max_failure_share=0.1, sql=[held, size])
    assert [(one.gate, one.state, one.severity) for one in outcomes] == [
        ("max_failure_share", "not checked", "warn"),
        ("held", "not checked", "warn"),
        ("size", "fails", "error"),
    ]
    assert outcomes[0].detail == "the run has no documents"


# ---- SQL


def sql(warehouse: Warehouse, text: str) -> GateOutcome:
    return the(check(warehouse, sql=[{"name": "mine", "sql": text}]))


def test_sql_that_returns_no_row_holds(aggregated: Warehouse) -> None:
    outcome = sql(aggregated, "SELECT 1 FROM documents WHERE tokens > 10000")
    assert (outcome.gate, outcome.passed, outcome.value, outcome.documents) == ("mine", True, 0, ())


def test_sql_that_returns_rows_shows_the_first(aggregated: Warehouse) -> None:
    text = "SELECT doc_id, 'a\nb' AS two, 0.123456 AS number FROM documents WHERE doc_id < 30 ORDER BY doc_id DESC"
    outcome = sql(aggregated, text)
    assert (outcome.passed, outcome.value, outcome.limit) == (False, 30, 0)
    assert outcome.detail == "30 rows, the first: " + "; ".join(
        f"doc_id {n}, two a b, number 0.1235" for n in (29, 28, 27)
    )
    assert outcome.documents == tuple(range(29, 9, -1))
    one = sql(aggregated, "SELECT doc_id FROM documents WHERE doc_id = 3")
    assert one.detail == (
        '1 row: doc_id 3; see: calig query "SELECT doc_id FROM documents WHERE doc_id = 3" --run run-0'
    )


def test_more_rows_than_are_counted(aggregated: Warehouse) -> None:
    outcome = sql(aggregated, "SELECT repeat('x', 500) AS long FROM range(100000)")
    assert outcome.value == 1000
    assert outcome.detail.startswith(f"at least 1000 rows, the first: long {'x' * 59}…; long x")
    assert len(outcome.detail) < 500


def test_a_bundled_question_is_a_gate(aggregated: Warehouse) -> None:
    outcome = sql(aggregated, "@misled")
    assert outcome.passed is False
    assert outcome.documents
    assert outcome.detail.endswith('see: calig query "@misled" --run run-0')
    assert sql(aggregated, "@border-share").passed is True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SELECT nothing FROM documents", "nothing"),
        ("SELECT error('stop ' || 1)", "stop 1"),
        ("SELECT 'a'::INT", "a"),
    ],
)
def test_sql_that_cannot_be_answered_fails_and_says_why(aggregated: Warehouse, text: str, said: str) -> None:
    outcome = sql(aggregated, text)
    assert (outcome.passed, outcome.value) == (False, None)
    assert outcome.detail.startswith("SQL: ")
    assert said in outcome.detail
    assert "\n" not in outcome.detail


def test_sql_sees_its_run_alone_and_no_files(aggregated: Warehouse) -> None:
    assert sql(aggregated, "SELECT DISTINCT run_id FROM word_stats").value == 1
    with pytest.raises(InputError, match=r"^gates\.sql, mine: SQL: the table function read_text is off"):
        check_configured(
            NOWHERE, config({"sql": [{"name": "mine", "sql": "FROM read_text('/etc/passwd')"}]}), "text"
        )


# ---- before anything starts


ODD = "no such watch list, or term of one; "


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        ({"max_watched_share": {"prase": 0}}, f"gates.max_watched_share.prase: {ODD}did you mean praise?"),
        (
            {"max_watched_share": {"praise/grate": 0}},
            f"gates.max_watched_share.praise/grate: {ODD}did you mean praise/great?",
        ),
        ({"max_watched_share": {"zzz": 0}}, f"gates.max_watched_share.zzz: {ODD}there are: praise, odd"),
        (
            {"drift": True},
            "gates.drift: there is nothing to compare with; set compare_to, to previous for example",
        ),
        ({"max_class_psi": 1}, "gates.max_class_psi: there is nothing to compare with"),
        ({"max_layer_psi": 1}, "gates.max_layer_psi: there is nothing to compare with"),
        ({"max_flip_share": 1}, "gates.max_flip_share: there is nothing to compare with"),
        ({"max_accuracy_drop": 1}, "gates.max_accuracy_drop: there is nothing to compare with"),
        (
            {"sql": [{"name": "a", "sql": "DROP TABLE runs"}]},
            "gates.sql, a: SQL: a DROP statement; only one SELECT",
        ),
        ({"sql": [{"name": "a", "sql": "SELECT 1; SELECT 2"}]}, "gates.sql, a: SQL: 2 statements"),
        ({"sql": [{"name": "a", "sql": "SELEC 1"}]}, "gates.sql, a: SQL: Parser Error"),
        (
            {"sql": [{"name": "a", "sql": "@nothing"}]},
            "gates.sql, a: no question @nothing; there are: @top-words",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(gates: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        check_configured(NOWHERE, config(gates), "text")
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_what_makes_sense_is_not_refused() -> None:
    gates = {"max_watched_share": {"praise": 0.1, "odd/{value}": 1}, "drift": True, "max_class_psi": 0.1}
    check_configured(
        NOWHERE, config(gates | {"sql": [{"name": "a", "sql": " @misled "}]}, compare_to="previous"), "text"
    )
    check_configured(NOWHERE, config({}, watch={}), "image")


def test_a_level_that_an_audit_does_not_use_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    check_configured(NOWHERE, config({}, compare_to="previous", compare={"min_share": 0.1}), "text")
    check_configured(NOWHERE, config({}, compare={"alpha": 0.05}), "text")
    assert caplog.messages == []
    check_configured(NOWHERE, config({}, compare_to="previous", compare={"alpha": 0.05}), "text")
    [said] = caplog.messages
    assert said.startswith("compare.alpha: 0.05 is not used in an audit, only by calig compare")


def test_images_have_no_watch_lists() -> None:
    with pytest.raises(InputError, match=r"^watch: the model reads images"):
        check_configured(NOWHERE, config({}), "image")


# ---- what becomes of them


def outcome(gate: str, passed: bool | None, severity: Any = "error") -> GateOutcome:
    return GateOutcome("run-0", gate, severity, passed, 1.0, 0.5, None, f"{gate} found", (3, 1))


def test_only_errors_fail_and_all_are_named() -> None:
    quiet = [outcome("a", True), outcome("b", None), outcome("c", False, "warn")]
    enforce("run-0", quiet)
    with pytest.raises(GateError) as caught:
        enforce("run-0", [*quiet, outcome("d", False), outcome("e", False)])
    assert str(caught.value) == "gates.d: d found\ngates.e: e found"
    assert caught.value.run_id == "run-0"


def test_outcomes_are_stored_and_rebuilt(tmp_path: Path) -> None:
    make_warehouse(tmp_path, documents=20)
    make_warehouse(tmp_path, documents=20, seed=1)
    opened = Warehouse.open(tmp_path)
    for run_id in ("run-0", "run-1"):
        aggregate(opened, run_id)
    first = [outcome("a", True), outcome("b", False)]
    store_gates(opened, "run-0", first)
    store_gates(opened, "run-1", [replace(outcome("z", None), run_id="run-1")])
    second = [
        *check_run(opened, "run-0", config({"max_failure_share": 0, "min_accuracy": 0})),
        outcome("c", None, "warn"),
    ]
    store_gates(opened, "run-0", second)
    assert read_gates(opened.run("run-0")) == second
    rows = query(opened, "SELECT * EXCLUDE (run_id) FROM gates", "run-0").rows
    assert [row[0] for row in rows] == ["max_failure_share", "min_accuracy", "c"]
    assert rows[2][:8] == ("c", "warn", None, 1.0, 0.5, None, "c found", [3, 1])
    assert rows[0][7] == list(second[0].documents) != []
    assert query(opened, "SELECT gate FROM gates", "run-1").rows == [("z",)]
    for again in (lambda: aggregate(opened, "run-0"), lambda: rebuild(opened)):
        again()
        assert query(opened, "SELECT * EXCLUDE (run_id) FROM gates", "run-0").rows == rows
    ordered = query(opened, question("gates").sql, "run-0").rows
    assert [row[1] for row in ordered] == ["max_failure_share", "min_accuracy", "c"]
    assert json.loads((tmp_path / "runs" / "run-0" / "gates.json").read_text())[2]["documents"] == [3, 1]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "gates.json").write_text('[{"gate": "a"}]')
    with pytest.raises(InputError, match=r"gates\.json is damaged .*: delete it"):
        read_gates(tmp_path)
    assert read_gates(tmp_path / "nowhere") == []
