"""The gates about comparisons with other runs: each is checked once for every run that this one was compared with."""

from __future__ import annotations

from collections.abc import Iterator

from calig.config import GatesConfig, Limit
from calig.config.history import DriftGate
from calig.gates.finding import Checked, Finding, Row
from calig.warehouse.catalog import quote
from calig.warehouse.gates import GateOutcome

COMPARING = ("max_class_psi", "max_layer_psi", "max_flip_share", "max_accuracy_drop", "drift")
FAMILIES = {
    "words": ("word", "words"),
    "layers": ("measure of the layer profile", "measures of the layer profile"),
    "outcomes": ("outcome", "outcomes"),
}
LISTED = 3
"""Changes of a family that are put into words."""


def comparison_gates(checked: Checked, gates: GatesConfig) -> Iterator[GateOutcome]:
    """The outcomes of the gates about comparisons that are set; of each gate one where there is no comparison yet."""
    comparisons = checked.rows("SELECT * FROM comparisons ORDER BY requested, reference_id")
    for name in COMPARING:
        gate: Limit | DriftGate | None = getattr(gates, name)
        if gate is None:
            continue
        if not comparisons:
            limit = gate.limit if isinstance(gate, Limit) else 0.0
            why = "there is no earlier run to compare with yet"
            yield GateOutcome(checked.run_id, name, gate.severity, None, None, limit, None, why)
        for comparison in comparisons:
            if isinstance(gate, Limit):
                yield _FINDINGS[name](comparison).held_to(gate, name, checked)
            else:
                yield _drift(checked, gate, comparison)


def _reference(comparison: Row) -> str:
    """The other run as it was asked for, and its id."""
    requested, reference = comparison["requested"], comparison["reference_id"]
    return str(reference) if requested == reference else f"{requested} ({reference})"


def _from(table: str, comparison: Row, condition: str = "") -> str:
    more = f" AND {condition}" if condition else ""
    return f"FROM comparison_{table} WHERE reference_id = {quote(comparison['reference_id'])}{more}"


def _classes(comparison: Row) -> Finding:
    return Finding(
        comparison["class_psi"],
        "the predicted classes moved by a population stability index of {value} (limit {limit}) "
        f"against {_reference(comparison)}",
        missing=f"the predicted classes cannot be compared with those of {_reference(comparison)}",
        look=f"SELECT class, a, b, difference {_from('outcomes', comparison)} AND measure = 'predicted share'",
        reference_id=comparison["reference_id"],
    )


def _layers(comparison: Row) -> Finding:
    return Finding(
        comparison["layer_psi"],
        "the layer profile moved by a population stability index of {value} (limit {limit}) "
        f"against {_reference(comparison)}",
        missing=f"the layer profile cannot be compared with that of {_reference(comparison)}",
        look=f"SELECT class, depth, measure, a, b, psi {_from('layers', comparison)} ORDER BY psi DESC",
        reference_id=comparison["reference_id"],
    )


def _flips(comparison: Row) -> Finding:
    flipped = _from("documents", comparison, "flipped")
    return Finding(
        comparison["flip_share"],
        f"the prediction changed in {comparison['flips']} of {comparison['paired']} documents "
        f"against {_reference(comparison)} ({{value}}, limit {{limit}})",
        missing=f"no document of the run is in {_reference(comparison)} too",
        look=f"SELECT doc_id_b, predicted_a, predicted_b, word {flipped}",
        documents=f"SELECT doc_id_b AS doc_id {flipped} ORDER BY probability_a DESC, doc_id_b",
        share=True,
        reference_id=comparison["reference_id"],
    )


def _accuracy(comparison: Row) -> Finding:
    before, after = comparison["accuracy_a"], comparison["accuracy_b"]
    known = before is not None and after is not None
    return Finding(
        before - after if known else None,
        f"accuracy went from {before:.2%} to {after:.2%} against {_reference(comparison)} "
        "(lower by {value}, limit {limit})"
        if known
        else "",
        missing=f"not both this run and {_reference(comparison)} have an accuracy",
        look=f"SELECT class, a, b, low, high {_from('outcomes', comparison)} AND measure = 'accuracy'",
        share=True,
        reference_id=comparison["reference_id"],
    )


