"""A report on images in a real browser: pictures shown, overlays drawn, the slider moves them."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from calig.report.data import collect
from calig.report.render import render
from tests.material.browser import colours, opened
from tests.material.report_images import RUN, ImageScene, connect
from tests.material.tiers import few

if TYPE_CHECKING:
    from playwright import sync_api

pytestmark = pytest.mark.browser
UNUSUAL = {
    "photos, registers": ImageScene("photos", 30, 12, ((14, 14),), ("[CLS]", "[REG1]", "[REG2]")),
    "several grids": ImageScene("photos", 24, 3, ((7, 7), (4, 10), (11, 3))),
    "no thumbnails": ImageScene(documents=20, thumbnails=False),
    "no special tokens": ImageScene(documents=20, specials=()),
    "one patch": ImageScene(documents=20, grids=((1, 1),)),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(render(collect(connect(ImageScene()), RUN)), encoding="utf-8")
    assert path.stat().st_size < 5_000_000
    return path


@pytest.fixture
def page(browser: sync_api.Browser, report: Path) -> Iterator[sync_api.Page]:
    page, seen = opened(browser, report)
    yield page
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [report.as_uri()]
    page.context.close()


def test_pictures_are_shown_beside_their_overlays(page: sync_api.Page) -> None:
    from playwright.sync_api import expect

    for image in page.locator(".frame img").all():
        expect(image).to_have_js_property("complete", True)
    sizes = page.locator(".frame img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert sizes == [32] * 20
    assert page.locator(".frame img.tiny").count() == 20
    card = page.locator(".card").first
    seen, heat = (card.locator(".frame").nth(place).bounding_box() for place in (0, 1))
    assert seen is not None
    assert heat is not None
    assert seen["x"] + seen["width"] <= heat["x"]
    assert (seen["width"], seen["height"]) == (heat["width"], heat["height"])
    cell = card.locator(".cells .u").first.bounding_box()
    assert cell is not None
    assert (cell["width"], cell["height"]) == (heat["width"] / 8, heat["height"] / 8)
    assert (cell["x"], cell["y"]) == (heat["x"], heat["y"])


def test_blue_speaks_for_and_striped_orange_against(page: sync_api.Page) -> None:
    values = page.locator(".card").first.evaluate(
        """(card) => [...card.querySelectorAll(".cells .u")].map((unit) => {
            unit.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
            const style = getComputedStyle(unit);
            const said = document.querySelector("#course h4 span").textContent;
            return [said, style.backgroundColor, style.backgroundImage];
        })"""
    )
    signs = {"+": 0, "−": 0}
    for said, colour, stripes in values:
        sign = said.removeprefix("score ")[0]
        if sign in signs:
            signs[sign] += 1
            red, _, blue = (
                float(part)
                for part in colour.split("srgb ")[-1].strip("rgba()").replace(",", " ").split()[:3]
            )
            assert (blue > red) == (sign == "+"), said
            assert (stripes != "none") == (sign == "−")
    assert all(signs.values())


def test_the_overlay_s_pixels_differ_by_sign_and_with_the_opacity(page: sync_api.Page) -> None:
    card = page.locator(".card").first

    def pixels(selector: str) -> tuple[float, float]:
        """Mean red and blue of a cell, as painted."""
        shot = card.locator(selector).first.screenshot()
        red, _, blue = np.asarray(Image.open(BytesIO(shot)).convert("RGB"), dtype=float).mean(axis=(0, 1))
        return red, blue

    supports, opposes = ".cells .u.listed:not(.neg)", ".cells .u.neg.listed"
    red, blue = pixels(supports)
    assert blue > red + 30
    against_red, against_blue = pixels(opposes)
    assert against_red > against_blue
    page.locator("#opacity").focus()
    page.keyboard.press("Home")
    plain_red, plain_blue = pixels(supports)
    assert abs(plain_blue - plain_red) < 5


def test_the_slider_moves_by_keyboard_and_the_overlay_follows(page: sync_api.Page) -> None:
    card = page.locator(".card").first
    before, listed = colours(page), card.locator(".block ol").first.inner_text()
    page.locator("#depth").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#depth-name").inner_text() == "6 · last block"
    assert card.locator("figcaption").nth(1).inner_text() == "Depth 6 · last block"
    last = colours(page)
    page.keyboard.press("Home")
    first = colours(page)
    assert len({tuple(before), tuple(last), tuple(first)}) == 3
    assert card.locator(".block ol").first.inner_text() != listed
    assert "logits" in card.locator(".block h4").first.inner_text()


def test_the_listed_patches_are_the_strongest_and_outlined(page: sync_api.Page) -> None:
    card = page.locator(".card").first
    strongest = card.evaluate(
        """(card) => [...card.querySelectorAll(".cells .u:not(.neg)")]
            .sort((a, b) => b.style.getPropertyValue("--a") - a.style.getPropertyValue("--a"))
            .slice(0, 4).map((unit) => unit.getAttribute("aria-label").replace("column", "col"))"""
    )
    assert card.locator(".block ol").first.locator("span").all_inner_texts() == strongest
    outlined = card.locator(".cells .u.listed:not(.neg)")
    assert {
        label.replace("column", "col") for label in outlined.evaluate_all("all => all.map(u => u.ariaLabel)")
    } == set(strongest)
    assert outlined.first.evaluate("unit => getComputedStyle(unit).outlineStyle") == "solid"


def test_the_parts_of_a_card_add_up(page: sync_api.Page) -> None:
    page.locator("#depth").focus()
    page.keyboard.press("Home")
    card = page.locator(".card").first
    regions = [float(text.replace("−", "-")) for text in card.locator(".ninth b").all_inner_texts()]
    patches = card.locator("footer").inner_text().split("patches ")[1].split(",")[0].replace("−", "-")
    assert sum(regions) == pytest.approx(float(patches), abs=0.06)
    chip = card.locator(".u.special b").inner_text()
    assert f"special tokens {chip}" in card.locator("footer").inner_text()


def test_arrows_walk_the_grid_and_pages_the_depths(page: sync_api.Page) -> None:
    card = page.locator(".card").first
    card.locator('.cells .u[tabindex="0"]').focus()
    name = page.locator("#course h4 bdi")
    assert name.inner_text() == "row 0, column 0"
    for key, reached in (
        *(
            ("ArrowRight", "row 0, column 1"),
            ("ArrowDown", "row 1, column 1"),
            ("ArrowLeft", "row 1, column 0"),
        ),
        *(("ArrowLeft", "row 1, column 0"), ("End", "row 1, column 7"), ("ArrowUp", "row 0, column 7")),
        *(("ArrowUp", "row 0, column 7"), ("Home", "row 0, column 0")),
    ):
        page.keyboard.press(key)
        assert name.inner_text() == reached, key
    assert page.locator("#course circle").count() == 7
    page.keyboard.press("PageDown")
    assert page.locator("#depth-name").inner_text() == "6 · last block"
    for _ in range(8):
        page.keyboard.press("ArrowDown")
    assert name.inner_text() == "[CLS]"
    page.keyboard.press("ArrowUp")
    assert name.inner_text() == "row 7, column 0"
    assert card.locator('.u[tabindex="0"]').count() == 1
    page.keyboard.press("Escape")
    assert not page.locator("#course").is_visible()


def test_kinds_classes_and_search_filter(page: sync_api.Page) -> None:
    page.locator("#groups button", has_text="Driven by one patch").click()
    assert "on one patch" in page.locator(".card .tags").first.inner_text()
    page.locator("#groups button", has_text="All").click()
    page.locator("#class-filter").select_option("7")
    assert set(page.locator(".call b").all_inner_texts()) == {"7"}
    page.locator("#class-filter").select_option("")
    page.locator("#search").fill("no image is called so")
    assert "No image of the sample" in page.locator("#cards").inner_text()


@pytest.mark.parametrize("scheme", few(["light", "dark"], ["dark"], "the same pages in the other theme"))
@pytest.mark.parametrize("scene", UNUSUAL)
def test_unusual_runs_open_silently(
    browser: sync_api.Browser,
    tmp_path: Path,
    scene: str,
    scheme: str,
) -> None:
    path = tmp_path / "index.html"
    path.write_text(render(collect(connect(UNUSUAL[scene]), RUN)), encoding="utf-8")
    for width in (1280, 390):
        page, seen = opened(browser, path, scheme, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".card").count() > 0
        page.locator(".cells .u").first.hover()
        assert page.locator("#course").is_visible()
        assert seen.complaints == []
        page.context.close()


def test_it_prints_with_pictures_and_every_class(page: sync_api.Page) -> None:
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert page.locator(".map").last.is_visible()
    assert page.locator(".heat img").first.is_visible()
    assert not page.locator(".tools").is_visible()


def test_without_javascript_maps_and_regions_are_there(browser: sync_api.Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator(".map").first.is_visible()
    assert page.locator(".region .value").first.is_visible()
    assert page.locator(".chart svg").count() == 9
    context.close()
