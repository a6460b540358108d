"""From the labels that people write to the class indices of the model."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.types as pat

from calig.corpus.columns import is_text
from calig.errors import InputError

_GENERIC = re.compile(r"(?:label_)?(\d+)", re.IGNORECASE)


def check_label_type(kind: pa.DataType, column: str) -> None:
    """Raise an InputError if a label column of this type cannot hold class indices or names."""
    tests = (is_text, pat.is_integer, pat.is_floating, pat.is_boolean, pat.is_null)
    if not any(test(kind) for test in tests):
        raise InputError(f"label column {column!r} is {kind}: it needs class indices or class names")


class LabelMap:
    """Map a label as written to a class index of the model.

    Whole numbers are class indices, true and false are 1 and 0. Text is a class's name (upper and lower case
    alike), else LABEL_<index>, else digits. None, NaN and blank text are no label. Where the source declares
    names for its indices and they are the model's class names in any order, the names decide; there −1 is no
    label.
    """

    def __init__(self, classes: Sequence[str], names: Sequence[str] | None = None) -> None:
        self.classes = list(classes)
        folded = [_fold(name) for name in classes]
        self._by_name = {name: index for index, name in enumerate(folded) if folded.count(name) == 1}
        self._by_name |= {name: index for index, name in enumerate(classes)}
        self._declared: list[int] | None = None
        if names is not None:
            same = sorted(map(_fold, names)) == sorted(folded) and len(set(folded)) == len(folded)
            self._declared = (
                [folded.index(_fold(name)) for name in names] if same else list(range(len(names)))
            )
        self._known: dict[object, int | None] = {}

    def rows(self, values: Sequence[object], file: str, row: int) -> list[int | None]:
        """Map a column; an InputError names the file, the row (counting from `row`) and the classes."""
        known = self._known
        for offset, value in enumerate(values):
            if value in known:
                continue
            try:
                known[value] = self.index(value)
            except ValueError as error:
                shown = ", ".join(f"{index} {name}" for index, name in enumerate(self.classes[:12]))
                more = f" and {len(self.classes) - 12} more" if len(self.classes) > 12 else ""
                raise InputError(
                    f"{file}, row {row + offset}: label {value!r} is no class of the model, which has "
                    f"{shown}{more}: correct it, or choose another corpus.label"
                ) from error
        return [known[value] for value in values]

    def index(self, value: object) -> int | None:
        """Map one label; ValueError if it is none of the classes."""
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, str):
            found = self._by_name.get(value, self._by_name.get(_fold(value)))
            if found is not None:
                return found
            generic = _GENERIC.fullmatch(value.strip())
            if generic is None:
                raise ValueError(value)
            value = int(generic[1])
        if not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
            raise ValueError(value)
        index = int(value)
        if self._declared is not None:
            if index == -1:
                return None
            if not 0 <= index < len(self._declared):
                raise ValueError(value)
            index = self._declared[index]
        if not 0 <= index < len(self.classes):
            raise ValueError(value)
        return index


def _fold(name: str) -> str:
    return name.strip().casefold()
