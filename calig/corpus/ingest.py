"""Bring a corpus into the warehouse: read in batches, made uniform, written as parts, named by content."""

from __future__ import annotations

import logging
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.types as pat

from calig.config import CorpusConfig
from calig.config.schema import SampleConfig
from calig.corpus.columns import Extra, is_text, plan_extras
from calig.corpus.content import Content, own_columns
from calig.corpus.files import open_files
from calig.corpus.hub import open_dataset
from calig.corpus.images import check_image_type
from calig.corpus.labels import check_label_type, labels_of
from calig.corpus.manifest import MANIFEST, CorpusManifest, claim, describe, load_corpus
from calig.corpus.parts import Parts
from calig.corpus.sample import Drawn, draw, pick
from calig.corpus.source import Batch, Source, first_rows
from calig.errors import InputError
from calig.files import publish, sync
from calig.records import Head, Modality

log = logging.getLogger(__name__)

ABANDONED_SECONDS = 24 * 3600
UNDER_WAY = ".ingest-"
"""How the folders begin in which corpora are brought in."""


def ingest(
    corpus: CorpusConfig,
    classes: Sequence[str],
    root: Path,
    label_in_key: bool = False,
    progress: Callable[[int], None] | None = None,
    head: Head = "single_label",
    modality: Modality = "text",
) -> CorpusManifest:
    """Bring the corpus into the warehouse, in memory bounded by a batch.

    Null texts, and null second texts of pairs, become empty ones, lone surrogates U+FFFD. Images are not decoded, and
    those that are null or not there are rows as well: they fail when they are explained. A corpus that is there
    already, whole, is kept; the manifest returned then names the source it was read from this time.

    Parameters
    ----------
    corpus
        Which documents.
    classes
        The model's class names, in the order of their indices.
    root
        The warehouse.
    label_in_key
        Whether the document's key covers its label: for explanations of the labelled class.
    progress
        Called after every batch with the documents read so far.
    head
        What the model's outputs are, and with it what a label is: a class, a set of classes, or a number.
    modality
        What the model reads: the text column, or the image column.

    Raises
    ------
    InputError
        On anything wrong with the source; the line names the file, row or column and what to do.
    """
    if modality == "image" and corpus.text_pair is not None:
        raise InputError("corpus.text_pair: the model reads images, which have no second text; remove it")
    if modality == "image" and corpus.rationale is not None:
        raise InputError("corpus.rationale: the model reads images, and rationales are of words; remove it")
    source = open_files(corpus, modality) if corpus.path is not None else open_dataset(corpus, modality)
    corpus = corpus.model_copy(update={"id": corpus.id or source.id, "image": source.image or corpus.image})
    content_roles = _content_roles(corpus, modality)
    _check_columns(source, corpus, content_roles, head)
    used = [name for name in (*content_roles.values(), corpus.label, corpus.id) if name is not None]
    labels = labels_of(head, classes, source.label_names)
    extras, left_out = plan_extras(source.schema, used)
    rationale = _rationale(source, corpus, extras)
    own = own_columns(modality, corpus.text_pair is not None, labels.type)
    schema = pa.schema([*own, *((extra.name, extra.type) for extra in extras)])
    content = Content(schema, corpus, extras, labels, label_in_key, modality)
    wanted = _wanted(source, corpus, extras, modality)
    drawn = None if corpus.sample is None else _draw(source, corpus.sample, content, wanted, content_roles)
    with _temporary_folder(Path(root) / "corpora") as folder:
        parts = Parts(folder, schema)
        for batch, first in _rows(source, wanted, corpus.limit, drawn):
            parts.write(content.take(batch, first))
            if progress is not None:
                progress(content.documents)
        if content.documents == 0:
            raise InputError(_no_rows(source))
        parts.close()
        manifest = CorpusManifest(
            key=content.key(),
            source=source.name,
            documents=content.documents,
            files={path.name: describe(path) for path in sorted(folder.iterdir())},
            columns={extra.name: str(extra.type) for extra in extras},
            labelled=content.labelled,
            left_out=left_out,
            rationale=rationale,
            rows=None if drawn is None else drawn.rows,
            files_left_out=source.left_out or {},
        )
        return _put(folder, manifest, Path(root))


def _draw(
    source: Source, sample: SampleConfig, content: Content, wanted: pa.Schema, roles: Mapping[str, str]
) -> Drawn:
    """Choose the rows of a sample, in a pass of its own over the source."""
    if sample.by is not None and sample.by not in wanted.names:
        kind = pa.string() if source.textual else source.schema.field(sample.by).type
        wanted = wanted.append(pa.field(sample.by, kind))
    return draw(source.read(wanted), sample, content.keys, list(roles.values()))


def _rows(
    source: Source, wanted: pa.Schema, limit: int | None, drawn: Drawn | None
) -> Iterator[tuple[Batch, int | None]]:
    """Give the rows that are taken; of a sample, each time with the number of the first in the source."""
    if drawn is not None:
        yield from pick(source.read(wanted), drawn.chosen)
        return
    for batch in first_rows(source.read(wanted), limit):
        yield batch, None


def _content_roles(corpus: CorpusConfig, modality: Modality) -> dict[str, str]:
    """Role in the configuration → name of the column that the model reads."""
    if modality == "image":
        return {"image": corpus.image}
    return {"text": corpus.text, **({"text_pair": corpus.text_pair} if corpus.text_pair is not None else {})}


