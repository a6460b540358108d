"""The stages of a comparison as plain functions: find the references, compare the run with each, say what changed.

    wanted → compare_runs (once per reference) → headline

Truth is in the warehouse's files, as for an audit (`calig.stages`): a comparison that is there is not made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from typing import Any

from calig.comparing.again import explain_again
from calig.comparing.differences import Differences, differences
from calig.comparing.summing import lay_out
from calig.comparison.rows import Row
from calig.config import AuditConfig
from calig.config.history import CompareConfig
from calig.config.levels import levels_of
from calig.errors import InputError
from calig.stages import LOCK_SECONDS
from calig.warehouse.comparisons import (
    load_comparison,
    read_manifest,
    read_manifests,
    read_table,
    write_comparison,
)
from calig.warehouse.inventory import writing_anew
from calig.warehouse.layout import Warehouse
from calig.warehouse.pairing import pairing
from calig.warehouse.pins import pinned_runs
from calig.warehouse.references import Reference, check_comparable, resolve_references
from calig.warehouse.runs import RunManifest
from calig.warehouse.views import run_files

logger = logging.getLogger(__name__)

_NUMBERS = 5
"""Bumped when the same two runs give other numbers."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A comparison that is asked for: of a run (side b) with a reference (side a), and when a difference is a change.

    `compare.alpha` is this comparison's own. `psi_level` is the chance that the largest population stability index of
    chance alone is beyond what the comparison says of it.
    """

    run_id: str
    reference: Reference
    compare: CompareConfig
    psi_level: float


def wanted(warehouse: Warehouse, config: AuditConfig, run_id: str) -> list[Wanted]:
    """The comparisons that an audit's configuration asks for of its run, at the levels that its false alarms allow.

    Raises
    ------
    InputError
        If a name of `compare_to` is no complete run's.
    """
    fewest = config.compare.previous_documents
    references = resolve_references(warehouse, config.compare_to, config.name or "audit", run_id, fewest)
    levels = levels_of(config)
    own = config.compare.model_copy(update={"alpha": levels.comparison})
    return [Wanted(run_id, reference, own, levels.psi) for reference in references]


def asked(warehouse: Warehouse, reference_id: str, run_id: str, alpha: float | None) -> Wanted:
    """The comparison of two runs asked for by hand, with the limits of the run's configuration.

    `alpha` None: that of the comparison if there is one, else the configuration's.

    Raises
    ------
    InputError
        As `compare_runs`.
    """
    manifest = _check(warehouse, reference_id, run_id)
    compare = CompareConfig.model_validate(manifest.config.get("compare", {}))
    before = read_manifest(warehouse.comparison(run_id, reference_id))
    chosen = alpha if alpha is not None else before["compare"]["alpha"] if before else compare.alpha
    requested = before["requested"] if before else reference_id
    passed_over = tuple(before.get("passed_over", ())) if before else ()
    psi_level = before.get("psi_level", chosen) if before and alpha is None else chosen
    own = compare.model_copy(update={"alpha": chosen})
    return Wanted(run_id, Reference(reference_id, requested, passed_over), own, psi_level)


def is_there(warehouse: Warehouse, one: Wanted) -> bool:
    """Whether the comparison has been made of the same runs, with the same limits, leaving no document out."""
    a, b = run_files(warehouse, one.reference.run_id).manifest, run_files(warehouse, one.run_id).manifest
    before = read_manifest(warehouse.comparison(one.run_id, one.reference.run_id))
    if before is None or before["left_out"]:
        return False
    return bool(before["key"] == _key(a, b, one))


def compare_runs(warehouse: Warehouse, one: Wanted) -> Row:
    """Make a comparison, unless it is there, and load it into the tables; return its row of `comparisons`.

    Raises
    ------
    InputError
        If the runs are one, are of models of different kinds, or files of theirs are missing.
    """
    run_id, reference_id = one.run_id, one.reference.run_id
    _check(warehouse, reference_id, run_id)
    folder = warehouse.comparison(run_id, reference_id)
    with warehouse.writer_lock(folder, wait=LOCK_SECONDS), pinned_runs(warehouse, reference_id, run_id):
        if is_there(warehouse, one):
            logger.info("comparison of %s with %s: it is there already", run_id, reference_id)
        else:
            a, b = run_files(warehouse, reference_id), run_files(warehouse, run_id)
            with pairing(warehouse, a, b) as pair:
                again, keys = explain_again(warehouse, b, pair)
                pair.settle()
                columns = lay_out(
                    pair, a.manifest, b.manifest, one.reference, one.compare, one.psi_level, again
                )
            columns["comparisons"] |= _told(differences(warehouse, a, b))
            row = {name: values[0] for name, values in columns["comparisons"].items()}
            manifest = {
                **{
                    name: row[name]
                    for name in ("run_id", "reference_id", "requested", "verdict", "differences")
                },
                # of two samples none is explained again, and none would be the next time
                "left_out": row["left_out"] if row["tests_paired"] else 0,
                "key": _key(a.manifest, b.manifest, one),
                "passed_over": one.reference.passed_over,
                "attribution_keys": keys,
                "compare": one.compare.model_dump(mode="json"),
                "psi_level": one.psi_level,
            }
            with writing_anew(warehouse, run_id, f"comparisons/{reference_id}"):
                write_comparison(warehouse.files, folder, columns, manifest)
        load_comparison(warehouse, run_id, reference_id, wait=LOCK_SECONDS)
    return summary(warehouse, run_id, reference_id)


def _told(found: Differences) -> dict[str, list[Any]]:
    """The columns of the table `comparisons` that say what differs in how the runs were explained."""
    return {"same_engine": [found.same_engine], "differences": [list(found.said)]}


def _check(warehouse: Warehouse, reference_id: str, run_id: str) -> RunManifest:
    """Check that two runs can be compared; return the second's manifest."""
    if run_id == reference_id:
        raise InputError(f"run {run_id} is to be compared with itself: name two runs")
    a, b = (run_files(warehouse, one).manifest for one in (reference_id, run_id))
    check_comparable(a, b.head, b.modality)
    return b


def summary(warehouse: Warehouse, run_id: str, reference_id: str) -> Row:
    """A comparison's row of the table `comparisons`, from its file."""
    row: Row = read_table(warehouse.comparison(run_id, reference_id), "comparisons").to_pylist()[0]
    return row


def verdicts(warehouse: Warehouse, run_id: str) -> list[tuple[str, str]]:
    """How the reference was asked for, and the verdict, of each comparison of a run.

    What differs in how the two runs were explained comes before the verdict.
    """
    found = read_manifests(warehouse.run(run_id)).values()
    return [(one["requested"], "; ".join([*one.get("differences", ()), one["verdict"]])) for one in found]


def _key(a: RunManifest, b: RunManifest, one: Wanted) -> str:
    """Hash of all that a comparison's numbers depend on."""
    sides = [[run.run_id, run.attribution_key, run.corpus["key"], run.started] for run in (a, b)]
    limits = one.compare.model_dump(mode="json")
    content = json.dumps([_NUMBERS, sides, asdict(one.reference), limits, one.psi_level])
    return hashlib.sha256(content.encode()).hexdigest()[:32]
