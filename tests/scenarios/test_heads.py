"""Audits of text pairs and of multi-label, one-logit and regression models, against the models run by hand."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from calig import Explainer, stages
from calig.attribution.explainer import attribution_key
from calig.attribution.schedule import Schedule
from calig.errors import InputError
from calig.files import Files
from calig.records import document_key
from calig.terminal import render_explanation
from calig.warehouse.layout import Warehouse
from tests.material.heads import Audit, HandRun, audit, pairs, run_stages, save_head
from tests.material.tiny import Row, audit_config, write_parquet

PAIRS = pairs(16)
TEXTS = [" ".join(pair) for pair in PAIRS]
NLI, TOPICS = ("entailment", "neutral", "contradiction"), ("plot", "cast", "music", "light")
FREE = {"label": None, "id": None}
"""A corpus without labels or ids."""


def refusal(attempt: Callable[[], Any]) -> str:
    with pytest.raises(InputError) as caught:
        attempt()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sigmoid(value: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(value)))


def printed(explainer: Explainer, item: Any, target: Any = None) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    render_explanation(explainer.explain([item], target)[0], item, explainer.classes, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def same_sums(done: Audit, changes: list[float]) -> None:
    """At every depth a document's relevance sums to the change of its output, as the model run by hand says."""
    sums = done.ask(
        "SELECT doc_id, sum(ig_00), sum(ig_01), sum(ig_02) FROM tokens GROUP BY doc_id ORDER BY doc_id"
    )
    for (_, *depths), change in zip(sums, changes, strict=True):
        assert depths == pytest.approx([change] * 3, rel=2e-2, abs=2e-2)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("heads")


# Pairs


@pytest.fixture(scope="module")
def nli(home: Path) -> Audit:
    model = save_head(home / "nli", NLI)
    items: list[tuple[Any, Any]] = [*PAIRS, ("the good film", None), ("", "a dull cast"), ("", " ")]
    rows = [
        {"id": f"p{i}", "premise": a, "hypothesis": b, "label": NLI[i % 3]} for i, (a, b) in enumerate(items)
    ]
    columns = {"text": "premise", "text_pair": "hypothesis"}
    return audit(model, rows, home / "nli-audit", columns=columns, gates={"max_failure_share": 0.1})


def test_pairs_are_explained_as_the_model_reads_them(nli: Audit) -> None:
    items = [*PAIRS, ("the good film", ""), ("", "a dull cast")]
    logits = [nli.hand.logits(item) for item in items]
    found = nli.ask(
        "SELECT text, text_pair, predicted_id, logit, logits, label_id, correct, doc_key FROM documents "
        "WHERE failure IS NULL ORDER BY doc_id"
    )
    assert [row[:2] for row in found] == items
    assert [row[2] for row in found] == [int(np.argmax(row)) for row in logits]
    assert [row[3] for row in found] == pytest.approx([max(row) for row in logits], abs=1e-4)
    for row, expected in zip(found, logits, strict=True):
        assert row[4] == pytest.approx(expected.tolist(), abs=1e-4)
    assert [row[6] for row in found] == [row[2] == row[5] for row in found]
    assert [row[7] for row in found] == [document_key(a, pair=b) for a, b in items]
    base = [nli.hand.logits(item, baseline=True) for item in items]
    same_sums(nli, [float(a.max() - b[a.argmax()]) for a, b in zip(logits, base, strict=True)])


def test_one_empty_text_is_explained_and_two_are_not(nli: Audit) -> None:
    assert nli.ask("SELECT doc_id, reason, detail FROM failures") == [(18, "empty", "both texts are empty")]


def test_words_are_cut_from_their_own_text(nli: Audit) -> None:
    found = nli.ask("SELECT doc_id, segment, text FROM words ORDER BY doc_id, word_id")
    expected = [
        (doc_id, segment, word)
        for doc_id, pair in enumerate([*PAIRS, ("the good film", ""), ("", "a dull cast")])
        for segment, text in enumerate(pair)
        for word in text.split()
    ]
    assert found == expected
    assert nli.ask(
        "SELECT DISTINCT token, segment FROM tokens WHERE is_special OR segment IS NULL ORDER BY ALL"
    ) == [("[CLS]", None), ("[SEP]", None)]
    sides = nli.ask("SELECT segment, count(*) FROM tokens WHERE doc_id = 0 GROUP BY 1 ORDER BY 1 NULLS LAST")
    assert sides == [(0, len(PAIRS[0][0].split())), (1, len(PAIRS[0][1].split())), (None, 3)]


