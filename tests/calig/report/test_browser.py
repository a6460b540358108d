"""The page in a real browser: nothing is fetched, nothing is refused, and the explorer does what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from calig.report.data import collect
from calig.report.render import render
from tests.material.browser import colours, opened
from tests.material.report_runs import RUN, Scene, connect

if TYPE_CHECKING:
    from playwright import sync_api

pytestmark = pytest.mark.browser
HOSTILE = (
    "</script><script>document.title='broken'</script> film",
    "زبان فارسی خیلی زیبا است و خوب",
    "nul \x00 film",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = collect(connect(Scene(documents=120, texts=HOSTILE)), RUN)
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(render(data), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: sync_api.Browser, report: Path) -> Iterator[sync_api.Page]:
    page, seen = opened(browser, report)
    yield page
    assert seen.complaints == []
    assert seen.requests == [report.as_uri()]
    page.context.close()


def test_it_opens_silently_and_shows_the_verdict_first(page: sync_api.Page) -> None:
    heading = page.locator("h1")
    assert "118 documents explained" in heading.inner_text()
    box = heading.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 400
    assert page.title().startswith("sst2 nightly")


def test_the_slider_moves_by_keyboard_and_the_colours_follow(page: sync_api.Page) -> None:
    before = colours(page)
    assert page.locator("#depth-name").inner_text() == "Final score"
    page.locator("#depth").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#depth-name").inner_text() == "6 · last block"
    assert "logits" in page.locator(".scale").first.inner_text()
    last = colours(page)
    page.keyboard.press("Home")
    assert page.locator("#depth-name").inner_text() == "0 · embeddings"
    first = colours(page)
    assert len({tuple(before), tuple(last), tuple(first)}) == 3


def test_blue_speaks_for_and_orange_against(page: sync_api.Page) -> None:
    values = page.evaluate(
        """() => {
            const view = document.querySelector(".card");
            return [...view.querySelectorAll(".u")].map((unit) => {
                unit.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
                const said = document.querySelector("#course h4 span").textContent;
                const probe = getComputedStyle(unit).backgroundColor.match(/[\\d.]+/g).map(Number);
                return [said, probe[0], probe[2]];
            });
        }"""
    )
    signs = {"+": 0, "−": 0}
    for said, red, blue in values:
        sign = said.removeprefix("score ")[0]
        if sign in signs:
            signs[sign] += 1
            assert (blue > red) == (sign == "+"), said
    assert all(signs.values())


def test_a_word_in_the_chart_filters_the_documents_and_back(page: sync_api.Page) -> None:
    everything = page.locator("#shown").inner_text()
    button = page.locator("button.word").first
    word = button.get_attribute("data-word")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator("#shown").inner_text() != everything
    command = page.locator("#word-sql").inner_text()
    assert f"WHERE word = '{word}'" in command
    assert command.endswith(f"--run {RUN} --warehouse warehouse")
    cards = page.locator(".card")
    assert cards.count() > 0
    for card in cards.all():
        assert word in card.locator(".text").inner_text().lower()
        marked = [text.lower().strip(".") for text in card.locator(".u.found").all_inner_texts()]
        assert marked
        assert set(marked) == {word}
    page.locator("#word-chip").click()
    assert page.locator("#shown").inner_text() == everything
    assert button.get_attribute("aria-pressed") == "false"


def test_groups_classes_and_search_filter(page: sync_api.Page) -> None:
    page.locator("#groups button", has_text="Most confident errors").click()
    assert page.locator(".card").count() == page.locator(".card .wrong").count() > 0
    page.locator("#class-filter").select_option("positive")
    assert set(page.locator(".call b").all_inner_texts()) == {"positive"}
    page.locator("#groups button", has_text="All").click()
    page.locator("#class-filter").select_option("")
    page.locator("#search").fill("DEV-0001")
    assert page.locator("#shown").inner_text().startswith("1 of")
    page.locator("#search").fill("no document says this")
    assert "No document" in page.locator("#cards").inner_text()


def test_more_documents_can_be_shown(page: sync_api.Page) -> None:
    assert page.locator(".card").count() == 10
    page.locator("#more").click()
    assert page.locator(".card").count() == 20


def test_focus_on_a_word_shows_its_course_and_the_arrows_walk(page: sync_api.Page) -> None:
    card = page.locator(".card").first
    card.locator('.u[tabindex="0"]').focus()
    course = page.locator("#course")
    assert course.is_visible()
    assert course.locator("circle").count() == 7
    assert course.locator("h4 bdi").inner_text() == card.locator(".u").nth(1).inner_text()
    page.keyboard.press("ArrowRight")
    assert course.locator("h4 bdi").inner_text() == card.locator(".u").nth(2).inner_text()
    page.keyboard.press("ArrowDown")
    assert page.locator("#depth-name").inner_text() == "6 · last block"
    assert course.locator("circle.now").count() == 1
    page.keyboard.press("Escape")
    assert not course.is_visible()
    assert card.locator('.u[tabindex="0"]').count() == 1


def test_right_to_left_text_is_laid_out_and_walked_right_to_left(page: sync_api.Page) -> None:
    page.locator("#search").fill("dev-0001")
    text = page.locator(".card .text")
    assert text.evaluate("node => getComputedStyle(node).direction") == "rtl"
    units = text.locator(".u:not(.special)")
    boxes = [units.nth(place).bounding_box() for place in (0, 1)]
    assert boxes[0] is not None
    assert boxes[1] is not None
    assert boxes[0]["x"] > boxes[1]["x"]
    units.nth(0).focus()
    page.keyboard.press("ArrowLeft")
    assert units.nth(1).evaluate("node => node === document.activeElement")


def test_hostile_text_is_shown_and_not_run(page: sync_api.Page) -> None:
    page.locator("#search").fill("document.title")
    assert "</script><script>" in page.locator(".card .text").inner_text()
    assert page.title() != "broken"


def test_an_inline_script_would_be_refused(browser: sync_api.Browser, report: Path) -> None:
    page, seen = opened(browser, report)
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.bad = 1'}))"
    )
    assert page.evaluate("window.bad") is None
    assert any("Content Security Policy" in text for text in seen.complaints)
    page.context.close()


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)]
)
def test_both_themes_and_narrow_screens(
    browser: sync_api.Browser, report: Path, scheme: str, width: int
) -> None:
    page, seen = opened(browser, report, scheme, width)
    brightness = "Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])"
    assert (page.evaluate(brightness) > 128) == (scheme == "light")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#theme").click()
    page.locator("#theme").click() if scheme == "light" else None
    assert (page.evaluate(brightness) > 128) == (scheme == "dark")
    assert seen.complaints == []
    page.context.close()


def test_what_scrolls_sideways_fades_where_more_is(browser: sync_api.Browser, report: Path) -> None:
    # `wait_for_function` would evaluate a string in the page again and again, which the page's own policy forbids.
    from playwright.sync_api import expect

    page, _ = opened(browser, report, width=390)
    nav = page.locator(".bar-top nav")
    mask = "node => [node.dataset.more, getComputedStyle(node).maskImage !== 'none']"
    expect(nav).to_have_attribute("data-more", "right")
    assert nav.evaluate(mask) == ["right", True]
    nav.evaluate("node => { node.scrollLeft = node.scrollWidth; }")
    expect(nav).to_have_attribute("data-more", "left")
    assert page.locator("#convergence .scroll").evaluate(mask) == ["right", True]
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(nav).to_have_attribute("data-more", "")
    assert nav.evaluate(mask) == ["", False]
    page.context.close()


def test_it_prints_with_everything_unfolded(page: sync_api.Page) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator(".tools").is_visible()
    assert page.locator(".card").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize(
    "scene",
    [
        Scene(documents=5, failures=5),
        Scene(documents=20, words=False, labelled=False, only_class=0),
        Scene(documents=60, blocks=24, classes=tuple(f"class {n}" for n in range(12))),
    ],
    ids=["all failed", "no labels, one class, no words", "25 depths, 12 classes"],
)
def test_unusual_runs_open_silently(browser: sync_api.Browser, tmp_path: Path, scene: Scene) -> None:
    path = tmp_path / "index.html"
    path.write_text(render(collect(connect(scene), RUN)), encoding="utf-8")
    for width in (1280, 390):
        page, seen = opened(browser, path, width=width)
        assert seen.complaints == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.context.close()


def test_without_javascript_all_but_the_explorer_is_there(browser: sync_api.Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("h1").is_visible()
    assert page.locator("button.word").first.is_visible()
    assert page.locator(".chart svg").count() == 6
    assert not page.locator("#explorer").is_visible()
    assert "needs JavaScript" in page.locator("noscript").inner_text()
    context.close()
