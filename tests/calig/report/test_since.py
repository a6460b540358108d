"""The report's first screen: gates, what changed since other runs, and watched terms."""

from __future__ import annotations

import html
import re
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from calig.report import build, prose, since
from calig.report.data import collect
from calig.report.render import render
from calig.report.since import Gate, Offender, Opening
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_run, open_tables
from tests.material.html import Page
from tests.material.report_nights import make_pair, write
from tests.material.report_runs import RUN, Scene, connect


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def own(warehouse: Warehouse, tmp_path: Path) -> Warehouse:
    """The same warehouse, to be changed."""
    return Warehouse.open(shutil.copytree(warehouse.root, tmp_path / "own"))


@pytest.fixture(scope="module")
def page(warehouse: Warehouse) -> str:
    return build(warehouse, "run-b").read_text("utf-8")


def opening_of(warehouse: Warehouse, run: str) -> Opening:
    with closing(open_run(warehouse, run)) as con, closing(open_tables(warehouse)) as tables:
        return since.collect(tables, con, run)


def plain(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def gate(name: str, passed: bool | None, severity: str = "error", **more: object) -> Gate:
    return Gate(name, severity, passed, 0.5, 0.4, None, "", **more)  # type: ignore[arg-type]


def test_each_gate_is_a_row_those_that_do_not_hold_first(page: str) -> None:
    rows = re.findall(r'<li class="(fails|warns|unchecked|holds)">(.*?)</li>', page, re.DOTALL)
    assert [(state, plain(row)) for state, row in rows] == [
        ("fails", "min_accuracy fails 0.610, at least 0.8 accuracy 0.61 is below 0.8"),
        ("warns", "max_flip_share warns 0.0700, at most 0.05 4 of 57 predictions flipped"),
        ("unchecked", "max_class_psi not checked at most 0.25 no classes in common"),
        ("holds", "max_failure_share holds 0.0500, at most 0.06 3 of 60 documents failed"),
    ]
    assert '<span class="state bad">Gate failed: min_accuracy</span>' in page


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.25049, "0.2505, at most 0.25"), (0.25, "0.250, at most 0.25"), (3.0, "3, at most 0.25")],
)
def test_a_value_is_told_apart_from_its_limit(value: float, said: str) -> None:
    assert replace(gate("max_class_psi", False), value=value, limit=0.25).measured == said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, ""),
        ({"level": 1 / 1460}, "Where nothing changed, it fails in one of 1,460 runs."),
        (
            {"level": 0.05, "cannot_see": "a population stability index below 0.4"},
            "Cannot see a population stability index below 0.4. Where nothing changed, it fails in 5 % of runs.",
        ),
        ({"chance": 0.123}, "Where nothing changed, chance crosses this limit in 12 % of runs of this size."),
        ({"chance": 0.0}, "Where nothing changed, chance crosses this limit in no run of this size."),
    ],
)
def test_a_gate_says_how_often_chance_fails_it_and_what_it_cannot_see(
    more: dict[str, object], said: str
) -> None:
    assert gate("drift", True, **more).by_chance == said


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        ([gate("a", True)], ("good", "Gates passed")),
        ([gate("a", False)], ("bad", "Gate failed: a")),
        ([gate("a", False), gate("b", True), gate("c", False)], ("bad", "2 of 3 gates failed")),
        ([gate("a", False, "warn")], ("warn", "Gates passed, 1 warning")),
        (
            [gate("a", True), gate("b", None), gate("c", False, "warn")],
            ("warn", "Gates passed, 1 warning, 1 not checked"),
        ),
        ([gate("a", None)], ("warn", "No gate failed, 1 not checked")),
        ([gate("a", None, "warn", recorded="not checked")], ("warn", "No gate failed, 1 not checked")),
        ([gate("a", None, recorded="not checked")], ("bad", "Gate failed: a")),
        (
            [gate("a", True), gate("b", True, recorded="too few documents"), gate("c", None)],
            ("warn", "Gates passed, 1 not checked, 1 too few documents"),
        ),
        ([], ("good", "Gates passed")),  # of before gates were kept: the limit of failures, which holds
    ],
)  # fmt: skip
def test_the_state_speaks_of_all_gates(gates: list[Gate], said: tuple[str, str]) -> None:
    assert prose.gate(collect(connect(Scene()), RUN).run, gates) == said


def test_a_gate_says_that_it_was_not_checked_or_could_not_tell() -> None:
    told = {
        ("error", "not checked"): ("fails", "fails: not checked"),
        ("warn", "not checked"): ("unchecked", "not checked"),
        ("error", "too few documents"): ("unchecked", "too few documents"),
        ("error", None): ("unchecked", "not checked"),  # of runs of earlier versions
    }
    for (severity, recorded), said in told.items():
        one = gate("a", None, severity, recorded=recorded)
        assert (one.state, one.said) == said


def test_changes_lead_to_their_page_and_name_the_words(warehouse: Warehouse, page: str) -> None:
    target = "../comparisons/run-a/index.html"
    assert f'<a href="{target}">since <b><bdi>previous</bdi></b>' in page
    assert (warehouse.run("run-b") / "report" / target).resolve().is_file()
    text = plain(page)
    assert "since previous 1 March 2026 Changed “zq7” is new in positive; the model was retrained" in text
    assert "zq7 new positive – → +2.1" in text
    assert "and 5 more" in text  # 11 changed, 6 named
    assert [word.word for word in opening_of(warehouse, "run-b").changes[0].words][:2] == [
        "boring",
        "charming",
    ]
    assert "../../../history/synthetic/index.html" in page


