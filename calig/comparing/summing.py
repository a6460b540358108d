"""All that a comparison says, laid out as columns of its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from calig.comparison.counts import FAMILIES, distinct
from calig.comparison.exchange import Chance
from calig.comparison.layers import compare_layers, layers_by_chance
from calig.comparison.limits import Limits
from calig.comparison.outcomes import class_drift, classes_by_chance, compare_outcomes, confidence_drift
from calig.comparison.permutation import Counts
from calig.comparison.rows import Row
from calig.comparison.states import NOT_TESTED
from calig.comparison.verdict import verdict
from calig.comparison.words import compare_words
from calig.config.history import CompareConfig
from calig.warehouse.pairing import Columns, Pairing
from calig.warehouse.references import Reference
from calig.warehouse.runs import RunManifest

_ROUNDING = 1e-9  # logits: sums of the same tokens' effects, made in another order, differ by less


def lay_out(
    pair: Pairing,
    a: RunManifest,
    b: RunManifest,
    reference: Reference,
    compare: CompareConfig,
    psi_level: float,
    again: int,
) -> dict[str, Any]:
    """Compare what the pairing holds.

    Parameters
    ----------
    pair
        The two runs, settled.
    a, b
        The reference, and the run.
    reference
        How the reference was asked for, and which runs were passed over.
    compare
        When a difference is a change.
    psi_level
        Chance that chance alone is beyond what is said of it.
    again
        Documents that were explained again.

    Returns
    -------
    File of the comparison (see `calig.warehouse.comparisons.FILES`) → column → values.
    """
    limits = Limits(
        compare.alpha,
        compare.min_effect,
        compare.min_share,
        compare.min_size,
        compare.min_documents,
    )
    sides = pair.documents("a"), pair.documents("b")
    regression = b.head == "regression"
    classes = [] if regression else list(dict.fromkeys([*a.classes, *b.classes]))
    depths_agree = a.depths == b.depths
    outcomes = compare_outcomes(*sides, pair.paired, classes, depths_agree, limits)
    shared, edited = pair.shared(), pair.text_changed()
    documents = pair.count("a"), pair.count("b")
    only = [count - shared - edited for count in documents]
    if not pair.paired and documents[1]:
        new = {"documents_a": documents[0], "documents_b": documents[1], "b": only[1] / documents[1]}
        row = {
            "measure": "new documents",
            "class": "*",
            "tested": False,
            "changed": False,
            "state": NOT_TESTED,
        }
        outcomes.append(row | new)
    layers: list[Row] = []
    groups = _fixed_classes(sides, a, b)
    by_chance: Row = {}
    if depths_agree:
        (values_a, targets_a), (values_b, targets_b) = (pair.depths(side, a.depths) for side in "ab")
        sums = pair.sums("a", a.depths), pair.sums("b", a.depths)
        layers = compare_layers(values_a, values_b, targets_a, targets_b, pair.paired, limits, sums)
        by_chance |= _chance(
            "layer", layers_by_chance(values_a, values_b, pair.paired, limits, psi_level, groups)
        )
    table = pair.words(limits.documents)
    words = compare_words(table, lambda rows: pair.values(table, rows), pair.paired, limits)
    rows = pair.pairs()
    if shared and not regression:
        words["flips"] = _flips(words, rows)
    columns = {
        "outcomes": _stacked(outcomes),
        "layers": _stacked(layers),
        "words": words,
        "documents": rows,
    }
    left_out = pair.left_out()
    notes = [] if depths_agree else [f"layers are not compared, of {a.depths - 1} and {b.depths - 1} blocks"]
    if left_out and pair.paired:
        notes.append(f"{left_out} documents left out, which could not be explained again")
    if inexact := pair.inexact():
        what = "pairs" if pair.paired else "documents"
        notes.append(f"{inexact} {what} outside the tolerance are left out of words and layers")
    if reference.passed_over:
        later = reference.passed_over
        passed = f"{later[0]} and {len(later) - 1} before it" if len(later) > 1 else later[0]
        notes.append(f"{passed} had too few documents to be compared with")
    if edited:
        notes.append(_edited(rows, edited, regression))
    told = words | {name: table[name] for name in ("of_a", "of_b")}
    row = {
        "requested": reference.requested,
        "compared": datetime.now(UTC).replace(tzinfo=None),
        "same_model": a.model["hash"] == b.model["hash"],
        "same_corpus": a.corpus["key"] == b.corpus["key"],
        "documents_a": documents[0],
        "documents_b": documents[1],
        "paired": shared,
        "tests_paired": pair.paired,
        "text_changed": edited,
        "only_a": only[0],
        "only_b": only[1],
        "explained_again": again,
        "left_out": left_out,
        "alpha": compare.alpha,
        **_counts(columns, pair.number_of_words()),
        **{f"accuracy_{side}": pair.accuracy(side) for side in "ab"},
        "layer_psi": max((own["psi"] for own in layers if own["class"] == "*"), default=None),
    }
    if not regression:
        row |= _class_drift(sides, pair.paired, classes, rows, shared)
        by_chance |= _chance("class", classes_by_chance(*sides, pair.paired, classes, psi_level, groups))
    if by_chance:
        row |= {"psi_level": psi_level, **by_chance}
    same = pair.paired and not any(only) and _same(rows, [*outcomes, *layers])
    there = all(len(side["target"]) for side in sides)
    row["verdict"] = (
        verdict(outcomes, layers, told, {**row, "same": same}, notes)
        if there
        else "there are no documents to compare"
    )
    columns["comparisons"] = {name: [value] for name, value in row.items()}
    ids = {"run_id": b.run_id, "reference_id": a.run_id}
    return {file: _with_ids(own, ids) for file, own in columns.items()}


def _counts(columns: dict[str, Columns], number_of_words: int) -> Row:
    """How many tests there are, and changes, in each family; and how much could not be tested.

    `number_of_words` counts all words of both runs. Those that too few documents hold have no row.
    """
    counts: Row = {}
    for file in FAMILIES:
        p = [columns[file].get(name, []) for name in ("p", "share_p")]
        counts[f"{file}_changed"] = distinct(columns[file], file, columns[file].get("changed", ()))
        counts[f"{file}_tested"] = sum(int(np.sum(~np.isnan(np.array(own, dtype=np.float64)))) for own in p)
    said = list(zip(columns["words"]["word"], columns["words"]["state"], strict=True))
    untested = number_of_words - len({word for word, state in said if state != NOT_TESTED})
    return {
        "changed": any(counts[f"{file}_changed"] for file in FAMILIES),
        **counts,
        "words_untested": untested,
        **{f"{file}_untested": _untested(columns[file], file) for file in ("layers", "outcomes")},
    }


def _untested(columns: Columns, family: str) -> int:
    """How many things of a family are tested in no class, of those that are meant to be."""
    states = columns.get("state", ())
    # layers are all meant to be: there `tested` says that there were enough documents
    meant = columns.get("tested", ()) if family == "outcomes" else [True] * len(states)
    made = distinct(columns, family, (state != NOT_TESTED for state in states))
    return distinct(columns, family, (own is not False for own in meant)) - made


def _same(documents: Columns, rows: Sequence[Row]) -> bool:
    """Whether no number of the pairs, and none of these rows, differs between the runs."""
    equal = documents["logit_a"] == documents["logit_b"]
    equal &= np.nan_to_num(np.abs(documents["word_change"])) <= _ROUNDING
    return bool(np.all(equal)) and not any(abs(row.get("difference", 0.0)) > 0 for row in rows)


def _edited(documents: Columns, edited: int, regression: bool) -> str:
    """What is said of the documents whose text changed."""
    said = f"text changed: {edited}"
    if regression:
        return said
    flipped = sum(
        bool(own) for own, text in zip(documents["flipped"], documents["text_changed"], strict=True) if text
    )
    return f"{said}, of which {flipped} {'is' if flipped == 1 else 'are'} predicted otherwise"


def _class_drift(
    sides: tuple[Columns, Columns], paired: bool, classes: Sequence[str], rows: Columns, shared: int
) -> Row:
    """What is said of predicted classes and their probabilities."""
    classes_apart, confidence = class_drift(*sides, paired, classes), confidence_drift(*sides, paired)
    found: Row = {
        "class_psi": classes_apart[0],
        "class_js": classes_apart[1],
        "confidence_psi": confidence[0],
        "confidence_js": confidence[1],
    }
    if shared:
        flips = sum(
            bool(own) for own, text in zip(rows["flipped"], rows["text_changed"], strict=True) if not text
        )
        found |= {"flips": flips, "flip_share": flips / shared}
    return found


def _chance(what: str, found: Chance) -> Row:
    """What is said of chance's part in one of the two largest population stability indices."""
    by_chance = found.by_chance if np.isfinite(found.by_chance) else np.nan
    return {f"{what}_psi_p": found.p, f"{what}_psi_by_chance": by_chance, "psi_draws": found.draws}


