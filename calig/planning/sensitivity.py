"""What the gates of an audit could not see with so many documents, before anything is explained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing

import numpy as np

from calig.comparison.drift import BINS, Binned
from calig.comparison.exchange import largest_by_chance
from calig.comparison.layers import MEASURES
from calig.comparison.power import means_detectable, psi_detectable, shares_detectable
from calig.config import AuditConfig
from calig.config.levels import levels_of
from calig.errors import InputError
from calig.gates.sensitivity import of_a_measure, of_accuracy
from calig.warehouse.database import records
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_tables
from calig.warehouse.runs import IS_FINISHED
from calig.workers import ModelCard

DRAWN = 10_000
"""Most documents of a run that are drawn to learn how far chance takes the largest index."""


def unseen(warehouse: Warehouse, config: AuditConfig, model: ModelCard, documents: int) -> tuple[str, ...]:
    """Say of each gate that allows for chance what it could not see in two runs of so many different documents.

    Accuracy is that of the audit's newest complete run, else a half, of which changes are hardest to see. How far
    chance takes the largest population stability index is that of measures that do not hang together: a little more
    than that of real ones.
    """
    if not config.compare_to or documents < 2:
        return ()
    return tuple(_said(warehouse, config, model, documents))


def _said(warehouse: Warehouse, config: AuditConfig, model: ModelCard, documents: int) -> Iterator[str]:
    gates, levels = config.gates, levels_of(config)
    classes = len(model.classes) if model.head != "regression" else 0
    measures = len(MEASURES) * (model.depth + 1)
    if gates.drift is not None:
        family = levels.comparison / 3
        parts = []
        if "outcomes" in gates.drift.what and classes:
            tests = 4 + 3 * classes  # accuracy, confidence, settling depth, completeness; three of each class
            found = shares_detectable(_accuracy(warehouse, config), documents, documents, family / tests)
            found = max(found, config.compare.min_share)
            parts += [of_accuracy(found)] if math.isfinite(found) else []
        if "layers" in gates.drift.what:
            tests = measures * (1 + classes)
            found = max(config.compare.min_size, means_detectable(1.0, documents, documents, family / tests))
            parts.append(of_a_measure(found))
        if parts:
            yield f"drift: a change {', '.join(parts)}"
    rng = np.random.default_rng(0)
    for name, limit, count, bins in (
        ("max_class_psi", gates.max_class_psi, 1, classes),
        ("max_layer_psi", gates.max_layer_psi, measures, BINS),
    ):
        if limit is None or not bins:
            continue
        drawn = min(documents, DRAWN)
        values = (
            rng.integers(0, bins, (2, drawn, count)) if bins < BINS else rng.normal(size=(2, drawn, count))
        )
        sizes = np.full(count, bins)
        binned = (
            Binned(values[0], values[1], sizes) if bins < BINS else Binned.of_values(values[0], values[1])
        )
        # of many documents it is inversely proportional to their number, as the squares of the shares' errors are
        by_chance = largest_by_chance(binned, False, levels.psi).by_chance * drawn / documents
        beyond = max(limit.limit, by_chance)
        smallest = psi_detectable(bins, documents, documents, beyond)
        if not math.isfinite(smallest):
            yield f"{name}: anything, with so few documents"
            continue
        chance = f" (chance alone reaches {by_chance:.2g})" if by_chance > limit.limit else ""
        yield f"{name}: a population stability index below {smallest:.2g}{chance}"


def _accuracy(warehouse: Warehouse, config: AuditConfig) -> float:
    """That of the audit's newest complete run, else a half."""
    try:
        with closing(open_tables(warehouse)) as connection:
            rows = records(
                connection.execute(
                    f"SELECT accuracy FROM runs WHERE name = ? AND {IS_FINISHED} AND accuracy IS NOT NULL "
                    "ORDER BY started DESC LIMIT 1",
                    [config.name or "audit"],
                )
            )
    except InputError:  # no run of the warehouse has been aggregated
        rows = []
    return float(rows[0]["accuracy"]) if rows else 0.5