def test_the_report_holds_both_texts(nli: Audit) -> None:
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', nli.page, re.DOTALL)
    assert data is not None
    assert '"second":' in data[1]
    assert "Second text" in nli.page
    for word in PAIRS[0][1].split():
        assert f'"{word}"' in data[1]


def test_a_pair_and_the_texts_joined_are_two_documents() -> None:
    keys = {
        document_key("ab"),
        document_key("a", pair="b"),
        document_key("b", pair="a"),
        document_key("ab", pair=""),
        document_key("", pair="ab"),
    }
    assert len(keys) == 5
    assert document_key("ab") == "fb8e20fc2e4c3f248c60c39bd652f3c1347298bb977b8b4d5903b85055620603"


def test_an_explainer_takes_pairs(nli: Audit) -> None:
    explainer = Explainer.from_pretrained(str(nli.hand.folder))
    item = ("the good film", "a dull cast")
    single, paired = explainer.explain(["the good film", item])
    assert single.segments.tolist() == [-1, 0, 0, 0, -1]
    assert paired.segments.tolist() == [-1, 0, 0, 0, -1, 1, 1, 1, -1]
    assert paired.word_ids.tolist() == [-1, 0, 1, 2, -1, 3, 4, 5, -1]
    assert paired.logits == pytest.approx(nli.hand.logits(item), abs=1e-4)
    assert "text 1 is a list: give a text, or a pair as a tuple" in refusal(
        lambda: explainer.explain(["a", ["b", "c"]])  # type: ignore[list-item]
    )
    out = printed(explainer, item)
    assert re.search(r"first text\n.*good.*\nsecond text\n.*dull", out)


def test_half_a_surrogate_in_either_text(nli: Audit) -> None:
    from calig.errors import DocumentError

    explainer = Explainer.from_pretrained(str(nli.hand.folder))
    with pytest.raises(DocumentError, match="one of the texts holds half a surrogate pair"):
        explainer.explain([("good", "dull \ud83d")])


# Several labels


@pytest.fixture(scope="module")
def topics(home: Path) -> Audit:
    model = save_head(home / "topics", TOPICS, "multi_label_classification")
    hand = HandRun(model)
    rows: list[Row] = []
    for i, text in enumerate(TEXTS):
        truth = [TOPICS[c] for c in np.flatnonzero(hand.logits(text) > 0)]
        wrong: list[list[str] | None] = [truth, truth[::-1], ["music"], [], None]
        rows.append({"id": f"m{i}", "text": text, "label": wrong[i % 5]})
    return audit(model, rows, home / "topics-audit")


def test_a_multi_label_model_has_a_sigmoid_for_each_class(topics: Audit) -> None:
    logits = [topics.hand.logits(text) for text in TEXTS]
    found = topics.ask(
        "SELECT predicted, target, probability, predicted_labels, labels, correct, label FROM documents ORDER BY doc_id"
    )
    for i, (row, values) in enumerate(zip(found, logits, strict=True)):
        chosen = [TOPICS[c] for c in np.flatnonzero(values > 0)]
        truth = {0: chosen, 1: chosen, 2: ["music"], 3: [], 4: None}[i % 5]
        assert row[0] == row[1] == TOPICS[values.argmax()]
        assert row[2] == pytest.approx(sigmoid(values.max()), abs=1e-5)
        assert row[3:5] == (chosen, truth)
        assert row[5] == (None if truth is None else chosen == truth)
        assert row[6] == (None if truth is None else ", ".join(truth))
    base = [topics.hand.logits(text, baseline=True) for text in TEXTS]
    same_sums(topics, [float(a.max() - b[a.argmax()]) for a, b in zip(logits, base, strict=True)])


def test_a_multi_label_class_is_counted_by_documents_that_have_it(topics: Audit) -> None:
    documents = topics.ask("SELECT labels, predicted_labels, correct FROM documents")
    for name, labelled, predicted, correct, precision, recall in topics.ask(
        "SELECT class, labelled, predicted, correct, precision, recall FROM class_stats ORDER BY class_id"
    ):
        has = [name in (labels or []) for labels, _, _ in documents]
        gets = [name in chosen for _, chosen, _ in documents]
        hits = sum(a and b for a, b in zip(has, gets, strict=True))
        known = sum(b and row[0] is not None for b, row in zip(gets, documents, strict=True))
        assert (labelled, predicted, correct) == (sum(has), sum(gets), hits)
        assert precision == (pytest.approx(hits / known) if known else None)
        assert recall == (pytest.approx(hits / sum(has)) if sum(has) else None)
    exact = [row[2] for row in documents if row[0] is not None]
    [(accuracy, head, error)] = topics.ask("SELECT accuracy, head, mean_absolute_error FROM runs")
    assert (accuracy, head, error) == (pytest.approx(np.mean(exact)), "multi_label", None)


