from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calig.report.charts import bar, scale_of
from calig.report.data import collect
from calig.report.model import WordEffect
from calig.report.page import DETAIL_CHARACTERS, environment
from calig.report.payload import encode, quantise
from calig.report.render import render
from calig.warehouse.gates import SEE
from tests.material.html import Page
from tests.material.report_runs import RUN, Scene, connect

HOSTILE = (
    "</script><script>alert(1)</script> <!-- <script>",
    "<img src=x onerror=alert(1)> & \" ' {{ 7*7 }} {% raw %}",
    "زبان فارسی خیلی زیبا است \u202e override",
    "nul \x00 and \x1b escape \u2028 separator",
)
TWELVE = (
    "devel",
    "doc",
    "golang",
    "haskell",
    "javascript",
    "libdevel",
    "libs",
    "net",
    "perl",
    "python",
    "rust",
    "utils",
)
SCENES = {
    "plain": Scene(),
    "hostile": Scene(texts=HOSTILE, classes=("<b>no</b>", "yes & \"maybe\"")),
    "no labels": Scene(labelled=False),
    "one class predicted": Scene(only_class=1),
    "no failures": Scene(failures=0),
    "all failures": Scene(documents=6, failures=6),
    "no words": Scene(words=False),
    "twelve classes": Scene(documents=300, classes=TWELVE, blocks=4),
    "twenty-five depths": Scene(documents=80, blocks=24),
    "one block": Scene(documents=20, blocks=1),
    "long document": Scene(documents=20, texts=("word " * 5_000,)),
}  # fmt: skip


@pytest.fixture(scope="module", params=SCENES, ids=str)
def html(request: pytest.FixtureRequest) -> str:
    return render(collect(connect(SCENES[request.param]), RUN))


def test_the_page_is_whole_and_small(html: str) -> None:
    page = Page(html)
    assert html.rstrip().endswith("</html>")
    assert len(page.inside["script"]) == 2
    assert len(page.inside["style"]) == 1
    assert len(html.encode()) < 5_000_000
    assert "\x00" not in html
    json.dumps(page.data, allow_nan=False)


def test_nothing_is_fetched_and_nothing_is_inline(html: str) -> None:
    for _tag, attributes in Page(html).tags:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import", html)


def test_the_policy_allows_this_script_and_style_only(html: str) -> None:
    page = Page(html)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    assert policy is not None
    for text, directive in ((page.inside["script"][1], "script-src"), (page.inside["style"][0], "style-src")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_references_inside_the_page_resolve(html: str) -> None:
    page = Page(html)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in ("href", "for", "list", "aria-labelledby", "aria-describedby"):
            if name in attributes:
                assert str(attributes[name]).lstrip("#") in ids


def test_hostile_text_arrives_as_text() -> None:
    page = Page(render(collect(connect(Scene(documents=12, failures=0, texts=HOSTILE)), RUN)))
    by_id = {document["id"]: document for document in page.data["documents"]}
    for doc_id, text in enumerate(HOSTILE):
        document = by_id[f"dev-{doc_id:04d}"]
        special = set(document["special"])
        units = ["" if place in special else unit for place, unit in enumerate(document["units"])]
        joined = "".join(gap + unit for gap, unit in zip(document["gaps"], [*units, ""], strict=True))
        assert joined == re.sub(r"[\x00\x1b]", "�", text)


def test_a_long_document_is_cut_to_a_window_that_says_so() -> None:
    scene = Scene(documents=20, texts=("word " * 5_000,))
    documents = Page(render(collect(connect(scene), RUN))).data["documents"]
    long = next(document for document in documents if document["id"] == "dev-0000")
    assert len(long["units"]) == 252
    assert long["window"][2] == 5_000


def test_sixty_documents_of_five_hundred_words_at_twenty_five_depths_fit() -> None:
    data = collect(connect(Scene(documents=14, blocks=24, classes=TWELVE, length=(505, 512))), RUN)
    sixty = replace(data, documents=(data.documents * 6)[:60])
    assert len(sixty.documents) == 60
    assert len(render(sixty).encode()) < 5_000_000


@given(arrays(np.float64, (3, 5), elements=st.floats(-1e6, 1e6)))
def test_quantised_values_are_within_half_a_step(values: np.ndarray) -> None:
    text, step = quantise(values)
    back = np.frombuffer(base64.b64decode(text), "<i2").reshape(3, 5) * step
    assert np.all(np.abs(back - values) <= step * 0.5000001)
    assert step <= max(np.abs(values).max() / 32_767, 1e-300) or np.abs(values).max() / 32_767 == 0


@given(
    st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_json_in_a_script_cannot_close_it(value: Any) -> None:
    text = encode(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value


def test_numbers_that_json_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode([float("nan")])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_bar_and_its_interval_share_the_scale(sign: int) -> None:
    low, high = sorted((sign * 0.5, sign * 1.5))
    word = WordEffect("c", "w", sign > 0, True, 9, 9, sign * 1.0, low, high, 1.0, 0)
    scale = scale_of([word])
    drawn = bar(word, scale)
    assert (scale, drawn.width, drawn.low, drawn.high) == pytest.approx((1.5, 100 / 1.5, 100 / 3, 100.0))


@pytest.mark.parametrize(
    ("corpus", "numbers", "says"),
    [
        ({}, {}, ""),
        ({"limit": 60}, {}, "The first 60 only (corpus.limit)"),
        ({"limit": 61}, {}, ""),
        (
            {"sample": {"documents": 60, "by": None}},
            {"corpus_rows": 9000},
            "60 of 9,000, drawn by their keys",
        ),
        ({"sample": {"documents": 60, "by": "day"}}, {"corpus_rows": 9000}, "in equal numbers by day"),
        ({"sample": {"documents": 90, "by": None}}, {"corpus_rows": 60}, ""),
        (
            {},
            {"left_out": 2, "left_out_files": "2 .heic (a.heic, <b>.heic)"},
            "2 .heic (a.heic, &lt;b&gt;.heic)",
        ),
    ],
)
def test_the_head_says_which_rows_and_what_is_left_out(
    corpus: dict[str, Any], numbers: dict[str, Any], says: str
) -> None:
    with connect(Scene(documents=60)) as con:
        data = collect(con, RUN)
    page = render(replace(data, run=replace(data.run, config={"corpus": corpus}, **numbers)))
    head = page[page.index("<header") : page.index("</header>")]
    assert says in head
    assert ("<dt>Rows</dt>" in head, "<dt>Left out</dt>" in head) == (
        bool(says and corpus),
        bool(numbers.get("left_out")),
    )


def test_a_long_finding_is_cut_and_its_command_is_not() -> None:
    cut = environment().filters["detail"]
    command = f"calig query \"SELECT * FROM comparison_words WHERE word = '{'x' * 400}'\" --run latest"
    finding, _, kept = cut("found " * 200 + SEE + command).partition(SEE)
    assert kept == command
    assert (len(finding), finding[-1]) == (DETAIL_CHARACTERS, "…")
    assert cut("short" + SEE + command) == "short" + SEE + command
    assert len(cut("x" * 1000)) == DETAIL_CHARACTERS
