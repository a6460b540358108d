from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calig.report.charts import bar, scale_of
from calig.report.data import collect
from calig.report.model import WordEffect
from calig.report.payload import encode, literal, quantise
from calig.report.render import render
from calig.report.since import Gate, Opening, told
from calig.warehouse.gates import SEE
from tests.material.html import Page
from tests.material.report_runs import RUN, Scene, connect

HOSTILE = (
    "</script><script>alert(1)</script> <!-- <script>",
    "<img src=x onerror=alert(1)> & \" ' {{ 7*7 }} {% raw %}",
    "زبان فارسی خیلی زیبا است \u202e override",
    "nul \x00 and \x1b escape \u2028 separator",
)
CONTROLS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
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
        assert joined == re.sub(r"[\x00\x1b]", "�", text).replace("\u202e", "⟨RLO⟩")


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
    assert says in head.replace("<bdi>", "").replace("</bdi>", "")
    assert ("<dt>Rows</dt>" in head, "<dt>Left out</dt>" in head) == (
        bool(says and corpus),
        bool(numbers.get("left_out")),
    )


def test_a_finding_and_its_command_stand_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: "/usr/bin/calig")
    sql = f"SELECT * FROM comparison_words WHERE word = '{'x' * 400}'"
    detail = f'found{SEE}calig query "{sql}" --run latest'
    assert told(detail, "/my w") == ("found", f'calig query "{sql}" --run latest --warehouse "/my w"')
    assert told("found; and more", "/w") == ("found; and more", "")


def test_few_documents_are_said_and_no_word_of_them_is_headlined() -> None:
    data = collect(connect(Scene(documents=40, failures=0)), RUN)
    few, many = (
        render(data),
        render(replace(data, run=replace(data.run, explained=400, converged_documents=400))),
    )
    assert ("Few documents" in few, "Strongest evidence" in few, 'class="teaser"' in few) == (
        True,
        False,
        False,
    )
    assert 'class="panel" open' not in few
    right = data.run.labelled - data.run.errors
    assert f"{right} of {data.run.labelled} labelled predicted right" in few
    assert ("Few documents" in many, "Strongest evidence" in many, 'class="panel" open' in many) == (
        False,
        True,
        True,
    )


def test_a_hundred_classes_are_a_table_and_ten_panels() -> None:
    names = tuple(f"class {number}" for number in range(100))
    data = collect(connect(Scene(documents=900, failures=0, classes=names, blocks=2)), RUN)
    page = render(data)
    explained = {row.label for row in data.classes if row.explained}
    table = page[page.index('aria-label="All explained classes"') :]
    table = table[: table.index("</table>")]
    assert set(re.findall(r"<bdi>(class \d+)</bdi>", table)) == explained
    assert len(explained) > 90
    places = [f"class-{place}" for place in range(1, 11)]
    assert re.findall(r'<a href="#(class-\d+)">', table) == places
    assert re.findall(r' id="(class-\d+)"', page) == places
    assert page.count('<details class="panel"') == 10
    largest = max((word for word in data.words if word.clear), key=lambda word: abs(word.effect))
    assert f'<a href="#class-1"><bdi>{largest.label}</bdi></a>' in table


def test_a_run_of_fixed_steps_shows_no_tolerance_as_asked_for() -> None:
    data = collect(connect(Scene()), RUN)
    with connect(Scene(failures=0)) as con:
        con.execute("UPDATE runs SET config = ?", ['{"method": {"steps": 8, "tolerance": 0.01}}'])
        fixed = collect(con, RUN)
    page = render(fixed)
    text = re.sub(r"<style>.*?</style>|<pre.*?</pre>|<script.*?</script>", "", page, flags=re.DOTALL)
    assert re.findall(r"[^<>]*olerance[^<>]*", text) == [
        "), whatever the error: no tolerance was asked for. The errors are estimated all the same."
    ]
    assert "64 documents explained, with 8 steps each" in page
    assert {document["converged"] for document in Page(page).data["documents"]} == {None}
    assert "tolerance 0.01" in render(data)


@pytest.mark.parametrize("gates", [(), (Gate("max_failure_share", "error", True, 0.0, 0.05, None, ""),)])
def test_passed_does_not_stand_alone_over_what_did_not_converge(gates: tuple[Gate, ...]) -> None:
    data = collect(connect(Scene(failures=0)), RUN)
    none = replace(data, run=replace(data.run, converged_documents=0))
    page = render(none, Opening(gates=gates))
    assert '<span class="state warn">Gates passed, but 100 % not within tolerance</span>' in page
    assert "64 documents explained, none within tolerance at every depth" in page
    assert "No gate is about it; gates.max_unconverged_share would be." in page
    held = Gate("min_converged_share", "warn", False, 0.0, 0.9, None, "")
    assert "No gate is about it" not in render(none, Opening(gates=(*gates, held)))


def test_no_control_of_direction_is_on_the_page() -> None:
    names = ("a\u202egood\u202c", "\u2067b\u2069")
    scene = Scene(classes=names, texts=tuple(f"{mark}film{mark} word" for mark in CONTROLS))
    with connect(scene) as con:
        con.execute("UPDATE documents SET source_id = concat('id', chr(8238), doc_id)")
        page = render(collect(con, RUN))
    assert not set(CONTROLS) & set(page)
    assert "<bdi>a⟨RLO⟩good⟨PDF⟩</bdi>" in page


@given(st.text(min_size=1))
def test_the_literal_of_a_word_survives_the_shell_and_the_database(word: str) -> None:
    word = word.replace("\x00", "")
    assume(word and word.encode("utf-8", "ignore").decode() == word)
    text = literal(word)
    assert not set('"$`\\!\n') & set(text)
    assert text.isprintable()
    assert duckdb.sql(f"SELECT {text}").fetchall() == [(word,)]
