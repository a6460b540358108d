"""From the labels that people write to what the model's head calls for: a class, a set of classes, or a number.

What a label means follows from the model and the configuration alone, not from the other labels or the file's format.
In this order:

1. `corpus.labels`, where it is set: names of classes, class indices, or a mapping from values to classes;
2. the names that the source declares for its numbers, if one of them is the model's;
3. a class's name, else LABEL_<index>, else a whole number or a boolean as an index. Where a class is called by a
   number, a number could be either, and the audit is refused, unless every class is called by its own index.

A label is read by its text: 1, 1.0, "1" and "1.0" are one label, and so are true and "True". What matches nothing is no
label, and is counted; None, NaN and blank text are no label either, and are not.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

import pyarrow as pa
import pyarrow.types as pat

from calig.corpus.columns import is_text
from calig.corpus.values import is_decimal
from calig.errors import InputError
from calig.records import Head

Reading = str | Mapping[str, int | str | None] | None
"""What `corpus.labels` says."""

_GENERIC = re.compile(r"label_([0-9]{1,9})", re.IGNORECASE)
_NUMBERED = re.compile(r"(.*) \(([0-9]{1,9})\)", re.DOTALL)
"""How the names of classes end that are called alike: with their index."""
_LONGEST = 40
"""Characters of a text that may be a number, or a boolean."""
_LONGEST_LIST = 10_000
_REMEMBERED = 10_000
"""Values whose meaning, or number of occurrences, is kept at a time."""


def check_label_type(kind: pa.DataType, column: str, head: Head = "single_label") -> None:
    """Raise an InputError if a column of this type cannot hold the labels of a model with this head."""
    of_list = pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind)
    inner = kind.value_type if of_list and head == "multi_label" else kind
    inner = inner.value_type if pat.is_dictionary(inner) else inner
    tests = (is_text, pat.is_integer, pat.is_floating, pat.is_boolean, pat.is_null, pat.is_decimal)
    if any(test(inner) for test in tests) or str(inner) == "extension<arrow.json>":
        return
    needs = {"multi_label": "class indices or names, or lists of them", "regression": "numbers"}
    wanted = needs.get(head, "class indices or class names")
    hint = "; for lists of them, set model.head: multi_label" if of_list and head == "single_label" else ""
    raise InputError(f"label column {column!r} is {kind}: it needs {wanted}{hint}")


class Labels(Protocol):
    """How the labels of one kind of head are read, and stored in the parts as `type`; `unmatched` counts the others."""

    type: pa.DataType
    unmatched: Unmatched

    def rows(self, values: Sequence[object], file: str, row: int) -> Sequence[object]:
        """Read a column, of which `row` is the first; an InputError names the file and the row."""

    def single(self, label: object, file: str, row: int) -> int | None:
        """Return the one class that a label read by `rows` means, for explanations of the labelled class."""


class Unmatched:
    """The values that match nothing: how often each is there, and where first."""

    def __init__(self) -> None:
        self.total = 0
        self.counts: Counter[str] = Counter()
        self.first = ""

    def add(self, value: object, file: str, row: int) -> None:
        """Count a value."""
        shown = value if isinstance(value, str) else text_of(value) or str(value)
        shown = shown if len(shown) <= 40 else f"{shown[:39]}…"
        self.total += 1
        self.first = self.first or f"{file}, row {row}"
        if shown in self.counts or len(self.counts) < _REMEMBERED:
            self.counts[shown] += 1

    def sentence(self, column: str, of: str) -> str:
        """Say how many there are and which, the most frequent first."""
        most = [f"{value!r} ({count})" for value, count in self.counts.most_common(8)]
        others = len(self.counts) - len(most)
        more = f" and {others} other values" if others else ""
        documents = "1 document has" if self.total == 1 else f"{self.total:,} documents have"
        return (
            f"{documents} in column {column!r} what is not {of}, and no label therefore: {', '.join(most)}{more}; "
            f"first in {self.first}"
        )


def labels_of(
    head: Head, classes: Sequence[str], names: Sequence[str] | None = None, reading: Reading = None
) -> Labels:
    """Return the reader of labels for a head; `names` and `reading` as in `LabelMap`."""
    if head == "regression":
        if reading is not None:
            raise InputError("corpus.labels: the labels of a regression are numbers; remove it")
        return LabelValues()
    return LabelSets(classes, names, reading) if head == "multi_label" else LabelMap(classes, names, reading)


def text_of(value: object) -> str | None:
    """Return a label as text, the same whatever type it has; None if it is no label."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | Decimal):
        if value != value:
            return None
        return str(int(value)) if math.isfinite(value) and value == int(value) else repr(float(value))
    text = "" if value is None else str(value).strip()
    return text or None