def test_the_report_of_a_multi_label_model_counts_exact_matches(topics: Audit) -> None:
    assert "Exact match" in topics.page
    assert "labelled right in every class" in topics.page
    assert "Labelled against predicted" not in topics.page
    assert "Accuracy</dt>" not in topics.page


def test_a_multi_label_explanation_in_the_terminal(topics: Audit) -> None:
    out = printed(Explainer.from_pretrained(str(topics.hand.folder)), TEXTS[0])
    for name, share in zip(TOPICS, sigmoid(topics.hand.logits(TEXTS[0])), strict=True):
        assert f"{'predicted' if share > 0.5 else 'not      '} {name}  p = {share:.3f}" in out


def test_the_labelled_class_of_several_is_refused(topics: Audit, tmp_path: Path) -> None:
    def attempt(labels: list[Any]) -> None:
        rows = [{"id": str(i), "text": TEXTS[i], "label": label} for i, label in enumerate(labels)]
        path = write_parquet(tmp_path / "corpus.parquet", rows)
        config = audit_config(topics.hand.folder, path, tmp_path / "w", method={"target": "label"})
        stages.bring_in(Warehouse.open(config.warehouse), config, topics.run.model)

    attempt([["cast"], ["music"]])
    assert re.search(
        r"row 2: method\.target: label needs one label per document, and here are 2 \(plot, cast\)",
        refusal(lambda: attempt([["cast"], ["cast", "plot"]])),
    )
    assert "here are 0 (none)" in refusal(lambda: attempt([[], ["cast"]]))
    assert "names a class twice" in refusal(lambda: attempt([[0, 1, 0, 0], [1, 0, 0, 0]]))
    assert "label 'sound' is not a class of the model" in refusal(lambda: attempt([["sound"], ["cast"]]))


# One logit


@pytest.fixture(scope="module")
def spam(home: Path) -> Audit:
    model = save_head(home / "spam", ("spam",))
    rows = [{"id": f"b{i}", "text": t, "label": "spam" if i % 2 else "not spam"} for i, t in enumerate(TEXTS)]
    return audit(model, rows, home / "spam-audit", head="binary")


def test_one_logit_counts_as_two_classes(spam: Audit) -> None:
    z = np.array([spam.hand.logits(text)[0] for text in TEXTS])
    base = np.array([spam.hand.logits(text, baseline=True)[0] for text in TEXTS])
    assert (z > 0).any()
    assert (z < 0).any()
    found = spam.ask(
        "SELECT predicted, target, logit, baseline_logit, probability, correct, logits FROM documents ORDER BY doc_id"
    )
    sign = np.sign(z)
    assert (
        [row[0] for row in found] == [row[1] for row in found] == ["spam" if v > 0 else "not spam" for v in z]
    )
    assert [row[2] for row in found] == pytest.approx((sign * z).tolist(), abs=1e-4)
    assert [row[3] for row in found] == pytest.approx((sign * base).tolist(), abs=1e-4)
    assert [row[4] for row in found] == pytest.approx(sigmoid(sign * z).tolist(), abs=1e-5)
    assert [row[5] for row in found] == [(v > 0) == bool(i % 2) for i, v in enumerate(z)]
    assert [row[6][0] for row in found] == [0.0] * len(z)
    same_sums(spam, (sign * (z - base)).tolist())


def test_the_key_says_that_the_margin_was_computed(spam: Audit) -> None:
    """Asked for the logit or the margin, one logit's attributions are the same, and are paid for once."""
    assert spam.ask("SELECT head, output FROM runs") == [("binary", "margin")]
    config = spam.run.config
    other = config.model_copy(update={"method": config.method.model_copy(update={"output": "margin"})})
    schedule = Schedule.from_json(next(spam.run.warehouse.schedules.glob("*.json")).read_text())
    keys = {
        attribution_key(spam.run.model.hash, stages.method_of(c, spam.run.model), schedule)
        for c in (config, other)
    }
    assert keys == {spam.run.attribution_key}


def test_one_logit_s_report_reads_as_that_of_two_classes(spam: Audit) -> None:
    assert "Labelled against predicted" in spam.page
    assert "Accuracy</dt>" in spam.page
    explainer = Explainer.from_pretrained(str(spam.hand.folder), head="binary")
    [a] = explainer.explain([TEXTS[0]], "not spam")
    assert a.logit == pytest.approx(-spam.hand.logits(TEXTS[0])[0], abs=1e-4)
    assert "margin" in printed(explainer, TEXTS[0])


