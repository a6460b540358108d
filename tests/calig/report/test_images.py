"""Reports of runs on images: what is collected, and what is on the page."""

from __future__ import annotations

import base64
import io
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from calig.report import maps, prose
from calig.report.charts import HEIGHT
from calig.report.charts import places as place_charts
from calig.report.data import collect
from calig.report.model import MeanMap, Picture, RegionEffect, ReportData
from calig.report.payload import data_uri, payload
from calig.report.pictures import FEWEST, PAYLOAD_BYTES, affordable
from calig.report.render import render
from calig.report.sample import QUOTAS, choose, groups
from calig.report.terms import terms
from tests.material.html import Page
from tests.material.report_images import PLANTED, RUN, ImageScene, connect

SCENES = {
    "digits": ImageScene(),
    "photos": ImageScene("photos", 30, 12, ((14, 14),), ("[CLS]", "[REG1]")),
    "several grids": ImageScene("photos", 24, 3, ((7, 7), (4, 10))),
    "no thumbnails": ImageScene(documents=20, thumbnails=False),
    "no special tokens": ImageScene(documents=20, specials=()),
    "one patch": ImageScene(documents=20, grids=((1, 1),)),
    "fine": ImageScene("photos", 9, 2, ((37, 37),)),
}


@pytest.fixture(scope="module")
def digits() -> ReportData:
    return collect(connect(SCENES["digits"]), RUN)


def test_a_sampled_image_holds_its_patches_row_by_row_after_its_special_tokens(digits: ReportData) -> None:
    con = connect(SCENES["digits"])
    for document in digits.documents[::9]:
        rows = con.execute(
            "SELECT token, ig_00, ig_03, score FROM tokens WHERE doc_id = ? ORDER BY position",
            [document.doc_id],
        ).fetchall()
        assert document.heat.units == tuple(row[0] for row in rows)
        assert document.heat.units[:3] == ("[CLS]", "0,0", "0,1")
        found = np.stack([document.heat.layer_ig[0], document.heat.layer_ig[3], document.heat.scores], axis=1)
        np.testing.assert_allclose(found, [row[1:] for row in rows])
        assert document.picture is not None
        assert document.picture.grid == (8, 8)


def test_the_mean_map_is_the_mean_over_the_images_of_a_class(digits: ReportData) -> None:
    effects: dict[str, list[np.ndarray]] = {}
    rows = (
        connect(SCENES["digits"])
        .execute(
            "SELECT target, list(logit_effect ORDER BY position) "
            "FROM patches JOIN documents USING (doc_id) GROUP BY doc_id, target"
        )
        .fetchall()
    )
    for target, values in rows:
        effects.setdefault(target, []).append(np.reshape(values, (8, 8)))
    assert {found.label for found in digits.maps} == set(effects)
    for found in digits.maps:
        stack = np.stack(effects[found.label])
        np.testing.assert_allclose(found.effects, stack.mean(axis=0))
        np.testing.assert_allclose(
            found.shares, (abs(stack) / abs(stack).sum(axis=(1, 2), keepdims=True)).mean(axis=0)
        )
        assert (found.documents, found.others) == (len(stack), 0)


def test_a_class_with_several_grids_shows_the_commonest_and_counts_the_others() -> None:
    data = collect(connect(ImageScene("photos", 40, 2, ((7, 7), (7, 7), (4, 10)), failures=0)), RUN)
    for found in data.maps:
        explained = next(row.explained for row in data.classes if row.label == found.label)
        assert found.effects.shape == (7, 7)
        assert 0 < found.others < found.documents
        assert found.documents + found.others == explained


