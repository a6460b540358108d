"""Pairs, several labels and a regression in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.material.browser import opened
from tests.material.heads import audit, pairs, save_head

if TYPE_CHECKING:
    from playwright import sync_api

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def pages(browser: sync_api.Browser, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of an NLI-like, a multi-label and a regression model; made only where there is a browser."""
    home = tmp_path_factory.mktemp("pages")
    made = {"nli": None, "topics": "multi_label_classification", "stars": "regression"}
    found = {}
    for name, problem in made.items():
        model = save_head(home / name, ("stars",) if name == "stars" else ("one", "two", "three"), problem)
        rows = [{"id": str(i), "a": a, "b": b, "label": i % 3} for i, (a, b) in enumerate(pairs(8))]
        columns = {"text": "a", "text_pair": "b" if name == "nli" else None}
        done = audit(model, rows, home / f"{name}-audit", columns=columns)
        found[name] = done.run.warehouse.run(done.run.run_id) / "report" / "index.html"
    return found


@pytest.mark.parametrize(
    ("name", "said"),
    [("nli", "predicted"), ("topics", "explained"), ("stars", "stars =")],
)
def test_it_opens_silently_and_calls_things_by_their_names(
    name: str,
    said: str,
    browser: sync_api.Browser,
    pages: dict[str, Path],
) -> None:
    page, seen = opened(browser, pages[name])
    assert said in page.locator(".card .call").first.inner_text()
    page.locator("#depth").focus()
    page.keyboard.press("ArrowLeft")
    assert ("units" if name == "stars" else "logits") in page.locator(".scale").first.inner_text()
    assert seen.complaints == []
    page.context.close()


def test_the_texts_of_a_pair_stand_one_below_the_other(
    browser: sync_api.Browser,
    pages: dict[str, Path],
) -> None:
    page, seen = opened(browser, pages["nli"])
    first, second = (page.locator(".card").first.locator(".part").nth(i) for i in range(2))
    above, below = first.bounding_box(), second.bounding_box()
    assert above is not None
    assert below is not None
    assert above["y"] + above["height"] <= below["y"]
    assert second.get_attribute("aria-label") == "Second text"
    second.locator(".u").first.hover()
    assert page.locator("#course").is_visible()
    assert seen.complaints == []
    page.context.close()
