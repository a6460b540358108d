"""By which version a record of a warehouse is written: every manifest says it, and which ones this version can read."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from functools import cache
from typing import Any

from calig.errors import NewerError

FORMAT = 2
"""Of all that is written to a warehouse: bumped when an earlier version would read it wrongly, or not at all.

1 is what manifests that name none are of: up to 0.1.0, keys of attributions hold the rule that chooses a document's
class, and keys of documents the label where that is the rule.
"""

ENGINE_VERSION = 4
"""Part of every attribution key: bumped only when the numbers change."""

STAMP = ("format", "engine_version", "calig_version")
"""The keys of `stamp`."""


@cache
def calig_version() -> str:
    """This version of calig."""
    try:
        return importlib.metadata.version("calig")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def stamp() -> dict[str, Any]:
    """What every manifest says of the version that writes it: its format, its engine's version, and its own."""
    return {"format": FORMAT, "engine_version": ENGINE_VERSION, "calig_version": calig_version()}


def readable(what: str, manifest: Any) -> dict[str, Any]:
    """Return a manifest's JSON object, if it is of a format that this version reads.

    Parameters
    ----------
    what
        Whose it is, for the message.
    manifest
        What its file holds. One that names no format is of format 1.

    Raises
    ------
    NewerError
        If it is of a newer format; says which version wrote it.
    TypeError
        If it is no object, or its format is no number.
    """
    if not isinstance(manifest, Mapping):
        raise TypeError("it is no JSON object")
    written = manifest.get("format", 1)
    if not isinstance(written, int):
        raise TypeError("its format is no number")
    if written > FORMAT:
        raise newer(what, written, manifest.get("calig_version"))
    return dict(manifest)


def newer(what: str, written: int, version: Any) -> NewerError:
    """What to say of a record of a newer format."""
    return NewerError(
        f"{what}: calig {version or 'of an unknown version'} wrote it, in format {written}; this is calig "
        f"{calig_version()}, which reads formats up to {FORMAT}: upgrade it (pip install --upgrade calig)"
    )