def _number(text: str) -> Decimal | None:
    """Return the number that a text is; numbers that are equal are the same label."""
    return Decimal(text) if len(text) <= _LONGEST and is_decimal(text) else None


def _whole(text: str) -> int | None:
    """Return the whole number, or the boolean as a number, that a text is, if it may be an index."""
    if text.casefold() in ("true", "false"):
        return int(text.casefold() == "true")
    number = _number(text)
    if number is None or number.adjusted() > 9 or number != number.to_integral_value():
        return None
    return int(number)


class _Table:
    """What names stand for: found as they are written, as the same number, or in other case."""

    def __init__(self, names: Sequence[str], meanings: Sequence[int | None]) -> None:
        self._exact: dict[object, dict[int | None, str]] = {}
        self._folded: dict[object, dict[int | None, str]] = {}
        for name, meaning in zip(names, meanings, strict=True):
            number = _number(name.strip())
            self._exact.setdefault(name.strip() if number is None else number, {})[meaning] = name
            self._folded.setdefault(_fold(name) if number is None else number, {})[meaning] = name

    def find(self, text: str) -> Mapping[int | None, str]:
        """Return the meanings of a text, none or several too, with the names that have them."""
        number = _number(text)
        exact = self._exact.get(text if number is None else number)
        return exact or self._folded.get(_fold(text) if number is None else number, {})


