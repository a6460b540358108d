"""The page of an audit's history: every number is a table's, for one night and for four hundred."""

from __future__ import annotations

import html
import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from calig.errors import InputError
from calig.files import write_json
from calig.report import night_charts, trend, trend_data
from calig.report.formats import integer, number, percent, signed
from calig.report.heat import visible
from calig.report.night_charts import Axis, Series, broken_path
from calig.report.trend_data import Night
from calig.warehouse.layout import Warehouse
from calig.warehouse.metrics import series
from calig.warehouse.query import open_tables
from calig.warehouse.slow_drift import stated
from tests.material.html import Page
from tests.material.report_nights import (
    DEPTHS,
    LEAK_FROM,
    NAME,
    RETRAINED,
    START,
    Story,
    make,
    measured,
    positives,
    run_id,
    write,
)

HOSTILE = "</script><i>x</i>&\u202e"
TAGS = {"baseline": 0, "release-7": RETRAINED}


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return make(tmp_path_factory.mktemp("nights"), Story(tags=TAGS))


@pytest.fixture(scope="module")
def page(warehouse: Warehouse) -> str:
    path = trend.build(warehouse, NAME)
    assert path == warehouse.root / "history" / NAME / "index.html"
    assert list(path.parent.iterdir()) == [path]
    return path.read_text("utf-8")


def nights_of(warehouse: Warehouse, name: str = NAME) -> list[Night]:
    with open_tables(warehouse) as connection:
        return trend_data.collect(connection, warehouse, name)


def column(warehouse: Warehouse, sql: str, *parameters: object) -> list[object]:
    with duckdb.connect(str(warehouse.database), read_only=True) as connection:
        return [row[0] for row in connection.execute(sql, parameters).fetchall()]


def test_what_a_chart_says_of_a_night_is_the_tables(warehouse: Warehouse, page: str) -> None:
    charts = Page(page).data["charts"]
    for key, sql, write_as in (
        ("accuracy", "SELECT accuracy FROM runs ORDER BY started", number),
        ("documents", "SELECT documents FROM runs ORDER BY started", integer),
        ("failures", "SELECT failures FROM runs ORDER BY started", integer),
    ):
        assert charts[key] == [[write_as(value) for value in column(warehouse, sql)]]  # type: ignore[operator]
    assert charts["computed"] == [
        [integer(value) for value in column(warehouse, f"SELECT {name} FROM runs ORDER BY started")]  # type: ignore[arg-type]
        for name in ("attributed", "reused")
    ]
    shares = [
        f"{positive / (positive + negative) * 100:.1f} %"
        for negative, positive in zip(
            *(
                column(
                    warehouse,
                    "SELECT predicted FROM class_stats JOIN runs USING (run_id) WHERE class = ? ORDER BY started",
                    label,
                )
                for label in ("negative", "positive")
            ),
            strict=True,
        )  # type: ignore[operator]
    ]
    assert charts["shares"][1] == shares
    assert charts["seconds"] == [[number(45.0 + night % 5) for night in range(30)]]  # 2 + 40 + night % 5 + 3
    for part, place in (("share", 0), ("effect", 1)):
        listed = charts[f"watched-1-{part}"]  # identity is first, leaks second
        values = column(
            warehouse,
            f"SELECT {part} FROM watched JOIN runs USING (run_id) "
            "WHERE class = '*' AND list = 'leaks' AND term = '*' ORDER BY started",
        )
        assert listed[0] == [(percent, signed)[place](value) for value in values]  # type: ignore[arg-type]
    for requested, row in (("previous", 0), ("baseline", 1)):
        words = column(
            warehouse,
            "SELECT words_changed FROM runs LEFT JOIN comparisons USING (run_id) "
            "WHERE requested = ? OR run_id = ? ORDER BY started",
            requested,
            run_id(0),
        )
        assert charts["words"][row][1:] == [integer(value) for value in words][1:]  # type: ignore[arg-type]
    for depth in range(DEPTHS):
        assert charts["layer-special_share"][depth] == [
            percent(measured("special_share", depth, night >= RETRAINED)) for night in range(30)
        ]


