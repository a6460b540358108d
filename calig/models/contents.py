"""What a model's files hold, by hash: enough to tell whether it is another one, without loading it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from calig.corpus.paths import reading
from calig.hashes import content_hashes
from calig.listing import children, is_file, is_folder

ADAPTER = "adapter_config.json"


def model_contents(model_id: str, revision: str | None) -> list[Any]:
    """Return what identifies a model: JSON-ready values that differ where one of its files does.

    Parameters
    ----------
    model_id, revision
        A folder, or the hub's id and a revision. Of one of the hub that is the commit that the revision means now, and
        the files of it that are on this machine. Of an adapter, its base model counts as well.

    Raises
    ------
    InputError
        The model has no configuration, or one of its files may not be read.
    """
    folder = Path(model_id)
    if is_folder(folder):
        return [str(folder.resolve()), *_files(folder)]
    from calig.models.configuration import read_config

    return _of_hub(model_id, getattr(read_config(model_id, revision), "_commit_hash", None))


def _files(folder: Path, adapted: bool = True) -> list[Any]:
    """Name → hash of the files in a folder; then, if `adapted`, the contents of the model that an adapter is of."""
    files = [path for path in children(folder) if not path.name.startswith(".") and is_file(path)]
    with reading(folder):
        facts: list[Any] = [dict(zip((path.name for path in files), content_hashes(files), strict=True))]
    if adapted:
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            adapter = json.loads((folder / ADAPTER).read_bytes())
            base = str(adapter["base_model_name_or_path"])
            facts += [base, *_base(base, adapter.get("revision"))]
    return facts


def _base(model_id: str, revision: str | None) -> list[Any]:
    """The contents of the model that an adapter is of, which itself need not be a classifier."""
    folder = Path(model_id)
    if is_folder(folder):
        return _files(folder, adapted=False)
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model_id, revision=revision, trust_remote_code=False)
    except Exception:  # whoever loads the model says what is wrong with it
        return []
    return _of_hub(model_id, getattr(config, "_commit_hash", None))


def _of_hub(model_id: str, commit: str | None) -> list[Any]:
    from huggingface_hub import try_to_load_from_cache

    cached = commit and try_to_load_from_cache(model_id, "config.json", revision=commit)
    return [commit, *(_files(Path(cached).parent) if isinstance(cached, str) else [])]
