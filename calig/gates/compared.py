"""The gates about comparisons with other runs: each is checked once for every run that this one was compared with."""

from __future__ import annotations

from collections.abc import Iterator

from calig.comparison.counts import FAMILIES, THINGS, counted, in_a_row
from calig.comparison.verdict import OUTCOMES, WORD_CHANGES, short
from calig.config import CompareConfig, GatesConfig, Limit
from calig.config.history import DriftGate
from calig.config.levels import PSI_GATES
from calig.gates.finding import Checked, Finding, Row
from calig.gates.psi import psi_gate
from calig.gates.sensitivity import with_sensitivity
from calig.warehouse.catalog import quote
from calig.warehouse.gates import GateOutcome

COMPARING = ("max_class_psi", "max_layer_psi", "max_flip_share", "max_accuracy_drop", "drift")
REGIONS = ("region", "regions")
"""What stands in the place of words where the model reads images."""
LISTED = 3
"""Changes of a family that are put into words."""


def comparison_gates(checked: Checked, gates: GatesConfig, compare: CompareConfig) -> Iterator[GateOutcome]:
    """The outcomes of the gates about comparisons that are set; of each gate one where there is no comparison yet."""
    comparisons = checked.rows("SELECT * FROM comparisons ORDER BY requested, reference_id")
    for name in COMPARING:
        gate: Limit | DriftGate | None = getattr(gates, name)
        if gate is None:
            continue
        if not comparisons:
            limit = gate.limit if isinstance(gate, Limit) else 0.0
            why = "there is no earlier run to compare with yet"
            yield GateOutcome(
                checked.run_id, name, gate.severity, None, None, limit, None, why, state="not checked"
            )
        for comparison in comparisons:
            if isinstance(gate, DriftGate):
                outcome = _drift(checked, gate, comparison)
                yield with_sensitivity(checked, outcome, comparison, gate.what, compare)
            elif name in PSI_GATES:
                yield psi_gate(checked, name, gate, comparison, _FINDINGS[name](comparison))
            else:
                yield _FINDINGS[name](comparison).held_to(gate, name, checked)


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
    flipped = _from("documents", comparison, "flipped AND text_changed IS NOT TRUE")
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
    """Whether anything of the families named is called changed, and what changed most.

    Not checked where nothing of them could be tested. Where some could be and others not, the detail says which.
    """
    reference = comparison["reference_id"]
    changed = {what: comparison[f"{what}_changed"] for what in FAMILIES if what in gate.what}
    counts = {what: count for what, count in changed.items() if count}
    named = _names(checked)
    tested = _tested(checked, gate, comparison)
    if not counts and not any(tested.values()):
        sides = [f"{comparison[f'documents_{side}']:,}" for side in "ab"]
        detail = (
            f"nothing could be tested of {in_a_row([named[what][1] for what in gate.what])} "
            f"against {_reference(comparison)}: it has {sides[0]} documents, and this run {sides[1]}"
        )
        return GateOutcome(
            *(checked.run_id, "drift", gate.severity, None, None, 0.0, reference, detail), state="not checked"
        )
    if not counts:
        found = in_a_row([counted(count, named[what]) for what, count in tested.items() if count])
        detail = f"no change found among {found} against {_reference(comparison)}"
        untested = {what: comparison[f"{what}_untested"] or 0 for what in gate.what}
        few = [counted(count, named[what]) for what, count in untested.items() if count and tested[what]]
        notes = [f"too few documents to tell of {in_a_row(few)}"] if few else []
        notes += _nothing_tested(tested, named)
        detail += f" ({'; '.join(notes)})" if notes else ""
        return GateOutcome(
            *(checked.run_id, "drift", gate.severity, True, 0.0, 0.0, reference, detail), state="holds"
        )
    described: list[str] = []
    words: list[str] = []
    for what, count in counts.items():
        rows = checked.rows(_most(what, _from(what, comparison, "changed")))
        shown = ", ".join(_DESCRIBED[what](row, comparison) for row in rows)
        verb = "changed " if not described else ""
        rest = ", …" if count > len(rows) else ""
        described.append(f"{counted(count, named[what])} {verb}({shown}{rest})")
        words += [row["word"] for row in rows if what == "words"]
    detail = f"against {_reference(comparison)} {'; '.join(described + _nothing_tested(tested, named))}"
    detail += checked.see(f"SELECT * {_from(next(iter(counts)), comparison, 'changed')}")
    documents = checked.documents(
        "SELECT doc_id FROM words WHERE list_contains(?::VARCHAR[], word) "
        "GROUP BY doc_id ORDER BY max(abs(logit_effect)) DESC, doc_id",
        words,
    )
    total = float(sum(counts.values()))
    return GateOutcome(
        checked.run_id, "drift", gate.severity, False, total, 0.0, reference, detail, documents, "fails"
    )


