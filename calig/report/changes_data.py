"""Read what a comparison's page shows: the run is side b, the reference side a. All SQL is in `sql/`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import duckdb
import numpy as np

from calig.errors import InputError
from calig.report.fetch import Row, fetch
from calig.report.heat import TokenRow, segment, window
from calig.report.model import Heat
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_run

UNCHANGED_WORDS = 20
"""Words not called changed that are listed, per class, where there are few."""
CHANGED_WORDS = 6_000
"""Words called changed that are listed, of all classes."""
CLASSES = 40
"""Classes whose words that are not called changed are listed."""
DOCUMENTS = 60
"""Documents listed whose prediction changed, and as many whose prediction did not."""
HEATS = 30
"""Documents whose heat is shown in both runs."""
UNITS = 150
UNIT_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Comparison:
    """The row of the table `comparisons`."""

    run_id: str
    reference_id: str
    requested: str | None
    compared: datetime | None
    same_model: bool | None
    same_corpus: bool | None
    documents_a: int | None
    documents_b: int | None
    paired: int | None
    tests_paired: bool | None
    text_changed: int | None
    only_a: int | None
    only_b: int | None
    explained_again: int | None
    left_out: int | None
    alpha: float | None
    changed: bool | None
    words_changed: int | None
    layers_changed: int | None
    outcomes_changed: int | None
    words_tested: int | None
    layers_tested: int | None
    outcomes_tested: int | None
    words_untested: int | None
    layers_untested: int | None
    outcomes_untested: int | None
    accuracy_a: float | None
    accuracy_b: float | None
    flips: int | None
    flip_share: float | None
    class_psi: float | None
    class_js: float | None
    confidence_psi: float | None
    confidence_js: float | None
    layer_psi: float | None
    psi_draws: int | None
    class_psi_by_chance: float | None
    layer_psi_by_chance: float | None
    verdict: str | None
    differences: Sequence[str] | None = None

    @property
    def in_pairs(self) -> bool:
        """Whether the tests are of pairs; before that was kept, they were where anything was paired."""
        return bool(self.paired) if self.tests_paired is None else self.tests_paired


@dataclass(frozen=True, slots=True)
class Side:
    """What the table `runs` says of one of the two runs, `config` parsed."""

    run_id: str
    name: str | None
    started: datetime | None
    model_id: str
    model_hash: str | None
    head: str
    modality: str
    corpus_source: str
    corpus_key: str | None
    documents: int | None
    failures: int | None
    accuracy: float | None
    mean_absolute_error: float | None
    depths: int
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row of `comparison_outcomes`; `label` is the class."""

    measure: str
    label: str
    documents_a: int | None
    documents_b: int | None
    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    q: float | None
    changed: bool
    state: str | None = None

    @property
    def said(self) -> str:
        """Whether it changed, in words."""
        return _said(self.state, self.changed, self.q)


@dataclass(frozen=True, slots=True)
class LayerChange:
    """A row of `comparison_layers`; `label` is the class."""

    label: str
    depth: int
    measure: str
    documents_a: int | None
    documents_b: int | None
    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    size: float | None
    psi: float | None
    p: float | None
    q: float | None
    changed: bool
    state: str | None = None

    @property
    def said(self) -> str:
        """Whether it changed, in words."""
        return _said(self.state, self.changed, self.q)


@dataclass(frozen=True, slots=True)
class WordChange:
    """A row of `comparison_words`; `q` is the smaller one of effect and share.

    `weight` is |effect_b · share_b − effect_a · share_a|.
    """

    label: str
    word: str
    documents_a: int | None
    documents_b: int | None
    share_a: float | None
    share_b: float | None
    effect_a: float | None
    effect_b: float | None
    difference: float | None
    low: float | None
    high: float | None
    q: float | None
    sign_flip: bool
    flips: int
    change: str | None
    changed: bool
    weight: float
    state: str | None = None

    @property
    def said(self) -> str:
        """What changed, or why nothing is called changed, in words."""
        return self.change or _said(self.state, self.changed, self.q)


