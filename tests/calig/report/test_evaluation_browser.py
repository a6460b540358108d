"""The report of an evaluation in a real browser: silent, sortable, and two methods side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from calig.report import evaluation
from tests.calig.report.test_evaluation import HOSTILE, gathered
from tests.material.browser import opened
from tests.material.report_evaluations import EvaluationScene
from tests.material.tiers import extended

if TYPE_CHECKING:
    from playwright import sync_api

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluated")
    path = root / "index.html"
    path.write_text(evaluation.render(gathered(root, EvaluationScene(texts=(HOSTILE,)))), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: sync_api.Browser, report: Path) -> Iterator[sync_api.Page]:
    page, seen = opened(browser, report)
    yield page
    assert seen.complaints == []
    assert seen.requests == [report.as_uri()]
    page.context.close()


def column(page: sync_api.Page, place: int) -> list[str]:
    return page.locator("#table tbody tr").evaluate_all(
        "(rows, place) => rows.map((row) => row.cells[place].dataset.value)", place
    )


def test_the_verdict_is_on_the_first_screen(page: sync_api.Page) -> None:
    box = page.locator("h1").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 400
    assert "main measures" in page.locator("h1").inner_text()
    assert page.locator(".findings li").count() == 5
    assert page.title().startswith("sst2 faithfulness")


def test_columns_sort_by_what_is_better_then_the_other_way(page: sync_api.Page) -> None:
    rows = page.locator("#table tbody tr").count()
    headline = [float(value) for value in column(page, 3)]
    assert headline == sorted(headline, reverse=True)
    assert page.locator("th[aria-sort]").inner_text().startswith("Comprehensiveness")
    passes = page.locator("#table .sort", has_text="Passes")
    passes.focus()
    page.keyboard.press("Enter")
    ascending = [float(value) for value in column(page, 2)]
    assert ascending == sorted(ascending)
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert [float(value) for value in column(page, 2)] == sorted(ascending, reverse=True)
    assert page.locator("th[aria-sort]").count() == 1
    page.locator("#table .sort", has_text="Method").click()
    names = column(page, 0)
    assert (names[0], names[-1]) == ("attcat", "smoothgrad")
    assert len(set(names)) == rows
    page.locator("#table .sort", has_text="Method").click()
    assert column(page, 0) == names[::-1]


def test_groups_of_columns_show_one_at_a_time(page: sync_api.Page) -> None:
    heads = page.locator("#table thead th:visible")
    assert heads.count() == 3 + 6
    page.locator("#column-groups button", has_text="Plausibility").click()
    assert [text.split("\n")[0] for text in heads.all_inner_texts()][3:] == [
        "Token F1 ↑",
        "AUPRC ↑",
        "IOU F1 ↑",
    ]
    assert page.locator("#table tbody tr").first.locator("td:visible").count() == 2 + 3


def test_a_method_lights_up_in_every_chart(page: sync_api.Page) -> None:
    button = page.locator('.methods button[data-key="attcat"]')
    lines = page.locator('svg [data-key="attcat"].lit')
    button.focus()
    assert lines.count() == 6  # four curves, the scatter, randomisation
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    page.keyboard.press("Tab")
    assert lines.count() == 6
    button.click()
    page.locator("h1").hover()
    assert button.get_attribute("aria-pressed") == "false"
    page.locator("#other").focus()
    assert lines.count() == 0


def painted(page: sync_api.Page, half: int) -> list[str]:
    return (
        page.locator(".card")
        .nth(1)
        .locator("figure")
        .nth(half)
        .locator(".u")
        .evaluate_all("units => units.map((unit) => getComputedStyle(unit).backgroundColor)")
    )


def test_another_method_is_chosen_by_keyboard(page: sync_api.Page) -> None:
    assert page.locator(".card").count() == 12
    before, subject = painted(page, 1), painted(page, 0)
    select = page.locator("#other")
    names = select.locator("option").all_inner_texts()
    assert "CA-LIG" not in names
    select.focus()
    page.keyboard.press("Home")
    assert page.locator(".card figcaption").nth(1).inner_text().startswith(names[0])
    assert painted(page, 0) == subject
    assert painted(page, 1) != before
    select.select_option("random")
    assert "ρ" in page.locator(".card figcaption").nth(1).inner_text()


def test_blue_speaks_for_and_orange_against_on_both_sides(page: sync_api.Page) -> None:
    signs = {"+": 0, "−": 0}
    for half in (0, 1):
        said = (
            page.locator(".card")
            .nth(1)
            .locator("figure")
            .nth(half)
            .evaluate(
                """(figure, half) => [...figure.querySelectorAll(".u")].map((unit) => {
                unit.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
                const text = document.querySelector("#reading").textContent.split("” ")[1].split(" · ")[half];
                const parts = getComputedStyle(unit).backgroundColor.match(/[\\d.]+/g).map(Number);
                return [text.match(/[+−]?[\\d.]+$/)[0], parts[0], parts[2], parts[3] ?? 1];
            })""",
                half,
            )
        )
        assert said
        for number, red, blue, opacity in said:
            value = float(number.replace("−", "-"))
            if opacity == 0:  # a two-thousandth of the largest, or less, has no colour
                assert abs(value) < 0.001
            elif number[0] in signs and value != 0:
                signs[number[0]] += 1
                assert (blue > red) == (number[0] == "+"), number
    assert all(signs.values())


def test_words_are_walked_and_their_twins_marked(page: sync_api.Page) -> None:
    card = page.locator(".card").nth(1)
    left, right = (card.locator("figure").nth(half).locator(".u") for half in (0, 1))
    left.first.focus()
    page.keyboard.press("ArrowRight")
    assert left.nth(1).evaluate("unit => unit === document.activeElement")
    assert "twin" in (right.nth(1).get_attribute("class") or "")
    assert left.nth(1).inner_text() in page.locator("#reading").inner_text()
    assert page.locator(".twin").count() == 1
    assert card.locator(".u.reason").count() % 2 == 0
    assert "marked by people" in card.inner_text()


def test_hostile_words_are_shown_and_not_run(page: sync_api.Page) -> None:
    assert "</script><script>" in page.locator(".card .text").first.inner_text()
    assert page.title() != "broken"


def test_the_table_downloads(page: sync_api.Page) -> None:
    with page.expect_download() as waiting:
        page.locator("a[download]").click()
    text = Path(waiting.value.path()).read_text(encoding="utf-8")
    assert text.startswith("method,metric,removal,mean")
    assert waiting.value.suggested_filename.endswith(".csv")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "scene",
    [
        EvaluationScene(),
        EvaluationScene(documents=20, modality="image", removals=("zero", "mean")),
        EvaluationScene(
            documents=14, head="regression", rationales=False, sanity=False, removals=("delete",)
        ),
        *(
            pytest.param(scene, marks=extended("more kinds of evaluations"))
            for scene in (
                EvaluationScene(
                    documents=14, modality="image", removals=("blur",), grid=(4, 9), thumbnails=False
                ),
                EvaluationScene(documents=13, strengths={"lime": 0.4, "random": 0.1}),
                EvaluationScene(documents=14, strengths={"ca-lig": 0.4}, refused={}),
            )
        ),
    ],
    ids=["texts", "images", "regression", "oblong images without pictures", "without CA-LIG", "CA-LIG alone"],
)
def test_evaluations_open_silently_in_both_themes(
    browser: sync_api.Browser,
    tmp_path: Path,
    scene: EvaluationScene,
    scheme: str,
) -> None:
    path = tmp_path / "index.html"
    path.write_text(evaluation.render(gathered(tmp_path, scene)), encoding="utf-8")
    for width in (1280, 390):
        page, seen = opened(browser, path, scheme, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        brightness = "Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
        assert (page.evaluate(brightness) > 128) == (scheme == "light")
        assert page.locator(".card").count() > 0
        page.locator(".card .u").first.hover()
        assert page.locator("#reading").inner_text()
        assert seen.complaints == []
        page.context.close()


def test_images_are_laid_over_and_walked(browser: sync_api.Browser, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    scene = EvaluationScene(documents=14, modality="image", removals=("zero",))
    path.write_text(evaluation.render(gathered(tmp_path, scene)), encoding="utf-8")
    page, seen = opened(browser, path)
    card = page.locator(".card").first
    assert card.locator(".frame img").count() == 3
    assert card.locator(".cells .u").count() == 2 * 49
    card.locator(".cells .u").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.locator("#reading").inner_text().startswith("“row 1, column 1”")
    assert card.locator(".cells").nth(1).locator(".twin").get_attribute("aria-label") == "row 1, column 1"
    assert seen.complaints == []
    page.context.close()


def test_without_javascript_all_but_the_documents_is_there(browser: sync_api.Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#table tbody tr").count() == 17
    assert page.locator("#table thead th").last.is_visible()
    assert page.locator("#curves .chart svg").count() == 4
    assert not page.locator("#disagreement").is_visible()
    context.close()


def test_it_prints_unfolded(page: sync_api.Page) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert page.locator("#table").is_visible()
    assert page.locator(".card").last.is_visible()
    assert not page.locator(".tools").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