def _names(checked: Checked) -> dict[str, tuple[str, str]]:
    """What the families are called, one and many."""
    [run] = checked.rows("SELECT modality FROM runs WHERE run_id = ?", checked.run_id)
    return FAMILIES | ({"words": REGIONS} if run["modality"] == "image" else {})


def _tested(checked: Checked, gate: DriftGate, comparison: Row) -> dict[str, int]:
    """Of each family named how much was tested: words count once, however many tests there are of them."""
    tested: dict[str, int] = {what: comparison[f"{what}_tested"] or 0 for what in gate.what}
    if tested.get("words"):
        [words] = checked.rows(
            f"SELECT count(DISTINCT word) AS number {_from('words', comparison, _TESTED_WORD)}"
        )
        tested["words"] = words["number"]
    return tested


_TESTED_WORD = "coalesce(q, share_q) IS NOT NULL"


def _nothing_tested(tested: dict[str, int], named: dict[str, tuple[str, str]]) -> list[str]:
    """Which families could not be tested at all."""
    missing = [named[what][1] for what, count in tested.items() if not count]
    return [f"nothing could be tested of {in_a_row(missing)}"] if missing else []


_LARGEST = {
    "words": (
        f"coalesce(map({list(WORD_CHANGES)}, {list(WORD_CHANGES.values())})[change], {len(WORD_CHANGES)}), "
        "CASE WHEN change IN ('reversed', 'stronger', 'weaker') "
        "THEN abs(difference) * greatest(share_a, share_b) ELSE abs(share_b - share_a) END DESC"
    ),
    "layers": "abs(size) DESC",
    "outcomes": f"coalesce(list_position({list(OUTCOMES)}, measure), {len(OUTCOMES) + 1}), abs(difference) DESC",
}
"""The order in which the verdict tells the changes of a family."""


def _most(what: str, source: str) -> str:
    """A SELECT of the changes to be told first, a row a thing; what a word does, of all documents before a class."""
    things = ", ".join(THINGS[what])
    apart = f"{things}, change" if what == "words" else f"{things}, class"
    return (
        f"SELECT * FROM (SELECT * {source} "
        f"QUALIFY row_number() OVER (PARTITION BY {apart} ORDER BY class <> '*', class) = 1) "
        f"QUALIFY row_number() OVER (PARTITION BY {things} ORDER BY {_LARGEST[what]}, class) = 1 "
        f"ORDER BY {_LARGEST[what]}, {things}, class LIMIT {LISTED}"
    )


def _word(row: Row, comparison: Row) -> str:
    word, place = short(row["word"]), "" if row["class"] == "*" else f" of {row['class']}"
    if row["change"] in ("stronger", "weaker", "reversed"):
        return (
            f"{word}{place}: {row['change']}, {_number(row['effect_a'])} → {_number(row['effect_b'])} logits"
        )
    before, after = (
        _documents(
            row[f"documents_{side}"], row[f"share_{side}"], comparison[f"documents_{side}"], row["class"]
        )
        for side in "ab"
    )
    return f"{word}{place}: {row['change'] or 'changed'}, in {before} → {after} documents"


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
