"""An evaluation's stages as plain functions, without Prefect, on a tiny model."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from calig import stages as audit
from calig.config import AuditConfig, Limit
from calig.errors import GateError, InputError
from calig.evaluating import stages
from calig.evaluating.stages import Evaluation
from calig.evaluating.survey import evaluation_key, sample
from calig.warehouse.evaluations import read_evaluation
from calig.warehouse.layout import Warehouse
from calig.warehouse.shards import held
from tests.material.tiny import CLASSES, Row, audit_config, select, write_parquet

SECTION: dict[str, Any] = {
    "documents": 7,
    "methods": ["ca-lig", "ig", "random"],
    "metrics": ["faithfulness", "sanity"],
    "sanity_documents": 2,
    "shares": [0.2, 0.5],
}


def marked(rows: list[Row]) -> list[Row]:
    """Rows whose first word is the rationale."""
    return [row | {"why": [{"start": 0, "end": len(row["text"].split()[0])}]} for row in rows]


@pytest.fixture
def configure(tmp_path: Path, tiny_model: Path, tiny_rows: list[Row]) -> Any:
    """Make a configuration over 12 documents, in shards of 3; `section` changes the evaluation's."""

    def make(
        rows: list[Row] | None = None, corpus: dict[str, Any] | None = None, **section: Any
    ) -> AuditConfig:
        path = write_parquet(tmp_path / "corpus.parquet", rows or tiny_rows[:12])
        return audit_config(
            tiny_model,
            path,
            tmp_path / "w",
            corpus=corpus or {},
            evaluation=SECTION | section,
            runtime={"shard_documents": 3},
        )

    return make


def start(config: AuditConfig) -> Evaluation:
    warehouse = Warehouse.open(config.warehouse)
    stages.precheck(warehouse, config)
    model = audit.describe_model(config)
    return stages.start_evaluation(
        warehouse,
        config,
        model,
        audit.bring_in(warehouse, config, model),
    )


def run(evaluation: Evaluation) -> list[str]:
    """Do all that is missing; gives the names of the shards."""
    shards = [stages.evaluate_portion(evaluation, p).shard for p in stages.missing_portions(evaluation)]
    stages.close_evaluation(evaluation, {"evaluate": 1.0})
    return shards


def test_the_sample_depends_on_seed_and_content_alone(configure: Any, tiny_rows: list[Row]) -> None:

    def drawn(rows: list[Row], **section: Any) -> list[str]:
        config = configure(rows, **section)
        warehouse = Warehouse.open(config.warehouse)
        corpus = audit.bring_in(warehouse, config, audit.describe_model(config))
        return [rows[doc_id]["id"] for doc_id in sample(warehouse, config, corpus)]

    first = drawn(tiny_rows)
    assert len(set(first)) == 7
    assert drawn(random.Random(1).sample(tiny_rows, len(tiny_rows))) == first
    assert drawn([*tiny_rows, *tiny_rows[:5]]) == first, "what is there twice is drawn once"
    assert drawn(tiny_rows, documents=4) == first[:4]
    assert drawn(tiny_rows, seed=1) != first
    assert sorted(drawn(tiny_rows, documents=None)) == sorted(row["id"] for row in tiny_rows)


