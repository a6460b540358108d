"""The gates on a population stability index: beyond the user's limit, and beyond what chance alone reaches."""

from __future__ import annotations

import math
from dataclasses import replace

from calig.comparison.drift import BINS
from calig.comparison.power import psi_detectable, psi_documents
from calig.config import Limit
from calig.gates.finding import Checked, Finding, Row
from calig.warehouse.gates import GateOutcome

_COLUMNS = {"max_class_psi": "class_psi", "max_layer_psi": "layer_psi"}


def psi_gate(checked: Checked, name: str, limit: Limit, comparison: Row, finding: Finding) -> GateOutcome:
    """Hold a comparison's index to its limit, unless chance alone reaches as far.

    Parameters
    ----------
    checked
        The run.
    name
        The gate: max_class_psi or max_layer_psi.
    limit
        The user's limit.
    comparison
        The row of `comparisons`.
    finding
        What is said where the limit alone decides.

    Returns
    -------
    The outcome, whose state is `too few documents` where the index is beyond the limit, and chance alone reaches it in
    one of 1 / level runs; `not checked` where so few documents could never be told from chance.
    """
    column = _COLUMNS[name]
    value, level, by_chance = comparison[column], comparison["psi_level"], comparison[f"{column}_by_chance"]
    outcome = finding.held_to(limit, name, checked)
    if value is None or math.isnan(value) or level is None:
        return outcome
    outcome = replace(outcome, level=level)
    sizes = f"{comparison['documents_a']} and {comparison['documents_b']} documents"
    if by_chance is None:
        detail = f"{sizes} are too few: no index of theirs is beyond what chance alone may give"
        if limit.limit:
            needed = psi_documents(
                _bins(checked, name), limit.limit, level / max(1, comparison["layers_tested"])
            )
            detail += f"; about {_round(needed)} in each run would do"
        return replace(outcome, state="not checked", passed=None, documents=(), detail=detail)
    beyond = max(limit.limit, by_chance)
    smallest = (
        beyond
        if comparison["tests_paired"]
        else psi_detectable(
            _bins(checked, name), comparison["documents_a"], comparison["documents_b"], beyond
        )
    )
    outcome = replace(
        outcome,
        detectable=smallest,
        cannot_see=f"a population stability index below {smallest:.2g}",
    )
    if outcome.passed or value > by_chance:
        return outcome
    if limit.limit:
        enough = max(comparison["documents_a"], comparison["documents_b"]) * by_chance / limit.limit
        detail = (
            f"a population stability index of {value:.3g} is above the limit of {limit.limit:g}, but with {sizes} "
            f"chance alone reaches {by_chance:.3g}: too few documents to tell; about {_round(enough)} in each run "
            "would do"
        )
    else:
        detail = (
            f"a population stability index of {value:.3g} is no more than the {by_chance:.3g} that chance alone "
            f"reaches with {sizes}: too few documents to tell"
        )
    return replace(outcome, state="too few documents", passed=None, documents=(), detail=detail)


def _bins(checked: Checked, name: str) -> int:
    if name == "max_layer_psi":
        return BINS
    [row] = checked.rows("SELECT len(classes) AS classes FROM runs WHERE run_id = ?", checked.run_id)
    return max(2, int(row["classes"]))


def _round(documents: float) -> int:
    """A number of documents to two digits, upwards."""
    unit: int = 10 ** max(0, math.floor(math.log10(documents)) - 1)
    return math.ceil(documents / unit) * unit
