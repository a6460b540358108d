"""A cheap key of a source, for caches: does the corpus need reading again?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from calig.config import CorpusConfig
from calig.corpus.files import open_files
from calig.corpus.hub import local_folder
from calig.corpus.images import named_files
from calig.corpus.paths import Found, is_image, leaves, reading, resolve
from calig.hashes import content_hashes
from calig.listing import files_below
from calig.records import Modality

INGEST_VERSION = 7
"""Bumped when ingest makes other parts of the same source."""


def check(corpus: CorpusConfig, modality: Modality = "text") -> None:
    """Look whether the source is there and may be read, without reading its content.

    Raises
    ------
    InputError
        If there is no such file or folder, or it may not be read.
    """
    if corpus.path is not None:
        found = resolve(corpus, modality)
        for _ in _named(corpus, modality, found):
            pass
    else:
        local_folder(str(corpus.dataset))


def fingerprint(corpus: CorpusConfig, modality: Modality = "text") -> str | None:
    """Hash what decides the corpus: the configuration, and the content of the source.

    The content is every file's path and hash, those of images that a table names among them, and what is left out;
    files that did not change since they were last read are not read again (`calig.hashes`). Of a hub dataset it is the
    commit that its revision means now, asked of the hub. Not in it: what else ingest is told, the classes and whether
    the label is in the key.

    Returns
    -------
    str or None
        32 hex digits; None where the hub does not answer, so that nobody knows whether the dataset is the same.

    Raises
    ------
    InputError
        If there is no such file or folder, or it may not be read.
    """
    state: object
    if corpus.path is not None:
        state = _contents(corpus, modality)
    else:
        folder = local_folder(str(corpus.dataset))
        state = (
            _commit(str(corpus.dataset), corpus.revision)
            if folder is None
            else _hashes(sorted(files_below(folder, links=True)))
        )
        if state is None:
            return None
    content = json.dumps([INGEST_VERSION, modality, corpus.model_dump(mode="json"), state], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _contents(corpus: CorpusConfig, modality: Modality) -> list[object]:
    """The files that the corpus is made of with their hashes, and what is left out."""
    found = resolve(corpus, modality)
    reach = found.reach if is_image(found.files[0]) else None
    return [_hashes(found.files, reach), _hashes(_named(corpus, modality, found)), found.left_out]


def _named(corpus: CorpusConfig, modality: Modality, found: Found) -> Iterator[Path]:
    """The images that tables name."""
    if modality == "image" and not is_image(found.files[0]):
        yield from named_files(open_files(corpus, modality), corpus.image, corpus.limit)


def _hashes(files: Iterable[Path], reach: Path | None = None) -> list[tuple[str, str | None]]:
    """Each file's path and the hash of its content: None of what is not there, or leads out of `reach`."""
    listed = list(files)
    inside = [file for file in listed if reach is None or not leaves(file, reach)]
    hashes = content_hashes(inside)
    found: dict[Path, str | None] = {}
    for file in inside:
        with reading(file):
            found[file] = next(hashes)
    hashes.close()
    return [(str(file.absolute()), found.get(file)) for file in listed]


def _commit(dataset: str, revision: str | None) -> str | None:
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(dataset, revision=revision, timeout=10).sha
    except Exception:  # no answer, whatever the reason, is no commit; ingest says what is wrong
        return None