def test_places_hold_every_depth_but_the_last_and_the_final_score(digits: ReportData) -> None:
    whole = [row for row in digits.places if row.label == "*"]
    assert [row.depth for row in whole] == [*range(6), None]
    assert all(row.border_area == pytest.approx(28 / 64) for row in whole)
    patches = connect(SCENES["digits"]).execute(
        "SELECT doc_id, border, abs(ig_02) FROM patches JOIN (SELECT doc_id, position, ig_02 FROM tokens) "
        "USING (doc_id, position) WHERE doc_id IN (SELECT doc_id FROM documents WHERE in_statistics)"
    )
    mass: dict[int, list[float]] = {}
    for doc_id, border, size in patches.fetchall():
        found = mass.setdefault(doc_id, [0.0, 0.0])
        found[0] += size * border
        found[1] += size
    assert whole[2].border_share == pytest.approx(
        np.mean([border / gross for border, gross in mass.values()])
    )
    chart = place_charts(digits.places, [], 7, terms("single_label", "image"))[0]
    assert chart.rule is not None
    assert 0 < chart.rule < HEIGHT
    assert [len(line.points) for line in chart.lines if line.style == "all"] == [6]


def plain(text: str) -> str:
    """A sentence without the elements that keep its names apart."""
    return re.sub(r"</?bdi>", "", text)


def test_the_planted_corner_is_pointed_at(digits: ReportData) -> None:
    said = {pointer.topic: plain(pointer.text) for pointer in prose.pointers(digits)}
    assert f"“top left” for {PLANTED}" in said["Regions"]
    assert "row 0, column 0 holds" in said["Single patch"]
    assert f"of {PLANTED}’s relevance" in said["Single patch"]
    assert "Words" not in said
    assert {pointer.section for pointer in prose.pointers(digits)} <= {
        "regions",
        "layers",
        "documents",
        "convergence",
    }


def test_a_border_that_holds_much_for_its_area_is_pointed_at(digits: ReportData) -> None:
    border = RegionEffect("3", "border", 40, 2.0, 1.5, 2.5, 0.66, 0.44, 1.5)
    said = {
        pointer.topic: plain(pointer.text) for pointer in prose.pointers(replace(digits, regions=(border,)))
    }
    assert "66.0 % of 3’s relevance on 44.0 % of the area, 1.50 ×" in said["Border"].replace(
        "1.5 ×", "1.50 ×"
    )
    quiet = replace(border, lift=1.1)
    assert "Border" not in {pointer.topic for pointer in prose.pointers(replace(digits, regions=(quiet,)))}


def test_nothing_on_the_page_is_called_a_document_or_a_word(digits: ReportData) -> None:
    assert prose.verdict(digits.run).startswith("298 images explained")
    titles = {group.kind: group.title for group in groups("single_label", "image")}
    assert titles["one_word"] == "Driven by one patch"
    assert "evidence" not in titles
    html = render(digits)
    text = re.sub(
        r"<style>.*?</style>|<pre.*?</pre>|<[^>]+>",
        " ",
        html[: html.index('<script type="application/json"')],
        flags=re.S,
    )
    for word in ("documents worth", "a word", "every word", "words ", " documents", "word vector"):
        assert word not in text.replace("in words", "").replace("What the words mean", "")


