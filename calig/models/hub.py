"""Files of a model by their names, in a folder or in a repository of the hub."""

from __future__ import annotations

from pathlib import Path

from transformers.utils.hub import cached_file

from calig.listing import is_file, is_folder


def model_file(model_id: str, name: str, revision: str | None) -> Path | None:
    """Return where a model's file is on this machine, fetched from the hub if need be; None if it has no such file.

    Raises
    ------
    InputError
        The folder may not be read.
    """
    folder = Path(model_id)
    if is_folder(folder):
        return folder / name if is_file(folder / name) else None
    found = cached_file(
        model_id,
        name,
        revision=revision,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)