def test_the_accuracy_line_goes_through_the_values(warehouse: Warehouse) -> None:
    nights = nights_of(warehouse)
    values = [night.row["accuracy"] for night in nights]
    chart = night_charts.lines("k", "t", "n", [Series("a", "all", values)])
    assert chart is not None
    low, high = float(chart.ys[0].label), float(chart.ys[-1].label)
    points = [tuple(map(float, point.split())) for point in chart.drawn[0].path[1:].split("L")]
    assert len(points) == 30
    for place, ((x, y), value) in enumerate(zip(points, values, strict=True)):
        assert x == pytest.approx(46 + 504 / 30 * (place + 0.5), abs=0.06)
        assert y == pytest.approx(10 + 140 * (high - value) / (high - low), abs=0.06)


def test_slow_drift_is_drawn_where_it_was_found_and_told(tmp_path: Path) -> None:
    warehouse = make(tmp_path, Story(nights=45))
    with open_tables(warehouse) as connection:
        drift = stated(connection, warehouse, NAME)
    found = {followed.metric: alarm for followed, alarm in drift.alarms()}
    alarm = found["layer.special_share:0"]
    assert (alarm.since, alarm.direction) == (RETRAINED, 1)
    content = trend.build(Warehouse.open(tmp_path), NAME).read_text("utf-8")
    figure = content.split('data-chart="layer-special_share"')[1].split("</figure>")[0]
    lines = re.findall(r'class="mark-slow" x1="([\d.]+)" x2="([\d.]+)"', figure)
    bars = re.findall(r'class="slow-span" x="([\d.]+)" width="([\d.]+)"', figure)
    assert figure.index("mark-slow") > figure.index("cell l9"), "over the cells"
    axis = Axis(45)
    assert lines[0] == (f"{axis.at(alarm.found):.1f}",) * 2
    assert float(bars[0][0]) == pytest.approx(axis.at(RETRAINED) - axis.slot / 2, abs=0.06)
    assert float(bars[0][1]) == pytest.approx(axis.slot * (alarm.found - RETRAINED + 1), abs=0.06)
    assert len(lines) == sum(metric.startswith("layer.special_share:") for metric in found) > trend.CROSSINGS
    text = "Special share at depth 0 has been higher since 21 March 2026 (0.08 before, then 0.2); found on"
    assert figure.count('<p class="slow">') == trend.CROSSINGS + 1
    assert text in figure
    assert f"{len(lines) - trend.CROSSINGS} more in this chart." in figure
    for key in ("documents", "layer-sign_agreement", "class_psi"):
        assert "slow" not in content.split(f'data-chart="{key}"')[1].split("</figure>")[0]
    assert "slow drift found" in content


def test_two_names_of_one_run_are_two_references(tmp_path: Path) -> None:
    """On the second night previous and the pinned run are the same: no third line, and one piece of news."""
    warehouse = make(tmp_path, Story(nights=RETRAINED + 2))
    with duckdb.connect(str(warehouse.database)) as connection:
        connection.execute(
            "DELETE FROM comparisons WHERE requested = 'baseline' AND run_id IN (?, ?)",
            [run_id(1), run_id(RETRAINED)],
        )
        connection.execute(
            "UPDATE comparisons SET requested = 'baseline, previous' WHERE run_id IN (?, ?)",
            [run_id(1), run_id(RETRAINED)],
        )
    nights = nights_of(warehouse)
    assert [one.requested for one in nights[1].comparisons] == ["previous", "baseline"]
    charts = {chart.key: chart for part in trend.sections(nights) for chart in part.charts}
    assert [reading.label for reading in charts["words"].readings] == ["previous", "baseline"]
    assert [reading.texts[1] for reading in charts["words"].readings] == ["0", "0"]
    told = [event.text for event in trend.events(nights) if event.night is nights[RETRAINED]]
    assert sum(text.startswith("since previous, baseline: ") for text in told) == 1
    assert sum(text.startswith("since ") for text in told) == 1
    with open_tables(warehouse) as connection:
        points = series(connection, "class_psi", NAME)
        gates = series(connection, "gate:min_accuracy", NAME)
    assert [point.against for point in points if point.run_id == run_id(1)] == ["baseline", "previous"]
    assert {point.against for point in points} == {"baseline", "previous"}
    assert [point.against for point in gates] == [None] * len(nights)


