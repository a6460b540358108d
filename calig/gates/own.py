"""The gates about a run by itself: failures, accuracy, convergence, watched terms."""

from __future__ import annotations

from collections.abc import Iterator

from calig.config import AuditConfig, Limit
from calig.gates.finding import Checked, Finding, Row
from calig.warehouse.gates import GateOutcome


def run_gates(checked: Checked, config: AuditConfig) -> Iterator[GateOutcome]:
    """The outcomes of the gates about the run's own numbers that are set.

    `max_unconverged_share`, which is set unless it is switched off, is left out where nobody asked for a tolerance, the
    steps being fixed, and where `min_converged_share` says what may be.
    """
    [run] = checked.rows("SELECT * FROM runs WHERE run_id = ?", checked.run_id)
    idle = config.method.steps is not None or config.gates.min_converged_share is not None
    for gate, find in _FINDINGS.items():
        limit: Limit | None = getattr(config.gates, gate)
        if limit is not None and not (gate == "max_unconverged_share" and idle):
            yield find(checked, run, limit).held_to(limit, gate, checked)


def watch_gates(checked: Checked, config: AuditConfig) -> Iterator[GateOutcome]:
    """The outcomes of `max_watched_share`: of a whole list, or of a term of one, over all documents."""
    for name, limit in config.gates.max_watched_share.items():
        held, _, term = (name, "", "*") if name in config.watch else name.partition("/")
        shares = {
            row["class"]: row["share"] or 0.0
            for row in checked.rows(
                "SELECT class, share FROM watched WHERE list = ? AND term = ?", held, term
            )
        }
        value = shares.pop("*", None)
        most = max(shares, key=lambda label: shares[label], default="")
        where = f", the most in {most}: {shares[most]:.2%}" if shares and shares[most] else ""
        finding = Finding(
            value,
            f"{name} has {{value}} of the relevance (limit {{limit}}){where}",
            missing="no document is explained",
            look="@watched",
            share=True,
        )
        yield finding.held_to(limit, f"max_watched_share.{name}", checked)


def _failures(_checked: Checked, run: Row, _limit: Limit) -> Finding:
    return Finding(
        run["failures"] / max(run["documents"], 1),
        f"{run['failures']} of {run['documents']} documents failed ({{value}}, limit {{limit}})",
        look="SELECT reason, count(*) FROM failures GROUP BY 1",
        documents="SELECT doc_id FROM failures ORDER BY doc_id",
        share=True,
    )


def _accuracy(checked: Checked, run: Row, _limit: Limit) -> Finding:
    [row] = checked.rows(
        "SELECT count(*) FILTER (correct) AS correct, count(correct) AS labelled FROM documents WHERE failure IS NULL"
    )
    return Finding(
        run["accuracy"],
        f"{row['correct']} of {row['labelled']} labelled documents are predicted right ({{value}}, limit {{limit}})",
        missing="a regression has no accuracy"
        if run["head"] == "regression"
        else "no explained document has a label",
        look="@misled",
        documents="SELECT doc_id FROM documents WHERE NOT correct ORDER BY probability DESC, doc_id",
        share=True,
        least=True,
    )


def _absolute_error(_checked: Checked, run: Row, _limit: Limit) -> Finding:
    furthest = "FROM documents WHERE failure IS NULL AND label_value IS NOT NULL ORDER BY abs(logit - label_value) DESC"
    return Finding(
        run["mean_absolute_error"],
        "the mean absolute error is {value} (limit {limit})",
        missing="only a regression with labels has a mean absolute error",
        look=f"SELECT doc_id, label_value, logit {furthest}",
        documents=f"SELECT doc_id {furthest}, doc_id",
    )


def _unconverged(checked: Checked, _run: Row, _limit: Limit) -> Finding:
    depths = checked.rows(
        "SELECT depth, documents, documents - converged AS outside FROM completeness ORDER BY outside DESC, depth"
    )
    pairs, outside = (sum(row[name] for row in depths) for name in ("documents", "outside"))
    worst = (
        f", at depth {depths[0]['depth']} {depths[0]['outside']} of {depths[0]['documents']}"
        if outside
        else ""
    )
    return Finding(
        outside / pairs if pairs else None,
        f"{outside} of {pairs} (document, depth) pairs are outside the tolerance ({{value}}, limit {{limit}}){worst}",
        missing="no document is explained",
        look="@least-converged",
        documents="SELECT doc_id FROM documents WHERE NOT converged ORDER BY error_estimate DESC, doc_id",
        share=True,
    )


def _converged(_checked: Checked, run: Row, _limit: Limit) -> Finding:
    return Finding(
        run["converged_share"],
        "{value} of (document, depth) pairs are within the tolerance (limit {limit})",
        missing="no document is explained",
        look="@least-converged",
        documents="SELECT doc_id FROM documents WHERE NOT converged ORDER BY error_estimate DESC, doc_id",
        share=True,
        least=True,
    )


def _completeness(_checked: Checked, run: Row, limit: Limit) -> Finding:
    beyond = f"FROM documents WHERE completeness_error > {limit.limit!r} ORDER BY completeness_error DESC"
    return Finding(
        run["worst_completeness_error"],
        "the largest completeness residual is {value} logits (limit {limit})",
        missing="no document is explained",
        look=f"SELECT doc_id, completeness_error {beyond}",
        documents=f"SELECT doc_id {beyond}, doc_id",
    )


_FINDINGS = {
    "max_failure_share": _failures,
    "min_accuracy": _accuracy,
    "max_mean_absolute_error": _absolute_error,
    "max_unconverged_share": _unconverged,
    "min_converged_share": _converged,
    "max_completeness_error": _completeness,
}