def test_the_finding_stands_under_the_headline_where_anything_changed(
    warehouse: Warehouse, page: str
) -> None:
    head = plain(page[page.index("<h1>") : page.index("</header>")])
    assert "Since previous : “zq7” is new in positive." in head
    [change] = opening_of(warehouse, "run-b").changes
    quiet = replace(
        change, changed=False, flips=0, verdict="no change found; too few documents to test 3 words"
    )
    assert quiet.state == ("good", "No change found")
    assert quiet.finding == "no change found."
    assert replace(quiet, verdict="").finding == "no change found."


def test_gates_come_before_changes_and_those_before_words(page: str) -> None:
    places = [
        page.index(mark)
        for mark in ('id="gates"', 'id="changes"', 'class="look"', 'id="words"', 'id="watched"')
    ]
    assert places == sorted(places)


def test_the_compared_runs_layer_profile_lies_behind(warehouse: Warehouse, page: str) -> None:
    with duckdb.connect(str(warehouse.database), read_only=True) as connection:
        shares = connection.execute(
            "SELECT special_share FROM layer_stats WHERE run_id = 'run-a' AND class = '*' ORDER BY depth"
        ).fetchall()
    expected = "L".join(
        f"{40 + 67 * depth:.1f} {10 + 140 * (1 - share):.1f}" for depth, (share,) in enumerate(shares)
    )
    assert f'<g class="line behind"><title>compared run</title><path d="M{expected}"/>' in page


def test_a_removed_references_layer_profile_is_what_the_comparison_kept(own: Warehouse) -> None:
    before = opening_of(own, "run-b").behind
    with duckdb.connect(str(own.database)) as connection:
        for table in ("runs", "layer_stats", "watched"):
            connection.execute(f"DELETE FROM {table} WHERE run_id = 'run-a'")
    opening = opening_of(own, "run-b")
    assert [row.special_share for row in opening.behind] == [row.special_share for row in before]
    assert {row.cancellation for row in opening.behind} == {None}
    assert opening.changes[0].started is None
    assert "since <b><bdi>previous</bdi></b> <small>run-a</small>" in build(own, "run-b").read_text("utf-8")


def test_the_previous_run_is_first_whatever_else_it_is_called(own: Warehouse) -> None:
    with duckdb.connect(str(own.database)) as connection:
        connection.execute("UPDATE comparisons SET requested = 'baseline, previous'")
        connection.execute(
            "INSERT INTO comparisons BY NAME SELECT * REPLACE ('run-z' AS reference_id, 'alpha' AS requested) "
            "FROM comparisons"
        )
    opening = opening_of(own, "run-b")
    assert [one.requested for one in opening.changes] == ["baseline, previous", "alpha"]
    assert opening.compared == opening.changes[0]


def test_watched_terms_are_the_tables_with_their_change(page: str) -> None:
    text = plain(page)
    assert "Watched terms" in text
    row = "leaks <b>superb</b> 12 20.0 % 16.0 % +6.0 +0.80 [0.700, 0.900] +0.30"
    assert row in text
    assert text.count("leaks all terms 12 20.0 % 16.0 % +6.0") == 2  # all documents, and of positive
    assert not [tag for tag, _ in Page(page).tags if tag == "superb"]


def test_long_watch_lists_are_cut(own: Warehouse) -> None:
    terms = [
        {"run_id": "run-b", "list": "long", "term": f"t{number:04d}", "class": label, "documents": 1, "occurrences": 1,
         "document_share": 0.1, "share": number / 1e5, "effect": 0.1, "effect_low": None, "effect_high": None}
        for number in range(500) for label in ("*", *(f"class {place}" for place in range(100)))
    ]  # fmt: skip
    write(own, {"watched": terms})
    opening = opening_of(own, "run-b")
    assert len(opening.watched) == since.WATCHED
    assert [row.term for row in opening.watched if row.listed == "long" and row.label == "*"] == [
        f"t{number:04d}" for number in range(499, 459, -1)
    ]
    assert build(own, "run-b").stat().st_size < 5_000_000


def test_a_first_night_says_nothing_of_changes(warehouse: Warehouse) -> None:
    opening = opening_of(warehouse, "run-a")
    assert (opening.gates, opening.changes, opening.behind, opening.nights) == ((), (), (), 2)
    page = build(warehouse, "run-a").read_text("utf-8")
    assert 'class="since"' not in page


def test_documents_that_show_a_gate_are_read_and_linked(warehouse: Warehouse) -> None:
    with closing(open_run(warehouse, "run-b")) as con, closing(open_tables(warehouse)) as tables:
        own = duckdb.connect()
        names = [
            row[0]
            for row in tables.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'calig'"
            ).fetchall()
        ]
        for name in names:
            own.register("rows", tables.sql(f"SELECT * FROM calig.main.{name}").to_arrow_table())
            own.execute(f"CREATE TABLE {name} AS FROM rows")
            own.unregister("rows")
        own.execute("ALTER TABLE gates ADD COLUMN IF NOT EXISTS documents BIGINT[]")
        own.execute("UPDATE gates SET documents = [3, 7, 11] WHERE gate = 'min_accuracy'")
        opening = since.collect(own, con, "run-b")
        failing = opening.gates[0]
        assert failing.offenders == (
            Offender(3, "s003", None), Offender(7, "s007", "non_finite"), Offender(11, "s011", None)
        )  # fmt: skip
        assert opening.offending == [3, 11]  # what could not be explained cannot be read
        data = collect(con, "run-b", opening.offending)
    assert {doc.doc_id for doc in data.documents if ("gate", 0.0) in doc.reasons} == {3, 11}
    page = render(data, opening)
    assert re.findall(r'data-document="(\w+)"', page) == ["s003", "s011"]
    assert "3 documents that show it s003 s007 non_finite s011" in plain(page)
    assert "Shows a gate that fails" in page
