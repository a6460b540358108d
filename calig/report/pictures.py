"""Collect what a report on images shows besides: regions, mean maps, and the sampled images with their patches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import duckdb
import numpy as np

from calig.report.fetch import Row, fetch
from calig.report.model import Heat, MeanMap, Picture, PlaceRow, RegionEffect

PAYLOAD_BYTES = 3_400_000
BASE64 = 4 / 3
FEWEST = 6


def regions(con: duckdb.DuckDBPyConnection, run_id: str) -> tuple[RegionEffect, ...]:
    """The regions of every explained class, strongest first, those whose interval excludes zero before others."""
    return tuple(
        RegionEffect(
            label=row["class"],
            region=row["region"],
            documents=row["documents"],
            effect=row["effect"],
            low=row["effect_low"],
            high=row["effect_high"],
            share=row["share"],
            area=row["area"],
            lift=row["lift"],
        )
        for row in fetch(con, "regions", run=run_id)
    )


def maps(con: duckdb.DuckDBPyConnection, run_id: str) -> tuple[MeanMap, ...]:
    """The mean map of every explained class, of the grid that most of its images have."""
    return tuple(
        MeanMap(
            label=row["class"],
            documents=row["documents"],
            others=int(row["others"]),
            effects=_laid_out(row, "effects"),
            shares=_laid_out(row, "shares"),
        )
        for row in fetch(con, "maps", run=run_id)
    )


def places(con: duckdb.DuckDBPyConnection, run_id: str) -> tuple[PlaceRow, ...]:
    """Where relevance sits at every depth and in the final score."""
    return tuple(PlaceRow(row.pop("class"), **row) for row in fetch(con, "places", run=run_id))


def sampled(con: duckdb.DuckDBPyConnection, run_id: str, docs: Sequence[int]) -> dict[int, Picture]:
    """The pictures of the sampled images, by doc_id; of a thumbnail's kinds the page knows PNG and JPEG."""
    return {
        row["doc_id"]: Picture((row["grid_rows"], row["grid_columns"]), row["thumbnail"])
        for row in fetch(con, "sample_pictures", run=run_id, docs=list(docs))
    }


def affordable(pictures: Sequence[Picture], depths: int, wanted: int) -> int:
    """How many images such as these the page holds, `wanted` at most: thumbnails, and 16 bits a patch and depth."""
    if not pictures:
        return wanted
    values = sum(rows * columns for rows, columns in (picture.grid for picture in pictures)) * (depths + 1)
    size = (values * 2 + sum(len(picture.thumbnail or b"") for picture in pictures)) * BASE64
    return min(wanted, max(FEWEST, int(len(pictures) * PAYLOAD_BYTES / size)))


def heats(con: duckdb.DuckDBPyConnection, run_id: str, docs: Sequence[int]) -> dict[int, Heat]:
    """The sampled images' relevance, by doc_id: special tokens first, then patches row by row."""
    tokens: dict[int, list[Row]] = defaultdict(list)
    for row in fetch(con, "sample_patches", run=run_id, docs=list(docs)):
        tokens[row["doc_id"]].append(row)
    return {doc_id: _heat(found) for doc_id, found in tokens.items()}


def _heat(tokens: Sequence[Row]) -> Heat:
    layer_ig = [[value for value in row["layer_ig"] if value is not None] for row in tokens]
    return Heat(
        gaps=(),
        units=tuple(row["token"] for row in tokens),
        special=np.asarray([row["is_special"] for row in tokens]),
        word_ids=np.full(len(tokens), -1),
        layer_ig=np.asarray(layer_ig, dtype=np.float64).T,
        scores=np.asarray([row["score"] for row in tokens], dtype=np.float64),
    )


def _laid_out(row: Row, column: str) -> np.ndarray:
    return np.asarray(row[column], dtype=np.float64).reshape(row["grid_rows"], row["grid_columns"])
