"""One image's explanation as a strip of pictures: the image, its relevance at every depth, and the final score.

Blue speaks for the explained class, orange against it, over a greyed image; each picture is on its own symmetric scale,
whose end stands under it, and patches from half of that scale on are outlined, so that colours are not all there is.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from calig.records import Attribution, Float
from calig.terminal import printable

SIDE = 160
"""Longest side of a picture in the strip, in pixels."""
GAP, CAPTION, HEADING = 12, 40, 30
COLUMNS = 8
NAMED = 3
"""Patches named on each side of the summary."""
FOR, AGAINST = (33, 102, 172), (217, 95, 2)
PALE = 0.35
"""How far the greyed image is lightened."""
STRONGEST = 0.8
"""Share of its colour that the strongest patch shows; the image shows through the rest."""


def strip(attribution: Attribution, classes: tuple[str, ...]) -> Image.Image:
    """Draw it: at most `COLUMNS` pictures to a row.

    Parameters
    ----------
    attribution
        Of an image.
    classes
        Names of the model's classes, by index.

    Raises
    ------
    ValueError
        It is not of an image.
    """
    if attribution.thumbnail is None or attribution.grid is None:
        raise ValueError("only an image can be drawn as a strip")
    picture = Image.open(io.BytesIO(attribution.thumbnail)).convert("RGB")
    enlarged = SIDE / max(picture.size)
    size = (max(1, round(picture.width * enlarged)), max(1, round(picture.height * enlarged)))
    picture = picture.resize(size, Image.Resampling.NEAREST if enlarged > 2 else Image.Resampling.BICUBIC)
    last = len(attribution.layer_ig) - 1
    panels = [(picture, "the image", f"as the model sees it, {attribution.grid[0]} by {attribution.grid[1]}")]
    for depth, values in enumerate(attribution.layer_ig):
        name = "embeddings" if depth == 0 else "last block" if depth == last else f"block {depth}"
        panels.append(_panel(picture, attribution, values, f"depth {depth} · {name}", "logits"))
    panels.append(_panel(picture, attribution, attribution.scores, "final score", ""))
    return _laid_out(panels, _heading(attribution, classes), size)


def png(attribution: Attribution, classes: tuple[str, ...]) -> bytes:
    """The strip as a PNG file's bytes; parameters as of `strip`."""
    stream = io.BytesIO()
    strip(attribution, classes).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def summary(attribution: Attribution, classes: tuple[str, ...]) -> list[str]:
    """What the strip shows, in lines of text: the class, its logit, the strongest patches and the worst error."""
    assert attribution.patches is not None
    effect = attribution.layer_ig[:-1].mean(axis=0)
    content = np.flatnonzero(~attribution.is_special)
    ranked = content[np.argsort(-effect[content], kind="stable")]
    lines = [_heading(attribution, classes)]
    for title, order in (("for    ", ranked), ("against", ranked[::-1])):
        sign = 1 if order is ranked else -1
        chosen = [t for t in order[:NAMED] if sign * effect[t] > 0]
        named = ", ".join(f"({attribution.tokens[t]}) {effect[t]:+.3f}" for t in chosen) or "none"
        lines.append(f"{title} patches (row, column) and their logits: {named}")
    converged = "within tolerance" if attribution.converged.all() else "not within tolerance at every depth"
    worst = float(attribution.error_estimate.max())
    lines.append(f"largest error estimate {worst:.1e}, {converged}; {int(attribution.nodes.sum())} nodes")
    return lines


def _heading(attribution: Attribution, classes: tuple[str, ...]) -> str:
    shares = attribution.probabilities
    share = "" if shares is None else f", p = {shares[attribution.target]:.3f}"
    change = attribution.logit - attribution.baseline_logit
    said = f"{printable(classes[attribution.target])}{share}: logit {attribution.logit:+.2f}"
    return f"{said}, {change:+.2f} from the baseline"


def _panel(
    picture: Image.Image, attribution: Attribution, values: Float, title: str, unit: str
) -> tuple[Image.Image, str, str]:
    assert attribution.grid is not None
    relevance = values[~attribution.is_special].reshape(attribution.grid)
    largest = float(np.abs(relevance).max(initial=0.0))
    special = float(values[attribution.is_special].sum())
    note = f"±{largest:.2g} {unit}".rstrip()
    if attribution.is_special.any():
        note += f"; special {special:+.2g}"
    return overlay(picture, relevance), title, note


def overlay(picture: Image.Image, relevance: Float) -> Image.Image:
    """The picture, greyed, under the signed relevance (rows, columns) of its patches."""
    grey = ImageOps.grayscale(picture).convert("RGB")
    shown = Image.blend(grey, Image.new("RGB", grey.size, "white"), PALE)
    largest = float(np.abs(relevance).max(initial=0.0))
    if not largest:
        return shown
    rows, columns = relevance.shape
    edges_y = np.linspace(0, shown.height, rows + 1).round().astype(int)
    edges_x = np.linspace(0, shown.width, columns + 1).round().astype(int)
    pen = ImageDraw.Draw(shown)
    for row in range(rows):
        for column in range(columns):
            share = float(relevance[row, column]) / largest
            box = (
                *map(int, (edges_x[column], edges_y[row])),
                *map(int, (edges_x[column + 1], edges_y[row + 1])),
            )
            colour = FOR if share > 0 else AGAINST
            patch = shown.crop(box)
            shown.paste(
                Image.blend(patch, Image.new("RGB", patch.size, colour), abs(share) * STRONGEST), box[:2]
            )
            if abs(share) >= 0.5:
                pen.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=colour)
    return shown


def _laid_out(panels: list[tuple[Image.Image, str, str]], heading: str, size: tuple[int, int]) -> Image.Image:
    title, note = ImageFont.load_default(13), ImageFont.load_default(11)
    down = -(-len(panels) // COLUMNS)
    across = -(-len(panels) // down)
    width, height = max(size[0], SIDE) + GAP, size[1] + CAPTION + GAP
    page = Image.new("RGB", (across * width + GAP, HEADING + down * height + GAP), "white")
    pen = ImageDraw.Draw(page)
    pen.text((GAP, 8), f"{heading}. Blue for, orange against.", "black", font=ImageFont.load_default(14))
    for place, (picture, name, line) in enumerate(panels):
        left, top = GAP + place % across * width, HEADING + place // across * height
        page.paste(picture, (left, top))
        pen.text((left, top + size[1] + 4), name, "black", font=title)
        pen.text((left, top + size[1] + 21), line, (90, 98, 107), font=note)
    return page
