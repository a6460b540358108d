from __future__ import annotations

from dataclasses import replace

import pytest

from calig.errors import InputError
from calig.report import prose
from calig.report.data import CONFIDENT, collect
from calig.report.heat import visible
from calig.report.model import FEW_DOCUMENTS
from tests.material.report_runs import RUN, Scene, connect


def test_the_head_counts_what_the_documents_say() -> None:
    con = connect(Scene())
    run = collect(con, RUN).run
    rows = con.execute("SELECT failure, converged, correct, probability FROM documents").fetchall()
    explained = [row for row in rows if row[0] is None]
    assert run.explained == len(explained)
    assert run.converged_documents == sum(row[1] for row in explained)
    assert run.errors == sum(not row[2] for row in explained)
    assert run.confident_errors == sum(not row[2] and row[3] >= CONFIDENT for row in explained)
    assert (run.failures, run.failure_limit, run.failure_share) == (2, 0.05, 2 / 64)
    assert run.passed


def test_words_with_a_clear_interval_come_first_then_the_largest_effects() -> None:
    words = collect(connect(Scene(documents=200)), RUN).words
    for label in ("negative", "positive"):
        for supports in (True, False):
            side = [word for word in words if word.label == label and word.supports == supports]
            assert side
            assert len(side) <= 12
            assert side == sorted(side, key=lambda word: (not word.clear, -abs(word.effect), word.word))
            assert all((word.effect > 0) == supports for word in side)
            assert all(word.clear == (word.low > 0 or word.high < 0) for word in side)


def test_the_most_confident_errors_are_in_the_sample() -> None:
    con = connect(Scene(documents=200))
    expected = con.execute(
        "SELECT doc_id FROM documents WHERE NOT correct ORDER BY probability DESC, doc_id LIMIT 12"
    ).fetchall()
    documents = collect(con, RUN).documents
    assert [document.doc_id for document in documents][:12] == [row[0] for row in expected]
    assert all(document.reasons[0][0] == "error" for document in documents[:12])


def test_a_sampled_document_holds_its_text_and_relevance() -> None:
    con = connect(Scene())
    for document in collect(con, RUN).documents:
        heat = document.heat
        shown = "".join(
            gap + ("" if special else unit)
            for gap, unit, special in zip(heat.gaps, (*heat.units, ""), (*heat.special, True), strict=True)
        )
        text, *sums = con.execute(
            "SELECT any_value(text), sum(ig_00), sum(ig_03), sum(score) "
            "FROM tokens JOIN documents USING (run_id, doc_id) WHERE doc_id = ?",
            [document.doc_id],
        ).fetchone()  # type: ignore[misc]
        assert shown == visible(text)
        assert [heat.layer_ig[0].sum(), heat.layer_ig[3].sum(), heat.scores.sum()] == pytest.approx(sums)


def test_marked_words_are_the_words() -> None:
    data = collect(connect(Scene()), RUN)
    marked = 0
    for document in data.documents:
        for word, places in document.words.items():
            assert all(document.heat.units[place].lower().strip(".") == word for place in places)
            marked += len(places)
    assert marked > 0


def test_listed_words_have_a_document_to_show() -> None:
    data = collect(connect(Scene(documents=200)), RUN)
    shown = {(document.target, word) for document in data.documents for word in document.words}
    assert {(word.label, word.word) for word in data.words} <= shown


def test_at_most_sixty_documents() -> None:
    assert len(collect(connect(Scene(documents=400)), RUN).documents) <= 60


def test_failures_are_grouped_with_examples() -> None:
    (reason,) = collect(connect(Scene(failures=9)), RUN).failures
    assert (reason.reason, reason.documents, len(reason.examples)) == ("empty", 9, 3)


def test_an_unknown_run_is_named() -> None:
    with pytest.raises(InputError, match=r"'nope'.*calig rebuild"):
        collect(connect(Scene()), "nope")


