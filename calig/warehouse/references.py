"""Which earlier runs a run is compared with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from calig.errors import InputError
from calig.records import Head, Modality
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import RunManifest, list_runs, read_run, resolve_run
from calig.warehouse.views import run_files

logger = logging.getLogger(__name__)

PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class Reference:
    """A run to compare with, and how it was asked for."""

    run_id: str
    requested: str


def resolve_references(
    warehouse: Warehouse, names: Sequence[str], audit: str, run_id: str | None = None
) -> list[Reference]:
    """Find the runs that `compare_to` names, each once; names of one run are joined by commas.

    On an audit's first night there is nothing to compare with: where no earlier run of it is complete, `previous`, and
    names of no run, are left out with a line in the log.

    Parameters
    ----------
    warehouse
        Where to look.
    names
        `previous` (the last complete run of this audit before this one), tags, ids or unique prefixes of ids.
    audit
        The audit's name.
    run_id
        The run that is compared, which is no reference of its own; None: one that is still to start.

    Raises
    ------
    InputError
        If a name is not a complete run's, and the audit has had its first night.
    """
    if not names:
        return []
    runs = list_runs(warehouse)
    own = next((run for run in runs if run.run_id == run_id), None)
    before = [
        run for run in runs if _comes_before(run, own) and run.status == "complete" and run.name == audit
    ]
    found: dict[str, list[str]] = {}
    for name in names:
        try:
            reference = _resolve(warehouse, name, before)
        except InputError as error:
            if before:
                raise InputError(f"compare_to: {error}") from error
            logger.warning("compare_to: %s: no complete run of %s yet: not compared", name, audit)
            continue
        if reference == run_id:
            logger.warning("compare_to: %s is the run itself: not compared", name)
            continue
        found.setdefault(reference, []).append(name)
    return [Reference(reference, ", ".join(named)) for reference, named in found.items()]


def _comes_before(run: RunManifest, own: RunManifest | None) -> bool:
    return own is None or (run.started_at, run.run_id) < (own.started_at, own.run_id)


def _resolve(warehouse: Warehouse, name: str, before: Sequence[RunManifest]) -> str:
    if name == PREVIOUS:
        if not before:
            raise InputError("previous: there is none")
        return before[-1].run_id
    if name == "latest":
        raise InputError("latest: that will be the run itself; write previous")
    reference = resolve_run(warehouse, name)
    if read_run(warehouse, reference).status != "complete":
        raise InputError(f"{name}: run {reference} is not complete; name another")
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