class LabelMap:
    """Map a label as written to a class index of the model.

    Parameters
    ----------
    classes
        The model's class names, by index.
    names
        The names that the source declares for its numbers, by number; there −1 is no label.
    reading
        What the configuration says: names, indices, or a mapping from values to names or indices.

    Raises
    ------
    InputError
        The configuration maps a value to what is not a class, or two values that are the same to different ones.
    """

    type = pa.int32()

    def __init__(
        self, classes: Sequence[str], names: Sequence[str] | None = None, reading: Reading = None
    ) -> None:
        self.classes = list(classes)
        self.unmatched = Unmatched()
        self.note: str | None = None
        self.ambiguous = False
        self._names = _named(self.classes)
        self._declared: list[str] | None = None
        self._mapped: _Table | None = None
        self._mode = reading if isinstance(reading, str) else None
        if reading is not None and not isinstance(reading, str):
            self._mapped = self._mapping(reading)
        elif reading is None:
            self._declare(names)
            self.ambiguous = self._declared is None and _two_readings(self.classes)
        self._known: dict[object, int | None] = {}

    def rows(self, values: Sequence[object], file: str, row: int) -> list[int | None]:
        """Map a column; an InputError names the file, the row and the classes."""
        found = []
        for place, value in enumerate(values):
            try:
                found.append(self._remembered(value))
            except LookupError:
                self.unmatched.add(value, file, row + place)
                found.append(None)
            except _AmbiguousError as error:
                raise InputError(f"{file}, row {row + place}: {error}") from error
        return found

    def single(self, label: object, file: str, row: int) -> int | None:
        """Return the label itself."""
        return label if isinstance(label, int) else None

    def index(self, value: object) -> int | None:
        """Map one label.

        Raises
        ------
        LookupError
            It matches nothing.
        """
        text = text_of(value)
        if text is None:
            return None
        found = self._of_text(text)
        if found is None and text.casefold() == "nan":
            return None
        if found is None:
            raise LookupError(text)
        return found[0]

    def by_name(self, text: str) -> int | None:
        """Return the class that a label is the name of, None if it is of none."""
        found = self._one(self._names, text)
        whole = _whole(text)
        if found is None and whole is not None and _number(text) is None:  # a boolean
            found = self._one(self._names, str(whole))
        return found[0] if found else self._generic(text)

    def by_index(self, text: str) -> int | None:
        """Return the class that a label is the index of, None if it is of none."""
        whole = _whole(text)
        return self._in_range(whole) if whole is not None else self._generic(text)

    def _remembered(self, value: object) -> int | None:
        known = self._known
        key = (type(value), value)
        if key not in known:
            if len(known) >= _REMEMBERED:
                known.clear()
            known[key] = self.index(value)
        return known[key]

    def _of_text(self, text: str) -> tuple[int | None] | None:
        """Return what a label means, in a tuple of one; None if it matches nothing."""
        if self._mapped is not None:
            whole = _whole(text)
            return self._one(self._mapped, text) or (
                None if whole is None else self._one(self._mapped, str(whole))
            )
        if self._mode == "names":
            found = self.by_name(text)
        elif self._mode == "indices":
            found = self.by_index(text)
        else:
            whole = _whole(text)
            if self._declared is not None and whole is not None and _number(text) is not None:
                if whole == -1:
                    return (None,)
                text = self._declared[whole] if 0 <= whole < len(self._declared) else ""
                found = self.by_name(text)
            else:
                named = self._one(self._names, text)
                found = named[0] if named else self._generic(text)
                found = self.by_index(text) if found is None else found
        return None if found is None else (found,)

    def _one(self, table: _Table, text: str) -> tuple[int | None] | None:
        found = table.find(text)
        if len(found) > 1:
            indices = " and ".join(str(index) for index in found)
            raise _AmbiguousError(
                f"label {text!r} is the name of the classes {indices} alike: set corpus.labels: indices, or map each "
                "value to an index there"
            )
        return next(((index,) for index in found), None)

    def _generic(self, text: str) -> int | None:
        found = _GENERIC.fullmatch(text)
        return self._in_range(int(found[1])) if found else None

    def _in_range(self, index: int) -> int | None:
        return index if 0 <= index < len(self.classes) else None

    def _declare(self, names: Sequence[str] | None) -> None:
        """Take the names that the source declares, if they are the model's."""
        if names is None:
            return
        if any(self._names.find(name.strip()) or self._generic(name.strip()) is not None for name in names):
            self._declared = list(names)
        else:
            self.note = (
                f"the source calls its classes {_listed(names)}, which are not the model's ({_listed(self.classes)}): "
                "its numbers are taken for the model's class indices; corpus.labels can map them"
            )

    def _mapping(self, reading: Mapping[str, int | str | None]) -> _Table:
        meanings: dict[str, int | None] = {}
        for value, meant in reading.items():
            meanings[value] = None if meant is None else self._class(value, meant)
        whole = {value: _whole(value.strip()) for value in meanings}
        aliases = [
            (str(number), meanings[value])
            for value, number in whole.items()
            if number is not None and _number(value.strip()) is None and number not in _numbers(whole, value)
        ]
        table = _Table(
            [*meanings, *(name for name, _ in aliases)], [*meanings.values(), *(i for _, i in aliases)]
        )
        for value in meanings:
            if len(table.find(text_of(value) or "")) > 1:
                raise InputError(
                    f"corpus.labels: {value!r} is there twice, as the same label written in two ways: keep one"
                )
        return table

    def _class(self, value: str, meant: int | str) -> int:
        """Return the class that the configuration maps a value to."""
        numbers = any(_number(name.strip()) is not None for name in self.classes)
        if isinstance(meant, int):
            found = self._in_range(meant)
            if numbers and found is not None and self.by_name(str(meant)) not in (None, found):
                raise InputError(
                    f"corpus.labels: {value!r} is mapped to {meant}, which can be a class's name or its index: write "
                    f'"{meant}", with quotes, for the name, or LABEL_{meant} for the index'
                )
        else:
            try:
                found = self.by_name(meant.strip())
            except _AmbiguousError as error:
                raise InputError(f"corpus.labels: {error}") from error
            found = self.by_index(meant.strip()) if found is None and not numbers else found
        if found is None:
            raise InputError(
                f"corpus.labels: {value!r} is mapped to {meant!r}, which is not a class of the model; it has "
                f"{_listed(self.classes)}"
            )
        return found

    def check(self, labels: Callable[[], Sequence[object]]) -> None:
        """Raise an InputError if numbers could be names or indices; `labels` are the first ones, which it shows."""
        if not self.ambiguous:
            return
        shown = []
        for number, label in enumerate(labels(), start=1):
            text = text_of(label)
            if text is None:
                continue
            name, index = self._said(self.by_name, text), self._said(self.by_index, text)
            shown.append(f"row {number}, label {text!r}: by name {name}, by index {index}")
        raise InputError(
            f"corpus.labels: the model's classes are called by numbers ({_listed(self.classes)}), so a label may be a "
            f"class's name or its index ({'; '.join(shown) or 'the first rows have no label'}): set "
            "corpus.labels: names or corpus.labels: indices"
        )

    def _said(self, read: Callable[[str], int | None], text: str) -> str:
        try:
            found = read(text)
        except _AmbiguousError:
            return "several classes"
        return "no class" if found is None else f"class {found}, called {self.classes[found]!r}"


