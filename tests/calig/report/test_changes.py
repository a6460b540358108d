"""The page of a comparison: its numbers are the tables', its words stay words, and it survives its reference."""

from __future__ import annotations

import html
import re
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest

from calig.errors import InputError
from calig.report import arrows, changes, changes_data, changes_prose
from calig.report.changes_data import Changes, WordChange, collect
from calig.report.formats import percent, signed
from calig.report.heat import visible
from calig.report.shifts import shifts
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_run, open_tables
from tests.material.html import Page
from tests.material.report_nights import (
    DEPTHS,
    LEAK,
    LEAK_FROM,
    RETRAINED,
    Story,
    make,
    make_pair,
    measured,
    run_id,
)

HOSTILE = "</script><b>x</b>&\u202e"


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return make(tmp_path_factory.mktemp("nights"), Story(nights=RETRAINED + 2))


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return make_pair(tmp_path_factory.mktemp("pair"))


def gathered(warehouse: Warehouse, run: str, reference: str) -> Changes:
    with closing(open_tables(warehouse)) as connection:
        return collect(connection, warehouse, run, reference)


def page_of(warehouse: Warehouse, night: int, other: int) -> str:
    path = changes.build(warehouse, run_id(night), run_id(other))
    assert path == warehouse.comparison(run_id(night), run_id(other)) / "index.html"
    return path.read_text("utf-8")


def rows_of(page: str) -> list[tuple[str, list[str]]]:
    """(word, texts of its cells) of every drawn row, in the order of the page."""
    found = re.findall(r'<li class="(?:for|against)" data-word="(.*?)">(.*?)</li>', page, re.DOTALL)
    return [
        (html.unescape(word), html.unescape(re.sub(r"<[^>]*>", " ", body)).split()) for word, body in found
    ]


def test_words_are_those_of_the_table_in_the_order_of_their_part_of_the_class(warehouse: Warehouse) -> None:
    rows = rows_of(page_of(warehouse, RETRAINED, 0))
    with duckdb.connect(str(warehouse.database), read_only=True) as connection:
        table = connection.execute(
            "SELECT class, word, change, effect_a, effect_b, share_a, share_b FROM comparison_words "
            "WHERE run_id = ? AND reference_id = ? AND changed",
            [run_id(RETRAINED), run_id(0)],
        ).fetchall()
    part = {(row[0], row[1]): abs((row[4] or 0) * row[6] - (row[3] or 0) * row[5]) for row in table}
    expected = [
        row
        for label in ("positive", "negative")  # positive has the leaked word besides, so moved more
        for row in sorted((row for row in table if row[0] == label), key=lambda row: -part[row[0], row[1]])
    ]
    assert len(expected) == 11
    assert [word for word, _ in rows] == [row[1] for row in expected]
    for (_, texts), (_, word, change, a, b, share_a, share_b) in zip(rows, expected, strict=True):
        said = " ".join(texts)
        assert said.startswith(f"{word} {change} ")
        assert f"effect {signed(a, 2)} → to {signed(b, 2)}" in said
        assert f"share of documents {percent(share_a)} → to {percent(share_b)}" in said


def test_the_first_screen_says_what_the_tables_say(warehouse: Warehouse) -> None:
    page = page_of(warehouse, RETRAINED, 0)
    plain = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())
    assert f"<h1>“{LEAK}” is new in positive</h1>" in html.unescape(page)
    assert (
        "The model was retrained and weighs its words otherwise; positive is predicted 30% less often"
        in plain
    )
    assert "0.912 → to 0.897" in plain
    assert "Predictions flipped 9 10.0 % of 90 documents in both" in plain
    assert "0.42 PSI much ; 0.069 bits JS" in plain  # 0.3·ln(0.8/0.2) = 0.416; over 6
    assert "Words changed 11 in 34 tests, 7 words not tested; layers 16, outcomes 1" in plain
    assert "Another model, another corpus; 90 documents that both hold are compared one by one." in plain
    assert "at most 0.025" in plain
    assert "held to 0.00833" in plain
    assert (
        "34 tests of words (11 called changed), 126 tests of the layer profile (16), 3 tests of outcomes (1)."
        in plain
    )
    assert page.count('<tr class="changed"') + page.count("<tr class=changed") >= 2 + 9