_FINDINGS = {
    "max_class_psi": _classes,
    "max_layer_psi": _layers,
    "max_flip_share": _flips,
    "max_accuracy_drop": _accuracy,
}


def _drift(checked: Checked, gate: DriftGate, comparison: Row) -> GateOutcome:
    """Whether anything of the families named is called changed, and what changed most."""
    reference = comparison["reference_id"]
    counts = {what: comparison[f"{what}_changed"] for what in gate.what if comparison[f"{what}_changed"]}
    if not counts:
        detail = f"no change of {', '.join(gate.what)} against {_reference(comparison)}"
        return GateOutcome(checked.run_id, "drift", gate.severity, True, 0.0, 0.0, reference, detail)
    described: list[str] = []
    words: list[str] = []
    for what, count in counts.items():
        rows = checked.rows(_MOST[what].format(source=_from(what, comparison, "changed")))
        shown = ", ".join(_DESCRIBED[what](row, comparison) for row in rows)
        verb = "changed " if not described else ""
        rest = ", …" if count > len(rows) else ""
        described.append(f"{count} {FAMILIES[what][count > 1]} {verb}({shown}{rest})")
        words += [row["word"] for row in rows if what == "words"]
    detail = f"against {_reference(comparison)} {'; '.join(described)}"
    detail += checked.see(f"SELECT * {_from(next(iter(counts)), comparison, 'changed')}")
    documents = checked.documents(
        "SELECT doc_id FROM words WHERE list_contains(?::VARCHAR[], word) "
        "GROUP BY doc_id ORDER BY max(abs(logit_effect)) DESC, doc_id",
        words,
    )
    total = float(sum(counts.values()))
    return GateOutcome(
        checked.run_id, "drift", gate.severity, False, total, 0.0, reference, detail, documents
    )


_MOST = {
    "words": (
        "SELECT * {source} QUALIFY row_number() OVER (PARTITION BY word ORDER BY least(q, share_q), class) = 1 "
        f"ORDER BY least(q, share_q), abs(share_b - share_a) DESC, word LIMIT {LISTED}"
    ),
    "layers": f"SELECT * {{source}} ORDER BY q, abs(size) DESC, measure, depth, class LIMIT {LISTED}",
    "outcomes": f"SELECT * {{source}} ORDER BY q, abs(difference) DESC, measure, class LIMIT {LISTED}",
}


def _word(row: Row, comparison: Row) -> str:
    place = "" if row["class"] == "*" else f" of {row['class']}"
    if row["change"] in ("stronger", "weaker", "reversed"):
        return f"{row['word']}{place}: {row['change']}, {_number(row['effect_a'])} → {_number(row['effect_b'])} logits"
    before, after = (
        _documents(
            row[f"documents_{side}"], row[f"share_{side}"], comparison[f"documents_{side}"], row["class"]
        )
        for side in "ab"
    )
    return f"{row['word']}{place}: {row['change'] or 'changed'}, in {before} → {after} documents"


def _documents(documents: int, share: float | None, all_documents: int, label: str) -> str:
    """So many of so many: a class's own are known from the share."""
    if label == "*":
        return f"{documents} of {all_documents}"
    return f"{documents} of {round(documents / share)}" if share else str(documents)


def _layer(row: Row, _comparison: Row) -> str:
    place = "" if row["class"] == "*" else f" of {row['class']}"
    return f"{row['measure'].replace('_', ' ')}{place} at depth {row['depth']}: {_change(row)}"


def _outcome(row: Row, _comparison: Row) -> str:
    place = "" if row["class"] == "*" else f" of {row['class']}"
    return f"{row['measure']}{place}: {_change(row)}"


def _change(row: Row) -> str:
    return f"{_number(row['a'])} → {_number(row['b'])}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


_DESCRIBED = {"words": _word, "layers": _layer, "outcomes": _outcome}
