"""How likely each part of an audit may be to raise a false alarm in one run."""

from __future__ import annotations

from dataclasses import dataclass

from calig.config.schema import AuditConfig

PSI_GATES = ("max_class_psi", "max_layer_psi")
CHANCE_GATES = (*PSI_GATES, "drift", "slow_drift")
"""The gates that allow for chance: their levels follow from the false alarms a year. All others are plain limits."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Levels of the parts of an audit that allow for chance; together they are at most `gates.night_level`.

    Attributes
    ----------
    comparison
        Of each comparison: that it calls anything changed, which is what the gate `drift` looks at.
    psi
        Of each gate on a population stability index, and comparison.
    slow_drift
        Of the gate `slow_drift`.
    """

    comparison: float
    psi: float
    slow_drift: float


def levels_of(config: AuditConfig) -> Levels:
    """Share the run's level out: in equal parts to its comparisons, the PSI gates that are set, and `slow_drift`.

    What runs are compared with shares the part of the comparisons, and that of each PSI gate, in equal parts.
    """
    gates, references = config.gates, len(config.compare_to)
    psi = sum(getattr(gates, name) is not None for name in PSI_GATES)
    parts = (1 + psi if references else 0) + (gates.slow_drift is not None)
    part = gates.night_level / max(1, parts)
    each = part / max(1, references)
    return Levels(each, each, part)
