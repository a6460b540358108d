"""All methods of explanation that can be evaluated, by name: CA-LIG's own and its peers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from calig.errors import InputError
from calig.evaluation import own
from calig.evaluation.peers import PEERS
from calig.evaluation.subject import Case, Scored, Subject
from calig.models.settings import own_settings

REFERENCE = "ca-lig"
"""The method that the others are compared with."""


def titles(subject: Subject, names: Sequence[str] | None = None) -> dict[str, tuple[str, str | None]]:
    """Title of each method, and why it does not apply to this model, where that is so; None: all there are.

    Raises
    ------
    InputError
        There is no method of a name.
    """
    mine = own.titles(subject.classifier.depth)
    known = {name: (title, None) for name, title in mine.items()} | {
        name: (peer.title, peer.refusal(subject)) for name, peer in PEERS.items()
    }
    for name in names or ():
        if name not in known:
            raise InputError(f"evaluation.methods: {name!r} is not one of {', '.join(known)}")
    return {name: known[name] for name in names or known}


@own_settings()
def score(subject: Subject, cases: Sequence[Case], names: Sequence[str]) -> list[dict[str, Scored]]:
    """Scores of each method on every case, by name."""
    mine = [name for name in names if name not in PEERS]
    found = own.explain(subject, cases, mine) if mine else [{} for _ in cases]
    for name in names:
        if name in PEERS:
            scored = subject.measured(cases, partial(PEERS[name].explain, subject))
            for one, answer in zip(found, scored, strict=True):
                one[name] = answer
    return found