def test_slow_drift_is_news_once(tmp_path: Path) -> None:
    """In the night that found it: by its gate where there is one, which is then not said to hold again."""
    warehouse = make(tmp_path, Story(nights=45))

    def told() -> list[tuple[str, str, str]]:
        with open_tables(warehouse) as connection:
            drift = stated(connection, warehouse, NAME)
        return [
            (event.night.run_id, event.kind, event.text)
            for event in trend.events(nights_of(warehouse), drift)
            if "slow" in event.text
        ]

    with open_tables(warehouse) as connection:
        drift = stated(connection, warehouse, NAME)
    nights = {drift.runs[alarm.found].run_id for _, alarm in drift.alarms()}
    assert {own for own, _, _ in told()} == nights
    assert all(kind == "slow" and text.startswith("slow drift: ") for _, kind, text in told())
    assert any(text.endswith(" more") for _, _, text in told())
    rows = [
        {"run_id": run.run_id, "gate": "slow_drift", "severity": "error", "passed": run.run_id not in nights,
         "value": 1.0, "limit": 1.0, "reference_id": None, "detail": "accuracy fell", "level": 1 / 1460}
        for run in drift.runs
    ]  # fmt: skip
    write(warehouse, {"gates": rows})
    assert {(kind, text) for _, kind, text in told()} == {("fails", "slow_drift: accuracy fell")}
    assert {own for own, _, _ in told()} == nights


def test_a_missing_night_breaks_the_line() -> None:
    assert broken_path([(0, 1), None, (2, 3), (4, 5)]) == "M0.0 1.0M2.0 3.0L4.0 5.0"
    chart = night_charts.lines(
        "k", "t", "n", [Series("a", "all", [*[1.0] * 70, None, 2.0, None, *[1.0] * 70])]
    )
    assert chart is not None
    assert len(chart.drawn[0].dots) == 1  # of many nights only what no line would show


def test_a_heat_map_is_dark_where_values_are_large() -> None:
    chart = night_charts.heat("k", "t", "n", [(0, [0.0, 1.0]), (1, [0.25, None])])
    assert chart is not None
    assert [(one.style, one.path.count("M")) for one in chart.drawn] == [
        ("cell l0", 1),
        ("cell l2", 1),
        ("cell l9", 1),
    ]
    first, darkest = chart.drawn[0].path, chart.drawn[-1].path
    slot = 504 / 2
    assert first.startswith(
        f"M{46 + 0.07 * slot:.1f} 80.0h{0.86 * slot:.2f}v70.0"
    )  # depth 0 is the lower of two rows
    assert darkest.startswith(f"M{46 + 1.07 * slot:.1f} 80.0")
    assert chart.readings[1].texts == ("0.250", "–")


def test_dates_are_evenly_apart_and_end_at_the_last() -> None:
    days = [datetime(2026, 1, 1) + timedelta(days=place) for place in range(400)]
    ticks = Axis(400).ticks(days)
    assert 4 <= len(ticks) <= 7
    assert ticks[-1].label == f"{days[-1]:%-d %b}"
    assert Axis(1).ticks(days[:1])[0].at == pytest.approx(46 + 252)