@pytest.mark.parametrize(
    ("scene", "text"),
    [
        (Scene(failures=0, documents=20), "20 documents explained, 19 within tolerance at every depth"),
        (Scene(failures=0), "no failures."),
        (Scene(labelled=False), "2 failures."),
        (Scene(documents=5, failures=5), "No document could be explained: 5 failures in 5 documents."),
    ],
)
def test_the_verdict_says_what_happened(scene: Scene, text: str) -> None:
    verdict = prose.verdict(collect(connect(scene), RUN).run)
    assert text in verdict
    explained = scene.documents - scene.failures
    assert ("accuracy" in verdict) == (scene.labelled and explained >= FEW_DOCUMENTS)
    assert ("labelled predicted right" in verdict) == (scene.labelled and 0 < explained < FEW_DOCUMENTS)


def test_the_page_counts_what_is_left_out_for_want_of_convergence() -> None:
    """Where a run's statistics leave them out: of runs of before, and with fixed steps, they do not."""
    data = collect(connect(Scene(failures=0, documents=20)), RUN)

    def said(unconverged: int | None) -> str:
        run = replace(data.run, unconverged=unconverged)
        [own] = [one.text for one in prose.pointers(replace(data, run=run)) if one.topic == "Convergence"]
        return own

    assert data.run.unconverged == 1
    assert said(1).startswith(
        "1 document outside tolerance at some depth, and left out of words and layers; worst"
    )
    assert said(0).startswith("1 document outside tolerance at some depth; worst")
    assert said(None) == said(0)


def test_the_verdict_of_several_labels_counts_documents_right_in_all() -> None:
    run = replace(collect(connect(Scene()), RUN).run, head="multi_label", accuracy=0.25)
    assert "; every class right in 25.0 %; " in prose.verdict(run)
    run = replace(run, explained=20)
    assert (
        f"; {run.labelled - run.errors} of {run.labelled} labelled right in every class; "
        in prose.verdict(run)
    )


def test_the_verdict_of_a_regression_says_its_error() -> None:
    run = replace(
        collect(connect(Scene()), RUN).run, head="regression", accuracy=None, mean_absolute_error=0.25
    )
    assert "; mean absolute error 0.250; " in prose.verdict(run)
    assert "mean absolute error" not in prose.verdict(replace(run, mean_absolute_error=None))


def test_a_document_without_any_of_several_labels_says_none() -> None:
    """Of a multi-label model an empty list is a label, and null is not."""
    connection = connect(Scene(failures=0))
    connection.execute("UPDATE documents SET label = '' WHERE doc_id % 3 = 0")
    connection.execute("UPDATE documents SET label = NULL WHERE doc_id % 3 = 1")
    labels = {one.doc_id: one.label for one in collect(connection, RUN).documents}
    assert {label for doc_id, label in labels.items() if doc_id % 3 == 0} == {"none"}
    assert {label for doc_id, label in labels.items() if doc_id % 3 == 1} == {None}
    assert not {"none", None} & {label for doc_id, label in labels.items() if doc_id % 3 == 2}


@pytest.mark.parametrize(
    ("scene", "state"),
    [
        (Scene(), "Gates passed"),
        (Scene(max_failure_share=None), "Complete"),
        (Scene(failures=20), "Too many failures"),
        (Scene(documents=4, failures=4, max_failure_share=None), "Nothing explained"),
        (Scene(status="failed"), "Run failed"),
        (Scene(status="running"), "Still running"),
    ],
)
def test_the_gate(scene: Scene, state: str) -> None:
    assert prose.gate(collect(connect(scene), RUN).run)[1] == state


@pytest.mark.parametrize(
    ("counts", "median"),
    [([(1, 3), (4, 2)], 1.0), ([(1, 1), (4, 1)], 2.5), ([(2, 1), (None, 2)], None), ([], None)],
)
def test_the_median_settling_depth_counts_those_that_never_settle(
    counts: list[tuple[int | None, int]], median: float | None
) -> None:
    assert prose.median_settling(counts, 7) == median


def test_errors_are_not_called_typical() -> None:
    kinds = [
        (document.correct, kind)
        for document in collect(connect(Scene(documents=200)), RUN).documents
        for kind, _ in document.reasons
    ]
    assert (True, "typical") in kinds
    assert (False, "typical") not in kinds