@pytest.mark.parametrize(
    ("psi", "size"), [(None, ""), (0.0999, "small"), (0.1, "medium"), (0.25, "medium"), (0.2501, "large")]
)
def test_the_rule_of_thumb(psi: float | None, size: str) -> None:
    assert changes_prose.size(psi) == size


def test_no_change_is_said_calmly_with_what_came_nearest(warehouse: Warehouse) -> None:
    page = page_of(warehouse, 3, 2)
    assert '<span class="state good">No change found</span>' in page
    assert "<h1>No change found</h1>" in page
    assert '<p class="further">Too few documents to test 7 words</p>' in page
    assert "No change of a word found" in page
    assert "7 words are in too few documents to test." in page
    assert "called changed</" not in page.split('id="layers"')[0].split('id="outcomes"')[1]
    assert 0 < len(rows_of(page)) <= 2 * arrows.SHOWN // 2
    assert {texts[1] for _, texts in rows_of(page)} == {"no"}  # "no change"


@pytest.mark.parametrize(
    ("told", "badge"),
    [
        ({"changed": True, "verdict": "nothing changed"}, ("changed", "Changed")),
        ({"flips": 4, "verdict": "4 of 100 predictions changed"}, ("changed", "Predictions changed")),
        ({"verdict": "nothing changed; layers are not compared"}, ("good", "Nothing changed")),
        ({"verdict": "no change found; too few documents to test 3 words"}, ("good", "No change found")),
        (
            {"verdict": "cannot tell whether anything changed: nothing could be tested"},
            ("open", "Cannot tell"),
        ),
        ({"verdict": "there are no documents to compare"}, ("open", "Cannot tell")),
        ({"verdict": None}, ("good", "No change found")),
    ],
)
def test_the_badge_says_no_more_than_is_known(
    warehouse: Warehouse, told: dict[str, object], badge: tuple[str, str]
) -> None:
    comparison = gathered(warehouse, run_id(3), run_id(2)).comparison
    assert changes_prose.state(replace(comparison, **({"changed": False, "flips": 0} | told))) == badge  # type: ignore[arg-type]


def test_a_word_that_no_test_could_tell_is_not_called_unchanged(tmp_path: Path) -> None:
    warehouse = make(tmp_path, Story(nights=3))
    with duckdb.connect(str(warehouse.database)) as connection:
        connection.execute("UPDATE comparison_words SET state = 'cannot tell' WHERE word = 'not'")
        connection.execute("UPDATE comparison_outcomes SET state = 'not tested' WHERE measure = 'accuracy'")
    page = page_of(warehouse, 2, 1)
    said = {word: " ".join(texts) for word, texts in rows_of(page)}
    assert said["not"].startswith("not cannot tell effect ")
    assert said["a"].startswith("a no change found effect ")
    assert re.search(r"<tr><th scope=\"row\">Accuracy</th>.*<td>not tested</td></tr>", page)


def test_documents_of_two_samples_are_told_apart(paired: Warehouse, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(paired.root, root)
    warehouse = Warehouse.open(root)
    with duckdb.connect(str(warehouse.database)) as connection:
        connection.execute(
            "UPDATE comparisons SET tests_paired = false, paired = 50, text_changed = 7, only_a = 3, only_b = 1, "
            "same_corpus = false, left_out = 2"
        )
        connection.execute("UPDATE comparison_documents SET text_changed = doc_id_b < 8")
    data = gathered(warehouse, "run-b", "run-a")
    edited = [one for one in data.documents if one.text_changed]
    assert edited
    assert all(one.text and one.text_before and one.heats is None for one in edited)
    page = changes.build(Warehouse.open(root), "run-b", "run-a").read_text("utf-8")
    plain = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())
    assert (
        "two samples of documents are compared: 50 in both, 7 in both with another text, 3 in the reference alone, "
        "1 in the run alone" in plain
    )
    assert "In 2 of them the run explains another class than the reference" in plain
    assert "Text changed: the same id, another text" in plain
    assert len(re.findall('aria-label="Documents whose text changed".*?</table>', page, re.DOTALL)) == 1