def test_models_and_tags_are_marked(warehouse: Warehouse, page: str) -> None:
    found = [(mark.night, mark.kind, mark.text.split(",")[0]) for mark in trend.marks(nights_of(warehouse))]
    assert found == [
        (0, "tag", "baseline"),
        (RETRAINED, "model", "new model"),
        (RETRAINED, "tag", "release-7"),
    ]
    charts = page.count('<figure class="chart trend"')
    assert page.count('class="mark-model" x1') == charts
    assert page.count('class="mark-tag" x1') == 2 * charts
    assert [night["notes"] for night in Page(page).data["nights"]][RETRAINED] == ["new model", "release-7"]


def test_news_are_told_once_in_the_night_they_come(warehouse: Warehouse) -> None:
    events = [(event.night.run_id, event.kind, event.text) for event in trend.events(nights_of(warehouse))]
    assert len(events) == len(set(events))
    leaks = [(run, kind) for run, kind, text in events if text.startswith("max_watched_share: leaks")]
    assert leaks == [(run_id(LEAK_FROM), "fails")]
    drift = [(run, kind) for run, kind, text in events if text.startswith("drift")]
    assert drift == [
        (run_id(RETRAINED + 1), "holds"), (run_id(RETRAINED), "fails"),
        (run_id(LEAK_FROM + 1), "holds"), (run_id(LEAK_FROM), "fails"),
    ]  # fmt: skip
    since_baseline = [
        run for run, kind, text in events if kind == "changed" and text.startswith("since baseline")
    ]
    far = next(night for night in range(30) if positives(0) - positives(night) > 0.1)
    assert since_baseline == [
        run_id(RETRAINED),
        run_id(LEAK_FROM),
        run_id(far),
    ]  # words and layers, words, outcomes
    assert (run_id(RETRAINED), "tag", "tagged release-7") in events


def test_gates_are_a_strip_of_states(warehouse: Warehouse, page: str) -> None:
    strip = re.search(r'data-chart="gates".*?</svg>', page, re.DOTALL)
    assert strip
    cells = {
        state: path.count("M")
        for state, path in re.findall(r'<g class="gate (\w+)"><path d="([^"]*)"', strip[0])
    }
    states = column(
        warehouse,
        "SELECT CASE WHEN passed IS NULL THEN 'unchecked' WHEN passed THEN 'holds' "
        "WHEN severity = 'warn' THEN 'warns' ELSE 'fails' END FROM gates",
    )
    assert cells == {state: states.count(state) for state in set(states)}


def test_every_night_is_in_the_table_and_leads_to_its_report(warehouse: Warehouse, page: str) -> None:
    table = page[page.index('<section id="table"') :]
    assert re.findall(r'<th scope="row"><a href="../../runs/(.*?)/report/index.html">', table) == [
        run_id(night) for night in reversed(range(30))
    ]
    accuracies = column(warehouse, "SELECT accuracy FROM runs ORDER BY started DESC")
    assert re.findall(r"<td>(0\.\d{3})</td>", table) == [number(value) for value in accuracies]  # type: ignore[arg-type]
    assert "max_watched_share: leaks</bdi> fails" in table


def test_the_newest_run_is_at_the_head(page: str) -> None:
    assert '<span class="state bad">Gate failed: max_watched_share: leaks</span>' in page
    assert "<h1>30 runs of reviews; 18 failed a gate; the model changed once.</h1>" in page


def test_pages_of_comparisons_are_linked_where_they_are(tmp_path: Path) -> None:
    warehouse = make(tmp_path, Story(nights=LEAK_FROM + 1))
    assert "/comparisons/" not in trend.build(warehouse, NAME).read_text("utf-8")
    place = warehouse.comparison(run_id(LEAK_FROM), run_id(LEAK_FROM - 1)) / "index.html"
    place.parent.mkdir(parents=True)
    place.touch()
    path = trend.build(warehouse, NAME)
    links = set(re.findall(r'href="([^"]*/comparisons/[^"]*)"', path.read_text("utf-8")))
    assert {(path.parent / link).resolve() for link in links} == {place}