# Regression


@pytest.fixture(scope="module")
def stars(home: Path) -> Audit:
    model = save_head(home / "stars", ("stars",), "regression")
    hand = HandRun(model)
    rows = [
        {"id": f"s{i}", "text": t, "label": None if i == 3 else float(hand.logits(t)[0]) + 0.1 * (i % 4)}
        for i, t in enumerate(TEXTS)
    ]
    return audit(model, rows, home / "stars-audit")


def test_a_regression_s_output_is_what_is_explained(stars: Audit) -> None:
    y = np.array([stars.hand.logits(text)[0] for text in TEXTS])
    base = np.array([stars.hand.logits(text, baseline=True)[0] for text in TEXTS])
    found = stars.ask(
        "SELECT logit, baseline_logit, target, predicted, predicted_id, probability, correct, label_value, label "
        "FROM documents ORDER BY doc_id"
    )
    assert [row[0] for row in found] == pytest.approx(y.tolist(), abs=1e-4)
    assert [row[1] for row in found] == pytest.approx(base.tolist(), abs=1e-4)
    assert {row[2:7] for row in found} == {("stars", None, None, None, None)}
    assert found[3][7:] == (None, None)
    assert [row[7] is None or float(row[8]) == row[7] for row in found] == [True] * len(y)
    same_sums(stars, (y - base).tolist())


def test_a_regression_s_errors_are_those_of_numpy(stars: Audit) -> None:
    [(accuracy, error, correlation, head)] = stars.ask(
        "SELECT accuracy, mean_absolute_error, correlation, head FROM runs"
    )
    kept = [i for i in range(len(TEXTS)) if i != 3]
    y = np.array([stars.hand.logits(TEXTS[i])[0] for i in kept])
    truth = y + np.array([0.1 * (i % 4) for i in kept])
    assert (accuracy, head) == (None, "regression")
    assert error == pytest.approx(np.abs(y - truth).mean(), abs=1e-4)
    assert correlation == pytest.approx(np.corrcoef(y, truth)[0, 1], abs=1e-4)
    assert stars.ask("SELECT class, labelled, predicted, correct, precision, recall FROM class_stats") == [
        ("stars", len(kept), None, None, None, None)
    ]


def test_the_report_of_a_regression_speaks_of_values(stars: Audit) -> None:
    """But for the configuration, which is shown as it is."""
    visible = re.sub(r"<(script|style|pre)\b.*?</\1>", "", stars.page, flags=re.DOTALL)
    for said in (
        "Mean absolute error",
        "correlation",
        "Raises",
        "raises the output",
        "Largest errors",
        "Outputs",
    ):
        assert said in visible, said
    for never in (
        "Accuracy",
        "accuracy",
        "logits",
        "p = ",
        "Labelled against predicted",
        "predicted wrong",
        "nan",
    ):
        assert never not in visible, never


def test_a_regression_in_the_terminal(stars: Audit) -> None:
    out = printed(Explainer.from_pretrained(str(stars.hand.folder)), TEXTS[0])
    value = stars.hand.logits(TEXTS[0])[0]
    assert f"output stars  {value:+.3f}\nexplained stars  value {value:+.3f}, baseline" in out
    assert "raises stars" in out
    assert "predicted" not in out


def test_a_regression_without_labels_or_with_constant_ones(stars: Audit, tmp_path: Path) -> None:
    for name, label in (("none", None), ("constant", 2)):
        rows = [{"text": text} | ({} if label is None else {"stars": label}) for text in TEXTS[:6]]
        columns = {**FREE, "label": None if label is None else "stars"}
        done = audit(stars.hand.folder, rows, tmp_path / name, columns=columns)
        [(error, correlation)] = done.ask("SELECT mean_absolute_error, correlation FROM runs")
        assert correlation is None
        assert (error is None) == (label is None)
        assert ("no labels in the corpus" in done.page) == (label is None)


