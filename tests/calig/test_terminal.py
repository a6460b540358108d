"""One explanation in recorded terminals of several widths and colour systems."""

import io
import re
from typing import Literal

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from calig.records import Attribution
from calig.terminal import TEXT_LINES, printable, render_explanation, words_of

Colours = Literal["standard", "256", "truecolor"]
TEXT = "The plot was dull, but Zendexlike acting was wonderful."
CLASSES = ("negative", "positive")


def attribution(text: str = TEXT, truncated: bool = False, scale: float = 1.0) -> Attribution:
    """Explain `text` by rule: 'wonderful' supports, 'dull' opposes, 'Zendexlike' is split in two tokens."""
    pieces: list[tuple[int, int, int]] = []
    for word_id, match in enumerate(re.finditer(r"\w+|[^\w\s]", text)):
        start, end = match.span()
        if match.group() == "Zendexlike":
            pieces += [(start, start + 6, word_id), (start + 6, end, word_id)]
        else:
            pieces.append((start, end, word_id))
    effects = {"wonderful": 2.0, "dull": -1.0, "Zendex": 0.25, "like": 0.5}
    values = [effects.get(text[s:e], 0.001) * scale for s, e, _ in pieces]
    values = [0.0, *values, 0.0]
    tokens = len(values)
    layer_ig = np.array([values, values, values], dtype=np.float32)
    layer_ig[2] = 0
    layer_ig[2, 0] = sum(values)
    return Attribution(
        key="k",
        tokens=["[CLS]", *(text[s:e] for s, e, _ in pieces), "[SEP]"],
        word_ids=np.array([-1, *(w for _, _, w in pieces), -1], dtype=np.int32),
        char_spans=np.array([(0, 0), *((s, e) for s, e, _ in pieces), (0, 0)], dtype=np.int32),
        segments=np.array([-1, *[0] * len(pieces), -1], dtype=np.int32),
        is_special=np.array([True, *[False] * len(pieces), True]),
        layer_ig=layer_ig,
        context=np.zeros((2, tokens), dtype=np.float32),
        context_norm=np.ones(2, dtype=np.float32),
        relevance=np.zeros((2, tokens), dtype=np.float32),
        scores=np.array(values, dtype=np.float32),
        target=1,
        predicted=1,
        logits=np.array([-0.5, 1.5], dtype=np.float32),
        logit=1.5,
        baseline_logit=-0.25,
        completeness_error=np.array([3e-4, 2e-4, 1e-4], dtype=np.float32),
        error_estimate=np.array([1e-3, 2e-3, 5e-2], dtype=np.float32),
        converged=np.array([True, True, False]),
        nodes=np.array([6, 18, 54], dtype=np.int32),
        block_passes=100,
        seconds=0.1,
        truncated=truncated,
    )


def rendered(
    a: Attribution,
    text: str = TEXT,
    width: int = 80,
    colours: Colours | None = None,
    no_color: bool = False,
) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colours is not None,
        color_system=colours,
        no_color=no_color,
        _environ={},
    )
    render_explanation(a, text, CLASSES, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def stripped(out: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", out)


def test_sub_words_are_joined_and_effects_averaged_over_the_fused_depths() -> None:
    words = {TEXT[w.start : w.end]: w for w in words_of(attribution(), [TEXT])}
    assert list(words)[:5] == ["The", "plot", "was", "dull", ","]
    assert words["Zendexlike"].effect == pytest.approx(0.75)
    assert words["wonderful"].depths == pytest.approx([2, 2, 0])


def test_says_prediction_target_and_logits() -> None:
    out = rendered(attribution())
    assert "predicted positive  p = 0.881" in out
    assert "logit +1.500, baseline -0.250, difference +1.750" in out


def test_lists_words_for_and_against_in_logits() -> None:
    out = rendered(attribution())
    assert re.search(r"wonderful +\+2\.000 +dull +-1\.000", out)
    assert re.search(r"Zendexlike +\+0\.750", out)


def test_marks_words_where_there_is_no_colour() -> None:
    out = rendered(attribution())
    assert "The plot was dull--, but Zendexlike+ acting was wonderful+++." in out
    assert "\x1b" not in out


def test_no_color_is_honoured_in_a_terminal() -> None:
    out = rendered(attribution(), colours="truecolor", no_color=True)
    assert "wonderful+++" in out
    assert "48;2" not in out


@pytest.mark.parametrize(
    ("colours", "supporting", "opposing"),
    [
        ("truecolor", r"48;2;33;102;172m", r"48;2;23\d;\d+;\d+m"),
        ("256", r"48;5;25m", r"48;5;1[67]\d+m"),
        ("standard", r"44m", r"43m"),
    ],
)
def test_colours_words_on_their_background(colours: Colours, supporting: str, opposing: str) -> None:
    out = rendered(attribution(), colours=colours)
    assert re.search(rf"\x1b\[[0-9;]*{supporting}wonderful", out)
    assert re.search(rf"\x1b\[[0-9;]*{opposing}dull", out)
    assert "The plot was dull, but Zendexlike acting was wonderful." in stripped(out)


def test_intensity_is_relative_to_the_document() -> None:
    assert "wonderful+++" in rendered(attribution(scale=1e-4))


def test_strip_has_a_row_per_depth_with_its_errors() -> None:
    lines = rendered(attribution()).splitlines()
    rows = {line.split()[0]: line for line in lines if re.match(r" {4}[012] |final", line)}
    assert list(rows) == ["0", "1", "2", "final"]
    assert re.search(r"3\.0e-04 +6 +1e-03$", rows["0"].rstrip())
    assert re.search(r"1\.0e-04 +54 +5e-02 !$", rows["2"].rstrip())
    assert "+++" in rows["0"]
    assert "+++" not in rows["2"]
    assert "+++" in rows["final"]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("colours", [None, "truecolor"])
def test_fits_the_width(width: int, colours: Colours | None) -> None:
    out = stripped(rendered(attribution(), width=width, colours=colours))
    assert max(cell_len(line.rstrip()) for line in out.splitlines()) <= width


def test_a_long_text_does_not_flood() -> None:
    text = "word " * 250 + "wonderful " + "word " * 260
    out = rendered(attribution(text), text, width=60)
    assert f"its first {TEXT_LINES} lines are shown" in out
    assert len(out.splitlines()) <= 40
    assert "wonderful" in out
    assert "strongest of 511 words" in out


def test_control_characters_never_reach_the_terminal() -> None:
    text = "a\x1b[31mred\x07 \x9b2J dull\u202e \x1b]8;;http://x\x1b\\wonderful [bold]no[/bold]\r\nend"
    out = rendered(attribution(text), text)
    assert not set(out) - {"\n"} & set(map(chr, [*range(32), *range(0x7F, 0xA0), 0x202E]))
    assert "␛[31mred␇" in out
    assert "[bold]no[/bold]" in out


def test_printable_keeps_place_and_script() -> None:
    text = "naïve 北京 می\u200cخواهم 👩\u200d💻"
    assert printable(text) == text
    assert len(printable("a\x00\ud800\tb")) == 5


def test_says_when_the_text_was_truncated() -> None:
    assert "end was not read" in rendered(attribution(truncated=True))
    assert "end was not read" not in rendered(attribution())


def test_a_text_without_words() -> None:
    out = rendered(attribution(""), "")
    assert "No word to show" in out
    assert "final" in out
