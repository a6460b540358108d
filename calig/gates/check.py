"""All gates of an audit: checked for sense before it starts, against its tables at its end, and enforced."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Literal

from calig.commands import complete
from calig.config import AuditConfig
from calig.config.levels import levels_of
from calig.errors import GateError, InputError
from calig.gates.compared import COMPARING, comparison_gates
from calig.gates.finding import Checked
from calig.gates.own import run_gates, watch_gates
from calig.gates.quiet import with_chance
from calig.gates.select import check_sql, sql_gate
from calig.gates.slow_drift import check_since, slow_drift_gate
from calig.records import Modality
from calig.warehouse.gates import GateOutcome
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_run

logger = logging.getLogger(__name__)


def check_configured(warehouse: Warehouse, config: AuditConfig, modality: Modality) -> None:
    """Check that the gates and watch lists make sense, before anything is started.

    Raises
    ------
    InputError
        A gate is about a watch list that there is not, or about comparisons where none is asked for; its SQL is not
        one SELECT; `slow_drift` has nothing to follow, or begins with a run that there is not; or the model reads
        images, in which no terms stand.
    """
    gates = config.gates
    if config.watch and modality == "image":
        raise InputError("watch: the model reads images, and terms stand in texts; remove it")
    known = [*config.watch, *(f"{name}/{term}" for name, terms in config.watch.items() for term in terms)]
    for name in gates.max_watched_share:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]}?" if near else f"there are: {', '.join(config.watch) or 'none'}"
            raise InputError(f"gates.max_watched_share.{name}: no such watch list, or term of one; {advice}")
    for name in COMPARING:
        if getattr(gates, name) is not None and not config.compare_to:
            raise InputError(
                f"gates.{name}: there is nothing to compare with; set compare_to, to previous for example"
            )
    if gates.slow_drift:
        _check_slow_drift(warehouse, config)
    for gate in gates.sql:
        check_sql(gate)
    if config.compare_to and "alpha" in config.compare.model_fields_set:
        logger.warning(
            "compare.alpha: %g is not used in an audit, only by calig compare: the levels follow from "
            "gates.false_alarms_per_year (%g) and gates.runs_per_year (%g); leave it out",
            config.compare.alpha,
            gates.false_alarms_per_year,
            gates.runs_per_year,
        )


def _check_slow_drift(warehouse: Warehouse, config: AuditConfig) -> None:
    gate = config.gates.slow_drift
    assert gate is not None
    lacking = {"accuracy": not config.corpus.label, "watched": not config.watch}
    for what in gate.what if "what" in gate.model_fields_set else ():
        if lacking.get(what):
            need = {
                "accuracy": "the corpus has no labels; set corpus.label",
                "watched": "no words are watched; set watch",
            }
            raise InputError(f"gates.slow_drift.what: {what}: {need[what]}, or leave {what} out")
    if gate.since is not None:
        check_since(warehouse, gate.since, config.name or "audit")


def check_run(warehouse: Warehouse, run_id: str, config: AuditConfig) -> list[GateOutcome]:
    """Check a run's gates against its tables, those of its comparisons included.

    A gate that could test nothing is not checked; whether that fails the audit, or warns, `gates.unchecked` says.
    Before there is any run to compare with it only warns: an audit's first night could not pass otherwise.

    Returns
    -------
    One outcome per gate, and comparison where it is about one. The severity of those that are not checked is what
    becomes of them.

    Raises
    ------
    InputError
        If the run, its files or the aggregates are missing or damaged.
    """
    with closing(open_run(warehouse, run_id)) as connection:
        checked = Checked(run_id, connection)
        [run] = checked.rows("SELECT documents FROM runs WHERE run_id = ?", run_id)
        limits = [
            *run_gates(checked, config),
            *watch_gates(checked, config),
            *comparison_gates(checked, config.gates, config.compare),
        ]
        outcomes = with_chance(checked, limits)
        if config.gates.slow_drift:
            level = levels_of(config).slow_drift
            outcomes.append(slow_drift_gate(warehouse, checked, config.gates.slow_drift, level))
    outcomes += [sql_gate(warehouse, run_id, gate) for gate in config.gates.sql]
    if not run["documents"]:
        outcomes = [_without_documents(outcome) for outcome in outcomes]
    return [_with_severity(outcome, config.gates.unchecked) for outcome in outcomes]


def _without_documents(outcome: GateOutcome) -> GateOutcome:
    """A gate that holds of a run without documents has tested nothing."""
    if outcome.passed is False:
        return outcome
    why = "the run has no documents"
    return replace(outcome, passed=None, value=None, detail=why, state="not checked")


def _with_severity(outcome: GateOutcome, unchecked: Literal["fail", "warn"]) -> GateOutcome:
    first = outcome.reference_id is None and outcome.gate in (*COMPARING, "slow_drift")
    if outcome.state == "not checked" and (unchecked == "warn" or first):
        return replace(outcome, severity="warn")
    return outcome


def enforce(run_id: str, outcomes: Sequence[GateOutcome]) -> None:
    """Fail where a gate whose severity is error does not hold, or was not checked.

    Raises
    ------
    GateError
        Has a line for each of them.
    """
    unchecked = "; not checked, which fails the audit (gates.unchecked: fail)"
    failed = [
        outcome.line if outcome.passed is False else f"{outcome.line}{unchecked}"
        for outcome in outcomes
        if outcome.fails_audit
    ]
    if failed:
        raise GateError(complete("\n".join(failed)), run_id)
