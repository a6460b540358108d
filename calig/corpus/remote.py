"""Corpora on object stores: files are copied to this machine before they are read, and again when they changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from calig.errors import InputError
from calig.files import write_json
from calig.stores import cache_folder, download, filesystem, mark, reachable

INDEX = ".index.json"


def local_copies(url: str) -> Path:
    """Copy what is at a URL: an object, all under a prefix, or all that a glob matches.

    Parameters
    ----------
    url
        Such as s3://bucket/reviews/*.parquet.

    Returns
    -------
    The copies' folder, laid out as the store is below the URL's part without wildcards; or, of one object, its copy.

    Raises
    ------
    InputError
        If the store cannot be used, or has nothing there.
    """
    files, path = filesystem(url, "corpus.path")
    path = path.rstrip("/")
    with reachable(url):
        files.invalidate_cache()
        single = False
        if any(sign in path for sign in "*?["):
            found: Mapping[str, Any] = files.glob(path, detail=True)
        else:
            single = files.isfile(path)
            found = {path: files.info(path)} if single else files.find(path, detail=True)
        objects = {name: mark(info) for name, info in found.items() if info["type"] == "file"}
        if not objects:
            raise InputError(f"corpus.path {url!r} matches no object in the store")
        root = cache_folder(url, "corpora")
        anchor = _anchor(path, single)
        places = {name: root / name.removeprefix(anchor) for name in objects}
        _copy(files, root, objects, places)
    return next(iter(places.values())) if single else root


def _anchor(path: str, single: bool) -> str:
    """The part of a path, with its slash, that copies' names leave out."""
    plain = path.split("*")[0].split("?")[0].split("[")[0]
    return plain.rpartition("/")[0] + "/" if single or plain != path else f"{path}/"


def _copy(files: Any, root: Path, objects: Mapping[str, str], places: Mapping[str, Path]) -> None:
    """Copy those of which there is no copy, or an old one; drop copies of what is gone."""
    held: dict[str, str] = {}
    with suppress(FileNotFoundError, ValueError):
        held = json.loads((root / INDEX).read_text())
    copies = set(places.values())
    for path in [path for path in root.rglob("*") if path.is_file() and path.name != INDEX]:
        if path not in copies:
            path.unlink()
    for name, state in objects.items():
        place = places[name]
        if not place.resolve().is_relative_to(root.resolve()):
            raise InputError(f"corpus.path: the store's object {name!r} has a name that leaves its folder")
        if held.get(name) != state or not place.is_file():
            download(files, name, place)
    write_json(root / INDEX, dict(objects))
