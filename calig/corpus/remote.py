"""Corpora on object stores: files are copied to this machine before they are read, and again when they changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calig.corpus.left_out import HIDDEN, LeftOut
from calig.corpus.search import first_hidden, is_glob
from calig.errors import InputError
from calig.files import write_json
from calig.hashes import content_hash
from calig.listing import files_below
from calig.stores import cache_folder, content_mark, download, filesystem, reachable

INDEX = ".index.json"


@dataclass(frozen=True, slots=True)
class Copies:
    """Copies of what is at a URL: where they lie, which is the file itself for one object, and the files, sorted."""

    place: Path
    files: list[Path]


def local_copies(url: str, left_out: LeftOut | None = None) -> Copies:
    """Copy what is at a URL: an object, all under a prefix, or all that a glob matches.

    Names that begin with a dot or an underscore are left out as in folders (see `calig.corpus.search`).

    Parameters
    ----------
    url
        Such as s3://bucket/reviews/*.parquet.
    left_out
        Takes what is left out.

    Returns
    -------
    The copies, laid out as the store is below the URL's part without wildcards.

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
        if is_glob(path):
            found: Mapping[str, Any] = files.glob(path, detail=True)
        else:
            single = files.isfile(path)
            found = {path: files.info(path)} if single else files.find(path, detail=True)
        objects = {name: content_mark(info) for name, info in found.items() if info["type"] == "file"}
        anchor = _anchor(path, single)
        if not single:
            parts = path.removeprefix(anchor).split("/") if is_glob(path) else ["**", "*"]
            objects = _kept(objects, anchor, parts, left_out or LeftOut())
        if not objects:
            raise InputError(f"corpus.path {url!r} matches no object in the store")
        root = cache_folder(url, "corpora")
        places = {name: root / name.removeprefix(anchor) for name in objects}
        _copy(files, root, objects, places)
    return Copies(places[path] if single else root, sorted(places.values()))


def _anchor(path: str, single: bool) -> str:
    """The part of a path, with its slash, that copies' names leave out."""
    plain = path.split("*")[0].split("?")[0].split("[")[0]
    return plain.rpartition("/")[0] + "/" if single or plain != path else f"{path}/"


def _kept(
    objects: Mapping[str, str | None], anchor: str, parts: list[str], left_out: LeftOut
) -> dict[str, str | None]:
    """The objects that are data by their names; of a folder that is not, the folder is counted."""
    kept, hidden = {}, set()
    for name, mark in objects.items():
        names = name.removeprefix(anchor).split("/")
        place = first_hidden(parts, names)
        if place is None:
            kept[name] = mark
        else:
            hidden.add("/".join(names[: place + 1]) + ("/" if place + 1 < len(names) else ""))
    for name in sorted(hidden):
        left_out.add(HIDDEN, name)
    return kept


def _copy(files: Any, root: Path, objects: Mapping[str, str | None], places: Mapping[str, Path]) -> None:
    """Copy those of which there is no copy, or an old or damaged one; drop copies of what is gone.

    An object is the same if the store says so by its content, as with an ETag; size and time alone say too little.
    """
    held: dict[str, Any] = {}
    with suppress(FileNotFoundError, ValueError):
        held = json.loads((root / INDEX).read_text())
    copies = set(places.values())
    for path in files_below(root):
        if path not in copies and path.name != INDEX:
            path.unlink()
    index: dict[str, list[str | None]] = {}
    for name, mark in objects.items():
        place = places[name]
        if not place.resolve().is_relative_to(root.resolve()):
            raise InputError(f"corpus.path: the store's object {name!r} has a name that leaves its folder")
        if mark is None or held.get(name) != [mark, content_hash(place)]:
            download(files, name, place)
        index[name] = [mark, content_hash(place)]
    write_json(root / INDEX, index)
