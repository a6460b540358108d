"""All gates of an audit: checked for sense before it starts, against its tables at its end, and enforced."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import closing

from calig.config import AuditConfig
from calig.errors import GateError, InputError
from calig.gates.compared import COMPARING, comparison_gates
from calig.gates.finding import Checked
from calig.gates.own import run_gates, watch_gates
from calig.gates.select import check_sql, sql_gate
from calig.records import Modality
from calig.warehouse.gates import GateOutcome
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_run


def check_configured(config: AuditConfig, modality: Modality) -> None:
    """Check that the gates and watch lists make sense, before anything is started.

    Raises
    ------
    InputError
        A gate is about a watch list that there is not, or about comparisons where none is asked for; its SQL is not
        one SELECT; or the model reads images, in which no terms stand.
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
    for gate in gates.sql:
        check_sql(gate)


def check_run(warehouse: Warehouse, run_id: str, config: AuditConfig) -> list[GateOutcome]:
    """Check a run's gates against its tables, those of its comparisons included.

    Returns
    -------
    One outcome per gate, and comparison where it is about one.

    Raises
    ------
    InputError
        If the run, its files or the aggregates are missing or damaged.
    """
    with closing(open_run(warehouse, run_id)) as connection:
        checked = Checked(run_id, connection)
        outcomes = [
            *run_gates(checked, config.gates),
            *watch_gates(checked, config),
            *comparison_gates(checked, config.gates),
        ]
    return outcomes + [sql_gate(warehouse, run_id, gate) for gate in config.gates.sql]


def enforce(run_id: str, outcomes: Sequence[GateOutcome]) -> None:
    """Fail where a gate whose severity is error does not hold.

    Raises
    ------
    GateError
        Has a line for each of them.
    """
    failed = [outcome.line for outcome in outcomes if outcome.passed is False and outcome.severity == "error"]
    if failed:
        raise GateError("\n".join(failed), run_id)
