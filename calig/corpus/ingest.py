"""Bring a corpus into the warehouse: read in batches, made uniform, sorted, written as parts, named by content."""

from __future__ import annotations

import logging
import os
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
from calig.config.schema import OtherColumns, SampleConfig
from calig.corpus.columns import Extra, is_kept, is_text, plan_extras
from calig.corpus.content import Content, own_columns
from calig.corpus.files import open_files
from calig.corpus.hub import open_dataset
from calig.corpus.images import check_image_type
from calig.corpus.json_types import JSON
from calig.corpus.labels import LabelMap, Labels, LabelSets, check_label_type, labels_of, listed
from calig.corpus.manifest import MANIFEST, CorpusManifest, claim, describe, load_corpus
from calig.corpus.order import Sorter, places
from calig.corpus.parts import Parts
from calig.corpus.sample import Drawn, draw, pick
from calig.corpus.source import Batch, Source, as_content, as_written, first_rows
from calig.corpus.stored_types import load_types, store_types
from calig.errors import InputError, NewerError
from calig.files import Files, sync
from calig.formats import stamp
from calig.records import Head, Modality

log = logging.getLogger(__name__)

ABANDONED_SECONDS = 24 * 3600
UNDER_WAY = ".ingest-"
"""How the folders begin in which corpora are brought in."""


def ingest(
    corpus: CorpusConfig,
    classes: Sequence[str],
    files: Files,
    one_class: bool = False,
    progress: Callable[[int], None] | None = None,
    head: Head = "single_label",
    modality: Modality = "text",
    audit: str | None = None,
) -> CorpusManifest:
    """Bring the corpus into the warehouse, in memory bounded by a batch and what is sorted at once.

    The parts are in the order of a hash of `doc_key` (`calig.corpus.order`), on which the corpus's key does not depend;
    `doc_id` counts the rows in the order of the source.

    Null texts, and null second texts of pairs, become empty ones, lone surrogates U+FFFD. Images are not decoded, and
    those that are null or not there are rows as well: they fail when they are explained. A corpus that is there
    already, whole, is kept; the manifest returned then names the source it was read from this time. Files without a
    row make a corpus without documents, whose notes say so.

    Parameters
    ----------
    corpus
        Which documents.
    classes
        The model's class names, in the order of their indices.
    files
        Those of the warehouse.
    one_class
        Whether each label has to be one class of the model, or none: for explanations of the labelled class.
    progress
        Called after every batch with the documents read so far.
    head
        What the model's outputs are, and with it what a label is: a class, a set of classes, or a number.
    modality
        What the model reads: the text column, or the image column.
    audit
        The audit's name, under which the types of columns are kept from its first run on; None: they are found anew.

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
    used = [name for name in (*content_roles.values(), corpus.label, corpus.id) if name is not None]
    source = _with_columns(source, corpus, content_roles)
    _check_columns(source, corpus, content_roles, head)
    stored = load_types(files.root, audit)
    source = replace(source, schema=_with_types(source, corpus, stored, used))
    _check_named(source, corpus, used)
    labels = labels_of(head, classes, source.label_names, corpus.labels)
    _check_labels(labels, source, corpus)
    extras, left_out = plan_extras(source.schema, used, corpus.types)
    rationale = _rationale(source, corpus, extras)
    own = own_columns(modality, corpus.text_pair is not None, labels.type)
    schema = pa.schema([*own, *((extra.name, extra.type) for extra in extras)])
    content = Content(schema, corpus, extras, labels, one_class, modality)
    wanted = _wanted(source, corpus, extras, modality)
    drawn = None if corpus.sample is None else _draw(source, corpus.sample, content, wanted, content_roles)
    with _temporary_folder(files.root / "corpora") as folder:
        sorter = Sorter(folder / "sorting")
        for batch, first in _rows(source, wanted, corpus.limit, drawn):
            rows = content.take(batch, first)
            sorter.add(rows, places(rows["doc_key"].to_pylist()))
            os.utime(folder)  # however long the source takes, the ingest is not abandoned
            if progress is not None:
                progress(content.documents)
        if content.documents and corpus.rationale is not None and rationale is None:
            raise _no_rationale(source, corpus.rationale, pa.null())
        _store_types(files, audit, source, extras)
        notes = _notes(source, corpus, content, extras, left_out, classes)
        for note in notes:
            log.warning("corpus %s: %s", source.name, note)
        manifest = CorpusManifest(
            key=content.key(),
            source=source.name,
            documents=content.documents,
            files={},
            columns={extra.name: str(extra.type) for extra in extras},
            labelled=content.labelled,
            left_out=left_out,
            rationale=rationale,
            rows=None if drawn is None else drawn.rows,
            files_left_out=source.left_out or {},
            notes=notes,
            without_id=content.without_id,
            order="doc_key",
            **stamp(),
        )
        if (held := _held(manifest, files)) is not None:
            return held
        return _put(folder, replace(manifest, files=_write(sorter, folder, schema)), files)


def _draw(
    source: Source, sample: SampleConfig, content: Content, wanted: pa.Schema, roles: Mapping[str, str]
) -> Drawn:
    """Choose the rows of a sample, in a pass of its own over the source."""
    if sample.by is not None and sample.by not in wanted.names:
        wanted = wanted.append(source.schema.field(sample.by))
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
    for role, name in (*content.items(), *_further(corpus)):
        for file, schema in source.schemas:
            # JSON Lines without a line has no columns, beside files that have
            columns = (schema if schema.names else source.schema).names
            if name is not None and name not in columns:
                present = ", ".join(columns) or "no columns"
                hint = _separated(columns)
                raise InputError(f"{file} has no column {name!r} for corpus.{role}; it has {present}{hint}")
    for role, name in content.items():
        kind = source.schema.field(name).type
        if role == "image":
            check_image_type(source, name)
        elif not (is_text(kind) or pat.is_null(kind) or kind.equals(JSON)):  # reading names the row
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


def _separated(columns: Sequence[str]) -> str:
    """What to do where the only column's name looks like several, with something else than a comma between them."""
    if len(columns) != 1 or not (between := next((sign for sign in "\t;|" if sign in columns[0]), "")):
        return ""
    cure = "name the file .tsv" if between == "\t" else "write commas"
    return f", one column: if {between!r} is what lies between its values, {cure}"


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
    if pat.is_null(kind):  # of a corpus without documents, whose columns have no types
        return None
    listed = (
        pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind) or pat.is_struct(kind)
    )
    if kept is None or not (listed or is_text(kind) or kind.equals(JSON)):
        raise _no_rationale(source, corpus.rationale, kind)
    return kept.name