class _AmbiguousError(Exception):
    """A label names several classes."""


class LabelSets:
    """Map labels to sets of class indices, as sorted lists: a list of classes, one class, or in text a list of them.

    What is a class, `LabelMap` says. None is no label; an empty list says that no class applies. A list in text is
    written as JSON or as Python does. A set of which one class is unknown is unknown.
    """

    type = pa.list_(pa.int32())

    def __init__(
        self, classes: Sequence[str], names: Sequence[str] | None = None, reading: Reading = None
    ) -> None:
        self.map = LabelMap(classes, names, reading)
        self.unmatched = self.map.unmatched

    def rows(self, values: Sequence[object], file: str, row: int) -> list[list[int] | None]:
        """Map a column; an InputError names the file, the row and the classes."""
        return [self._set(value, file, row + offset) for offset, value in enumerate(values)]

    def single(self, label: object, file: str, row: int) -> int | None:
        """Return the set's one class; an InputError if it has none or several."""
        if label is None:
            return None
        indices = label if isinstance(label, list) else []
        if len(indices) != 1:
            names = ", ".join(self.map.classes[index] for index in indices) or "none"
            raise InputError(
                f"{file}, row {row}: method.target: label needs one label per document, and here are "
                f"{len(indices)} ({names}); use predicted, or name a class"
            )
        return int(indices[0])

    def _set(self, value: object, file: str, row: int) -> list[int] | None:
        items = listed(value)
        if not isinstance(items, list):
            [only] = self.map.rows([items], file, row)
            return None if only is None else [only]
        if any(isinstance(item, list | dict) for item in items):
            self.unmatched.add(value, file, row)
            return None
        before = self.unmatched.total
        indices = self.map.rows(items, file, row)
        if self.unmatched.total > before:
            self.unmatched.total = before + 1  # documents are counted
            return None
        found = [index for index in indices if index is not None]
        if len(set(found)) < len(found):
            raise InputError(
                f"{file}, row {row}: label {value!r} names a class twice: list the classes that apply, by index or "
                "name, not a 0 or 1 for each class"
            )
        return sorted(found)


def listed(value: object) -> object:
    """Return the list that a text is, else the value as it is."""
    if not isinstance(value, str) or not value.strip().startswith("[") or len(value) > _LONGEST_LIST:
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            items = read(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return items if isinstance(items, list) else value
    return value


class LabelValues:
    """Read labels as numbers, for a regression; None, NaN and blank text are no label."""

    type = pa.float64()

    def __init__(self) -> None:
        self.unmatched = Unmatched()

    def rows(self, values: Sequence[object], file: str, row: int) -> list[float | None]:
        """Read a column."""
        return [self._value(value, file, row + offset) for offset, value in enumerate(values)]

    def single(self, label: object, file: str, row: int) -> int | None:
        """Return None: a number is no class."""
        return None

    def _value(self, value: object, file: str, row: int) -> float | None:
        text = text_of(value)
        if text is None or text.casefold() == "nan":
            return None
        if isinstance(value, bool) or text.casefold() in ("true", "false"):
            return float(text.casefold() == "true")
        number = float(text) if is_decimal(text) else math.inf
        if not math.isfinite(number):
            self.unmatched.add(value, file, row)
            return None
        return number


def _two_readings(classes: Sequence[str]) -> bool:
    """Whether a number can be the name of one class and the index of another."""
    numbers = [_number(name.strip()) for name in classes]
    return any(number is not None for number in numbers) and numbers != list(
        map(Decimal, range(len(classes)))
    )


def _named(classes: Sequence[str]) -> _Table:
    """Return what the names of classes stand for; a name that several had before they got their indices, for all."""
    found = [_NUMBERED.fullmatch(name) for name in classes]
    alike = Counter(one[1] for one in found if one)
    shared = [
        (one[1], index)
        for index, one in enumerate(found)
        if one and int(one[2]) == index and alike[one[1]] > 1
    ]
    return _Table(
        [*classes, *(name for name, _ in shared)], [*range(len(classes)), *(index for _, index in shared)]
    )


def _numbers(whole: Mapping[str, int | None], but: str) -> set[int | None]:
    return {number for value, number in whole.items() if value != but}


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"{index}: {name!r}" for index, name in enumerate(names[:12]))
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _fold(name: str) -> str:
    return name.strip().casefold()
