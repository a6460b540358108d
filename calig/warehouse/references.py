"""Which earlier runs a run is compared with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from calig.errors import InputError, NewerError
from calig.listing import exists
from calig.records import Head, Modality
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_tables
from calig.warehouse.runs import RunManifest, list_runs, read_run, resolve_run
from calig.warehouse.views import run_files

logger = logging.getLogger(__name__)

PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class Reference:
    """A run to compare with, how it was asked for, and the later ones that `previous` passed over, newest first."""

    run_id: str
    requested: str
    passed_over: tuple[str, ...] = ()


def resolve_references(
    warehouse: Warehouse, names: Sequence[str], audit: str, run_id: str | None = None, fewest: int = 1
) -> list[Reference]:
    """Find the runs that `compare_to` names, each once; names of one run are joined by commas.

    On an audit's first night there is nothing to compare with: where no earlier run of it is complete, `previous`, and
    names of no run, are left out with a line in the log. So is `previous` where no earlier run has a document.

    Parameters
    ----------
    warehouse
        Where to look.
    names
        `previous` (the last complete run of this audit before this one with enough documents), tags, ids, names of
        audits (their latest run) or unique prefixes of ids.
    audit
        The audit's name.
    run_id
        The run that is compared, which is no reference of its own; None: one that is still to start.
    fewest
        Explained documents that are enough for `previous`. Where no earlier run has so many it is the last with any.

    Raises
    ------
    InputError
        If a name is not a complete run's, and the audit has had its first night; or is that of a run of a newer format.
    """
    if not names:
        return []
    runs = list_runs(warehouse)
    own = next((run for run in runs if run.run_id == run_id), None)
    before = [run for run in runs if _comes_before(run, own) and run.is_finished and run.name == audit]
    found: dict[str, list[str]] = {}
    passed_over: tuple[str, ...] = ()
    for name in names:
        if name == PREVIOUS and before:
            last, passed_over = _previous(warehouse, before, fewest)
            if last is None:
                logger.warning(
                    "compare_to: previous: no run of %s has an explained document yet: not compared", audit
                )
            else:
                found.setdefault(last, []).append(name)
            continue
        try:
            reference = _resolve(warehouse, name, run_id)
        except InputError as error:
            if before or isinstance(error, NewerError):
                raise InputError(f"compare_to: {error}") from error
            logger.warning("compare_to: %s: no complete run of %s yet: not compared", name, audit)
            continue
        if reference == run_id:
            logger.warning("compare_to: %s is the run itself: not compared", name)
            continue
        found.setdefault(reference, []).append(name)
    return [
        Reference(reference, ", ".join(named), passed_over if PREVIOUS in named else ())
        for reference, named in found.items()
    ]


def _previous(
    warehouse: Warehouse, before: Sequence[RunManifest], fewest: int
) -> tuple[str | None, tuple[str, ...]]:
    """The last run with enough explained documents, or with any, and the runs after it, newest first."""
    documents = _explained(warehouse, before)
    newest = [run.run_id for run in reversed(before)]
    enough = [own for own in newest if documents[own] >= fewest] or [own for own in newest if documents[own]]
    if not enough:
        return None, ()
    passed_over = tuple(newest[: newest.index(enough[0])])
    if passed_over:
        shown = ", ".join(f"{own} ({documents[own]} explained)" for own in passed_over)
        logger.warning("compare_to: previous is %s: passed over %s, too few documents", enough[0], shown)
    return enough[0], passed_over


def _explained(warehouse: Warehouse, runs: Sequence[RunManifest]) -> dict[str, int]:
    """Explained documents of each run; of one that the tables lack, the documents of its corpus."""
    found = {run.run_id: int(run.corpus["documents"]) for run in runs}
    if exists(warehouse.database):
        with closing(open_tables(warehouse)) as connection:
            rows = connection.execute("SELECT run_id, documents - failures FROM runs").fetchall()
        found |= {run_id: documents for run_id, documents in rows if run_id in found}
    return found


def _comes_before(run: RunManifest, own: RunManifest | None) -> bool:
    return own is None or (run.started_at, run.run_id) < (own.started_at, own.run_id)


def _resolve(warehouse: Warehouse, name: str, before: str | None) -> str:
    if name == PREVIOUS:
        raise InputError("previous: there is none")
    if name == "latest":
        raise InputError("latest: that will be the run itself; write previous")
    reference = resolve_run(warehouse, name, before)
    if not (run := read_run(warehouse, reference)).is_finished:
        raise InputError(f"{name}: run {reference} is {run.status}, not complete; name another")
    run_files(warehouse, reference)
    return reference


def check_comparable(reference: RunManifest, head: Head, modality: Modality) -> None:
    """Check that a run of a model with this head and modality can be compared with the reference.

    Raises
    ------
    InputError
        If the reference's model is of another kind.
    """
    for kind, own, other in (("head", head, reference.head), ("modality", modality, reference.modality)):
        if own != other:
            raise InputError(
                f"run {reference.run_id} cannot be compared with: its model's {kind} is {other}, and this one's {own}; "
                "name a run of a model of the same kind"
            )