def _no_rationale(source: Source, column: str, kind: pa.DataType) -> InputError:
    return InputError(
        f"{source.name}: column {column!r} is {kind}: corpus.rationale needs lists of character spans or of tokens"
    )


def _with_columns(source: Source, corpus: CorpusConfig, content: Mapping[str, str]) -> Source:
    """JSON Lines without a line has no columns: give it those that the configuration names, which hold nothing."""
    if source.schema.names:
        return source
    names = dict.fromkeys(name for _, name in (*content.items(), *_further(corpus)) if name is not None)
    return replace(source, schema=pa.schema([(name, pa.null()) for name in names]))


def _with_types(
    source: Source, corpus: CorpusConfig, stored: Mapping[str, pa.DataType], used: Sequence[str]
) -> pa.Schema:
    """Return the source's columns with the types that earlier runs found, where the values say them, or do not.

    Of JSON Lines, columns that earlier runs had are there again.
    """
    if source.types == "text":
        return source.schema
    known = {name: kind for name, kind in stored.items() if name not in used and is_kept(corpus, name)}
    of_values = source.types == "values"
    fields = {
        field.name: known.get(field.name, field.type) if of_values or pat.is_null(field.type) else field.type
        for field in source.schema
    }
    return pa.schema([*fields.items(), *((n, k) for n, k in known.items() if of_values and n not in fields)])


def _store_types(files: Files, audit: str | None, source: Source, extras: Sequence[Extra]) -> None:
    """Keep the types of the columns for the audit's later runs."""
    if source.types == "text":
        return
    found = {extra.source for extra in extras if extra.given is None}
    store_types(files, audit, {field.name: field.type for field in source.schema if field.name in found})


def _check_named(source: Source, corpus: CorpusConfig, used: Sequence[str]) -> None:
    """Raise an InputError if the configuration names columns that there are not, or the type of one with a role."""
    for name, kind in corpus.types.items():
        if name in used and kind != "text":
            raise InputError(
                f"corpus.types: {name!r} is the text, image, label or id of the documents, which is read as such: "
                "remove it there"
            )
    if source.types == "values":  # a key may be absent today
        return
    there = {name for _, schema in source.schemas for name in schema.names}
    listed = corpus.columns.without if isinstance(corpus.columns, OtherColumns) else corpus.columns or ()
    for field, names in (("types", corpus.types), ("columns", listed)):
        for name in names:
            if name not in there:
                raise InputError(
                    f"corpus.{field}: {source.name} has no column {name!r}; it has {', '.join(sorted(there))}"
                )


def _check_labels(labels: Labels, source: Source, corpus: CorpusConfig) -> None:
    """Raise an InputError if the model's class names leave open what a label means."""
    name = corpus.label
    if name is None:
        if corpus.labels is not None:
            raise InputError("corpus.labels: there is no label column; set corpus.label, or remove it")
        return
    mapping = labels.map if isinstance(labels, LabelSets) else labels
    if not isinstance(mapping, LabelMap):
        return

    def first() -> list[object]:
        batch = next(source.read(pa.schema([as_written(name)])), None)
        if batch is None:
            return []
        values: list[object] = [listed(value) for value in batch.table.column(name).slice(0, 3).to_pylist()]
        return [item for value in values for item in (value if isinstance(value, list) else [value])][:3]

    mapping.check(first)