def test_chance_is_named_where_a_divergence_is_no_larger(warehouse: Warehouse) -> None:
    comparison = gathered(warehouse, run_id(RETRAINED), run_id(0)).comparison
    drawn = replace(comparison, psi_draws=1000, class_psi_by_chance=0.9, layer_psi_by_chance=None)
    assert [drift.said for drift in changes_prose.drifts(drawn)] == [
        "no more than chance, which reaches 0.90",
        "little",
        "too few documents to tell",
    ]
    beyond = replace(drawn, class_psi_by_chance=0.1)
    assert changes_prose.drifts(beyond)[0].said == "much"


def test_a_verdict_is_made_where_the_table_has_none(warehouse: Warehouse) -> None:
    comparison = replace(gathered(warehouse, run_id(RETRAINED), run_id(0)).comparison, verdict=None)
    assert (
        changes_prose.verdict(comparison) == "Changed: 11 words, 16 measures of the layer profile, 1 outcome."
    )
    one = replace(comparison, words_changed=1, layers_changed=0, outcomes_changed=None)
    assert changes_prose.verdict(one) == "Changed: 1 word."


def test_the_smallest_sizes_are_said_where_the_audit_has_them(warehouse: Warehouse) -> None:
    found = gathered(warehouse, run_id(RETRAINED), run_id(0))
    settings = {"min_effect": 0.05, "min_documents": 5}
    known = replace(found, run=replace(found.run, config={"compare": settings}))
    said = (
        "What is smaller is not called a change: 0.05 logits of a word’s mean effect; a word in fewer than 5 "
    )
    assert any(rule.startswith(said) for rule in changes_prose.rules(known))
    without = replace(found, run=replace(found.run, config={}))
    assert not any("not called a change" in rule for rule in changes_prose.rules(without))


def word(**values: object) -> WordChange:
    plain = WordChange(
        "c", "w", 9, 9, 0.1, 0.1, 1.0, -1.0, -2.0, -2.5, -1.5, 0.01, True, 0, "reversed", True, 0.2
    )
    return replace(plain, **values)  # type: ignore[arg-type]


def test_effects_and_their_interval_lie_on_one_scale() -> None:
    [panel], scale = arrows.panels([word()])
    # effects 1 and −1; the interval from a is −1.5 to −0.5; a fifth of 2 is the room beyond −1: −1.4; margins 3 %
    assert scale.start == pytest.approx(-1.4 - 0.03 * 2.4)
    assert scale.end == pytest.approx(1.0 + 0.03 * 2.4)
    [row] = panel.rows
    width = 2.4 * 1.06
    assert row.a == pytest.approx(100 * (1.0 - scale.start) / width)
    assert row.b == pytest.approx(100 * (-1.0 - scale.start) / width)
    assert row.low == 0.0  # cut at the end of the scale
    assert row.high == pytest.approx(100 * (-0.5 - scale.start) / width)
    assert scale.zero == pytest.approx(100 * -scale.start / width)
    assert row.side == "against"


def test_the_interval_is_laid_from_the_reference() -> None:
    [panel], scale = arrows.panels([word(effect_a=1.0, effect_b=0.5, difference=-0.5, low=-0.7, high=-0.2)])
    [row] = panel.rows
    assert (row.low, row.high) == pytest.approx((scale.place(0.3), scale.place(0.8)))
    assert 0 < scale.zero < scale.place(0.3) < scale.place(0.5) < scale.place(0.8) < 100


