"""Collect what a report shows from a warehouse connection; all SQL is in `sql/`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import duckdb

from calig.errors import InputError
from calig.records import HEADS, MODALITIES
from calig.report import pictures
from calig.report.fetch import Row, fetch
from calig.report.heat import TokenRow, segment, window
from calig.report.model import (
    ClassRow,
    DepthRow,
    FailureReason,
    Heat,
    LayerRow,
    Picture,
    ReportData,
    RunSummary,
    SampleDocument,
    WordEffect,
)
from calig.report.sample import MAX_DOCUMENTS, choose, with_words

CONFIDENT = 0.9
EXAMPLES_PER_REASON = 3
UNIT_CHARACTERS = 120
MAX_UNITS = 250
PAYLOAD_VALUES = 500_000
NONE = "none"


def collect(con: duckdb.DuckDBPyConnection, run_id: str, offending: Sequence[int] = ()) -> ReportData:
    """Read one run's report from the warehouse's tables and views.

    Parameters
    ----------
    con
        A connection with the aggregate tables, and the views of this run.
    run_id
        The full id of the run.
    offending
        Rows of documents that show why gates do not hold, which the sample is to hold.

    Raises
    ------
    InputError
        If the warehouse holds no aggregates of this run.
    """
    run = _run(con, run_id)
    words = _words(con, run)
    of_images = run.modality == "image"
    return ReportData(
        run=run,
        words=words,
        layers=tuple(LayerRow(row.pop("class"), **row) for row in fetch(con, "layers", run=run_id)),
        settling=tuple((row["depth"], row["documents"]) for row in fetch(con, "settling", run=run_id)),
        classes=tuple(ClassRow(row.pop("class"), **row) for row in fetch(con, "classes", run=run_id)),
        confusion={
            (row["label"], row["predicted"]): row["documents"] for row in fetch(con, "confusion", run=run_id)
        },
        convergence=tuple(DepthRow(**row) for row in fetch(con, "completeness", run=run_id)),
        failures=_failures(con, run_id),
        documents=_documents(con, run, words, offending),
        regions=pictures.regions(con, run_id) if of_images else (),
        maps=pictures.maps(con, run_id) if of_images else (),
        places=pictures.places(con, run_id) if of_images else (),
    )


def _run(con: duckdb.DuckDBPyConnection, run_id: str) -> RunSummary:
    found = fetch(con, "run", run=run_id)
    if not found:
        raise InputError(
            f"run {run_id!r}: not in this warehouse's calig.duckdb; run `calig rebuild`, then try again"
        )
    row = found[0]
    totals = fetch(con, "totals", run=run_id, confident=CONFIDENT)[0]
    config = _parsed(row["config"])
    gates = config.get("gates") or {}
    return RunSummary(
        run_id=row["run_id"],
        name=row["name"] or "",
        status=row["status"],
        started=row["started"],
        finished=row["finished"],
        model=row["model_id"],
        model_revision=row["model_revision"] or "",
        model_hash=row["model_hash"] or "",
        head=next((head for head in HEADS if head == row["head"]), "single_label"),
        modality=next((found for found in MODALITIES if found == row["modality"]), "text"),
        corpus=row["corpus_source"],
        corpus_key=row["corpus_key"] or "",
        corpus_rows=row["corpus_rows"],
        left_out=row["left_out"] or 0,
        left_out_files=row["left_out_files"] or "",
        attribution_key=row["attribution_key"] or "",
        method=_method(row, config),
        depths=row["depths"],
        classes=tuple(row["classes"] or ()),
        documents=row["documents"] or 0,
        attributed=row["attributed"] or 0,
        reused=row["reused"] or 0,
        failures=row["failures"] or 0,
        failure_limit=_failure_limit(gates),
        truncated=row["truncated"] or 0,
        accuracy=row["accuracy"],
        mean_absolute_error=row["mean_absolute_error"],
        correlation=row["correlation"],
        largest_error=totals["largest_error"],
        converged_share=row["converged_share"],
        worst_completeness_error=row["worst_completeness_error"],
        worst_error_estimate=row["worst_error_estimate"],
        block_passes=row["block_passes"] or 0,
        attribution_seconds=row["attribution_seconds"] or 0.0,
        explained=totals["explained"],
        converged_documents=totals["converged"],
        unconverged=row["unconverged"],
        labelled=totals["labelled"],
        errors=totals["errors"],
        confident_errors=totals["confident_errors"],
        tokens=int(totals["tokens"] or 0),
        median_tokens=totals["median_tokens"],
        max_tokens=totals["max_tokens"] or 0,
        config=config,
        versions=_parsed(row["versions"]),
        timings=_parsed(row["timings"]),
        notes=tuple(row["notes"] or ()),
        label_order=tuple(row["label_order"] or ()),
        label_order_accuracy=row["label_order_accuracy"],
    )


def _method(row: Row, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the run explains; a fixed number of steps stands in place of the tolerance, for which it does not ask."""
    found = {key: row[key] for key in ("target", "output", "baseline", "tolerance", "fusion", "weight")}
    given = config.get("method")
    steps = given.get("steps") if isinstance(given, Mapping) else None
    return found if steps is None else {"steps": steps} | {k: v for k, v in found.items() if k != "tolerance"}