def test_one_night_is_a_page(tmp_path: Path) -> None:
    warehouse = make(tmp_path, Story(nights=1, tags={}))
    page = trend.build(warehouse, NAME).read_text("utf-8")
    assert "<h1>1 run of reviews; none failed a gate.</h1>" in page
    assert "NaN" not in page
    assert len(Page(page).data["nights"]) == 1


def test_four_hundred_nights_fit(tmp_path: Path) -> None:
    warehouse = make(tmp_path, Story(nights=400))
    page = trend.build(warehouse, NAME).read_text("utf-8")
    assert len(page.encode()) < 5_000_000
    assert page.count('<th scope="row"><a href="../../runs/') == 400


def test_runs_of_other_audits_and_unfinished_ones_are_left_out(tmp_path: Path) -> None:
    warehouse = make(tmp_path, Story(nights=3))
    with duckdb.connect(str(warehouse.database)) as connection:
        connection.execute("UPDATE runs SET status = 'failed' WHERE run_id = ?", [run_id(1)])
    manifest = warehouse.run(run_id(1)) / "manifest.json"
    write_json(manifest, {**json.loads(manifest.read_text()), "status": "failed"})
    write(warehouse, {"runs": [{"run_id": "x", "name": "other", "status": "complete", "started": START}]})
    assert [night.run_id for night in nights_of(warehouse)] == [run_id(0), run_id(2)]


def test_numbers_that_are_missing_are_dashes(tmp_path: Path) -> None:
    warehouse = Warehouse.open(tmp_path)
    write(
        warehouse,
        {"runs": [
            {"run_id": f"r{place}", "name": "bare", "status": "complete", "started": START + timedelta(days=place),
             "model_id": "m", "model_hash": None, "documents": 4}
            for place in range(2)
        ]},
    )  # fmt: skip
    page = trend.build(warehouse, "bare").read_text("utf-8")
    assert set(Page(page).data["charts"]) == {"documents"}
    assert "<h1>2 runs of bare.</h1>" in page


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    warehouse = make(tmp_path, Story(nights=LEAK_FROM + 2, leak=HOSTILE, tags={"<i>tag": 1}))
    with duckdb.connect(str(warehouse.database)) as connection:
        connection.execute(
            "UPDATE gates SET gate = ?, detail = ? WHERE gate = 'min_accuracy'", [HOSTILE, HOSTILE]
        )
        connection.execute("UPDATE comparisons SET requested = ? WHERE requested = 'baseline'", [HOSTILE])
        connection.execute("UPDATE class_stats SET class = ? WHERE class = 'negative'", [HOSTILE])
        connection.execute("UPDATE runs SET model_id = ?", [HOSTILE])
    page = trend.build(warehouse, NAME).read_text("utf-8")
    seen = Page(page)
    assert len(seen.inside["script"]) == 2
    assert not [tag for tag, _ in seen.tags if tag == "i"]
    assert "\u202e" not in page
    assert html.escape(visible(HOSTILE)) in page
    assert seen.data["nights"][1]["notes"] == ["<i>tag"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc"])
def test_a_name_that_is_no_folder_is_refused(warehouse: Warehouse, name: str) -> None:
    with pytest.raises(InputError, match="folder's name"):
        trend.build(warehouse, name)


def test_an_audit_without_runs_is_said(warehouse: Warehouse) -> None:
    with pytest.raises(InputError, match="audit 'nope': no complete run"):
        trend.build(warehouse, "nope")


def test_nothing_is_fetched_and_nothing_is_inline(page: str) -> None:
    seen = Page(page)
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in seen.tags:
        assert "style" not in attributes
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        target = attributes.get("href") or "#main"
        assert target.startswith(("#", "../../runs/"))
        assert not target.startswith("#") or target[1:] in ids
