"""From the labels that people write to what the model's head calls for: a class, a set of classes, or a number."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa
import pyarrow.types as pat

from calig.corpus.columns import is_text
from calig.errors import InputError
from calig.records import Head

_GENERIC = re.compile(r"(?:label_)?(\d+)", re.IGNORECASE)


def check_label_type(kind: pa.DataType, column: str, head: Head = "single_label") -> None:
    """Raise an InputError if a column of this type cannot hold the labels of a model with this head."""
    of_list = pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind)
    inner = kind.value_type if of_list and head == "multi_label" else kind
    tests = (is_text, pat.is_integer, pat.is_floating, pat.is_boolean, pat.is_null)
    if any(test(inner) for test in tests):
        return
    needs = {"multi_label": "class indices or names, or lists of them", "regression": "numbers"}
    wanted = needs.get(head, "class indices or class names")
    hint = "; for lists of them, set model.head: multi_label" if of_list and head == "single_label" else ""
    raise InputError(f"label column {column!r} is {kind}: it needs {wanted}{hint}")


class Labels(Protocol):
    """How the labels of one kind of head are read, and stored in the parts as `type`."""

    type: pa.DataType

    def rows(self, values: Sequence[object], file: str, row: int) -> Sequence[object]:
        """Read a column; an InputError names the file and the row (counting from `row`)."""

    def single(self, label: object, file: str, row: int) -> int | None:
        """Return the one class that a label read by `rows` means, for explanations of the labelled class."""


def labels_of(head: Head, classes: Sequence[str], names: Sequence[str] | None = None) -> Labels:
    """Return the reader of labels for a head; `names` as in `LabelMap`."""
    if head == "regression":
        return LabelValues()
    return LabelSets(classes, names) if head == "multi_label" else LabelMap(classes, names)


class LabelMap:
    """Map a label as written to a class index of the model.

    Whole numbers are class indices, true and false are 1 and 0. Text is a class's name (upper and lower case
    alike), else LABEL_<index>, else digits. None, NaN and blank text are no label. Where the source declares
    names for its indices and they are the model's class names in any order, the names decide; there −1 is no
    label.
    """

    type = pa.int32()

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
                raise self.unknown(value, file, row + offset) from error
        return [known[value] for value in values]

    def single(self, label: object, file: str, row: int) -> int | None:
        """Return the label itself."""
        return label if isinstance(label, int) else None

    def unknown(self, value: object, file: str, row: int) -> InputError:
        """Say that a label is no class, and which there are."""
        shown = ", ".join(f"{index} {name}" for index, name in enumerate(self.classes[:12]))
        more = f" and {len(self.classes) - 12} more" if len(self.classes) > 12 else ""
        return InputError(
            f"{file}, row {row}: label {value!r} is no class of the model, which has "
            f"{shown}{more}: correct it, or choose another corpus.label"
        )

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


class LabelSets:
    """Map labels to sets of class indices, as sorted lists: a list of classes, one class, or in text a JSON list.

    What is a class, `LabelMap` says. None is no label; an empty list says that no class applies.
    """

    type = pa.list_(pa.int32())

    def __init__(self, classes: Sequence[str], names: Sequence[str] | None = None) -> None:
        self._map = LabelMap(classes, names)

    def rows(self, values: Sequence[object], file: str, row: int) -> list[list[int] | None]:
        """Map a column; an InputError names the file, the row and the classes."""
        return [self._set(value, file, row + offset) for offset, value in enumerate(values)]

    def single(self, label: object, file: str, row: int) -> int | None:
        """Return the set's one class; an InputError if it has none or several."""
        if label is None:
            return None
        indices = label if isinstance(label, list) else []
        if len(indices) != 1:
            names = ", ".join(self._map.classes[index] for index in indices) or "none"
            raise InputError(
                f"{file}, row {row}: method.target: label needs one label per document, and here are "
                f"{len(indices)} ({names}); use predicted, or name a class"
            )
        return int(indices[0])

    def _set(self, value: object, file: str, row: int) -> list[int] | None:
        items = value
        if isinstance(value, str) and value.strip().startswith("["):
            try:
                items = json.loads(value)
            except ValueError as error:
                raise self._map.unknown(value, file, row) from error
        if not isinstance(items, list):
            [only] = self._map.rows([items], file, row)
            return None if only is None else [only]
        if any(isinstance(item, list | dict) for item in items):
            raise self._map.unknown(value, file, row)
        found = [index for index in self._map.rows(items, file, row) if index is not None]
        if len(set(found)) < len(found):
            raise InputError(
                f"{file}, row {row}: label {value!r} names a class twice: list the classes that apply, by index or "
                "name, not a 0 or 1 for each class"
            )
        return sorted(found)


class LabelValues:
    """Read labels as numbers, for a regression; None, NaN and blank text are no label."""

    type = pa.float64()

    def rows(self, values: Sequence[object], file: str, row: int) -> list[float | None]:
        """Read a column; an InputError names the file and the row."""
        return [self._value(value, file, row + offset) for offset, value in enumerate(values)]

    def single(self, label: object, file: str, row: int) -> int | None:
        """Return None: a number is no class."""
        return None

    def _value(self, value: object, file: str, row: int) -> float | None:
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        try:
            number = float(value) if isinstance(value, int | float | str) else math.inf
        except ValueError:
            number = math.inf
        if math.isinf(number):
            raise InputError(
                f"{file}, row {row}: label {value!r} is no number, as the labels of a regression are: correct it, "
                "or choose another corpus.label"
            )
        return None if math.isnan(number) else number


def _fold(name: str) -> str:
    return name.strip().casefold()
