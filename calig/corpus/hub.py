"""Corpora on the Hugging Face hub, or in local folders laid out like one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from calig.config import CorpusConfig
from calig.corpus.columns import is_kept
from calig.corpus.declared import class_names
from calig.corpus.paths import check_links, expanded, leaves, reach_of
from calig.corpus.source import BATCH_ROWS, Batch, Source, conform
from calig.errors import InputError
from calig.listing import exists, is_folder, links_below
from calig.records import Modality

IMAGE_ROWS = 32
"""Images read at a time: nothing says beforehand how large they are."""


def open_dataset(corpus: CorpusConfig, modality: Modality = "text") -> Source:
    """Open `corpus.dataset`: streamed if it is local or limited, else through the cache.

    Images are not decoded. Those that are no files of a local folder, but on the hub or in an archive, are fetched; of
    files on this machine, only what is in the folder or, of the hub's datasets, in its caches.
    """
    import datasets

    given = str(corpus.dataset)
    folder = local_folder(given)
    if folder is not None:
        check_links(links_below(folder), folder, "corpus.dataset")
    reach = _caches() if folder is None else [reach_of(folder)]
    name = f"{given} ({', '.join(filter(None, (corpus.config, corpus.split, corpus.revision)))})"
    data = _load(corpus, str(folder or given))
    features: datasets.Features = data.features
    names = class_names(features, corpus.label)
    whole = features.arrow_schema.remove_metadata()
    schema = pa.schema([field for field in whole if is_kept(corpus, field.name)])
    rows = IMAGE_ROWS if modality == "image" else BATCH_ROWS
    images = modality == "image" and isinstance(features.get(corpus.image), datasets.Image)

    def read(wanted: pa.Schema) -> Iterator[Batch]:
        row = 1
        tables = data.select_columns(wanted.names).with_format("arrow").iter(rows)
        while True:
            try:
                table = next(tables, None)
                if table is not None and images:
                    table = _fetched(table, corpus.image, folder is None, reach)
            except (
                datasets.exceptions.DatasetsError,
                pa.ArrowException,
                ValueError,
                FileNotFoundError,
            ) as error:
                raise InputError(f"corpus.dataset {name}, after row {row - 1}: {_reason(error)}") from error
            if table is None:
                return
            yield Batch(conform(table, wanted, name), name, row, folder and folder.absolute(), reach[0])
            row += table.num_rows

    return Source(name, [(name, whole)], schema, "file", names, read)


def _caches() -> list[Path]:
    """Folders that datasets of the hub are brought to."""
    import datasets
    from huggingface_hub.constants import HF_HUB_CACHE

    caches = (datasets.config.HF_DATASETS_CACHE, datasets.config.DOWNLOADED_DATASETS_PATH, HF_HUB_CACHE)
    return [Path(cache).expanduser().resolve() for cache in caches]


def _fetched(table: pa.Table, column: str, files: bool, reach: Sequence[Path]) -> pa.Table:
    """Return the table with the bytes of the images that lie on the hub or in archives; with `files`, of all images.

    Files and archives on this machine that are in none of the folders `reach` are left alone.
    """
    import datasets

    images: list[dict[str, Any]] = [image or {} for image in table.column(column).to_pylist()]
    absent = [image for image in images if image.get("bytes") is None and image.get("path")]
    apart = [image for image in absent if _is_fetched(image["path"], files, reach)]
    if not apart:
        return table
    kind = table.schema.field(column).type
    fetched = datasets.Image().embed_storage(pa.array(apart, kind)).field("bytes")
    for image, data in zip(apart, fetched.to_pylist(), strict=True):
        image["bytes"] = data
    return table.set_column(table.column_names.index(column), column, pa.array(images, kind))


def _is_fetched(path: str, files: bool, reach: Sequence[Path]) -> bool:
    """Whether an image is on the hub, or in an archive in reach; or any file in reach, if those are asked for."""
    *inside, place = path.split("::")
    if "://" in place:
        return place.startswith("hf://")
    return (bool(inside) or files) and not all(leaves(Path(place), folder) for folder in reach)


def local_folder(dataset: str) -> Path | None:
    """Return the folder that `dataset` means, None for a hub id; an InputError if it is a path to nowhere."""
    folder = expanded(dataset, "corpus.dataset")
    if is_folder(folder):
        return folder
    if dataset.startswith((".", "/", "~")) or dataset.count("/") > 1 or exists(folder):
        raise InputError(f"corpus.dataset {dataset!r}: no such folder; for files use corpus.path")
    return None


def _load(corpus: CorpusConfig, location: str) -> Any:
    """Load the split; the returned object knows its features."""
    import datasets
    from huggingface_hub.errors import HFValidationError

    given, split = str(corpus.dataset), str(corpus.split)
    arguments: dict[str, Any] = {
        "path": location,
        "name": corpus.config,
        "revision": corpus.revision,
        "split": split,
    }
    whole_split = re.fullmatch(r"\w+(\.\w+)*", split) is not None
    try:
        local = is_folder(Path(location))
        if whole_split and (corpus.limit is not None or local):
            streamed = datasets.load_dataset(**arguments, streaming=True)
            if streamed.features is not None:
                return streamed
        if local:  # what `datasets` has prepared of local files it knows again by their mtime alone
            arguments["download_mode"] = datasets.DownloadMode.FORCE_REDOWNLOAD
        return datasets.load_dataset(**arguments)
    except (datasets.exceptions.DatasetNotFoundError, HFValidationError) as error:
        raise InputError(
            f"corpus.dataset {given!r}: no such dataset on the hub, or no right to read it: check the id and "
            "corpus.revision, or log in (hf auth login)"
        ) from error
    except ConnectionError as error:
        raise InputError(
            f"corpus.dataset {given!r}: no way to the hub ({_reason(error)}): connect, or download "
            "the dataset and give its folder"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"corpus.dataset {given!r}: {_reason(error)}") from error
    except datasets.exceptions.DatasetsError as error:
        raise InputError(f"corpus.dataset {given!r} cannot be read: {_reason(error)}") from error
    except (
        ValueError,
        RuntimeError,
    ) as error:  # an unknown configuration or split; a dataset that is a script
        options = re.search(r"\[[^\]]*\]\s*\.?$", str(error))
        if "split" in str(error).lower() and options:
            splits = options[0].strip(" .[]").replace("'", "")
            raise InputError(
                f"corpus.split {split!r} is not in {given!r}, which has {splits}: choose one"
            ) from error
        raise InputError(f"corpus.dataset {given!r}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Return the message of the error and, where there is one, of its cause, in one line."""
    cause = f" ({' '.join(str(error.__cause__).split())})" if error.__cause__ else ""
    return " ".join(str(error).split()) + cause
