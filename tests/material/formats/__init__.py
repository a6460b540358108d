"""Warehouses as earlier versions wrote them: `<version>.tar.xz` beside this file, made by `make.py` (see README.md).

An archive holds `models/`, `corpora/`, `audits/` and `warehouse/`. The audits name them by relative paths, so they run
from the folder that the archive is unpacked to. The warehouse holds two nights of texts, which are compared, a run of
images, an evaluation, the tag `accepted` on the first night, and a run that was killed after some of its shards; and of
those after 0.1.0 a run that explains the labels of the first night. The corpus of images names their paths in the
folder where they were brought in, which is gone.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

HERE = Path(__file__).parent
VERSIONS = tuple(sorted(path.name.removesuffix(".tar.xz") for path in HERE.glob("*.tar.xz")))


def unpack(version: str, folder: Path) -> Path:
    """Unpack what a version wrote into a new folder below `folder`, and return it."""
    place = folder / version
    with tarfile.open(HERE / f"{version}.tar.xz") as archive:
        archive.extractall(place, filter="data")
    return place
