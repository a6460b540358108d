"""Which documents are worth reading: a few of every kind, then some that show the listed words."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from calig.records import Head, Modality
from calig.report.terms import terms

MAX_DOCUMENTS = 60
QUOTAS = {"gate": 9, "error": 12, "one_word": 10, "against": 8, "typical": 12, "unconverged": 6}


@dataclass(frozen=True, slots=True)
class Group:
    """A kind of sampled document: its name, and how it was chosen."""

    kind: str
    title: str
    note: str


GROUPS = (
    Group("gate", "Shows a gate that fails", "one of the documents for which a gate does not hold"),
    Group(
        "error", "Most confident errors", "the prediction differs from the label, highest probability first"
    ),
    Group("one_word", "Driven by one word", "one word holds the largest share of Σ|logit effect|"),
    Group(
        "against", "Most evidence against", "the largest share of Σ|logit effect| opposes the explained class"
    ),
    Group("typical", "Typical", "nearest their class's median probability, length and concentration"),
    Group("unconverged", "Least converged", "largest error estimate at any depth: read these with care"),
    Group(
        "evidence", "Shows a listed word", "where a word listed above acts strongly in its usual direction"
    ),
)


def groups(head: Head, modality: Modality = "text") -> tuple[Group, ...]:
    """The groups as a model with this head, of texts or images, calls them."""
    own: dict[str, tuple[str, str]] = {}
    if head == "multi_label":
        note = "a class is missed or wrongly predicted, highest probability of the explained class first"
        own = {"error": ("Wrong in some class", note)}
    if head == "regression":
        own = {
            "error": ("Largest errors", "the output is furthest from the label"),
            "one_word": ("Driven by one word", "one word holds the largest share of Σ|effect|"),
            "against": ("Most evidence downwards", "the largest share of Σ|effect| lowers the output"),
            "typical": ("Typical", "nearest the median output, length and concentration"),
        }
    named = [
        replace(group, title=own[group.kind][0], note=own[group.kind][1]) if group.kind in own else group
        for group in GROUPS
    ]
    if modality == "text":
        return tuple(named)
    item = terms(head, modality).item
    return tuple(
        replace(
            group,
            title=group.title.replace("word", item),
            note=group.note.replace("word", item).replace(", length and", " and"),
        )
        for group in named
        if group.kind != "evidence"
    )


Reasons = dict[int, tuple[tuple[str, float], ...]]


def choose(candidates: Sequence[tuple[str, int, float]], limit: int = MAX_DOCUMENTS) -> Reasons:
    """Pick at most `limit` documents; a low limit takes fewer of every kind.

    Parameters
    ----------
    candidates
        (kind, doc_id, weight), best first within each kind.

    Returns
    -------
    The chosen doc_ids, in reading order, each with its (kind, weight) reasons.
    """
    by_kind: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for kind, doc_id, weight in candidates:
        by_kind[kind].append((doc_id, weight))
    reasons: dict[int, list[tuple[str, float]]] = {}
    for kind, quota in QUOTAS.items():
        for doc_id, weight in by_kind[kind][: math.ceil(quota * min(1.0, limit / MAX_DOCUMENTS))]:
            if doc_id in reasons or len(reasons) < limit:
                reasons.setdefault(doc_id, []).append((kind, weight))
    return {doc_id: tuple(found) for doc_id, found in reasons.items()}


def with_words(
    chosen: Reasons, evidence: Sequence[tuple[str, str, int]], limit: int = MAX_DOCUMENTS
) -> Reasons:
    """Add a document for each word that no chosen one shows, while there is room.

    Parameters
    ----------
    chosen
        The documents chosen so far.
    evidence
        (class, word, doc_id): which documents show which words, chosen ones and others.

    Returns
    -------
    The chosen documents, then those added, each with its (kind, weight) reasons.
    """
    reasons = dict(chosen)
    shows: dict[int, set[tuple[str, str]]] = defaultdict(set)
    for label, word, doc_id in evidence:
        shows[doc_id].add((label, word))
    missing = set().union(*shows.values()) - set().union(*(shows[doc_id] for doc_id in chosen))
    while missing and len(reasons) < limit:
        best = max(shows, key=lambda doc_id: (len(shows[doc_id] & missing), -doc_id))
        reasons[best] = (("evidence", float(len(shows[best] & missing))),)
        missing -= shows[best]
    return reasons
