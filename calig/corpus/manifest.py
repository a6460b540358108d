"""A corpus's manifest: what an ingested corpus holds, and the hashes that prove it whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from calig.errors import InputError
from calig.files import Files, sha256_file
from calig.formats import readable

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class CorpusManifest:
    """What an ingested corpus holds.

    Attributes
    ----------
    key
        Hash of the content: rows in the order of the source, with ids, document keys, labels and extra columns.
    source
        Where it came from, as the configuration names it.
    documents
        Rows, over all parts.
    files
        Part name → {"sha256": hex, "bytes": size}.
    columns
        Extra column, under its name in the parts → Arrow type.
    labelled
        Whether any row has a label.
    left_out
        Column of the source that was not kept → its Arrow type.
    rationale
        Name in the parts of the column of human rationales, where the configuration names one.
    rows
        Rows of the source that the documents were drawn from, where `corpus.sample` draws; else None.
    files_left_out
        Files beside those read: kind → {"files": how many, "first": up to three names}.
    notes
        What is not in the corpus as the source has it, a sentence each.
    without_id
        Documents whose id the source does not give: theirs is their row number. None: not known, of earlier versions.
    order
        Order of the rows in the parts, of which a run's shards are ranges: that of a hash of "doc_key"
        (`calig.corpus.order`), so that every prefix is a random sample; or of the "source", as earlier versions wrote.
    format, engine_version, calig_version
        By which version it was written (`calig.formats`): format 1, and None, where it does not say.
    """

    key: str
    source: str
    documents: int
    files: Mapping[str, Mapping[str, str | int]]
    columns: Mapping[str, str]
    labelled: bool
    left_out: Mapping[str, str]
    rationale: str | None = None
    rows: int | None = None
    files_left_out: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    without_id: int | None = None
    order: Literal["doc_key", "source"] = "source"
    format: int = 1
    engine_version: int | None = None
    calig_version: str | None = None

    def to_json(self) -> str:
        """Return the manifest as JSON text."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> CorpusManifest:
        """Read what `to_json` wrote; ValueError or TypeError on anything else, NewerError on a newer format."""
        raw = json.loads(text)
        return cls(
            **readable(f"corpus {raw['key']}" if isinstance(raw, dict) and "key" in raw else "a corpus", raw)
        )

    def folder(self, root: Path) -> Path:
        """Return the corpus's folder in the warehouse `root`."""
        return Path(root) / "corpora" / self.key

    def parts(self, root: Path) -> list[Path]:
        """Return the Parquet parts in the order of their rows."""
        return [self.folder(root) / name for name in sorted(self.files)]


def load_corpus(files: Files, key: str) -> CorpusManifest:
    """Read and verify the manifest of corpus `key` in the warehouse whose `files` these are.

    Raises
    ------
    InputError
        If the corpus is not there, or is not what its manifest says.
    """
    path = files.root / "corpora" / key / MANIFEST
    files.fetch(path.parent)
    try:
        manifest = CorpusManifest.from_json(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"corpus {key} is not in the warehouse {files.root}: run its audit again") from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged: delete its folder and run the audit again") from error
    if manifest.key != key or not verify(files, manifest):
        raise InputError(f"{path.parent} is not what its manifest says: delete it and run the audit again")
    return manifest


def verify(files: Files, manifest: CorpusManifest) -> bool:
    """Whether every part of the corpus is in the warehouse with the size and hash it had."""
    folder = manifest.folder(files.root)
    files.fetch(folder)
    try:
        return all(describe(folder / name) == dict(entry) for name, entry in manifest.files.items())
    except OSError:
        return False


def claim(root: Path, manifest: CorpusManifest) -> None:
    """Mark the corpus as about to be used, if it is there, so that pruning leaves it to the run that is to start."""
    with suppress(FileNotFoundError):
        os.utime(manifest.folder(root))


def describe(path: Path) -> dict[str, str | int]:
    """Return the entry of one file in a manifest: its SHA-256 in hex and its size in bytes."""
    return {"sha256": sha256_file(path), "bytes": path.stat().st_size}
