"""Tags: names that a user gives to runs, such as `baseline`; each a file `tags/<name>` with the run's id.

A tagged run is never pruned.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from calig.errors import DamagedError, InputError
from calig.listing import children, denied
from calig.warehouse.damage import pass_over, read_each
from calig.warehouse.layout import Warehouse

RESERVED = ("latest", "previous", "all")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def check_name(name: str, run_ids: Iterable[str]) -> None:
    """Check that `name` can be a tag beside runs of these ids.

    Raises
    ------
    InputError
        If it cannot: it is reserved, could be a run's id, or has other characters than a tag may have.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"tag {name!r}: use letters, digits, - _ and dots, up to 100, and no dot or - first")
    if name in RESERVED:
        raise InputError(f"tag {name}: {', '.join(RESERVED)} have meanings of their own; choose another name")
    for run_id in run_ids:
        if run_id.startswith(name):
            raise InputError(f"tag {name}: the id of run {run_id} starts so; choose another name")


def read_tag(path: Path) -> str:
    """Return the id of the run that a tag's file names.

    Raises
    ------
    InputError
        If it is no tag's file.
    """
    try:
        run_id = json.loads(path.read_bytes())["run_id"]
        if not isinstance(run_id, str):
            raise TypeError("its run_id is no text")
    except PermissionError as error:
        raise denied(path) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(
            f"tag {path.name}: {path} is damaged ({error}); set it again with --force, or delete it"
        ) from error
    return run_id


def tag_files(folder: Path) -> list[Path]:
    """Return the files of the tags in a warehouse's folder of tags, by name."""
    return [path for path in children(folder) if _NAME.fullmatch(path.name)]


def list_tags(warehouse: Warehouse) -> dict[str, str]:
    """Return the id of the run that each tag names, by the tags' names; the run may be gone.

    Damaged tags are named in the log, and passed over.
    """
    names = [path.name for path in tag_files(warehouse.tags)]
    tags, damaged = read_each(names, lambda name: read_tag(warehouse.tags / name))
    pass_over(damaged.values())
    return tags


def delete_tag(warehouse: Warehouse, name: str) -> None:
    """Take a tag away, whatever it holds; its run stays.

    Raises
    ------
    InputError
        If there is no such tag.
    """
    tags = {path.name: path for path in tag_files(warehouse.tags)}
    if name not in tags:
        raise InputError(f"tag {name}: there is no such tag; tags are: {', '.join(tags) or 'none'}")
    warehouse.files.discard(tags[name])
