"""A cheap key of a source, for caches: does the corpus need reading again?"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from calig.config import CorpusConfig
from calig.corpus.files import open_files
from calig.corpus.hub import local_folder
from calig.corpus.images import named_files
from calig.corpus.paths import is_image, resolve
from calig.records import Modality

INGEST_VERSION = 6
"""Bumped when ingest makes other parts of the same source."""


def fingerprint(corpus: CorpusConfig, modality: Modality = "text") -> str:
    """Hash what decides the corpus without reading it: the configuration, and the state of the source.

    The state is every file's resolved path, size and time of change, those of images that a table names among them;
    for a hub dataset the commit that its revision means now, asked of the hub (offline: only the name). Not in it: what
    else ingest is told, the classes and whether the label is in the key.

    Returns
    -------
    str
        32 hex digits.

    Raises
    ------
    InputError
        If there is no such file or folder.
    """
    state: object
    if corpus.path is not None:
        files = resolve(corpus, modality)
        if modality == "image" and not is_image(files[0]):
            source = open_files(corpus, modality)
            files = [*files, *named_files(source, corpus.image, corpus.limit)]
        state = _stamps(files)
    else:
        folder = local_folder(str(corpus.dataset))
        if folder is not None:
            state = _stamps(sorted(file for file in folder.rglob("*") if file.is_file()))
        else:
            state = _commit(str(corpus.dataset), corpus.revision)
    content = json.dumps([INGEST_VERSION, modality, corpus.model_dump(mode="json"), state], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _stamps(files: list[Path]) -> list[tuple[str, int, int]]:
    return [_stamp(file) for file in files]


def _stamp(file: Path) -> tuple[str, int, int]:
    try:
        stat = file.stat()
        return str(file.resolve()), stat.st_size, stat.st_mtime_ns
    except (OSError, RuntimeError):  # not there, or a link to itself
        return str(file), -1, -1


def _commit(dataset: str, revision: str | None) -> str | None:
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(dataset, revision=revision, timeout=10).sha
    except Exception:  # no answer, whatever the reason, is no commit; ingest says what is wrong
        return None