def _notes(
    source: Source,
    corpus: CorpusConfig,
    content: Content,
    extras: Sequence[Extra],
    left_out: Mapping[str, str],
    classes: Sequence[str],
) -> list[str]:
    """Say what is not in the corpus as the source has it."""
    notes = [] if content.documents else ["there are no documents: no file has a row"]
    renamed = [f"{extra.source!r} is called {extra.name}" for extra in extras if extra.source != extra.name]
    if source.replaced:
        names = ", ".join(map(repr, source.replaced))
        notes.append(f"columns of the files whose values are those of the folders of the same names: {names}")
    if renamed:
        notes.append(f"columns whose names are taken, or not possible in SQL: {', '.join(renamed)}")
    if left_out:
        shown = ", ".join(f"{name!r} ({kind})" for name, kind in left_out.items())
        notes.append(f"columns left out, since SQL has no such values, or there is none yet: {shown}")
    for name, (count, first) in content.misfits.items():
        extra = next(one for one in extras if one.source == name)
        values = "1 value does" if count == 1 else f"{count:,} values do"
        verb = "is" if count == 1 else "are"
        notes.append(
            f"column {name!r}: {values} not fit {extra.type}, its type since the audit's first run, and {verb} null: "
            f"first {first}; set corpus.types: {{{name}: text}} to keep all values"
        )
    labels = content.labels
    mapping = labels.map if isinstance(labels, LabelSets) else labels
    if corpus.label is not None and isinstance(mapping, LabelMap) and mapping.note is not None:
        notes.append(mapping.note)
    if labels.unmatched.total:
        of_classes = f"a class of the model ({', '.join(classes[:12])}{', …' if len(classes) > 12 else ''})"
        of = of_classes if isinstance(mapping, LabelMap) else "a number"
        notes.append(labels.unmatched.sentence(str(corpus.label), of))
    return notes


def _wanted(source: Source, corpus: CorpusConfig, extras: Sequence[Extra], modality: Modality) -> pa.Schema:
    """Return the columns to read, and how."""
    fields: dict[str, pa.Field] = {}
    if modality == "text":
        fields |= {name: as_content(name) for name in _content_roles(corpus, modality).values()}
    else:
        kind = pa.string() if source.types == "text" else source.schema.field(corpus.image).type
        fields[corpus.image] = pa.field(corpus.image, kind)
    for given in (corpus.label, corpus.id):
        if given is not None:
            fields.setdefault(given, as_written(given))
    for extra in extras:
        kind = source.schema.field(extra.source).type
        # JSON is text in the end, but read as what it is
        plain = pa.field(extra.source, kind if kind.equals(JSON) else extra.type)
        fields[extra.source] = plain if extra.given is None else as_written(extra.source)
    return pa.schema(list(fields.values()))


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


def _write(sorter: Sorter, folder: Path, schema: pa.Schema) -> dict[str, dict[str, str | int]]:
    """Write the rows in their order as parts; return these as in a manifest."""
    parts = Parts(folder, schema)
    for rows in sorter.rows():
        parts.write(rows)
    parts.close()
    shutil.rmtree(sorter.folder, ignore_errors=True)
    return {path.name: describe(path) for path in sorted(folder.iterdir())}


def _put(folder: Path, manifest: CorpusManifest, files: Files) -> CorpusManifest:
    """Rename the folder to its key."""
    final = manifest.folder(files.root)
    (folder / MANIFEST).write_text(manifest.to_json(), "utf-8")
    for path in (*folder.iterdir(), folder):
        sync(path)
    try:
        folder.rename(final)
    except OSError:
        # another ingest of the same corpus was faster
        if (held := _held(manifest, files)) is None:
            raise
        return held
    sync(final.parent)
    files.publish(*(final / name for name in sorted(manifest.files)), final / MANIFEST)
    return manifest


def _held(manifest: CorpusManifest, files: Files) -> CorpusManifest | None:
    """Return the manifest of the same corpus that is there and whole, under the source it has this time.

    None where there is none; a damaged one is deleted. One that an earlier version brought in keeps its order.
    """
    if not manifest.folder(files.root).exists():
        return None
    claim(files.root, manifest)
    try:
        there = load_corpus(files, manifest.key)
    except NewerError:
        raise
    except InputError as error:
        log.warning("%s; it is brought in again", str(error).partition(":")[0])
        shutil.rmtree(manifest.folder(files.root), ignore_errors=True)
        return None
    return replace(
        there,
        source=manifest.source,
        left_out=manifest.left_out,
        rationale=manifest.rationale,
        rows=manifest.rows,
        files_left_out=manifest.files_left_out,
        notes=manifest.notes,
    )
