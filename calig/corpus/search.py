"""Which files are in a folder or match a glob, by one rule for both, and for object stores.

Names that begin with a dot or an underscore are no data: `_SUCCESS`, `_temporary/`, `._a.csv`, `.ipynb_checkpoints/`.
They are left out below a folder, and where a part of a glob with a wildcard meets them; a part that names them, as in
`data/_mine/*.csv` or `.a*.csv`, means them. `**` is any number of folders, none among them.

Links to folders are followed where they lead to a folder inside the one that the search began with, unless its files
are found there already. A link that leads out of it is an error. A folder that may not be read is one too.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from calig.corpus.left_out import HIDDEN, LINK_TWICE, LeftOut
from calig.errors import InputError
from calig.listing import children, is_folder, status_of

Parts = tuple[str, ...]


def is_glob(path: str) -> bool:
    """Whether a path, or a part of one, has wildcards."""
    return any(sign in path for sign in "*?[")


def is_hidden(name: str) -> bool:
    """Whether a name is none of data."""
    return name.startswith((".", "_"))


def search(start: Path, parts: Sequence[str], reach: Path, left_out: LeftOut) -> list[Path]:
    """Find what matches a glob, folders apart.

    Parameters
    ----------
    start
        Where the glob begins.
    parts
        The glob's parts, such as ("**", "*") for all below `start`.
    reach
        The folder, resolved, that links to folders must not lead out of.
    left_out
        Takes what is left out.

    Returns
    -------
    The paths, sorted; links to nothing and what is neither file nor folder among them.

    Raises
    ------
    InputError
        A folder may not be read, or a link to one leads out of `reach`.
    """
    return sorted(_Search(start, reach, left_out).run(tuple(parts)))


class _Search:
    """One search; links to folders wait until what is no link has been looked at."""

    def __init__(self, start: Path, reach: Path, left_out: LeftOut) -> None:
        self.start, self.reach, self.left_out = start, reach, left_out
        self.found: set[Path] = set()
        self._seen: set[tuple[int, int, Parts]] = set()
        self._links: deque[tuple[Path, Parts]] = deque()
        self._counted: set[Path] = set()

    def run(self, parts: Parts) -> set[Path]:
        self._enter(self.start, parts)
        while self._links:
            link, rest = self._links.popleft()
            if Path(os.path.realpath(link)).is_relative_to(self.reach):
                if not self._enter(link, rest):
                    self._leave_out(LINK_TWICE, link)
            else:
                raise InputError(
                    f"corpus.path: {link} is a link to a folder that leads out of {self.reach}: put the folder itself "
                    "there, name the folder that it is in, or remove the link"
                )
        return self.found

    def _enter(self, folder: Path, parts: Parts) -> bool:
        """Look for the parts in a folder; whether that is the first time for this folder and these parts."""
        status = status_of(folder)
        if status is None:
            return True
        key = (status.st_dev, status.st_ino, parts)
        if key in self._seen:
            return False
        self._seen.add(key)
        head, rest = parts[0], parts[1:]
        if head == "**":
            return self._descend(folder, parts)
        if not is_glob(head):
            self._take(folder / head, rest, by_name=True)
            return True
        for path in children(folder):
            fits = fnmatchcase(path.name, head) and is_folder(path) == bool(rest)
            if fits and (is_hidden(head) or self._kept(path)):
                self._take(path, rest, by_name=False)
        return True

    def _descend(self, folder: Path, parts: Parts) -> bool:
        self._enter(folder, parts[1:] or ("*",))
        for path in children(folder):
            if is_folder(path) and self._kept(path):
                self._go(path, parts, by_name=False)
        return True

    def _take(self, path: Path, rest: Parts, by_name: bool) -> None:
        folder = is_folder(path)
        if rest and folder:
            self._go(path, rest, by_name)
        elif not rest and not folder and os.path.lexists(path):
            self.found.add(path)

    def _go(self, folder: Path, parts: Parts, by_name: bool) -> None:
        if not by_name and folder.is_symlink():
            self._links.append((folder, parts))
        else:
            self._enter(folder, parts)

    def _kept(self, path: Path) -> bool:
        """Whether a path that a wildcard met is data by its name; counted, once, if not."""
        if not is_hidden(path.name):
            return True
        self._leave_out(HIDDEN, path)
        return False

    def _leave_out(self, kind: str, path: Path) -> None:
        if path not in self._counted:
            self._counted.add(path)
            name = path.relative_to(self.start).as_posix()
            self.left_out.add(kind, f"{name}/" if is_folder(path) else name)


def first_hidden(parts: Sequence[str], names: Sequence[str]) -> int | None:
    """Return the position in a path's names of the first that the rule leaves out, None if it leaves out none.

    For stores, which match globs themselves: `parts` are those of the glob, ("**", "*") for all below a prefix.
    """
    if _fits(tuple(parts), tuple(names)):
        return None
    return next((n for n, name in enumerate(names) if is_hidden(name) and name not in parts), None)


def _fits(parts: Parts, names: Parts) -> bool:
    """Whether a glob's parts match a path's names, no wildcard meeting a hidden one."""
    if not parts or not names:
        return not names and all(part == "**" for part in parts)
    head, first = parts[0], names[0]
    if head == "**":
        return _fits(parts[1:], names) or (not is_hidden(first) and _fits(parts, names[1:]))
    meant = not is_glob(head) or is_hidden(head) or not is_hidden(first)
    return fnmatchcase(first, head) and meant and _fits(parts[1:], names[1:])
