"""The gate `slow_drift`: whether the sequential control of the audit's metrics crosses its limit in this run."""

from __future__ import annotations

import shlex

from calig.config.history import SlowDriftGate
from calig.errors import InputError
from calig.gates.finding import Checked
from calig.rows import plural
from calig.warehouse.gates import GateOutcome
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import list_runs, resolve_run
from calig.warehouse.slow_drift import AHEAD, GATE, SlowDrift, follow
from calig.warehouse.tags import list_tags

SHOWN = 3
"""Metrics that are put into words."""
LITTLE = 0.05
"""Share of documents that runs have in common below which nothing is said of it."""
_NAMES = {"accuracy": "accuracy", "watched": "watched terms", "layers": "the layer profile"}


def check_since(warehouse: Warehouse, since: str, audit: str) -> None:
    """Check that the control can begin at `since`; before the audit's first complete run it may name none yet.

    Raises
    ------
    InputError
        If it names no complete run of this audit.
    """
    runs = list_runs(warehouse)
    names = {run.name for run in runs} - {run.run_id for run in runs} - set(list_tags(warehouse))
    if since in ("latest", "previous") or since in names:
        raise InputError(
            f"gates.slow_drift.since: {since} is another run every night; name a run or a tag, or leave it out"
        )
    complete = [run.run_id for run in runs if run.name == audit and run.is_finished]
    if not complete:
        return
    try:
        run_id = resolve_run(warehouse, since)
    except InputError as error:
        raise InputError(f"gates.slow_drift.since: {error}") from error
    if run_id not in complete:
        raise InputError(
            f"gates.slow_drift.since: run {run_id} is no complete run of audit {audit}; name one of "
            f"{', '.join(complete[-8:])}"
        )


def slow_drift_gate(warehouse: Warehouse, checked: Checked, gate: SlowDriftGate, level: float) -> GateOutcome:
    """The gate's outcome: it fails in the run in which a metric's control crosses its limit, and in no later one.

    Parameters
    ----------
    warehouse, checked
        Where, and the run.
    gate
        What is followed, and since when.
    level
        Chance of a false alarm in a run.
    """
    [run] = checked.rows("SELECT name FROM runs WHERE run_id = ?", checked.run_id)
    try:
        since = None if gate.since is None else resolve_run(warehouse, gate.since)
        drift = follow(checked.connection, run["name"], level, gate.what, since, checked.run_id)
    except InputError as error:
        return GateOutcome(
            checked.run_id,
            GATE,
            gate.severity,
            None,
            None,
            1.0,
            None,
            str(error),
            state="not checked",
            level=level,
        )
    if not drift.followed:
        why = f"there is nothing to follow of {', '.join(_NAMES[one] for one in gate.what)}"
        return GateOutcome(
            checked.run_id, GATE, gate.severity, None, None, 1.0, None, why, state="not checked", level=level
        )
    last = len(drift.runs) - 1
    now = [(one, alarm) for one, alarm in drift.alarms() if alarm.found == last]
    reached = 1.0 if now else max(one.control.reached for one in drift.followed)
    passed = None if not now and all(one.missing_runs for one in drift.followed) else not now
    detectable, cannot_see = _power(drift)
    return GateOutcome(
        checked.run_id,
        GATE,
        gate.severity,
        passed,
        reached,
        1.0,
        None,
        _detail(drift, passed, run["name"]),
        state="not checked" if passed is None else "holds" if passed else "fails",
        level=level,
        detectable=detectable,
        cannot_see=cannot_see,
    )


def _detail(drift: SlowDrift, passed: bool | None, audit: str) -> str:
    """What was found; where nothing is found in this run, how far back the control looks and what it found last."""
    alarms = drift.alarms()
    if passed is False:
        alarms = [(one, alarm) for one, alarm in alarms if alarm.found == len(drift.runs) - 1]
        parts = [drift.sentence(one, alarm) for one, alarm in alarms[:SHOWN]]
        if len(alarms) > SHOWN:
            rest = ", ".join(one.title for one, _ in alarms[SHOWN : 2 * SHOWN])
            more = ", …" if len(alarms) > 2 * SHOWN else ""
            parts.append(f"and {len(alarms) - SHOWN} more ({rest}{more})")
        look = f"see: calig history {shlex.quote(alarms[0][0].metric)} --name {shlex.quote(audit)}"
        return "; ".join([*parts, *_overlap(drift), look])
    runs = len(drift.runs)
    if passed is None:
        fewest = min(one.missing_runs for one in drift.followed)
        begun = "the control began again after its last alarm" if alarms else f"{plural(runs, 'run')} so far"
        parts = [f"{begun}: it can find something after {plural(fewest, 'more run')}"]
    else:
        parts = [f"nothing has moved slowly over {plural(runs, 'run')}, since {drift.runs[0].day}"]
        if alarms:
            parts = [f"nothing more has moved slowly over {plural(runs, 'run')}, since {drift.runs[0].day}"]
        for group in drift.groups:
            wait = min(one.missing_runs for one in drift.followed if one.group == group)
            if wait:
                parts.append(f"{_NAMES[group]}: not before {plural(wait, 'more run')}")
    if alarms:
        parts.append(f"last found: {drift.sentence(*alarms[0])}")
    return "; ".join([*parts, *_overlap(drift)])


def _overlap(drift: SlowDrift) -> list[str]:
    """What runs that share documents mean for the control: they say less, or, not compared, may alarm too often."""
    if drift.overlap is not None:
        if drift.overlap < LITTLE:
            return []
        return [
            f"{drift.overlap:.0%} of a run's documents are in the run before too: the control allows for it, and finds "
            "changes later"
        ]
    if drift.reused < LITTLE:
        return []
    return [
        f"{drift.reused:.0%} of the documents were explained by earlier runs: where consecutive runs share documents "
        "alarms come more often than stated, unless compare_to has previous"
    ]


def _power(drift: SlowDrift) -> tuple[float | None, str | None]:
    """The smallest lasting change found with 80 % power: of the first metric, and of each group in words."""
    firsts = [
        min(
            (one for one in drift.followed if one.group == group),
            key=lambda one: (
                one.detectable is None,
                one.unit != "logits",
            ),  # of watched terms rather an effect
        )
        for group in drift.groups
    ]
    parts = []
    for one in firsts:
        if one.detectable_size is None:
            parts.append(f"of {_NAMES[one.group]}, however large")
        elif one.group == "layers":
            parts.append(
                f"of a measure of the layer profile below {one.detectable_size:.2g} standard deviations from run to run"
            )
        elif one.detectable is not None:
            parts.append(f"of {one.title} below {one.change(one.detectable)}")
    said = f"a lasting change {', '.join(parts)}, within {AHEAD} runs" if parts else None
    return firsts[0].detectable if firsts[0].group != "layers" else None, said
