"""Panels of a run on images: per class its mean relevance map, drawn as SVG by `regions.html.j2`, and its regions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calig.report.charts import Bar, bar, scale_of
from calig.report.formats import percent, signed
from calig.report.model import ClassRow, MeanMap, RegionEffect, ReportData
from calig.report.prose import BORDER, special_share

MOST_CELLS = 16
STRIPED = 0.12


@dataclass(frozen=True, slots=True)
class Cell:
    """A square of a map: its place, its sign, |effect| over the end of the scale, and its numbers in words."""

    column: int
    row: int
    supports: bool
    strength: float
    title: str

    @property
    def striped(self) -> bool:
        """Whether stripes tell its sign without colour."""
        return not self.supports and self.strength >= STRIPED


@dataclass(frozen=True, slots=True)
class DrawnMap:
    """A class's map: `pooled` × `pooled` patches are one cell of it, its colours span −`end`..`end` logits."""

    rows: int
    columns: int
    grid: tuple[int, int]
    pooled: int
    documents: int
    others: int
    end: float
    cells: tuple[Cell, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class RegionPanel:
    """One class: its map, its regions (with their bars) for and against, and what its border holds."""

    label: str
    documents: int
    special_share: float | None
    map: DrawnMap | None
    support: list[tuple[RegionEffect, Bar]]
    oppose: list[tuple[RegionEffect, Bar]]
    border: RegionEffect | None


def panels(data: ReportData, classes: Sequence[ClassRow], unit: str) -> list[RegionPanel]:
    """The panels of these classes, in their order; all bars share one scale, every map has its own."""
    scale = bar_scale(data.regions)
    drawn = {found.label: draw(found, unit) for found in data.maps}
    return [_panel(data, row, scale, drawn.get(row.label)) for row in classes]


def bar_scale(regions: Sequence[RegionEffect]) -> float:
    """The end of the bars' scale in logits; the border, which overlaps the other regions, has no bar."""
    return scale_of([region for region in regions if region.region != BORDER])


def draw(found: MeanMap, unit: str) -> DrawnMap:
    """A class's map, its colours ending at its largest effect; of a fine grid, neighbouring patches are summed."""
    size = pooling(found.effects.shape)
    effects, shares = _pooled(found.effects), _pooled(found.shares)
    rows, columns = effects.shape
    end = float(np.abs(effects).max(initial=0.0)) or 1.0
    cells = []
    for row, column in np.ndindex(rows, columns):
        effect = float(effects[row, column])
        numbers = f"{signed(effect)} {unit}, {percent(float(shares[row, column]))} of relevance"
        title = f"{_span('row', row, size, found)}, {_span('column', column, size, found)}: {numbers}"
        cells.append(Cell(column, row, effect > 0, min(1.0, abs(effect) / end), title))
    strongest = max(cells, key=lambda cell: cell.strength)
    return DrawnMap(
        rows=rows,
        columns=columns,
        grid=(found.effects.shape[0], found.effects.shape[1]),
        pooled=size,
        documents=found.documents,
        others=found.others,
        end=end,
        cells=tuple(cells),
        summary=f"Mean relevance map of {found.label}. Strongest: {strongest.title}.",
    )


def pooling(shape: tuple[int, ...]) -> int:
    """How many rows, and columns, of patches are one cell of a map."""
    return math.ceil(max(shape) / MOST_CELLS)


def _pooled(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sums over squares of patches; those at the end may be smaller."""
    size = pooling(values.shape)
    for axis in (0, 1):
        values = np.add.reduceat(values, np.arange(0, values.shape[axis], size), axis=axis)
    return values


def _span(name: str, place: int, size: int, found: MeanMap) -> str:
    first = place * size
    last = min(first + size, found.effects.shape[0 if name == "row" else 1]) - 1
    return f"{name} {first}" if first == last else f"{name}s {first}–{last}"


def _panel(data: ReportData, row: ClassRow, scale: float, drawn: DrawnMap | None) -> RegionPanel:
    own = [region for region in data.regions if region.label == row.label]
    bars = [(region, bar(region, scale)) for region in own if region.region != BORDER]
    return RegionPanel(
        label=row.label,
        documents=row.explained,
        special_share=special_share(data, row.label),
        map=drawn,
        support=[found for found in bars if found[0].supports],
        oppose=[found for found in bars if not found[0].supports],
        border=next((region for region in own if region.region == BORDER), None),
    )