def _check_columns(source: Source, corpus: CorpusConfig, content: Mapping[str, str], head: Head) -> None:
    """Raise an InputError if a column is not in every file, or is not of a type it can be used as."""
    if not source.schema.names:  # JSON Lines without a line
        raise InputError(_no_rows(source))
    for role, name in (*content.items(), *_further(corpus)):
        for file, schema in source.schemas:
            # JSON Lines without a line has no columns, beside files that have
            columns = (schema if schema.names else source.schema).names
            if name is not None and name not in columns:
                present = ", ".join(columns) or "no columns"
                raise InputError(f"{file} has no column {name!r} for corpus.{role}; it has {present}")
    for role, name in content.items():
        kind = source.schema.field(name).type
        if role == "image":
            check_image_type(source, name)
        elif not (is_text(kind) or pat.is_null(kind) or (source.textual and not _numeric(kind))):
            other = [field.name for field in source.schema if is_text(field.type)]
            hint = f"text columns are {', '.join(other)}" if other else "there is no text column"
            raise InputError(
                f"{source.name}: column {name!r} is {kind}, not text: choose another corpus.{role}; {hint}"
            )
    if corpus.label is not None:
        check_label_type(source.schema.field(corpus.label).type, corpus.label, head)
    if corpus.id is not None:
        kind = source.schema.field(corpus.id).type
        if pat.is_nested(kind) or pat.is_binary(kind):
            raise InputError(
                f"{source.name}: column {corpus.id!r} is {kind}: corpus.id needs text or numbers"
            )


def _further(corpus: CorpusConfig) -> list[tuple[str, str | None]]:
    """Role in the configuration and name of the columns beside those that the model reads."""
    by = None if corpus.sample is None else corpus.sample.by
    return [("label", corpus.label), ("id", corpus.id), ("rationale", corpus.rationale), ("sample.by", by)]


def _rationale(source: Source, corpus: CorpusConfig, extras: Sequence[Extra]) -> str | None:
    """Return the name under which the rationales are kept; an InputError if they cannot be any."""
    if corpus.rationale is None:
        return None
    kept = {extra.source: extra for extra in extras}.get(corpus.rationale)
    if kept is None and corpus.rationale in (corpus.text, corpus.text_pair, corpus.label, corpus.id):
        raise InputError(
            f"corpus.rationale: {corpus.rationale!r} is the text, label or id already: name another column"
        )
    kind = source.schema.field(corpus.rationale).type
    listed = (
        pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind) or pat.is_struct(kind)
    )
    if kept is None or not (source.textual or listed or is_text(kind)):
        raise InputError(
            f"{source.name}: column {corpus.rationale!r} is {kind}: corpus.rationale needs lists of character spans or "
            "of tokens"
        )
    return kept.name


def _no_rows(source: Source) -> str:
    return f"{source.name} has no rows: there is nothing to explain"


def _numeric(kind: pa.DataType) -> bool:
    return bool(pat.is_integer(kind) or pat.is_floating(kind))


def _wanted(source: Source, corpus: CorpusConfig, extras: Sequence[Extra], modality: Modality) -> pa.Schema:
    """Return the columns to read; in a format without types, those with a role of their own as written."""
    fields: dict[str, pa.DataType] = {}
    if modality == "text":
        fields |= dict.fromkeys(_content_roles(corpus, modality).values(), pa.string())
    for given in (corpus.image if modality == "image" else None, corpus.label, corpus.id):
        if given is not None:
            fields.setdefault(given, pa.string() if source.textual else source.schema.field(given).type)
    return pa.schema([*fields.items(), *((extra.source, extra.type) for extra in extras)])


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """Give a new folder, gone afterwards unless renamed; clear those that killed ingests left."""
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.glob(f"{UNDER_WAY}*"):
        if old.is_dir() and time.time() - old.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    folder = parent / f"{UNDER_WAY}{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put(folder: Path, manifest: CorpusManifest, root: Path) -> CorpusManifest:
    """Rename the folder to its key, unless that is there and whole; replace a damaged one."""
    final = manifest.folder(root)
    if final.exists():
        try:
            return _held(manifest, root)
        except InputError as error:
            log.warning("%s; it is brought in again", str(error).partition(":")[0])
            shutil.rmtree(final, ignore_errors=True)
    (folder / MANIFEST).write_text(manifest.to_json(), "utf-8")
    for path in (*folder.iterdir(), folder):
        sync(path)
    try:
        folder.rename(final)
    except OSError:
        if not final.exists():
            raise
        # another ingest of the same corpus was faster
        return _held(manifest, root)
    sync(final.parent)
    publish(*(final / name for name in sorted(manifest.files)), final / MANIFEST)
    return manifest


def _held(manifest: CorpusManifest, root: Path) -> CorpusManifest:
    """Return the manifest of the same corpus that is there, under the source it has this time."""
    claim(root, manifest)
    there = load_corpus(root, manifest.key)
    return replace(
        there,
        source=manifest.source,
        left_out=manifest.left_out,
        rationale=manifest.rationale,
        rows=manifest.rows,
        files_left_out=manifest.files_left_out,
    )
