"""The report of an evaluation: its sentences, its numbers, and what it must bear."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest

from calig.errors import InputError
from calig.report import evaluation, standings
from calig.report.comparison import scatter, styles
from calig.report.evaluation_data import EvaluationData, Method, Stat, collect
from calig.report.evaluation_payload import payload, spearman
from calig.report.formats import alike, interval
from calig.report.heat import visible
from calig.report.measures import KNOWN, SUBJECT, measure
from calig.report.standings import columns, finding, verdict
from calig.warehouse import database
from calig.warehouse.layout import Warehouse
from tests.material.html import Page
from tests.material.report_evaluations import EVALUATION, STRENGTHS, TABLES, EvaluationScene, make

HOSTILE = (
    "</script><script>document.title='broken'</script>",
    "<img src=x onerror=alert(1)>",
    "زبان",
    "nul\x00",
    "{{7*7}}",
    "&amp;\"'",
    "re\u202every",
)
NASTY = '<b onclick="x()">&\u202e\'"</b>'


def gathered(root: Path, scene: EvaluationScene) -> EvaluationData:
    folder = make(root, scene)
    with closing(duckdb.connect(str(root / "calig.duckdb"), read_only=True)) as con:
        return collect(con, EVALUATION, folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EvaluationData:
    return gathered(tmp_path_factory.mktemp("evaluated"), EvaluationScene())


@pytest.fixture(scope="module")
def html(data: EvaluationData) -> str:
    return evaluation.render(data)


Row = tuple[float, float, float]


def planted(
    data: EvaluationData,
    rows: Mapping[str, tuple[Row, Row]],
    metric: str = "comprehensiveness",
    removal: str | None = "delete",
    values: Mapping[str, Mapping[int, float]] | None = None,
) -> EvaluationData:
    """One column: per method (mean, low, high) and (difference, low, high)."""
    stats = tuple(
        Stat(method, metric, removal, None, 50, *own, *difference, 0.5)
        for method, (own, difference) in rows.items()
    )
    methods = {method: Method(method, method, 1.0, 1.0, None) for method in rows}
    return replace(data, stats=stats, methods=methods, values={(metric, removal): values or {}}, documents=())


def said(data: EvaluationData) -> standings.Finding:
    found = finding(columns(data)[0], data.methods)
    assert found is not None
    return found


ZERO = (0.0, 0.0, 0.0)
RANDOM = ((0.1, 0.05, 0.15), (-0.5, -0.6, -0.4))
CALIG = ((0.6, 0.55, 0.65), ZERO)


def test_first_ahead_of_the_next(data: EvaluationData) -> None:
    found = said(
        planted(data, {"ca-lig": CALIG, "lime": ((0.5, 0.4, 0.6), (-0.1, -0.15, -0.05)), "random": RANDOM})
    )
    assert found.standing == "first"
    assert found.text == "CA-LIG is first of 3, ahead of lime by 0.100 [0.050, 0.150]."
    assert found.random_text == "It beats random: [0.550, 0.650] against [0.050, 0.150]."
    assert verdict([found]) == (
        "On AOPC comprehensiveness (delete) CA-LIG is first of 3, "
        "ahead of lime by 0.100 [0.050, 0.150] and beats random."
    )


def test_first_level_with_others(data: EvaluationData) -> None:
    level = ((0.59, 0.5, 0.65), (-0.01, -0.03, 0.01))
    found = said(planted(data, {"ca-lig": CALIG, "ig": level, "occlusion": level, "random": RANDOM}))
    assert found.text == "CA-LIG is first of 4, level with ig and 1 more (0.010 [−0.010, 0.030])."


def test_within_the_interval_of_the_first(data: EvaluationData) -> None:
    found = said(planted(data, {"ca-lig": CALIG, "kernel-shap": ((0.61, 0.56, 0.66), (0.01, -0.01, 0.03))}))
    assert found.standing == "level"
    assert found.text == (
        "CA-LIG is within the interval of the first, kernel-shap, ahead by 0.010 [−0.010, 0.030]; it is 2nd of 2."
    )
    assert (found.beats_random, found.random_text) == (None, "")


@pytest.mark.parametrize(("metric", "sign"), [("comprehensiveness", 1), ("sufficiency", -1)])
def test_beaten_whichever_way_is_better(data: EvaluationData, metric: str, sign: int) -> None:
    def turned(mean: float, difference: float, room: float) -> tuple[Row, Row]:
        ends = sorted((sign * (difference - room), sign * (difference + room)))
        return (sign * mean, sign * mean - 0.01, sign * mean + 0.01), (sign * difference, *ends)  # type: ignore[return-value]

    rows = {
        "ca-lig": turned(0.60, 0, 0),
        "occlusion": turned(0.63, 0.03, 0.02),
        "lime": turned(0.62, 0.02, 0.01),
        "noisy": turned(0.61, 0.01, 0.05),
        "random": turned(0.1, -0.5, 0.1),
    }
    found = said(planted(data, rows, metric))
    assert found.standing == "beaten"
    assert (
        found.text == "CA-LIG is beaten by occlusion by 0.030 [0.010, 0.050], and by 1 more; it is 4th of 5."
    )
    assert found.beats_random is True


def test_not_better_than_random_is_said(data: EvaluationData) -> None:
    overlapping = said(planted(data, {"ca-lig": CALIG, "random": ((0.58, 0.5, 0.6), (-0.02, -0.1, 0.1))}))
    assert (
        overlapping.random_text == "It does not beat random: [0.550, 0.650] against [0.500, 0.600] overlap."
    )
    worse = said(planted(data, {"ca-lig": CALIG, "random": ((0.8, 0.7, 0.9), (0.2, 0.1, 0.3))}))
    assert worse.random_text == "It is worse than random: [0.550, 0.650] against [0.700, 0.900]."
    assert worse.standing == "beaten"
    assert not overlapping.beats_random
    assert not worse.beats_random
    assert verdict([overlapping, worse]).endswith("; it does not beat random on 2 of 2.")


def test_the_verdict_counts(data: EvaluationData) -> None:
    first = said(planted(data, {"ca-lig": CALIG, "random": RANDOM}))
    beaten = replace(first, standing="beaten")
    level = replace(first, standing="level")
    assert verdict([first, first]) == "CA-LIG is first on all 2 main measures; it beats random on all."
    assert verdict([first, level, beaten]) == (
        "CA-LIG is first or within the interval of the first on 2 of 3 main measures and beaten on 1; "
        "it beats random on all."
    )
    assert verdict([beaten, replace(beaten, beats_random=False)]) == (
        "CA-LIG is beaten on all 2 main measures; it does not beat random on 1 of 2."
    )
    assert verdict([]) == "CA-LIG was not measured on any of the main metrics."


def test_ties_with_a_best_that_is_a_peer_are_paired_over_documents(data: EvaluationData) -> None:
    docs = range(40)
    hard = {doc: doc / 40 for doc in docs}
    values = {
        "best": {doc: hard[doc] + 0.10 for doc in docs},
        "steady": {
            doc: hard[doc] + 0.09 for doc in docs
        },  # always a little worse: its marginal interval overlaps
        "erratic": {doc: hard[doc] + 0.09 + (0.3 if doc % 2 else -0.3) for doc in docs},
        "ca-lig": hard,
    }
    means = {method: float(np.mean(list(own.values()))) for method, own in values.items()}
    rows = {
        method: ((mean, mean - 0.1, mean + 0.1), (mean - means["ca-lig"], -1.0, 1.0))
        for method, mean in means.items()
    }
    column = columns(planted(data, rows, values=values))[0]
    assert column.best == "best"
    assert column.ties == {"erratic", "ca-lig"}  # CA-LIG's tie is by the table's interval, which is wide


def test_a_metric_of_no_direction_has_no_best(data: EvaluationData) -> None:
    column = columns(planted(data, {"ca-lig": CALIG, "lime": RANDOM}, "something_new"))[0]
    assert (column.best, column.ties, column.measure.arrow) == (None, frozenset(), "")
    assert finding(column, data.methods) is None
    assert measure("curve_positive") is None
    assert all(one.better in (1, -1) for one in KNOWN.values())


def test_every_number_of_the_tables_is_on_the_page(data: EvaluationData, html: str) -> None:
    table = html[html.index('<table id="table">') : html.index("</table>", html.index('<table id="table">'))]
    rows = re.findall(r"<tr.*?</tr>", table, re.S)[1:]
    assert len(rows) == len(STRENGTHS)
    shown = {
        re.search(r"<bdi>(.*?)</bdi>", row)[1]: re.findall(r"<td.*?</td>", row, re.S)  # type: ignore[index]
        for row in rows
    }
    placed = columns(data)
    assert len(placed) == 2 * 4 + 3 + 3
    for method in (data.methods[name] for name in STRENGTHS):
        seconds, passes, *cells = shown[method.title]
        assert f'data-value="{method.seconds}"' in seconds
        assert f'data-value="{method.passes}"' in passes
        for cell, column in zip(cells, placed, strict=True):
            stat = column.stats[method.name]
            mean, low, high = alike(stat.mean, stat.low, stat.high)
            assert f'data-value="{stat.mean}"' in cell
            assert f"{mean}<small>[{low}, {high}]</small>" in cell
            assert ('class="best"' in cell) == (method.name == column.best)
            assert ('class="tie"' in cell) == (method.name in column.ties)


def test_the_download_holds_every_mean(data: EvaluationData, html: str) -> None:
    found = re.search(r'href="data:text/csv;charset=utf-8;base64,([^"]+)"', html)
    assert found
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(found[1]).decode())))
    written = {(row["method"], row["metric"], row["removal"]): float(row["mean"]) for row in rows}
    expected = {
        (stat.method, stat.metric, stat.removal or ""): stat.mean for stat in data.stats if stat.share is None
    }
    assert written == expected


def test_hidden_or_shown_every_curve_has_every_method(data: EvaluationData, html: str) -> None:
    curves = html[html.index('<section id="curves"') : html.index('<section id="cost"')]
    assert curves.count("<figure") == 4
    for method in STRENGTHS:
        assert curves.count(f'data-key="{method}"') == 4 + 1  # and the legend
    assert curves.count('class="band"') == 4


def test_the_frontier_is_what_no_cheaper_method_matches(data: EvaluationData) -> None:
    column = columns(data)[0]
    drawn = scatter(column, data.methods, styles(column))
    assert drawn is not None
    by_key = {point.key: point for point in drawn.points}
    heights = [float(y) for y in re.findall(r"V([\d.]+)", drawn.frontier)]
    on = {key for key, point in by_key.items() if round(point.y, 1) in heights}
    expected, best = set(), -1.0
    for name in sorted(
        column.stats, key=lambda name: (data.methods[name].passes, -(column.stats[name].mean or 0))
    ):
        if (column.stats[name].mean or 0) > best:
            best = column.stats[name].mean or 0
            expected.add(name)
    assert expected - {"random"} == on
    assert drawn.points[-1].key == SUBJECT, "drawn last, it lies over the others"
    assert [point.key in styles(column) for point in drawn.points] == sorted(
        point.key in styles(column) for point in drawn.points
    )
    assert by_key["random"].x < by_key["attention-rollout"].x < by_key["attcat"].x < by_key["lime"].x


def test_scores_arrive_on_their_own_scale_with_their_agreement(data: EvaluationData, html: str) -> None:
    sent = Page(html).data
    assert sent["subject"] == "ca-lig"
    assert sent["chosen"] == next(m for m in columns(data)[0].stats if m in ("occlusion", "kernel-shap"))
    assert [document["disagreement"] for document in sent["documents"]] == sorted(
        (document["disagreement"] for document in sent["documents"]), reverse=True
    )
    for document, sample in zip(sent["documents"], data.documents, strict=True):
        assert document["units"] == list(sample.words)
        assert document["rationale"] == [place for place, mark in enumerate(sample.rationale or ()) if mark]
        for method, packed in document["scores"].items():
            values = np.frombuffer(base64.b64decode(packed["values"]), "<i2") * packed["step"]
            np.testing.assert_allclose(values, sample.scores[method], atol=packed["step"])
    assert len(sent["documents"]) == 12


def test_rank_correlation_by_hand() -> None:
    assert spearman(np.array([1.0, 2, 3]), np.array([10.0, 20, 15])) == 0.5
    assert spearman(np.array([1.0, 2, 2, 3]), np.array([1.0, 2, 2, 3])) == 1.0
    assert spearman(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])) is None


def test_hostile_text_arrives_as_text(tmp_path: Path) -> None:
    scene = EvaluationScene(
        documents=15, texts=(HOSTILE,), names=(NASTY, NASTY), refused={f"odd{NASTY}": f"cannot {NASTY}"}
    )
    page = evaluation.render(gathered(tmp_path, scene))
    seen = Page(page)
    assert NASTY not in page
    assert "\x00" not in page
    assert "\u202e" not in page
    assert page.count("<script") == page.count("</script>") == 2
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on")]
    assert seen.data["documents"][0]["units"] == [visible(word) for word in HOSTILE]


def test_the_page_fetches_nothing_and_its_references_resolve(html: str) -> None:
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        assert not {"style", "src"} & attributes.keys()
        href = attributes.get("href")
        if href is not None and not href.startswith("data:text/csv"):
            assert href.removeprefix("#") in ids
        for name in ("for", "aria-labelledby"):
            if name in attributes:
                assert attributes[name] in ids, (tag, attributes)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", html)


def test_thirty_methods_on_long_documents_fit(tmp_path: Path) -> None:
    words = tuple(f"word{place}" for place in range(400))
    scene = EvaluationScene(documents=14, extra=13, texts=(words,) * 12, removals=("delete", "mask", "pad"))
    data = gathered(tmp_path, scene)
    assert len(data.methods) == 31
    assert [len(document.words) for document in data.documents] == [400] * 12
    assert len(evaluation.render(data).encode()) < 5_000_000


def test_a_longer_document_is_cut_to_where_ca_lig_looks(tmp_path: Path) -> None:
    data = gathered(tmp_path, EvaluationScene(documents=3, texts=(tuple(f"w{i}" for i in range(1_000)),)))
    sent = payload(data, None)["documents"][0]
    first, last, total = sent["window"]
    assert (last - first + 1, total, len(sent["units"])) == (400, 1_000, 400)
    assert sent["units"][0] == f"w{first - 1}"
    assert sent["gaps"][0] == (" … " if first > 1 else "")
    marks = data.documents[0].rationale
    assert marks is not None
    assert sent["rationale"] == [place for place in range(400) if marks[first - 1 + place]]
    unmarked = replace(data, documents=(replace(data.documents[0], rationale=None),))
    assert payload(unmarked, None)["documents"][0]["rationale"] is None
    mass = np.convolve(np.abs(data.documents[0].scores["ca-lig"]), np.ones(400), mode="valid")
    assert first == int(np.argmax(mass)) + 1


def test_images_keep_their_grid_and_a_huge_thumbnail_is_left_out(tmp_path: Path) -> None:
    data = gathered(tmp_path, EvaluationScene(documents=14, modality="image", removals=("zero",)))
    huge = replace(data.documents[0], thumbnail=b"\xff\xd8" + b"0" * 500_000)
    sent = payload(replace(data, documents=(huge, *data.documents[1:])), None)["documents"]
    assert sent[0]["picture"] is None
    assert sent[1]["picture"].startswith("data:image/jpeg;base64,")
    assert sent[1]["grid"] == (7, 7)
    page = evaluation.render(data)
    assert "As patches are removed" in page
    assert "AUC, most first (zero)" in page
    assert "img-src data:" in page


def test_a_metric_without_ca_lig_is_shown_without_comparison(tmp_path: Path) -> None:
    page = evaluation.render(
        gathered(tmp_path, EvaluationScene(documents=14, strengths={"lime": 0.5, "random": 0.1}))
    )
    assert "CA-LIG was not measured" in page
    assert "There is nothing to compare" in page


def test_numbers_that_belong_together_are_written_alike() -> None:
    assert alike(0.6071, 0.0002, -0.0001) == ("0.607", "0.000", "0.000")
    assert alike(2e-7, 1e-8, None) == ("2.0e−7", "1.0e−8", "–")
    assert alike(0.01, -0.02, sign=True) == ("+0.010", "−0.020")
    assert interval(0.01, 0.2) == "[0.010, 0.200]"
    assert interval(None, None) == "too few documents for an interval"


def test_methods_measured_on_two_documents_are_not_told_apart() -> None:
    values = {"ca-lig": {1: 0.9, 2: 0.9, 3: 0.9}, "lime": {1: 0.1, 2: 0.1, 3: 0.1}}
    assert standings._paired(values["ca-lig"], values["lime"]) == pytest.approx((0.8, 0.8))
    del values["lime"][3]
    assert standings._paired(values["ca-lig"], values["lime"]) == (None, None)


@pytest.fixture
def merged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of evaluations count among those of the warehouse."""

    def expected() -> list[tuple[str, str, str]]:
        with duckdb.connect() as con:
            con.execute(database.read_sql("tables.sql"))
            con.execute(TABLES)
            return database.columns_of(con)

    monkeypatch.setattr(database, "expected_columns", expected)


@pytest.mark.usefixtures("merged")
def test_build_writes_one_file_and_refuses_what_is_not_there(tmp_path: Path) -> None:
    folder = make(tmp_path, EvaluationScene(documents=13))
    path = evaluation.build(Warehouse.open(tmp_path), EVALUATION)
    assert path == folder / "report" / "index.html"
    assert list(path.parent.iterdir()) == [path]
    page = path.read_text(encoding="utf-8")
    assert EVALUATION in page
    assert evaluation.build(Warehouse.open(tmp_path), EVALUATION).read_text(encoding="utf-8") == page
    for other in ("nope", "../evaluations", ""):
        with pytest.raises(InputError, match="no evaluation"):
            evaluation.build(Warehouse.open(tmp_path), other)
    (tmp_path / "evaluations" / "empty").mkdir()
    with pytest.raises(InputError, match="no evaluation empty in the warehouse"):
        evaluation.build(Warehouse.open(tmp_path), "empty")