def _failure_limit(gates: object) -> float | None:
    """The limit of the share of failures; a number in runs of before limits had a severity."""
    limit = gates.get("max_failure_share") if isinstance(gates, Mapping) else None
    return limit.get("limit") if isinstance(limit, Mapping) else limit


def _parsed(text: str | None) -> Mapping[str, Any]:
    value = json.loads(text) if text else {}
    return value if isinstance(value, Mapping) else {}


def _words(con: duckdb.DuckDBPyConnection, run: RunSummary) -> tuple[WordEffect, ...]:
    per_side = 12 if len(run.classes) <= 4 else 8
    return tuple(
        WordEffect(
            label=row["class"],
            word=row["word"],
            supports=row["supports"],
            clear=row["clear"],
            documents=row["documents"],
            occurrences=row["occurrences"],
            effect=row["effect"],
            low=row["effect_low"],
            high=row["effect_high"],
            same_sign_share=row["same_sign_share"],
            example=row["example"],
        )
        for row in fetch(con, "words", run=run.run_id, per_side=per_side)
    )


def _failures(con: duckdb.DuckDBPyConnection, run_id: str) -> tuple[FailureReason, ...]:
    rows = fetch(con, "failures", run=run_id, examples=EXAMPLES_PER_REASON)
    reasons = []
    for reason, group in groupby(rows, key=lambda row: str(row["reason"])):
        members = list(group)
        examples = tuple((str(row["source_id"]), str(row["detail"] or "")) for row in members)
        reasons.append(FailureReason(reason, members[0]["documents"], examples))
    return tuple(reasons)


def _documents(
    con: duckdb.DuckDBPyConnection, run: RunSummary, words: Sequence[WordEffect], offending: Sequence[int]
) -> tuple[SampleDocument, ...]:
    """The sample, in reading order, as large as the page can hold."""
    candidates = [("gate", doc_id, 0.0) for doc_id in offending]
    candidates += [
        (row["kind"], row["doc_id"], float(row["weight"] or 0.0))
        for row in fetch(con, "sample", run=run.run_id, limit=MAX_DOCUMENTS)
    ]
    reasons = choose(candidates)
    if words:
        known = [*reasons, *(word.example for word in words)]
        reasons = with_words(reasons, _evidence(con, run, words, known))
    if not reasons:
        return ()
    seen: Mapping[int, Picture] = {}
    if run.modality == "image":
        seen = pictures.sampled(con, run.run_id, list(reasons))
        limit = pictures.affordable(list(seen.values()), run.depths, len(reasons))
        reasons = reasons if limit == len(reasons) else choose(candidates, limit)
        bodies = {doc: Body(heat) for doc, heat in pictures.heats(con, run.run_id, list(reasons)).items()}
    else:
        bodies = _texts(con, run, words, list(reasons))
    found = fetch(con, "sample_documents", run=run.run_id, docs=list(reasons))
    by_id = {row["doc_id"]: row for row in found}
    return tuple(
        _document(by_id[doc_id], bodies[doc_id], why, seen.get(doc_id))
        for doc_id, why in reasons.items()
        if doc_id in bodies
    )