def _said(state: str | None, changed: bool, q: float | None) -> str:
    """The state of a row; of before it was kept, what is known."""
    return state or ("changed" if changed else "not tested" if q is None else "no change found")


@dataclass(frozen=True, slots=True, eq=False)
class DocumentChange:
    """A row of `comparison_documents`, with what the document is where the run's corpus can be read.

    `text_before` is side a's, where the text changed. `heats` are of side a and b, where both runs hold its tokens:
    scores are word effects in logits, on `scale`; `targets` are the classes they explain.
    """

    doc_key: str
    doc_id_a: int
    doc_id_b: int
    target: str | None
    predicted_a: str | None
    predicted_b: str | None
    flipped: bool
    probability_a: float | None
    probability_b: float | None
    logit_a: float | None
    logit_b: float | None
    rank_agreement: float | None
    sign_flips: float | None
    jensen_shannon: float | None
    word: str | None
    word_change: float | None
    text_changed: bool = False
    source_id: str = ""
    text: str = ""
    text_before: str = ""
    heats: tuple[Heat, Heat] | None = None
    targets: tuple[str, str] = ("", "")
    scale: float = 0.0


@dataclass(frozen=True, slots=True)
class Changes:
    """Everything on the page; `reference` is None where that run is gone."""

    comparison: Comparison
    run: Side
    reference: Side | None
    outcomes: tuple[Outcome, ...]
    layers: tuple[LayerChange, ...]
    words: tuple[WordChange, ...]
    documents: tuple[DocumentChange, ...] = field(default=())


def collect(con: duckdb.DuckDBPyConnection, warehouse: Warehouse, run_id: str, reference_id: str) -> Changes:
    """Read a comparison from the tables, and its documents' texts and tokens from the runs that still hold them.

    Parameters
    ----------
    con
        A connection with the aggregate tables of all runs.
    warehouse, run_id, reference_id
        Where, and the two sides' full ids.

    Raises
    ------
    InputError
        If the warehouse does not hold this comparison.
    """
    both = {"run": run_id, "reference": reference_id}
    found = fetch(con, "changes", **both)
    sides = {row["run_id"]: _side(row) for row in fetch(con, "changes_sides", **both)}
    if not found or run_id not in sides:
        raise InputError(
            f"no comparison of run {run_id} with {reference_id} in {warehouse.root}: run "
            f"`calig compare {reference_id} {run_id}` first, or "
            "`calig rebuild` if its files are there"
        )
    documents = [DocumentChange(**row) for row in fetch(con, "changes_documents", limit=DOCUMENTS, **both)]
    return Changes(
        Comparison(**found[0]),
        sides[run_id],
        sides.get(reference_id),
        tuple(Outcome(label=row.pop("class"), **row) for row in fetch(con, "changes_outcomes", **both)),
        tuple(LayerChange(label=row.pop("class"), **row) for row in fetch(con, "changes_layers", **both)),
        tuple(
            WordChange(label=row.pop("class"), **row)
            for row in fetch(
                con, "changes_words", limit=CHANGED_WORDS, unchanged=UNCHANGED_WORDS, classes=CLASSES, **both
            )
        ),
        tuple(_read(warehouse, run_id, reference_id, documents)),
    )


def _side(row: Row) -> Side:
    config = json.loads(row.pop("config") or "{}")
    return Side(**row, config=config if isinstance(config, dict) else {})