def test_a_new_word_has_no_place_before_and_a_gone_one_none_after() -> None:
    new = word(word="new", effect_a=None, difference=None, low=None, high=None, change="new")
    gone = word(word="gone", effect_b=None, difference=None, low=None, high=None, change="gone")
    [panel], _ = arrows.panels([new, gone])
    first, second = panel.rows
    assert (first.a, first.low, second.b, second.side) == (None, None, None, "for")
    assert first.b is not None
    assert second.a is not None


def test_twenty_are_drawn_the_rest_listed_and_classes_without_change_closed() -> None:
    many = [word(word=f"w{place:02d}", weight=1 - place / 100) for place in range(27)]
    still = [word(label="d", word="calm", changed=False, change=None)]
    every = [word(label="*", word="all", weight=9.0)]
    found, _ = arrows.panels([*still, *many, *every])
    assert [panel.label for panel in found] == ["c", "d", "*"]
    assert [panel.open for panel in found] == [True, False, False]
    assert [row.word.word for row in found[0].rows] == [f"w{place:02d}" for place in range(20)]
    assert [one.word for one in found[0].rest] == [f"w{place:02d}" for place in range(20, 27)]


def test_layer_profiles_lie_over_each_other_and_changed_depths_are_ringed(warehouse: Warehouse) -> None:
    data = gathered(warehouse, run_id(RETRAINED), run_id(0))
    charts = shifts([row for row in data.layers if row.label == "*"], DEPTHS)
    special = next(chart for chart in charts if chart.title == "Special-token share")
    behind, run, moved = special.lines
    for line, retrained in ((behind, False), (run, True)):
        expected = [10 + 140 * (1 - (measured("special_share", d, retrained) or 0)) for d in range(DEPTHS)]
        assert [y for _, y in line.points] == pytest.approx(expected)
    assert len(moved.points) == sum(
        abs((measured("special_share", d, True) or 0) - (measured("special_share", d, False) or 0)) > 0.05
        for d in range(DEPTHS)
    )
    assert set(moved.points) <= set(run.points)
    assert "changed at depth 0, 1" in special.summary


def test_both_heats_are_the_words_of_the_two_runs_on_one_scale(paired: Warehouse) -> None:
    data = gathered(paired, "run-b", "run-a")
    with_heat = [one for one in data.documents if one.heats]
    assert len(with_heat) == changes_data.HEATS
    assert sum(one.flipped for one in with_heat) == 4
    document = with_heat[0]
    assert document.heats is not None
    for heat, run, doc_id in zip(
        document.heats, ("run-a", "run-b"), (document.doc_id_a, document.doc_id_b), strict=True
    ):
        with closing(open_run(paired, run)) as connection:
            words = connection.execute(
                "SELECT text, logit_effect FROM words WHERE doc_id = ? ORDER BY word_id", [doc_id]
            ).fetchall()
        content = ~heat.special
        assert [unit for unit, own in zip(heat.units, content, strict=True) if own] == [
            text for text, _ in words
        ]
        assert heat.scores[content] == pytest.approx([effect for _, effect in words], abs=1e-5)
    largest = max(np.abs(heat.scores[~heat.special]).max() for heat in document.heats)
    assert document.scale == pytest.approx(largest)
    shown = changes.shown(document)
    steps = [
        unit for unit in (*shown.a, *shown.b) if "a10" in unit.style.split() and "special" not in unit.style
    ]
    assert abs(steps[0].effect) == pytest.approx(largest, rel=0.06)
    for unit in (*shown.a, *shown.b):
        assert ("neg" in unit.style.split()) == (unit.effect < 0)
    page = changes.build(paired, "run-b", "run-a").read_text("utf-8")
    assert page.count('<article class="card">') == changes_data.HEATS


def test_a_class_that_differs_is_said_above_the_second_heat(paired: Warehouse) -> None:
    data = gathered(paired, "run-b", "run-a")
    differing = sum(one.targets[0] != one.targets[1] for one in data.documents if one.heats)
    assert differing > 0
    assert changes.render(data).count("another class than above") == differing


