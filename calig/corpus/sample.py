"""A sample of a corpus, drawn by its documents' keys: the same rows whatever their order, files or shards.

A row's place in the draw is a hash of its document's key. The rows with the first places are drawn or, by a column,
the first row of each of its values, then the second of each, and so on: every value gets the same number of rows, and
what a rare value lacks is shared out among the others. Rows of one document are in the order of their other values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from calig.config.schema import SampleConfig
from calig.corpus.source import Batch

SPARE = 1_000
"""Rows held beyond twice those wanted, so that few are not sorted all the time."""

Ordinals = npt.NDArray[np.int64]
"""Numbers of rows in a source, from 0, ascending."""

_Place = tuple[bytes, str, int]
"""Where a row comes in the draw: the hash of its document, its other values, its number."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The rows drawn, and how many there are in all."""

    chosen: Ordinals
    rows: int


def draw(
    batches: Iterator[Batch],
    sample: SampleConfig,
    keys_of: Callable[[Batch], Sequence[str]],
    content: Sequence[str],
) -> Drawn:
    """Choose rows of a source, in memory for twice the rows wanted and a batch.

    Parameters
    ----------
    batches
        All rows, with the column `sample.by`, if any.
    sample
        How many, and by which column.
    keys_of
        Gives the documents' keys of a batch.
    content
        Names of the columns that the keys are made of.
    """
    lots = _Lots(sample.documents)
    rows = 0
    for batch in batches:
        count = batch.table.num_rows
        values: Sequence[object] = [None] * count
        if sample.by is not None:
            values = batch.table.column(sample.by).to_pylist()
        others = batch.table.select([name for name in batch.table.column_names if name not in content])
        lots.add(rows, keys_of(batch), [_text(value) for value in values], others)
        rows += count
    return Drawn(lots.chosen(), rows)


def pick(batches: Iterator[Batch], chosen: Ordinals) -> Iterator[tuple[Batch, int]]:
    """Give the chosen rows in the order of the source, neighbours together, each time with the number of the first."""
    first = 0
    for batch in batches:
        end = first + batch.table.num_rows
        own = chosen[np.searchsorted(chosen, first) : np.searchsorted(chosen, end)]
        for run in np.split(own, np.flatnonzero(np.diff(own) > 1) + 1) if len(own) else ():
            offset = int(run[0]) - first
            table = batch.table.slice(offset, len(run))
            yield replace(batch, table=table, row=batch.row + offset), int(run[0])
        first = end


class _Lots:
    """The rows that may still be drawn, by value of the column that is drawn by.

    What is out once stays out: a row's rank among those of its value only grows, and so does the number of rows before
    it. So rows beyond the first `wanted` are dropped whenever there are twice as many.
    """

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self._places: dict[str, list[_Place]] = {}
        self._out: dict[str, bytes] = {}
        self._count = 0

    def add(self, first: int, keys: Sequence[str], values: Sequence[str], others: pa.Table) -> None:
        """Take rows, the number of the first being `first`."""
        for row, (key, value) in enumerate(zip(keys, values, strict=True)):
            place = hashlib.sha256(f"sample {key}".encode()).digest()[:16]
            if value in self._out and place > self._out[value]:
                continue
            self._places.setdefault(value, []).append(
                (place, _text(others.slice(row, 1).to_pylist()), first + row)
            )
            self._count += 1
            if self._count > 2 * self.wanted + SPARE:
                self._drop()

    def chosen(self) -> Ordinals:
        """Return the numbers of the rows drawn, ascending."""
        self._drop()
        return np.sort(np.array([place[2] for own in self._places.values() for place in own], np.int64))

    def _drop(self) -> None:
        """Keep the rows that are drawn so far."""
        ranked = sorted(
            (rank, place, value)
            for value, places in self._places.items()
            for rank, place in enumerate(sorted(places))
        )
        kept: dict[str, list[_Place]] = {}
        for _, place, value in ranked[: self.wanted]:
            kept.setdefault(value, []).append(place)
        self._out = {}
        for _, place, value in reversed(ranked[self.wanted :]):
            if value in kept:
                self._out[value] = place[0]
        self._places, self._count = kept, min(len(ranked), self.wanted)


def _text(value: object) -> str:
    return json.dumps(value, default=str, sort_keys=True)