@pytest.mark.parametrize("size", [4, 16, 17, 37])
def test_a_fine_map_is_summed_to_a_coarse_one(size: int) -> None:
    effects = np.random.default_rng(size).normal(size=(size, size + 3))
    drawn = maps.draw(MeanMap("c", 5, 0, effects, abs(effects) / abs(effects).sum()), "logits")
    assert max(drawn.rows, drawn.columns) <= maps.MOST_CELLS
    assert drawn.pooled == -(-(size + 3) // maps.MOST_CELLS)
    signed = sum((1 if cell.supports else -1) * cell.strength * drawn.end for cell in drawn.cells)
    assert signed == pytest.approx(effects.sum())
    assert max(cell.strength for cell in drawn.cells) == pytest.approx(1.0)


def test_the_border_has_no_bar_and_the_nine_regions_share_a_scale(digits: ReportData) -> None:
    for panel in maps.panels(digits, digits.classes, "logits"):
        shown = [region for region, _ in panel.support + panel.oppose]
        assert {region.region for region in shown} == {
            *("top left", "top", "top right", "left", "centre", "right"),
            *("bottom left", "bottom", "bottom right"),
        }
        assert panel.border is not None
        assert all(region.effect > 0 for region, _ in panel.support)
    ends = [max(abs(region.low), abs(region.high)) for region in digits.regions if region.region != "border"]
    assert maps.bar_scale(digits.regions) == pytest.approx(max(ends), rel=0.5)


def test_the_payload_holds_pictures_and_names_no_patch(digits: ReportData) -> None:
    packed = payload(digits, "w")
    assert (packed["document"], packed["items"]) == ("image", "patches")
    for document, given in zip(packed["documents"], digits.documents, strict=True):
        assert document["units"] == ["[CLS]"]
        assert document["grid"] == (8, 8)
        kind, data = document["picture"].split(",")
        assert kind == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (32, 32)
        values = np.frombuffer(base64.b64decode(document["effects"]), "<i2").reshape(7, 65) * document["step"]
        np.testing.assert_allclose(values, given.heat.layer_ig, atol=document["step"])


@pytest.mark.parametrize("file", [None, b"", b"<svg onload=alert(1)>", b"GIF89a"])
def test_a_thumbnail_that_is_neither_png_nor_jpeg_is_left_out(file: bytes | None) -> None:
    assert data_uri(file) is None


@pytest.mark.parametrize("scene", SCENES, ids=str)
def test_the_page_is_whole_and_lets_in_its_own_pictures_only(scene: str) -> None:
    page = Page(html := render(collect(connect(SCENES[scene]), RUN)))
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert "img-src data:;" in policy
    assert "unsafe" not in policy
    assert len(html.encode()) < 5_000_000
    assert page.data["documents"]
    for _, attributes in page.tags:
        assert not {"style", "src"} & attributes.keys()
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in ("href", "for", "aria-labelledby"):
            if name in attributes:
                assert str(attributes[name]).lstrip("#") in ids


def test_sixty_large_thumbnails_of_196_patches_at_thirteen_depths_fit() -> None:
    data = collect(connect(ImageScene("photos", 16, 12, ((14, 14),), failures=0)), RUN)
    noise = np.random.default_rng(0).bytes(12_000)
    picture = Picture((14, 14), b"\xff\xd8" + noise)
    assert affordable([picture] * 60, 13, 60) == 60
    sixty = (replace(data.documents[i % len(data.documents)], picture=picture) for i in range(60))
    assert len(render(replace(data, documents=tuple(sixty))).encode()) < 5_000_000


def test_finer_grids_and_larger_thumbnails_make_the_sample_smaller() -> None:
    fine = [Picture((37, 37), b"x" * 12_000)] * 60
    limit = affordable(fine, 25, 60)
    assert FEWEST < limit < 60
    assert limit * (37 * 37 * 26 * 2 + 12_000) * 4 / 3 <= PAYLOAD_BYTES
    assert affordable([Picture((200, 200), None)] * 60, 49, 60) == FEWEST
    assert affordable([], 13, 0) == 0


def test_a_small_sample_keeps_every_kind() -> None:
    candidates = [(kind, 100 * place + doc, 0.5) for place, kind in enumerate(QUOTAS) for doc in range(20)]
    chosen = choose(candidates, 20)
    assert len(chosen) <= 20
    assert {kind for reasons in chosen.values() for kind, _ in reasons} == set(QUOTAS)
    assert set(chosen) <= set(choose(candidates))


def test_images_that_failed_are_among_the_failures(digits: ReportData) -> None:
    (reason,) = digits.failures
    assert (reason.reason, reason.documents) == ("unreadable image", 2)
    assert "unreadable image" in render(digits)


def test_the_commands_ask_for_images(digits: ReportData) -> None:
    con = connect(SCENES["digits"])
    for _title, command in prose.queries(digits.run, "w"):
        sql = shlex.split(command)[2]
        assert "text" not in sql
        assert con.execute(sql).fetchall()