def _fixed_classes(
    sides: tuple[Columns, Columns], a: RunManifest, b: RunManifest
) -> tuple[Counts, Counts] | None:
    """Numbers of the documents' labels where both corpora were drawn with so many documents of each label."""
    corpora = [run.config.get("corpus", {}) for run in (a, b)]
    drawn_by = {(corpus.get("sample") or {}).get("by") for corpus in corpora}
    if None in drawn_by or drawn_by != {corpus.get("label") for corpus in corpora}:
        return None
    names: dict[str, int] = {}
    numbers = [
        np.array([names.setdefault(json.dumps(own), len(names)) for own in side["labels"]], dtype=np.int64)
        for side in sides
    ]
    return numbers[0], numbers[1]


def _flips(words: Columns, rows: Columns) -> Any:
    """Per row of words: in how many documents whose prediction changed it is the word whose effect changed most."""
    counts: dict[tuple[str, str], int] = {}
    for flipped, target, word in zip(rows["flipped"], rows["target"], rows["word"], strict=True):
        if flipped and word is not None:
            for name in (target, "*"):
                counts[name, word] = counts.get((name, word), 0) + 1
    return [counts.get(own, 0) for own in zip(words["class"], words["word"], strict=True)]


def _stacked(rows: Sequence[Row]) -> Columns:
    return {
        name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)
    }


def _with_ids(columns: Columns, ids: dict[str, str]) -> Columns:
    length = len(next(iter(columns.values()), ()))
    return {**{name: [value] * length for name, value in ids.items()}, **columns}