def test_a_removed_reference_leaves_the_page(tmp_path: Path) -> None:
    warehouse = make(tmp_path, Story(nights=LEAK_FROM + 1))
    with duckdb.connect(str(warehouse.database)) as connection:
        connection.execute("DELETE FROM runs WHERE run_id = ?", [run_id(LEAK_FROM - 1)])
    page = page_of(warehouse, LEAK_FROM, LEAK_FROM - 1)
    assert "This run has been removed" in page
    assert run_id(LEAK_FROM - 1) in page
    assert LEAK in {found for found, _ in rows_of(page)}
    assert f"../../../{run_id(LEAK_FROM - 1)}" not in page


def test_what_was_never_compared_is_said(warehouse: Warehouse) -> None:
    with pytest.raises(InputError, match=r"no comparison of run .* run `calig compare nothing .*` first"):
        changes.build(warehouse, run_id(2), "nothing")


def test_many_outcomes_are_folded_but_for_what_changed(warehouse: Warehouse) -> None:
    with closing(open_tables(warehouse)) as connection:
        data = collect(connection, warehouse, run_id(2), run_id(1))
    one = data.outcomes[0]
    many = [replace(one, label=f"class {number}", changed=number == 7) for number in range(60)]
    page = changes.render(replace(data, outcomes=(*data.outcomes, *many)))
    shown, folded = page.split(" of single classes that are not called changed</summary>")
    assert "<bdi>class 7</bdi>" in shown
    assert {f"<bdi>class {number}</bdi>" in folded for number in range(60) if number != 7} == {True}
    assert "single classes" not in changes.render(data)


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    warehouse = make(tmp_path, Story(nights=LEAK_FROM + 1, leak=HOSTILE, name="a"))
    with duckdb.connect(str(warehouse.database)) as connection:
        connection.execute("UPDATE comparisons SET requested = ?", [HOSTILE])
        connection.execute("UPDATE runs SET model_id = ?, corpus_source = ?", [HOSTILE, HOSTILE])
        connection.execute("UPDATE comparison_outcomes SET class = ? WHERE class = 'negative'", [HOSTILE])
    page = page_of(warehouse, LEAK_FROM, LEAK_FROM - 1)
    assert HOSTILE not in page
    seen = Page(page)
    assert len(seen.inside["script"]) == 2
    assert not [tag for tag, _ in seen.tags if tag == "b" and "x" in str(_)]
    assert "\u202e" not in page
    assert html.escape(visible(HOSTILE)) in page


def test_five_thousand_changed_words_fit(tmp_path: Path) -> None:
    warehouse = make(tmp_path, Story(nights=RETRAINED + 1, words=2_500))
    page = page_of(warehouse, RETRAINED, RETRAINED - 1)
    assert len(page.encode()) < 5_000_000
    listed = re.findall(r"<bdi>(word\d{4})</bdi></th>", page) + [
        w for w, _ in rows_of(page) if w.startswith("word")
    ]
    assert len(listed) == 5_000
    assert len(set(listed)) == 2_500
    assert len(rows_of(page)) == 2 * arrows.SHOWN


def test_nothing_is_fetched_and_nothing_is_inline(warehouse: Warehouse, paired: Warehouse) -> None:
    pages = [
        page_of(warehouse, RETRAINED, 0),
        changes.build(paired, "run-b", "run-a").read_text("utf-8"),
    ]
    for page in pages:
        for _, attributes in Page(page).tags:
            assert "style" not in attributes
            assert "src" not in attributes
            assert not [name for name in attributes if name.startswith("on")]
        ids = [attributes["id"] for _, attributes in Page(page).tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        for _, attributes in Page(page).tags:
            target = attributes.get("href") or "#main"
            assert target.startswith(("#", "../../report/", "../../../run-a/report/"))
            if target.startswith("#"):
                assert target[1:] in ids
