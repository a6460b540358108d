"""Names of the classes that a source declares for the numbers in its label column, as `datasets` does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from calig.errors import InputError

if TYPE_CHECKING:
    import datasets

_METADATA = b"huggingface"


def class_names(features: datasets.Features, label: str | None) -> list[str] | None:
    """Return the names that the label column, or what it is a list of, is declared with."""
    import datasets

    feature = features.get(label) if label is not None else None
    feature = getattr(feature, "feature", feature)
    return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None


class Declared:
    """The names that several files declare: the same in all."""

    def __init__(self, label: str | None) -> None:
        self.names: Sequence[str] | None = None
        self._label = label
        self._file = ""

    def add(self, schema: pa.Schema, file: str) -> None:
        """Take a file's schema; an InputError if it declares other names than the files before it."""
        names = self._of(schema)
        if not schema.names or self._label not in schema.names:
            return
        if self._file and names != self.names:
            raise InputError(
                f"{file}: column {self._label!r} is declared with the classes {_shown(names)}, but with "
                f"{_shown(self.names)} in {self._file}: name files that agree in corpus.path"
            )
        self.names, self._file = names, file

    def _of(self, schema: pa.Schema) -> list[str] | None:
        """Return the names in the metadata that `datasets` writes into Parquet files."""
        try:
            features = json.loads((schema.metadata or {})[_METADATA])["info"]["features"]
            feature = features[self._label]
            feature = feature[0] if isinstance(feature, list) else feature
            if isinstance(feature.get("feature"), Mapping):
                feature = feature["feature"]
            names = feature["names"] if feature.get("_type") == "ClassLabel" else None
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError):
            return None
        return list(map(str, names)) if isinstance(names, list) else None


def _shown(names: Sequence[str] | None) -> str:
    if names is None:
        return "none"
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
