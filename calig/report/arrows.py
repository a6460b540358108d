"""Rows of two dots: a word's effect in the reference and in the run, on one scale, with the difference's interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from calig.records import ALL_CLASSES
from calig.report.changes_data import WordChange

SHOWN = 20
"""Words drawn per class."""
OPEN = 4
"""Classes whose words are shown at once."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """A word's row: places of its effects and of the interval's ends, in per cent of the scale; None where unknown.

    The interval is that of the difference, laid from the reference's effect: where the run's effect may be.
    """

    word: WordChange
    a: float | None
    b: float | None
    low: float | None
    high: float | None
    side: str


@dataclass(frozen=True, slots=True)
class ArrowPanel:
    """One class's words: `rows` are drawn, `rest` are listed, `unchanged` are the largest that are not called changed.

    `open` where there is something to see at once: changes, or, where there are none at all, what is nearest to one.
    """

    label: str
    title: str
    changed: int
    rows: tuple[Arrow, ...]
    rest: tuple[WordChange, ...]
    unchanged: tuple[WordChange, ...]
    open: bool


@dataclass(frozen=True, slots=True)
class Scale:
    """The common scale of all rows, in logits, and where 0 lies on it, in per cent."""

    start: float
    end: float

    @property
    def zero(self) -> float:
        """Where 0 is."""
        return self.place(0.0)

    def place(self, value: float) -> float:
        """Where a value is, in per cent; what is beyond an end is put there."""
        return min(100.0, max(0.0, 100 * (value - self.start) / (self.end - self.start)))


def scale_of(words: Iterable[WordChange]) -> Scale:
    """A scale that holds 0 and all effects, and intervals up to a fifth beyond them."""
    effects = [0.0]
    ends = [0.0]
    for word in words:
        effects += [effect for effect in (word.effect_a, word.effect_b) if effect is not None]
        ends += [end for end in _interval(word) if end is not None]
    room = 0.2 * (max(effects) - min(effects)) or 0.5
    start = max(min([*effects, *ends]), min(effects) - room)
    end = min(max([*effects, *ends]), max(effects) + room)
    margin = 0.03 * (end - start) or 0.5
    return Scale(start - margin, end + margin)


def panels(words: Sequence[WordChange]) -> tuple[list[ArrowPanel], Scale]:
    """A panel per class, that with most change first, all documents together last; and their scale.

    Words are in the order they come in, strongest first. Where nothing is called changed, the largest differences
    are drawn instead.
    """
    by_class: dict[str, list[WordChange]] = {}
    for word in words:
        by_class.setdefault(word.label, []).append(word)
    drawn = {label: _drawn(own) for label, own in by_class.items()}
    scale = scale_of(word for rows in drawn.values() for word in rows)
    found = []
    for label, own in by_class.items():
        changed = [word for word in own if word.changed]
        rest = [word for word in changed if word not in drawn[label]]
        unchanged = [word for word in own if not word.changed and word not in drawn[label]]
        title = "All documents" if label == ALL_CLASSES else label
        rows = tuple(_arrow(word, scale) for word in drawn[label])
        found.append(ArrowPanel(label, title, len(changed), rows, tuple(rest), tuple(unchanged), False))
    found.sort(key=lambda panel: (panel.label == ALL_CLASSES, -_moved(panel), panel.label))
    urgent = [panel for panel in found if panel.changed] or found
    classes = [panel for panel in urgent if panel.label != ALL_CLASSES] or urgent
    return [replace(panel, open=panel in classes[:OPEN]) for panel in found], scale


def _drawn(words: Sequence[WordChange]) -> list[WordChange]:
    changed = [word for word in words if word.changed]
    return (changed or [word for word in words if _both(word)][: SHOWN // 2])[:SHOWN]


def _both(word: WordChange) -> bool:
    return word.effect_a is not None and word.effect_b is not None


def _moved(panel: ArrowPanel) -> float:
    return sum(row.word.weight for row in panel.rows if row.word.changed)


def _interval(word: WordChange) -> tuple[float | None, float | None]:
    if word.effect_a is None or word.low is None or word.high is None:
        return None, None
    return word.effect_a + word.low, word.effect_a + word.high


def _arrow(word: WordChange, scale: Scale) -> Arrow:
    low, high = _interval(word)
    a, b, low, high = (
        None if value is None else scale.place(value) for value in (word.effect_a, word.effect_b, low, high)
    )
    last = word.effect_b if word.effect_b is not None else word.effect_a
    return Arrow(word, a, b, low, high, "for" if (last or 0.0) > 0 else "against")
