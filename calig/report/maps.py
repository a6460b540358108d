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
    """A class's map: `pooled` × `pooled` patches are one cell of it."""

    rows: int
    columns: int
    grid: tuple[int, int]
    pooled: int
    documents: int
    others: int
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
    """The panels of these classes, in their order; maps share one scale, and so do bars."""
    scale, end = scale_of(data.regions), map_scale(data.maps)
    drawn = {found.label: draw(found, end, unit) for found in data.maps}
    return [_panel(data, row, scale, drawn.get(row.label)) for row in classes]


def map_scale(maps: Sequence[MeanMap]) -> float:
    """The end of the maps' colour scale in logits: the largest mean effect of a cell of any class."""
    return max((float(np.abs(_pooled(found.effects)).max(initial=0.0)) for found in maps), default=0.0) or 1.0


def draw(found: MeanMap, end: float, unit: str) -> DrawnMap:
    """A class's map on a scale of −`end`..`end`; of a fine grid, neighbouring patches are summed."""
    size = pooling(found.effects.shape)
    effects, shares = _pooled(found.effects), _pooled(found.shares)
    rows, columns = effects.shape
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
    bars = [(region, bar(region, scale)) for region in own]
    return RegionPanel(
        label=row.label,
        documents=row.explained,
        special_share=special_share(data, row.label),
        map=drawn,
        support=[found for found in bars if found[0].supports],
        oppose=[found for found in bars if not found[0].supports],
        border=next((region for region in own if region.region == BORDER), None),
    )