def sampled(documents: Sequence[DocumentChange]) -> list[DocumentChange]:
    """The documents whose heat is worth showing: flipped ones and most changed ones, half each where there are both."""
    same = [one for one in documents if not one.text_changed]
    flipped = [one for one in same if one.flipped]
    others = [one for one in same if not one.flipped]
    room = max(HEATS // 2, HEATS - len(others))
    chosen = flipped[:room]
    return chosen + others[: HEATS - len(chosen)]


def _read(
    warehouse: Warehouse, run_id: str, reference_id: str, documents: list[DocumentChange]
) -> list[DocumentChange]:
    """Add texts, of either run, and heats, where both runs hold them."""
    if not documents:
        return []
    chosen = sampled(documents)
    b = _held(warehouse, run_id, {one.doc_id_b for one in documents}, {one.doc_id_b for one in chosen})
    a = _held(warehouse, reference_id, {one.doc_id_a for one in documents}, {one.doc_id_a for one in chosen})
    return [_with_text(one, a, b) for one in documents]


@dataclass(frozen=True, slots=True)
class _Held:
    """Documents by doc_id, and the tokens of some."""

    documents: Mapping[int, Row]
    tokens: Mapping[int, list[TokenRow]]


def _held(warehouse: Warehouse, run_id: str, docs: set[int], tokens_of: set[int]) -> _Held:
    """What a run still holds of these documents; nothing where it is gone."""
    try:
        connection = open_run(warehouse, run_id)
    except InputError:
        return _Held({}, {})
    with closing(connection):
        rows = fetch(connection, "changes_texts", run=run_id, docs=sorted(docs))
        tokens: dict[int, list[TokenRow]] = defaultdict(list)
        for row in fetch(connection, "changes_tokens", run=run_id, docs=sorted(tokens_of)):
            tokens[row["doc_id"]].append(
                TokenRow(
                    row["token"],
                    -1 if row["word_id"] is None else row["word_id"],
                    row["char_start"] or 0,
                    row["char_end"] or 0,
                    row["is_special"],
                    row["logit_effect"],
                    [row["logit_effect"]],
                    row["segment"],
                )
            )
    return _Held({row["doc_id"]: row for row in rows}, tokens)


def _with_text(one: DocumentChange, a: _Held, b: _Held) -> DocumentChange:
    known_a, known_b = a.documents.get(one.doc_id_a), b.documents.get(one.doc_id_b)
    known = known_b or known_a
    if known is None:
        return one
    text = known["text"]
    one = replace(one, source_id=str(known["source_id"]), text=_shown(known))
    if one.text_changed:
        return replace(one, text=_shown(known_b), text_before=_shown(known_a))
    tokens_a, tokens_b = a.tokens.get(one.doc_id_a), b.tokens.get(one.doc_id_b)
    if text is None or not known_a or not known_b or not tokens_a or not tokens_b:
        return one
    heats = _windows(segment(text, tokens_a, known["text_pair"]), segment(text, tokens_b, known["text_pair"]))
    content = [np.abs(heat.scores[~heat.special]).max(initial=0.0) for heat in heats]
    targets = (str(known_a["target"]), str(known_b["target"]))
    return replace(one, heats=heats, targets=targets, scale=float(max(content)))


def _shown(known: Row | None) -> str:
    """A document in a line: its text or texts, or the reference of its image; empty where it is gone."""
    if known is None:
        return ""
    texts = (known["text"], known["text_pair"])
    return known["image"] or "" if known["text"] is None else " ‖ ".join(filter(None, texts))


def _windows(a: Heat, b: Heat) -> tuple[Heat, Heat]:
    """Cut a long document to one stretch in both, where the two tokenizers see the same words."""
    if a.units == b.units:
        mass = np.abs(a.scores) + np.abs(b.scores)
        cut_a, _ = window(replace(a, layer_ig=a.scores[None], scores=mass), UNITS, UNIT_CHARACTERS)
        cut_b, _ = window(replace(b, layer_ig=b.scores[None], scores=mass), UNITS, UNIT_CHARACTERS)
        return replace(cut_a, scores=cut_a.layer_ig[0]), replace(cut_b, scores=cut_b.layer_ig[0])
    return window(a, UNITS, UNIT_CHARACTERS)[0], window(b, UNITS, UNIT_CHARACTERS)[0]
