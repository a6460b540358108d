"""The pages of comparisons and of a history in a real browser: silent, and every value within reach of the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from calig.report import build, changes, trend
from calig.warehouse.layout import Warehouse
from tests.material.browser import opened
from tests.material.html import Page
from tests.material.report_nights import NAME, RETRAINED, Story, make, make_pair, run_id
from tests.material.tiers import few

if TYPE_CHECKING:
    from playwright import sync_api

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return make(tmp_path_factory.mktemp("nights"), Story(leak="</script>zq7"))


@pytest.fixture(scope="module")
def pages(nights: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pair = make_pair(tmp_path_factory.mktemp("pair"))
    return {
        "report": build(pair, "run-b"),
        "heats": changes.build(pair, "run-b", "run-a"),
        "changes": changes.build(nights, run_id(RETRAINED), run_id(0)),
        "calm": changes.build(nights, run_id(3), run_id(2)),
        "history": trend.build(nights, NAME),
    }


@pytest.mark.parametrize("scheme", few(["light", "dark"], ["light"], "the same pages in the other theme"))
@pytest.mark.parametrize("name", ["report", "heats", "changes", "calm", "history"])
def test_pages_open_silently_and_fit_a_phone(
    browser: sync_api.Browser,
    pages: dict[str, Path],
    name: str,
    scheme: str,
) -> None:
    for width in (1280, 390):
        page, seen = opened(browser, pages[name], scheme, width)
        box = page.locator("h1").bounding_box()
        assert box is not None
        assert box["y"] < 250
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert seen.complaints == []
        assert seen.requests == [pages[name].as_uri()]
        page.context.close()


@pytest.fixture
def history(browser: sync_api.Browser, pages: dict[str, Path]) -> Iterator[sync_api.Page]:
    page, seen = opened(browser, pages["history"])
    yield page
    assert seen.complaints == []
    page.context.close()


def read(page: sync_api.Page, chart: str) -> list[str]:
    return page.locator(f'figure[data-chart="{chart}"] dd').all_inner_texts()


def test_arrow_keys_walk_the_nights_in_all_charts(history: sync_api.Page, pages: dict[str, Path]) -> None:
    texts = Page(pages["history"].read_text("utf-8")).data["charts"]
    slider = history.locator('figure[data-chart="accuracy"] svg[role="slider"]')
    slider.focus()
    for key, night in (
        ("End", 29),
        ("Home", 0),
        ("ArrowRight", 1),
        ("PageUp", 8),
        ("ArrowLeft", 7),
        ("PageDown", 0),
    ):
        history.keyboard.press(key)
        assert slider.get_attribute("aria-valuenow") == str(night + 1)
        for chart in ("accuracy", "shares", "words", "layer-special_share", "gates"):
            assert read(history, chart) == [row[night] for row in texts[chart]]
        title = history.locator("#night").inner_text()
        assert title == f"{night + 1} March 2026, 02:00"
        assert slider.get_attribute("aria-valuetext") == f"{title}: accuracy {texts['accuracy'][0][night]}"
        assert (
            history.locator("#night-link").get_attribute("href")
            == f"../../runs/{run_id(night)}/report/index.html"
        )


def test_enter_opens_the_nights_report(history: sync_api.Page, nights: Warehouse) -> None:
    place = nights.run(run_id(0)) / "report" / "index.html"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("<title>the first night</title>")
    history.locator('figure[data-chart="gates"] svg[role="slider"]').focus()
    history.keyboard.press("Home")
    history.keyboard.press("Enter")
    history.wait_for_url(place.as_uri())
    assert history.title() == "the first night"


def test_pointing_reads_and_a_click_holds(history: sync_api.Page, pages: dict[str, Path]) -> None:
    texts = Page(pages["history"].read_text("utf-8")).data["charts"]
    svg = history.locator('figure[data-chart="shares"] svg[role="slider"]')
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    assert box is not None

    def at(night: int) -> dict[str, float]:
        return {"x": (46 + 504 / 30 * (night + 0.5)) * box["width"] / 560, "y": box["height"] / 2}

    svg.hover(position=at(RETRAINED))
    assert read(history, "shares") == [row[RETRAINED] for row in texts["shares"]]
    assert "new model" in history.locator("#night-notes").inner_text()
    svg.click(position=at(4))
    svg.hover(position=at(9))
    assert read(history, "shares") == [row[4] for row in texts["shares"]]
    assert "held" in str(history.locator("#reading").get_attribute("class"))
    svg.click(position=at(4))
    svg.hover(position=at(9))
    assert read(history, "shares") == [row[9] for row in texts["shares"]]


def test_lists_unfold_by_keyboard(browser: sync_api.Browser, pages: dict[str, Path]) -> None:
    page, seen = opened(browser, pages["changes"])
    details = page.locator("#words details.data").first
    assert not details.locator("table").is_visible()
    details.locator("summary").focus()
    page.keyboard.press("Enter")
    assert details.locator("table").is_visible()
    assert page.locator("#words .arrows li[data-word]").first.is_visible()
    assert seen.complaints == []
    page.context.close()


def test_heats_are_coloured_by_their_effect(browser: sync_api.Browser, pages: dict[str, Path]) -> None:
    page, _ = opened(browser, pages["heats"])
    colour = "unit => getComputedStyle(unit).backgroundColor"
    strongest, plain = page.locator(".u.a10:not(.special)").first, page.locator(".u:not([class*=' a'])").first
    assert strongest.evaluate(colour) != plain.evaluate(colour)
    assert page.locator(".u.a10.neg").first.evaluate(colour) != page.locator(
        ".u.a10:not(.neg)"
    ).first.evaluate(colour)
    page.context.close()
