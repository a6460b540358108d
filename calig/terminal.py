"""One explanation in the terminal: the text, or pair of texts, in colour, its course over the depths, the words.

Blue speaks for the explained class, orange against it. Where there is no colour (a pipe, `NO_COLOR`), words
carry `+` and `-` marks instead, one to three of them by strength. Text comes from strangers: control
characters are shown as visible stand-ins, never sent to the terminal.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.color import Color, ColorSystem
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from calig.records import Attribution, Float
from calig.words import align

TEXT_LINES = 12
CLASS_LINES = 8
"""Classes of a multi-label model whose probabilities are listed."""
STRIP_CELLS = 24
TOP_WORDS = 8
WORTH_LISTING = 0.02
"""Share of the strongest word's effect below which a word is not listed."""
NARROW = 80
"""Columns of a terminal below which the strip's cells are smaller."""
MARKS = (0.15, 0.4, 0.7)
"""Shares of the document's strongest word from which a word gets one, two and three marks."""
FAINTEST = 0.04
FEW = ("standard", "windows")
FOR = (33, 102, 172)
AGAINST = (217, 95, 2)


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the text: its place, and its relevance.

    Attributes
    ----------
    text
        0: it stands in the first or only text; 1: in the second.
    start, end
        Characters of that text.
    effect
        In logits: layer-wise integrated gradients, mean over depths 0..L−1, summed over the word's tokens by their
        shares.
    depths
        (L+1,) in logits, the same per depth.
    score
        Final score, signed, without unit.
    """

    text: int
    start: int
    end: int
    effect: float
    depths: Float
    score: float


def words_of(attribution: Attribution, texts: Sequence[str]) -> list[Word]:
    """Join tokens to the words of the texts (`calig.words`), in their order; special tokens belong to none."""
    effect = attribution.layer_ig[:-1].mean(axis=0)
    cut = np.full(len(texts), attribution.truncated)
    found = align(texts, np.zeros(len(texts), np.int32), attribution.segments, attribution.char_spans, cut)
    words = []
    for number in range(int(found.word.max(initial=-1)) + 1):
        pairs = np.flatnonzero(found.word == number)
        tokens, share = found.token[pairs], found.share[pairs]
        words.append(
            Word(
                text=int(found.text[pairs[0]]),
                start=int(found.start[pairs[0]]),
                end=int(found.end[pairs[0]]),
                effect=float(effect[tokens] @ share),
                depths=(attribution.layer_ig[:, tokens] @ share).astype(np.float32),
                score=float(attribution.scores[tokens] @ share),
            )
        )
    return words


def render_explanation(
    attribution: Attribution, text: str | tuple[str, str], classes: Sequence[str], console: Console
) -> None:
    """Print one explanation.

    Parameters
    ----------
    attribution
        Of `text`.
    text
        The text or pair as given; character spans refer to it.
    classes
        The names of the model's classes or outputs, by index.
    console
        Where to; its width, colour system and `NO_COLOR` are honoured.
    """
    texts = (text,) if isinstance(text, str) else text
    words = words_of(attribution, texts)
    console.print(_heading(attribution, classes))
    console.print()
    if not words:
        console.print(Text("No word to show: the text has no tokens of its own."))
    else:
        largest = max(abs(w.score) for w in words)
        for number, one in enumerate(texts):
            if len(texts) > 1:
                console.print(
                    Text(f"{'second' if number else 'first'} text{'' if one.strip() else ': empty'}", "dim")
                )
            _print_text([w for w in words if w.text == number], one, largest, console)
        console.print()
        _print_words(words, texts, attribution, classes, console)
        console.print()
    _print_strip(words, texts, attribution, console)


def printable(text: str) -> str:
    """Replace what could steer a terminal: line breaks and tabs by spaces, other controls by stand-ins."""
    return "".join(_printable(c) for c in text)


def _printable(character: str) -> str:
    if character in "\t\n\r\v\f\x85\u2028\u2029":
        return " "
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if character in "\u200c\u200d":  # joiners, which Persian, Indic scripts and emoji are spelt with
        return character
    return "\ufffd" if unicodedata.category(character) in {"Cc", "Cf", "Cs"} else character


def _heading(attribution: Attribution, classes: Sequence[str]) -> Text:
    lines, shares = Text(), attribution.probabilities
    if shares is None:
        for name, value in zip(classes, attribution.logits, strict=True):
            lines.append("output ").append(printable(name), "bold").append(f"  {value:+.3f}\n")
    elif attribution.head == "multi_label":
        for index in np.argsort(-shares, kind="stable")[:CLASS_LINES]:
            chosen = shares[index] > 0.5
            lines.append("predicted " if chosen else "not       ")
            lines.append(printable(classes[index]), "bold" if chosen else "").append(
                f"  p = {shares[index]:.3f}\n"
            )
        if len(shares) > CLASS_LINES:
            lines.append(f"… and {len(shares) - CLASS_LINES} less probable classes\n", "dim")
    else:
        name = printable(classes[attribution.predicted])
        lines.append("predicted ").append(name, "bold").append(f"  p = {shares[attribution.predicted]:.3f}\n")
    explained = printable(classes[attribution.target])
    logit, baseline = attribution.logit, attribution.baseline_logit
    lines.append("explained ").append(explained, "bold").append(f"  {_quantity(attribution)} {logit:+.3f}")
    lines.append(f", baseline {baseline:+.3f}, difference {logit - baseline:+.3f}")
    if attribution.truncated:
        lines.append("\nThe text is longer than the model takes: its end was not read.", "yellow")
    return lines


def _quantity(attribution: Attribution) -> str:
    """What the explained output is: of two classes by one logit, the margin."""
    return {"regression": "value", "binary": "margin"}.get(attribution.head, "logit")


def _unit(attribution: Attribution) -> str:
    return "units" if attribution.head == "regression" else "logits"


def _print_text(words: Sequence[Word], text: str, largest: float, console: Console) -> None:
    """Print the whole text with its words marked, at most `TEXT_LINES` lines of it."""
    line = Text()
    done = 0
    for word in words:
        line.append(printable(text[done : max(done, word.start)]))
        piece = text[max(done, word.start) : word.end]
        lead = len(piece) - len(piece.lstrip())
        line.append(printable(piece[:lead]))
        line.append_text(_marked(printable(piece[lead:]), _relative(word.score, largest), console))
        done = max(done, word.end)
    line.append(printable(text[done:]))
    lines = line[: TEXT_LINES * console.width * 2].wrap(console, console.width)
    for part in lines[:TEXT_LINES]:
        part.rstrip()
        console.print(part, soft_wrap=True)
    if len(lines) > TEXT_LINES:
        console.print(Text(f"… the text goes on; its first {TEXT_LINES} lines are shown", "dim"))


def _print_words(
    words: Sequence[Word],
    texts: Sequence[str],
    attribution: Attribution,
    classes: Sequence[str],
    console: Console,
) -> None:
    """Print the strongest words for and against, in logits; of a regression, those that raise and lower it."""
    explained = printable(classes[attribution.target])
    table = Table(box=None, pad_edge=False, expand=False)
    sides = ("raises", "lowers") if attribution.head == "regression" else ("for", "against")
    for title in (f"{side} {explained}" for side in sides):
        table.add_column(
            Text(title), overflow="ellipsis", no_wrap=True, max_width=max(8, console.width // 2 - 14)
        )
        table.add_column(Text(_unit(attribution)), justify="right", no_wrap=True)
    ranked = sorted(words, key=lambda w: -w.effect)
    least = WORTH_LISTING * max(abs(w.effect) for w in words)
    supporting = [w for w in ranked if w.effect > least][:TOP_WORDS]
    opposing = [w for w in reversed(ranked) if w.effect < -least][:TOP_WORDS]
    for i in range(max(len(supporting), len(opposing))):
        cells: list[Text] = []
        for side in (supporting, opposing):
            shown = i < len(side)
            cells.append(Text(_spelling(side[i], texts) if shown else ""))
            cells.append(Text(f"{side[i].effect:+.3f}" if shown else ""))
        table.add_row(*cells)
    console.print(table)


def _print_strip(
    words: Sequence[Word], texts: Sequence[str], attribution: Attribution, console: Console
) -> None:
    """Print a row per depth and one for the final score: the strongest words as cells, then the errors."""
    errors = [
        f"{e:8.1e} {n:5d} {r:7.0e}{'' if ok else ' !'}"
        for e, n, r, ok in zip(
            attribution.completeness_error,
            attribution.nodes,
            attribution.error_estimate,
            attribution.converged,
            strict=True,
        )
    ]
    titles = f"{'residual':>8} {'nodes':>5} {'error':>7}"
    cell = 6 if console.width < NARROW else 9
    room = max(1, (console.width - len("final ") - len(titles) - 2) // (cell + 1))
    strongest = sorted(words, key=lambda w: -abs(w.score))[: min(room, STRIP_CELLS)]
    shown = sorted(strongest, key=lambda w: (w.text, w.start))
    head = Text("depth ")
    for word in shown:
        head.append(_fit(_spelling(word, texts), cell) + " ")
    console.print(head.append(titles, "dim"), soft_wrap=True)
    rows = [np.array([w.depths[d] for w in shown]) for d in range(len(errors))]
    for depth, (row, error) in enumerate(zip(rows, errors, strict=True)):
        console.print(_strip_row(f"{depth:>5}", row, error, cell, console), soft_wrap=True)
    console.print(_strip_row("final", np.array([w.score for w in shown]), "", cell, console), soft_wrap=True)
    note = f"the {len(shown)} strongest of {len(words)} words; " if len(shown) < len(words) else ""
    missed = "" if attribution.converged.all() else "; ! not within the tolerance"
    console.print(Text(f"{note}each row on its own scale, residual in {_unit(attribution)}{missed}", "dim"))


def _strip_row(name: str, values: Float, error: str, cell: int, console: Console) -> Text:
    row = Text(f"{name} ")
    largest = float(np.abs(values).max(initial=0.0))
    for value in values:
        share = _relative(float(value), largest)
        row.append_text(_marked(" " * cell, share, console, f"{_marks(share):^{cell}}")).append(" ")
    return row.append(error)


def _relative(value: float, largest: float) -> float:
    return value / largest if largest > 0 and np.isfinite(value) else 0.0


def _marks(share: float) -> str:
    return ("+" if share > 0 else "-") * sum(abs(share) >= m for m in MARKS)


def _marked(text: str, share: float, console: Console, plain: str | None = None) -> Text:
    """Colour printable text by a share in −1..1; without colours show `plain`, by default text and marks."""
    if console.color_system is None or console.no_color:
        return Text(text + _marks(share) if plain is None else plain)
    return Text(text, _few_colours(share) if console.color_system in FEW else _background(share, console))


def _background(share: float, console: Console) -> Style:
    """Mix white with blue or orange; the ink is whichever of black and white can be read on it."""
    if abs(share) < FAINTEST:
        return Style()
    red, green, blue = (
        round(255 + (channel - 255) * abs(share) ** 0.8) for channel in (FOR if share > 0 else AGAINST)
    )
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    ink = Color.from_rgb(0, 0, 0) if bright else Color.from_rgb(255, 255, 255)
    system = ColorSystem.EIGHT_BIT if console.color_system == "256" else ColorSystem.TRUECOLOR
    return Style(color=ink.downgrade(system), bgcolor=Color.from_rgb(red, green, blue).downgrade(system))


def _few_colours(share: float) -> Style:
    """Two steps of blue or of yellow, which stands in for orange among sixteen colours."""
    if abs(share) < MARKS[0]:
        return Style()
    name = "blue" if share > 0 else "yellow"
    strong = abs(share) >= MARKS[1]
    return Style(
        bgcolor=name if strong else f"bright_{name}",
        color="bright_white" if strong and share > 0 else "black",
    )


def _spelling(word: Word, texts: Sequence[str]) -> str:
    return printable(texts[word.text][word.start : word.end].strip())


def _fit(word: str, width: int) -> str:
    """Pad or cut a word to a width in terminal cells."""
    fitted = Text(word)
    fitted.truncate(width, overflow="ellipsis", pad=True)
    return fitted.plain