def test_what_a_regression_has_not_is_refused(stars: Audit, home: Path, tmp_path: Path) -> None:
    def explainer(folder: Path, **options: Any) -> Explainer:
        return Explainer.from_pretrained(str(folder), **options)

    one = explainer(stars.hand.folder)
    assert refusal(lambda: explainer(stars.hand.folder, output="margin")).startswith(
        "method.output: a regression has no classes to take a margin over"
    )
    for target in ("runner-up", "label"):
        assert f"method.target: {target} means a class" in refusal(lambda t=target: one.explain(["a"], t))
    assert "is not the regression's one output, stars" in refusal(lambda: one.explain(["a"], 1))
    assert one.explain([TEXTS[0]], "stars")[0].logit == one.explain([TEXTS[0]], 0)[0].logit
    several = save_head(home / "several", ("style", "depth"), "regression")
    asked = "name one: an index below 2 or one of style, depth"
    assert asked in refusal(lambda: explainer(several))
    path = write_parquet(tmp_path / "corpus.parquet", [{"id": "1", "text": "good", "label": "high"}])
    plain = audit_config(several, path, tmp_path / "w")
    warehouse = Warehouse.open(plain.warehouse)
    assert asked in refusal(lambda: stages.precheck(warehouse, plain))
    config = audit_config(several, path, tmp_path / "w", method={"target": "depth"})
    model = stages.describe_model(config)
    notes = stages.bring_in(warehouse, config, model).notes
    assert "what is not a number, and no label therefore: 'high' (1)" in notes[0]


def test_one_of_several_outputs(home: Path, tmp_path: Path) -> None:
    model = save_head(home / "two", ("style", "depth"), "regression")
    rows = [{"id": str(i), "text": text, "label": str(i)} for i, text in enumerate(TEXTS[:6])]
    done = audit(model, rows, tmp_path, method={"target": "depth"})
    logits = [done.hand.logits(text) for text in TEXTS[:6]]
    found = done.ask("SELECT logit, logits, target, label_value FROM documents ORDER BY doc_id")
    assert [row[0] for row in found] == pytest.approx([v[1] for v in logits], abs=1e-4)
    assert [row[2:] for row in found] == [("depth", float(i)) for i in range(6)]


# What was there before


def test_attributions_of_before_there_were_pairs_are_read_and_rebuilt(spam: Audit, tmp_path: Path) -> None:
    """An older warehouse has shards without segments and manifests without a head; new shards join old ones."""
    import json
    import shutil

    import pyarrow.parquet as pq

    from calig.files import sha256_file
    from calig.warehouse.aggregate import rebuild
    from calig.warehouse.compact import compact
    from calig.warehouse.layout import Warehouse

    root = tmp_path / "warehouse"
    shutil.copytree(spam.run.warehouse.root, root)
    folder = root / "attributions" / spam.run.attribution_key
    manifests = sorted(folder.glob("manifest-*.json"))
    assert len(manifests) == 2

    def age(path: Path) -> None:
        manifest = json.loads(path.read_text())
        for name, state in manifest["files"].items():
            if name.startswith("tokens-"):
                table = pq.read_table(folder / name).drop_columns(["segment"])
                pq.write_table(table, folder / name)
                state |= {"sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size}
        path.write_text(json.dumps(manifest))

    def ask(sql: str) -> list[tuple[Any, ...]]:
        from tests.material.tiny import select

        return select(root, sql)

    words = spam.ask("SELECT doc_id, word_id, text, round(logit_effect, 6) FROM words ORDER BY ALL")
    counts = "SELECT count(segment) > 0, count(*) = count(segment) FROM tokens WHERE NOT is_special"
    age(manifests[0])
    assert ask(counts) == [(True, False)]
    assert ask("SELECT doc_id, word_id, text, round(logit_effect, 6) FROM words ORDER BY ALL") == words
    compact(Files(folder), folder, min_files=2)
    assert len(list(folder.glob("manifest-*.json"))) == 1
    assert ask(counts) == [(True, False)]
    age(next(folder.glob("manifest-*.json")))
    path = root / "runs" / spam.run.run_id / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["model"]["head"]
    path.write_text(json.dumps(manifest))
    assert rebuild(Warehouse.open(root)).runs == [spam.run.run_id]
    assert ask(counts) == [(False, False)]
    assert ask("SELECT head FROM runs") == [("single_label",)]
    assert ask("SELECT doc_id, word_id, text, round(logit_effect, 6) FROM words ORDER BY ALL") == words


def test_runs_of_several_heads_are_asked_together(
    stars: Audit, nli: Audit, topics: Audit, tmp_path: Path
) -> None:
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.query import query

    for done in (stars, nli, topics):
        config = done.run.config.model_copy(update={"warehouse": str(tmp_path / "w")})
        config = config.model_copy(update={"corpus": config.corpus.model_copy(update={"limit": 4})})
        run_stages(config)
    rows = query(
        Warehouse.open(tmp_path / "w"),
        "SELECT head, count(*), count(text_pair), count(label_value), count(labels), count(correct) "
        "FROM documents JOIN runs USING (run_id) GROUP BY head ORDER BY head",
        "all",
    ).rows
    assert rows == [
        ("multi_label", 4, 0, 0, 4, 4),
        ("regression", 4, 0, 3, 0, 0),
        ("single_label", 4, 4, 0, 0, 4),
    ]
