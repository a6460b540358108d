"""What is in a folder. Who may not read it is told so: permission denied is never taken for absence.

`Path.glob`, `Path.rglob` and `os.walk` pass over folders that may not be read, and the `Path.is_file` of newer Pythons
says no where it cannot know.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from calig.errors import InputError

_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


def children(folder: Path) -> list[Path]:
    """Return what is in a folder, by name; nothing where there is no folder.

    Raises
    ------
    InputError
        The folder may not be read.
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise denied(folder) from error


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return what is in a folder under a name that matches a pattern such as "*.json"; errors as `children`."""
    return [path for path in children(folder) if fnmatchcase(path.name, pattern)]


def status_of(path: Path) -> os.stat_result | None:
    """Return the status of what is at a path, its links followed; None where there is nothing.

    Raises
    ------
    InputError
        The path is in a folder that may not be entered.
    """
    try:
        return path.stat()
    except PermissionError as error:
        raise denied(path) from error
    except ValueError:  # a NUL in its name
        return None
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        return None


def is_file(path: Path) -> bool:
    """Whether a path, its links followed, is a regular file; errors as `status_of`."""
    return (status := status_of(path)) is not None and stat.S_ISREG(status.st_mode)


def is_folder(path: Path) -> bool:
    """Whether a path, its links followed, is a folder; errors as `status_of`."""
    return (status := status_of(path)) is not None and stat.S_ISDIR(status.st_mode)


def exists(path: Path) -> bool:
    """Whether there is something at a path, its links followed; errors as `status_of`."""
    return status_of(path) is not None


def files_below(folder: Path, links: bool = False) -> Iterator[Path]:
    """Give all files below a folder; links to folders are followed, once each, if `links`.

    Raises
    ------
    InputError
        A folder may not be read.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        status = status_of(here)
        if status is None or (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for path in children(here):
            if is_file(path):
                yield path
            elif (links or not path.is_symlink()) and is_folder(path):
                waiting.append(path)


def links_below(folder: Path) -> Iterator[Path]:
    """Give all links below a folder, in no order, following none; errors as `files_below`."""
    waiting = [folder]
    while waiting:
        for path in children(waiting.pop()):
            if path.is_symlink():
                yield path
            elif is_folder(path):
                waiting.append(path)


def denied(path: Path) -> InputError:
    """What to say of a file or folder that may not be read."""
    return InputError(
        f"{path} may not be read: permission denied; chmod u+rX, ask its owner, or run as the user it belongs to"
    )
