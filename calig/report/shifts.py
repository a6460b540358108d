"""Layer profiles of two runs, one over the other: small multiples of `charts.html.j2`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from calig.report.changes_data import LayerChange
from calig.report.charts import Chart, Line, Tick, depth_at, depth_ticks, height_of, nice, path_of, tick_label
from calig.report.formats import number, percent


@dataclass(frozen=True, slots=True)
class LayerMeasure:
    """A measure of the layer profile: what it is called, and the ends that its axis covers at least."""

    name: str
    title: str
    note: str
    low: float = 0.0
    high: float = 1e-9
    share: bool = False

    def write(self, value: float | None) -> str:
        """A value of the measure."""
        return percent(value) if self.share else number(value)


LAYER_MEASURES = (
    LayerMeasure("cancellation", "Cancellation", "Σ|IG| ÷ |Σ IG|; 1 means nothing cancels", low=1.0),
    LayerMeasure("effective_tokens", "Effective tokens", "tokens that would carry it evenly"),
    LayerMeasure(
        "special_share", "Special-token share", "of Σ|IG| on [CLS], [SEP] and the like", high=1.0, share=True
    ),
    LayerMeasure("rank_agreement", "Rank agreement", "Spearman ρ with the final score", high=1.0),
    LayerMeasure("sign_agreement", "Sign agreement", "with the final score’s sign", high=1.0, share=True),
    LayerMeasure("context_ratio", "Context, net ÷ gross", "of the attention gradients", high=1.0),
)


def shifts(rows: Sequence[LayerChange], depths: int) -> list[Chart]:
    """A chart per measure: the reference in grey, the run over it, the depths that are called changed ringed.

    Parameters
    ----------
    rows
        Of one class.
    depths
        L+1 of the deeper of the two models.
    """
    known = {measure.name: measure for measure in LAYER_MEASURES}
    found = []
    for name in dict.fromkeys([*known, *(row.measure for row in rows)]):
        own = [row for row in rows if row.measure == name]
        if any(_finite(row.a) or _finite(row.b) for row in own):
            title = name.replace("_", " ").capitalize()
            found.append(_shift(known.get(name, LayerMeasure(name, title, "")), own, depths))
    return found


def _shift(measure: LayerMeasure, rows: Sequence[LayerChange], depths: int) -> Chart:
    values = [value for row in rows for value in (row.a, row.b) if value is not None and math.isfinite(value)]
    steps = nice(min([measure.low, *values]), max([measure.low + 1e-9, measure.high, *values]))
    ends = steps[0], steps[-1]
    before = _points([(row.depth, row.a) for row in rows], depths, ends)
    after = _points([(row.depth, row.b) for row in rows], depths, ends)
    moved = _points([(row.depth, row.b) for row in rows if row.changed], depths, ends)
    changed = [str(row.depth) for row in rows if row.changed]
    said = f"changed at depth {', '.join(changed)}" if changed else "no depth called changed"
    return Chart(
        title=measure.title,
        note=measure.note,
        summary=f"{measure.title}: {measure.write(rows[0].a)} → {measure.write(rows[0].b)} at depth {rows[0].depth}, "
        f"{measure.write(rows[-1].a)} → {measure.write(rows[-1].b)} at depth {rows[-1].depth}; {said}.",
        xs=depth_ticks(depths),
        ys=tuple(Tick(height_of(step, *ends), tick_label(step, measure.share)) for step in steps),
        lines=(
            Line("reference", "behind", path_of(before), before),
            Line("run", "run", path_of(after), after),
            Line("called changed", "moved", "M0 0" if moved else "", moved),
        ),
    )


def _points(
    values: Sequence[tuple[int, float | None]], depths: int, ends: tuple[float, float]
) -> tuple[tuple[float, float], ...]:
    return tuple(
        (depth_at(depth, depths), height_of(value, *ends))
        for depth, value in values
        if value is not None and math.isfinite(value)
    )


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
