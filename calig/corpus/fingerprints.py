"""A cheap key of a source, for caches: does the corpus need reading again?"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from calig.config import CorpusConfig
from calig.corpus.files import resolve
from calig.corpus.hub import local_folder
from calig.records import Modality

INGEST_VERSION = 3
"""Bumped when ingest makes other parts of the same source."""


def fingerprint(corpus: CorpusConfig, modality: Modality = "text") -> str:
    """Hash what decides the corpus without reading it: the configuration, and the state of the source.

    The state is every file's resolved path, size and time of change; for a hub dataset the commit that its
    revision means now, asked of the hub (offline: only the name). Not in it: what else ingest is
    told, the classes and whether the label is in the key.

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
        state = _stamps(resolve(corpus, modality))
    else:
        folder = local_folder(str(corpus.dataset))
        if folder is not None:
            state = _stamps(sorted(file for file in folder.rglob("*") if file.is_file()))
        else:
            state = _commit(str(corpus.dataset), corpus.revision)
    content = json.dumps([INGEST_VERSION, modality, corpus.model_dump(mode="json"), state], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _stamps(files: list[Path]) -> list[tuple[str, int, int]]:
    stats = [(str(file.resolve()), file.stat()) for file in files]
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def _commit(dataset: str, revision: str | None) -> str | None:
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(dataset, revision=revision, timeout=10).sha
    except Exception:  # no answer, whatever the reason, is no commit; ingest says what is wrong
        return None