def test_portions_are_sanity_documents_others_and_pairs(configure: Any, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("text,contrast,word\na good film,a not good film,good\n")
    evaluation = start(configure(pairs=str(pairs)))
    drawn = sample(evaluation.warehouse, evaluation.config, evaluation.corpus)
    assert [(p.doc_ids, p.metrics) for p in stages.missing_portions(evaluation)] == [
        (tuple(drawn[:2]), ("faithfulness", "sanity")),
        (tuple(drawn[2:5]), ("faithfulness",)),
        (tuple(drawn[5:7]), ("faithfulness",)),
        ((-1,), ("context",)),
    ]


def test_what_is_done_is_not_done_again(configure: Any) -> None:
    evaluation = start(configure())
    first, second, third = stages.missing_portions(evaluation)
    done: list[int] = []
    shard = stages.evaluate_portion(evaluation, second, done.append)
    assert (shard.documents, shard.failures, sum(done)) == (3, 0, 3)
    assert held(evaluation.warehouse.files, evaluation.folder, column="doc_id") == set(second.doc_ids)
    assert stages.missing_portions(evaluation) == [first, third]
    assert len(run(evaluation)) == 2
    before = read_evaluation(evaluation.warehouse, evaluation.evaluation_id)
    again = start(evaluation.config)
    assert (again, run(again)) == (evaluation, [])
    assert read_evaluation(evaluation.warehouse, evaluation.evaluation_id) == before
    assert before.status == "complete"
    assert set(before.methods) == {"ca-lig", "ig", "random"}


def test_the_tables_hold_what_was_measured(configure: Any, tiny_rows: list[Row]) -> None:
    evaluation = start(configure())
    run(evaluation)
    root, drawn = (
        evaluation.warehouse.root,
        sample(evaluation.warehouse, evaluation.config, evaluation.corpus),
    )
    found = select(root, "SELECT DISTINCT method, share FROM evaluation WHERE metric = 'comprehensiveness'")
    assert set(found) == {(m, share) for m in SECTION["methods"] for share in (0.2, 0.5, None)}
    sane = select(root, "SELECT DISTINCT doc_id FROM evaluation WHERE metric = 'determinism'")
    assert {doc_id for (doc_id,) in sane} == set(drawn[:2])
    documents = select(
        root, "SELECT doc_id, source_id, words, label FROM evaluation_documents ORDER BY doc_id"
    )
    assert documents == [
        (i, tiny_rows[i]["id"], tiny_rows[i]["text"].split(), CLASSES[tiny_rows[i]["label"]])
        for i in sorted(drawn)
    ]
    assert select(root, "SELECT documents, failures, pairs FROM evaluations") == [(7, 0, 0)]
    costs = dict(select(root, "SELECT method, passes FROM evaluation_methods"))
    assert costs["random"] < 1 < costs["ig"]


def test_scores_are_the_explainers_own_by_word(
    configure: Any, tiny_model: Path, tiny_rows: list[Row]
) -> None:
    from calig import Explainer

    evaluation = start(configure())
    run(evaluation)
    explainer = Explainer.from_pretrained(str(tiny_model))
    paths = sorted(evaluation.folder.glob("scores-*.parquet"))
    found = [row for path in paths for row in pq.read_table(path).to_pylist() if row["method"] == "ca-lig"]
    assert len(found) == 7
    for row in found:
        [own] = explainer.explain([tiny_rows[row["doc_id"]]["text"]])
        assert row["scores"] == pytest.approx(own.scores[~own.is_special].tolist(), abs=0.02)
        assert row["passes"] > 1


def test_a_rationale_reaches_metrics_and_documents(configure: Any, tiny_rows: list[Row]) -> None:
    rows = marked(tiny_rows[:12])
    config = configure(rows, corpus={"rationale": "why"}, metrics=["faithfulness", "plausibility"])
    evaluation = start(config)
    run(evaluation)
    manifest = read_evaluation(evaluation.warehouse, evaluation.evaluation_id)
    drawn = sample(Warehouse.open(config.warehouse), config, evaluation.corpus)
    shares = [1 / len(rows[doc_id]["text"].split()) for doc_id in drawn]
    assert manifest.evaluation["rationale_share"] == pytest.approx(np.mean(shares))
    [(count,)] = select(
        evaluation.warehouse.root,
        "SELECT count(*) FROM evaluation WHERE metric = 'token_f1' AND value IS NOT NULL",
    )
    paths = sorted(evaluation.folder.glob("documents-*.parquet"))
    documents = [row for path in paths for row in pq.read_table(path).to_pylist()]
    assert {row["target"] == row["label"] for row in documents} == {True, False}
    for row in documents:
        marks = [True] + [False] * (len(row["words"]) - 1)
        assert row["rationale"] == (marks if row["target"] == row["label"] else None)
    assert count == 3 * sum(row["target"] == row["label"] for row in documents)


def test_failures_are_rows_and_a_gate(configure: Any, tiny_rows: list[Row]) -> None:
    rows = [*tiny_rows[:3], {**tiny_rows[0], "id": "nothing", "text": ""}]
    evaluation = start(configure(rows))
    run(evaluation)
    found = select(
        evaluation.warehouse.root,
        "SELECT source_id, failure, failure_detail FROM evaluation_documents WHERE failure IS NOT NULL",
    )
    assert found == [("nothing", "empty", "the text is empty")]
    with pytest.raises(GateError, match=r"1 of 4 documents failed \(25\.0%, limit 5\.0%\)"):
        stages.check_gates(evaluation)
    for limit in (Limit(limit=0.25), Limit(limit=0.05, severity="warn"), None):
        gates = evaluation.config.gates.model_copy(update={"max_failure_share": limit})
        stages.check_gates(replace(evaluation, config=evaluation.config.model_copy(update={"gates": gates})))


def test_the_key_covers_what_numbers_depend_on(configure: Any, tiny_rows: list[Row], tmp_path: Path) -> None:
    config = configure(marked(tiny_rows[:12]))
    model = audit.describe_model(config)
    warehouse = Warehouse.open(config.warehouse)
    corpus = audit.bring_in(warehouse, config, model)

    def changed(section: str, **values: Any) -> AuditConfig:
        own = getattr(config, section)
        return config.model_copy(update={section: own.model_copy(update=values)})

    pairs = tmp_path / "pairs.csv"
    keys = []
    for word in ("good", "film"):
        pairs.write_text(f"text,contrast,word\na good film,a not good film,{word}\n")
        keys.append(evaluation_key(changed("evaluation", pairs=str(pairs)), model, corpus, None))
    schedule = audit.read_schedule(audit.learn_schedule(warehouse, config, model, corpus))
    keys += [
        evaluation_key(other, card, held_corpus, learnt)
        for other, card, held_corpus, learnt in (
            (config, model, corpus, None),
            (config, model, corpus, schedule),
            (config, replace(model, hash="0" * 64), corpus, None),
            (config, model, replace(corpus, key="0"), None),
            (config, model, replace(corpus, rationale="why"), None),
            (changed("method", weight=0.1), model, corpus, None),
            (changed("method", target=1), model, corpus, None),
            (changed("evaluation", seed=5), model, corpus, None),
            (changed("evaluation", shares=(0.5,)), model, corpus, None),
            (changed("evaluation", methods=("ig",)), model, corpus, None),
        )
    ]
    assert len(set(keys)) == len(keys)
    same = [
        changed("runtime", shard_documents=1, workers=2),
        changed("gates", max_failure_share=Limit(limit=1.0)),
    ]
    same.append(config.model_copy(update={"name": "other", "warehouse": str(tmp_path / "w2")}))
    assert {evaluation_key(other, model, corpus, None) for other in same} == {keys[2]}


def test_a_learnt_schedule_is_used(configure: Any) -> None:
    config = configure()
    before = start(config)
    model = before.model
    audit.learn_schedule(Warehouse.open(config.warehouse), config, model, before.corpus)
    after = start(config)
    assert before.schedule is None
    assert after.schedule is not None
    assert after.evaluation_id != before.evaluation_id


def test_an_id_of_another_key_is_refused(configure: Any) -> None:
    evaluation = start(configure())
    manifest = read_evaluation(evaluation.warehouse, evaluation.evaluation_id)
    stages._write(evaluation, replace(manifest, key="f" * 32))
    with pytest.raises(InputError, match="another one has this id; set another name"):
        start(evaluation.config)


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ({"removals": ["blur"]}, "evaluation.removals: 'blur' is not one of delete, mask"),
        ({"pairs": "nowhere.csv"}, "nowhere.csv"),
        ({"methods": ["lig-99"]}, "lig-99"),
    ],
)
def test_what_the_model_cannot_do_is_one_line(
    section: dict[str, Any], complaint: str, configure: Any
) -> None:
    with pytest.raises(InputError) as error:
        start(configure(**section))
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_rationales_that_cannot_be_read_are_named_before_anything_is_measured(
    configure: Any, tiny_rows: list[Row]
) -> None:
    rows = [row | {"why": [["1", "x"]] if row["id"] == "r3" else []} for row in tiny_rows[:5]]
    config = configure(rows, corpus={"rationale": "why"}, metrics=["plausibility"])
    with pytest.raises(InputError, match=r"^corpus\.rationale: .*\(document r3\)$"):
        start(config)
    unmarked = [
        row | {"why": [{"start": 0, "end": 1}] if row["id"] == "r9" else []} for row in tiny_rows[:12]
    ]
    config = configure(unmarked[:9], corpus={"rationale": "why"}, metrics=["plausibility"])
    with pytest.raises(InputError, match=r"^(corpus\.rationale: no word|.*corpus\.rationale needs)"):
        start(config)


def test_an_evaluation_that_was_cut_off_says_so_and_goes_on(configure: Any) -> None:
    evaluation = start(configure())
    stages.mark_failed(evaluation)
    status = read_evaluation(evaluation.warehouse, evaluation.evaluation_id).status
    assert status == "failed"
    again = start(evaluation.config)
    assert read_evaluation(again.warehouse, again.evaluation_id).status == "running"
    assert len(run(again)) == 3
    lost = next(again.folder.glob("manifest-*.json"))
    lost.unlink()
    start(evaluation.config)
    assert read_evaluation(again.warehouse, again.evaluation_id).status == "running"
    assert len(run(again)) == 1


def test_images_have_no_rationales_nor_pairs(monkeypatch: pytest.MonkeyPatch, configure: Any) -> None:
    monkeypatch.setattr("calig.models.configuration.modality_of", lambda _: "image")
    monkeypatch.setattr(audit, "precheck", lambda *_: None)
    config = configure(pairs="sentiment")
    with pytest.raises(InputError, match=r"^evaluation\.pairs: the model reads images"):
        stages.precheck(Warehouse.open(config.warehouse), config)