def _evidence(
    con: duckdb.DuckDBPyConnection, run: RunSummary, words: Sequence[WordEffect], docs: list[int]
) -> list[tuple[str, str, int]]:
    """(class, word, doc_id) where the listed words act in their usual direction, in these documents."""
    listed = {
        "classes": [word.label for word in words],
        "words": [word.word for word in words],
        "supports": [word.supports for word in words],
    }
    found = fetch(con, "evidence", run=run.run_id, docs=docs, **listed)
    return [(row["class"], row["word"], row["doc_id"]) for row in found]


@dataclass(frozen=True, slots=True)
class Body:
    """A sampled document's relevance, the window of a long text, and the units of the listed words by word."""

    heat: Heat
    window: tuple[int, int, int] | None = None
    words: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def _texts(
    con: duckdb.DuckDBPyConnection, run: RunSummary, words: Sequence[WordEffect], docs: list[int]
) -> dict[int, Body]:
    """The sampled texts; windows shrink with the number of depths so that the page stays small."""
    texts = {row["doc_id"]: row for row in fetch(con, "sample_documents", run=run.run_id, docs=docs)}
    tokens = _tokens(fetch(con, "sample_tokens", run=run.run_id, docs=docs))
    marks: dict[int, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    listed_words = sorted({word.word for word in words})
    for row in fetch(con, "sample_words", run=run.run_id, docs=docs, words=listed_words):
        marks[row["doc_id"]][row["word"]].add(row["word_id"])
    units = max(20, min(MAX_UNITS, PAYLOAD_VALUES // (MAX_DOCUMENTS * (run.depths + 1))))
    found = {}
    for doc_id, rows in tokens.items():
        whole = segment(texts[doc_id]["text"] or "", rows, texts[doc_id]["text_pair"])
        heat, cut = window(whole, units, UNIT_CHARACTERS)
        places = {
            word: tuple(index for index, word_id in enumerate(heat.word_ids) if int(word_id) in ids)
            for word, ids in marks[doc_id].items()
        }
        found[doc_id] = Body(heat, cut, places)
    return found


def _tokens(rows: Iterable[Row]) -> dict[int, list[TokenRow]]:
    found: dict[int, list[TokenRow]] = defaultdict(list)
    for row in rows:
        layer_ig = [value for value in row["layer_ig"] if value is not None]
        found[row["doc_id"]].append(
            TokenRow(
                row["token"],
                row["word_id"],
                row["char_start"],
                row["char_end"],
                row["is_special"],
                row["score"],
                layer_ig,
                row["segment"],
            )
        )
    return found


def _document(
    row: Row, body: Body, reasons: tuple[tuple[str, float], ...], picture: Picture | None
) -> SampleDocument:
    return SampleDocument(
        doc_id=row["doc_id"],
        source_id=row["source_id"],
        label=row["label"] if row["label"] != "" else NONE,
        label_value=row["label_value"],
        predicted=_names(row),
        target=row["target"],
        correct=row["correct"],
        probability=row["probability"],
        logit=row["logit"],
        baseline_logit=row["baseline_logit"],
        error_estimate=row["error_estimate"],
        completeness_error=row["completeness_error"],
        converged=bool(row["converged"]),
        tokens=row["tokens"],
        truncated=bool(row["truncated"]),
        settling_depth=row["settling_depth"],
        reasons=reasons,
        heat=body.heat,
        window=body.window,
        words=body.words,
        picture=picture,
    )


def _names(row: Row) -> str:
    """What is predicted: a class, the classes of a multi-label model, or nothing that has a name."""
    if row["predicted_labels"] is not None:
        return ", ".join(row["predicted_labels"]) or NONE
    return str(row["predicted"] or "")
