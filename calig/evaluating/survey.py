"""What is settled before an evaluation starts: its sample, its key, and what applies to the model.

Anything that one shard would see otherwise than another is settled here, once: which documents are drawn and which of
them the sanity metrics look at, how long rationales are on average, how far a regression's output spreads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from calig.config import AuditConfig
from calig.corpus import CorpusManifest
from calig.corpus.reading import content_columns, document_of, read_rows
from calig.errors import InputError
from calig.records import Document
from calig.warehouse.layout import Warehouse
from calig.workers import ModelCard, load_explainer, method_of

if TYPE_CHECKING:
    from calig.attribution.schedule import Schedule
    from calig.evaluation.context import Pair
    from calig.evaluation.subject import Case, Subject

CHUNK = 256
"""Documents read at once."""

Rows = list[dict[str, Any]]


def sample(warehouse: Warehouse, config: AuditConfig, corpus: CorpusManifest) -> list[int]:
    """Draw the evaluation's documents: row numbers (doc_id), in the order drawn.

    A document's place depends on the seed and its content alone, so that a corpus that is reordered, or grows, keeps
    most of its sample. A document that the corpus holds twice can be drawn once.
    """
    rows = read_rows(corpus, warehouse.files, ["doc_id", "doc_key"])
    first: dict[str, int] = {}
    for doc_id, key in zip(rows["doc_id"].to_pylist(), rows["doc_key"].to_pylist(), strict=True):
        first.setdefault(key, doc_id)
    seed = config.evaluation.seed
    drawn = sorted(first, key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest())
    return [first[key] for key in drawn[: config.evaluation.documents]]


def contrast_pairs(config: AuditConfig) -> list[Pair]:
    """Make, or read, the contrast pairs that the configuration asks for: none where it does not."""
    from calig.evaluation.context import pairs

    return [] if config.evaluation.pairs is None else pairs(config.evaluation.pairs)


def evaluation_key(
    config: AuditConfig, model: ModelCard, corpus: CorpusManifest, schedule: Schedule | None
) -> str:
    """Hash of all that the evaluation's numbers depend on: 32 hex digits."""
    from calig.attribution.method import ENGINE_VERSION
    from calig.evaluation.evaluate import EVALUATION_VERSION

    method = method_of(config, model)
    content = {
        "engine": ENGINE_VERSION,
        "evaluation": EVALUATION_VERSION,
        "model": model.hash,
        "method": {
            **method.identity(),
            "target": method.target,
            "fusion": method.fusion,
            "weight": method.weight,
        },
        "schedule": None if schedule is None else schedule.key,
        "corpus": corpus.key,
        "rationale": corpus.rationale,
        "section": {**config.evaluation.model_dump(mode="json"), "metrics": config.metric_groups},
        "pairs": [asdict(pair) for pair in contrast_pairs(config)],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def survey(
    warehouse: Warehouse,
    config: AuditConfig,
    model: ModelCard,
    corpus: CorpusManifest,
    schedule: Schedule | None,
) -> tuple[dict[str, dict[str, str | None]], dict[str, Any]]:
    """Load the model, find out which methods apply to it, and settle what counts for all shards.

    Returns
    -------
    methods
        Name → its title, and under refusal why it does not apply, or None.
    section
        The configuration's section with methods, metrics and removals filled in; `rationale_share`, the mean share of
        words in the rationales of the sample, else 0; `spread`, of a regression the standard deviation of the
        explained output over the sample, else 1.

    Raises
    ------
    InputError
        No method applies; the model has not such a removal; a rationale cannot be read; a regression gives the same
        output everywhere.
    """
    from calig.evaluation.methods import titles
    from calig.evaluation.removal import check_removals, default_removals
    from calig.evaluation.subject import Subject

    wanted = config.evaluation
    subject = Subject(load_explainer(config, model, schedule), wanted.samples, wanted.seed)
    found = titles(subject, wanted.methods)
    methods: dict[str, dict[str, str | None]] = {
        name: {"title": title, "refusal": refusal} for name, (title, refusal) in found.items()
    }
    if all(facts["refusal"] is not None for facts in methods.values()):
        why = "; ".join(f"{name}: {facts['refusal']}" for name, facts in methods.items())
        raise InputError(f"evaluation.methods: none of them applies to the model ({why}); name others")
    removals = wanted.removals or default_removals(subject)
    check_removals(subject, removals)
    section = {
        **wanted.model_dump(mode="json"),
        "methods": list(methods),
        "metrics": list(config.metric_groups),
        "removals": list(removals),
        "rationale_share": _rationale_share(warehouse, config, model, corpus, subject),
        "spread": _spread(warehouse, config, model, corpus, subject),
    }
    return methods, section


def read_sample(
    warehouse: Warehouse,
    config: AuditConfig,
    model: ModelCard,
    corpus: CorpusManifest,
    doc_ids: Sequence[int],
) -> tuple[Rows, list[Document]]:
    """Read rows of the corpus and the documents that they are, in the order asked for.

    Rows have doc_id, source_id, label and, where the corpus has such, `rationale`.
    """
    columns = [
        "doc_id",
        "source_id",
        "label",
        *content_columns(model.modality, config.corpus.text_pair is not None),
    ]
    marked = [] if corpus.rationale is None else [corpus.rationale]
    table = read_rows(corpus, warehouse.files, [*columns, *marked], doc_ids)
    rows = {row["doc_id"]: row for row in table.to_pylist()}
    ordered = [rows[doc_id] for doc_id in doc_ids]
    for row in ordered:
        row["rationale"] = None if corpus.rationale is None else row[corpus.rationale]
    labelled = config.method.target == "label"
    return ordered, [document_of(row, model.modality, labelled) for row in ordered]


def with_rationale(case: Case, row: dict[str, Any]) -> Case:
    """Give the case the rationale in its row of the corpus.

    Raises
    ------
    InputError
        It cannot be read; names the document.
    """
    from dataclasses import replace

    from calig.evaluation.plausibility import rationale

    try:
        return replace(case, rationale=rationale(row["rationale"], case))
    except InputError as error:
        raise InputError(f"{error} (document {row['source_id']})") from error


def explains_label(case: Case, row: dict[str, Any]) -> bool:
    """Whether what is explained is what the row is labelled, or nothing is: a rationale gives reasons for the label."""
    label = row["label"]
    return label is None or case.target in (label if isinstance(label, list) else [label])


def _chunks(
    warehouse: Warehouse, config: AuditConfig, model: ModelCard, corpus: CorpusManifest
) -> Iterator[tuple[Rows, list[Document]]]:
    drawn = sample(warehouse, config, corpus)
    for first in range(0, len(drawn), CHUNK):
        yield read_sample(warehouse, config, model, corpus, drawn[first : first + CHUNK])


def _rationale_share(
    warehouse: Warehouse, config: AuditConfig, model: ModelCard, corpus: CorpusManifest, subject: Subject
) -> float:
    """The mean share of words in rationales, which takes tokens but no answers of the model."""
    from calig.evaluation.plausibility import rationale_share
    from calig.evaluation.subject import Case
    from calig.records import Failure

    if "plausibility" not in config.metric_groups:
        return 0.0
    marked: list[Case] = []
    for rows, documents in _chunks(warehouse, config, model, corpus):
        for row, document, encoded in zip(rows, documents, subject.encoder.read(documents), strict=True):
            if not isinstance(encoded, Failure):
                marked.append(with_rationale(Case(document, encoded, 0, np.zeros(1)), row))
    share = rationale_share(marked)
    if np.isnan(share):
        raise InputError(
            f"corpus.rationale: no word of the {len(marked)} documents is marked in column "
            f"{config.corpus.rationale!r}; name another column, or more documents"
        )
    return share


def _spread(
    warehouse: Warehouse, config: AuditConfig, model: ModelCard, corpus: CorpusManifest, subject: Subject
) -> float:
    """The standard deviation of a regression's explained output over the sample."""
    from calig.records import Failure

    if model.head != "regression" or "faithfulness" not in config.metric_groups:
        return 1.0
    outputs = [
        case.logits[case.target]
        for _, documents in _chunks(warehouse, config, model, corpus)
        for case in subject.cases(documents)
        if not isinstance(case, Failure)
    ]
    spread = float(np.std(outputs)) if outputs else 0.0
    if spread == 0:
        raise InputError(
            "evaluation.metrics: the regression gives the same output on every document, so that no change of it can "
            "be measured by its spread; name more documents, or other metrics"
        )
    return spread
