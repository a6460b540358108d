"""What a folder or a glob holds and an audit does not read: counted by kind, the first few by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMED = 3
"""How many of a kind are named."""

HIDDEN = "hidden"
LINK_TWICE = "link to what is read already"
NOWHERE = "link to nothing"
NO_FILE = "neither file nor folder"


class LeftOut:
    """Files, and whole folders, that are left out, by kind: how their names end, or why."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[int, list[str]]] = {}

    def add(self, kind: str, name: str) -> None:
        """Count one; a folder's name ends in a slash, and what is in it does not count by itself."""
        count, names = self._kinds.get(kind, (0, []))
        self._kinds[kind] = count + 1, sorted([*names, name])[:NAMED]

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Return kind → {"files": how many, "first": up to three names}, the most frequent kind first."""
        ordered = sorted(self._kinds.items(), key=lambda item: (-item[1][0], item[0]))
        return {kind: {"files": count, "first": names} for kind, (count, names) in ordered}


def total(left_out: Mapping[str, Mapping[str, Any]]) -> int:
    """Return how many are left out, of what `LeftOut.to_json` gave."""
    return sum(int(kind["files"]) for kind in left_out.values())


def in_words(left_out: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what is left out as one line, such as "2 .heic (a.heic, b.heic), 1 hidden (.DS_Store)"."""
    parts = []
    for kind, found in left_out.items():
        names, count = list(found["first"]), int(found["files"])
        parts.append(f"{count} {kind} ({', '.join([*names, *(['…'] if count > len(names) else [])])})")
    return ", ".join(parts)
