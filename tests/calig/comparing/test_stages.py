"""Real audits of tiny models compared: the same model, another one, another corpus, and a model that is gone."""

from __future__ import annotations

import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calig import workers
from calig.attribution.explainer import Explainer
from calig.comparing import stages
from calig.comparison.layers import MEASURES
from calig.config import parse_config
from calig.config.history import CompareConfig
from calig.errors import InputError
from calig.models.loading import load_pretrained
from calig.warehouse.aggregate import rebuild
from calig.warehouse.compact import delete_shard
from calig.warehouse.comparisons import read_table
from calig.warehouse.layout import Warehouse
from calig.warehouse.references import Reference
from calig.warehouse.shards import completed
from tests.material import zoo
from tests.material.heads import HandRun, run_stages, save_head
from tests.material.tiers import extended
from tests.material.tiny import audit_config, make_rows, save_model, select, shard_times, write_parquet

DOCUMENTS = 40


@dataclass(frozen=True)
class House:
    """A warehouse with four runs: of one model twice, of another on the same corpus, of the first on another corpus."""

    warehouse: Warehouse
    first: str
    again: str
    retrained: str
    leaked: str
    models: Path

    def row(self, reference: str, run: str, **limits: Any) -> dict[str, Any]:
        wanted = stages.Wanted(run, Reference(reference, reference), CompareConfig(**limits), 0.05)
        return stages.compare_runs(self.warehouse, wanted)

    def table(self, reference: str, run: str, file: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = read_table(self.warehouse.comparison(run, reference), file).to_pylist()
        return rows


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    root = tmp_path_factory.mktemp("house")
    models = [save_model(root / f"model-{seed}", seed) for seed in (0, 1)]
    rows, others = make_rows(DOCUMENTS), make_rows(DOCUMENTS, seed=5)
    for row in others[:20]:
        row["text"] += " zendex"
    corpora = [write_parquet(root / f"{i}.parquet", own) for i, own in enumerate((rows, others))]

    def run(model: int, corpus: int) -> str:
        return run_stages(audit_config(models[model], corpora[corpus], root / "warehouse")).run_id

    return House(Warehouse.open(root / "warehouse"), run(0, 0), run(0, 0), run(1, 0), run(0, 1), root)


def test_the_same_model_on_the_same_corpus_has_not_changed(house: House) -> None:
    row = house.row(house.first, house.again, min_effect=0, min_share=0, min_size=0)
    assert (row["changed"], row["verdict"]) == (False, "nothing changed")
    assert (row["paired"], row["flips"], row["explained_again"]) == (DOCUMENTS, 0, 0)
    assert (row["same_model"], row["same_corpus"]) == (True, True)
    for document in house.table(house.first, house.again, "documents"):
        assert document["rank_agreement"] == pytest.approx(1)
        assert document["jensen_shannon"] == pytest.approx(0, abs=1e-9)
        assert document["logit_a"] == document["logit_b"]


def test_what_flipped_is_explained_again_for_the_first_run_s_class(house: House) -> None:
    row = house.row(house.first, house.retrained)
    hand = [HandRun(house.models / f"model-{seed}") for seed in (0, 1)]
    explainer = Explainer(load_pretrained(str(house.models / "model-1")))
    corpus = dict(select(house.warehouse.root, "SELECT doc_key, text FROM documents", house.first))
    flips = 0
    for document in house.table(house.first, house.retrained, "documents"):
        text = corpus[document["doc_key"]]
        logits = [one.logits(text) for one in hand]
        target = int(logits[0].argmax())
        assert document["target"] == document["predicted_a"] == ("negative", "positive")[target]
        assert document["logit_b"] == pytest.approx(logits[1][target], abs=1e-3)
        probability = np.exp(logits[1][target]) / np.exp(logits[1]).sum()
        assert document["probability_b"] == pytest.approx(probability, abs=1e-3)
        assert document["flipped"] == (logits[1].argmax() != target)
        if document["flipped"] and not flips:
            _check_word(explainer, text, target, document, house)
        flips += document["flipped"]
    assert 0 < flips < DOCUMENTS
    assert (row["flips"], row["explained_again"], row["left_out"]) == (flips, flips, 0)
    words = house.table(house.first, house.retrained, "words")
    assert sum(word["flips"] for word in words if word["class"] == "*") <= flips


def test_the_same_text_is_a_pair_where_its_label_is_explained_and_was_another(house: House) -> None:
    rows = make_rows(DOCUMENTS)
    for row in rows[:4]:
        row["label"] = 1 - row["label"]
    corpus = write_parquet(house.models / "relabelled.parquet", rows)
    config = audit_config(house.models / "model-0", corpus, house.warehouse.root)
    config = config.model_copy(update={"method": config.method.model_copy(update={"target": "label"})})
    run = run_stages(config).run_id
    row = house.row(house.first, run)
    assert (row["paired"], row["text_changed"], row["only_b"], row["flips"]) == (DOCUMENTS, 0, 0, 0)
    documents = house.table(house.first, run, "documents")
    assert (
        (row["tests_paired"], row["left_out"])
        == (True, sum(d["logit_b"] is None for d in documents))
        == (True, 0)
    )
    shown = [
        dict(select(house.warehouse.root, "SELECT doc_key, target FROM documents", one))
        for one in (house.first, run)
    ]
    assert row["explained_again"] == sum(shown[0][key] != shown[1][key] for key in shown[0]) > 0
    assert row["differences"] == ["the setting method.target changed from predicted to label"]


def _check_word(explainer: Explainer, text: str, target: int, document: dict[str, Any], house: House) -> None:
    """The change of the word that changed most, from the library's own explanation of that class."""
    a = explainer.explain([text], target)[0]
    effects = a.layer_ig[:-1].mean(axis=0)
    own = sum(effects[i] for i in range(len(a.tokens)) if a.tokens[i] == document["word"])
    before = select(
        house.warehouse.root,
        f"SELECT sum(logit_effect) FROM words JOIN documents USING (doc_id) "
        f"WHERE doc_key = '{document['doc_key']}' AND word = '{document['word']}'",
        house.first,
    )
    assert document["word_change"] == pytest.approx(own - before[0][0], abs=0.02)


def test_what_is_there_is_not_computed_again(house: House) -> None:
    house.row(house.first, house.retrained)
    folder = house.warehouse.comparison(house.retrained, house.first)
    shards, manifest = shard_times(house.warehouse.root), folder / "manifest.json"
    written = manifest.stat().st_mtime_ns
    house.row(house.first, house.retrained)
    assert manifest.stat().st_mtime_ns == written
    shutil.rmtree(folder)
    house.row(house.first, house.retrained, alpha=0.01)
    assert manifest.stat().st_mtime_ns > written
    assert shard_times(house.warehouse.root) == shards


def test_a_word_that_is_new_in_another_night_s_corpus_is_found(house: House) -> None:
    row = house.row(house.first, house.leaked)
    assert row["verdict"].startswith("'zendex' is new: in 20 of 40 documents")
    assert (row["paired"], row["flips"], row["same_corpus"], row["same_model"]) == (0, None, False, True)
    assert row["words_changed"] == len(
        {w["word"] for w in house.table(house.first, house.leaked, "words") if w["changed"]}
    )
    assert not row["tests_paired"]
    words = {(w["word"], w["class"]): w for w in house.table(house.first, house.leaked, "words")}
    assert words["zendex", "*"]["change"] == "new"
    assert words["zendex", "*"]["effect_a"] is None
    # means as the runs' own tables have them
    for side, run in (("a", house.first), ("b", house.leaked)):
        for word, name, documents, effect in select(
            house.warehouse.root, "SELECT word, class, documents, effect FROM word_stats", run
        ):
            own = words[word, name]
            assert own[f"documents_{side}"] == documents
            assert own[f"effect_{side}"] == pytest.approx(effect)
    # both corpora call their documents by the same ids
    documents = house.table(house.first, house.leaked, "documents")
    assert row["text_changed"] == len(documents) == DOCUMENTS
    assert all(document["text_changed"] for document in documents)
    assert f"text changed: {DOCUMENTS}, of which" in row["verdict"]


@pytest.mark.parametrize("paired", [False, True])
def test_one_name_is_one_number_in_the_comparison_and_in_the_runs_tables(house: House, paired: bool) -> None:
    other = house.again if paired else house.leaked
    house.row(house.first, other)
    layers = house.table(house.first, other, "layers")
    assert {r["class"] for r in layers} == {"*", "negative", "positive"}
    for side, run in (("a", house.first), ("b", other)):
        [names, *known] = _with_names(house, "layer_stats", run)
        table = {
            (row["class"], row["depth"]): row for row in (dict(zip(names, own, strict=True)) for own in known)
        }
        for row in layers:
            expected = table[row["class"], row["depth"]]
            assert row[side] == pytest.approx(expected[row["measure"]], rel=1e-9), (row["measure"], side)
            assert row[f"documents_{side}"] <= expected["documents"]
    assert {r["measure"] for r in layers} == set(MEASURES)


def _with_names(house: House, table: str, run: str) -> list[tuple[Any, ...]]:
    names = [
        name for (name,) in select(house.warehouse.root, f"SELECT column_name FROM (DESCRIBE {table})", run)
    ]
    return [tuple(names), *select(house.warehouse.root, f"SELECT * FROM {table}", run)]


def test_documents_are_paired_by_content_in_a_mixture_and_by_id_where_their_text_changed(
    house: House,
) -> None:
    rows = make_rows(DOCUMENTS)
    for row in rows[:5]:
        row["text"] += " zendex"  # changed, under its id
    for place, row in enumerate(rows[5:15]):
        row["id"] = f"other-{place}"  # the same text under another id
    for row, new in zip(rows[15:25], make_rows(10, seed=7), strict=True):
        row["text"] = new["text"]  # another text, and no id
        row["id"] = None
    corpus = write_parquet(house.models / "mixture.parquet", rows)
    run = run_stages(audit_config(house.models / "model-1", corpus, house.warehouse.root)).run_id
    row = house.row(house.first, run)
    assert (row["paired"], row["text_changed"], row["only_a"], row["only_b"]) == (25, 5, 10, 10)
    assert (row["tests_paired"], row["explained_again"]) == (False, 0)
    documents = house.table(house.first, run, "documents")
    same, edited = ([d for d in documents if d["text_changed"] is own] for own in (False, True))
    assert (len(same), len(edited)) == (25, 5)
    assert row["flips"] == sum(d["flipped"] for d in same) > 0
    assert row["flip_share"] == row["flips"] / 25
    for document in documents:  # another class is another explanation
        comparable = document["predicted_b"] == document["target"]
        assert (document["logit_b"] is not None) == comparable
        assert (document["word_change"] is not None) == (comparable and not document["text_changed"])
    assert row["left_out"] == sum(d["logit_b"] is None for d in same)
    flipped = sum(d["flipped"] for d in edited)
    assert (
        f"text changed: 5, of which {flipped} {'is' if flipped == 1 else 'are'} predicted otherwise"
        in row["verdict"]
    )
    assert f"{row['flips']} of 25 predictions changed" in row["verdict"]
    [new] = [r for r in house.table(house.first, run, "outcomes") if r["measure"] == "new documents"]
    assert new["b"] == 10 / DOCUMENTS
    assert stages.is_there(
        house.warehouse, stages.Wanted(run, Reference(house.first, house.first), CompareConfig(), 0.05)
    )


def test_the_tables_hold_the_comparison_and_are_rebuilt_from_files(house: House, tmp_path: Path) -> None:
    house.row(house.first, house.leaked)
    root = tmp_path / "copy"
    shutil.copytree(house.warehouse.root, root)
    ask = "SELECT word, share_b FROM comparison_words WHERE changed AND class = '*'"
    assert select(root, ask, house.leaked) == [("zendex", 0.5)]
    assert select(root, ask, house.first) == []
    shutil.rmtree(root / "runs" / house.first)  # the reference is pruned
    (root / "calig.duckdb").unlink()
    rebuild(Warehouse.open(root))
    assert select(root, ask, house.leaked) == [("zendex", 0.5)]
    assert select(root, "SELECT reference_id, words_changed > 0 FROM comparisons", house.leaked) == [
        (house.first, True)
    ]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_model_that_is_gone_or_another_leaves_documents_out_and_says_so(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    monkeypatch.setattr(workers, "_worker", threading.local())  # which may hold the model
    root = tmp_path / "copy"
    shutil.copytree(house.warehouse.root, root, ignore=shutil.ignore_patterns("comparisons"))
    warehouse = Warehouse.open(root)
    for folder in (root / "attributions").iterdir():
        for shard in completed(warehouse.files, folder):
            if not shard.paid:  # by no run: what was explained again
                delete_shard(warehouse.files, folder, shard.shard)
    away = (house.models / "model-1").rename(house.models / "away")
    if replaced:
        shutil.copytree(house.models / "model-0", house.models / "model-1")
    try:
        copy = House(warehouse, house.first, house.again, house.retrained, house.leaked, house.models)
        row = copy.row(house.first, house.retrained)
    finally:
        shutil.rmtree(house.models / "model-1", ignore_errors=True)
        away.rename(house.models / "model-1")
    assert row["explained_again"] == 0
    assert row["left_out"] == row["flips"] > 0
    assert row["verdict"].endswith(f"{row['flips']} documents left out, which could not be explained again")
    documents = copy.table(house.first, house.retrained, "documents")
    assert all((d["logit_b"] is None) == d["flipped"] for d in documents)


@extended("an audit of a model of its own; the gates of slow drift tell depths apart in the first tier")
def test_models_of_different_depth_are_compared_without_their_layers(house: House) -> None:
    shallow = save_head(house.models / "shallow", ("negative", "positive"))
    config = audit_config(shallow, house.models / "0.parquet", house.warehouse.root)
    run = run_stages(config).run_id
    row = house.row(house.first, run)
    assert row["layers_tested"] == 0
    assert row["verdict"].endswith("layers are not compared, of 3 and 2 blocks")
    assert row["paired"] == DOCUMENTS
    measures = {r["measure"] for r in house.table(house.first, run, "outcomes")}
    assert "settling depth" not in measures


@extended("two audits of each head; in the first tier predictions of one label flip")
@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        pytest.param(("art", "law", "war"), "multi_label_classification", id="several labels"),
        pytest.param(("stars",), "regression", id="a number"),
    ],
)
def test_documents_flip_under_every_head_but_that_of_a_number(
    classes: tuple[str, ...], problem: str, tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = make_rows(20)
    for row in rows:
        row["label"] = [row["label"]] if len(classes) > 1 else float(row["label"])
    corpus = write_parquet(tmp_path / "corpus.parquet", rows)
    models = [save_head(tmp_path / str(seed), classes, problem, seed) for seed in (0, 1)]
    runs = [run_stages(audit_config(model, corpus, tmp_path / "w")) for model in models]
    warehouse = runs[0].warehouse
    house = House(warehouse, runs[0].run_id, "", runs[1].run_id, "", tmp_path)
    row = house.row(house.first, house.retrained)
    outcomes = house.table(house.first, house.retrained, "outcomes")
    measures = {r["measure"] for r in outcomes}
    if len(classes) > 1:
        assert row["explained_again"] == row["flips"] > 0
        _check_predicted_shares(house, outcomes)
        return
    assert (row["flips"], row["class_psi"], row["left_out"]) == (None, None, 0)
    assert {"output", "error"} < measures
    errors = [r for r in outcomes if r["measure"] == "error"]
    for side, run in (("a", house.first), ("b", house.retrained)):
        known = select(warehouse.root, "SELECT mean_absolute_error FROM runs WHERE run_id = '" + run + "'")
        assert errors[0][side] == pytest.approx(known[0][0])


def _check_predicted_shares(house: House, outcomes: list[dict[str, Any]]) -> None:
    """Of several classes a document is predicted as all above a half, as in the run's own table."""
    for side, run in (("a", house.first), ("b", house.retrained)):
        known = dict(select(house.warehouse.root, "SELECT class, predicted FROM class_stats", run))
        shares = {r["class"]: r[side] for r in outcomes if r["measure"] == "predicted share"}
        assert shares == pytest.approx({name: count / 20 for name, count in known.items()})
        assert sum(known.values()) != 20


def test_images_are_compared_by_regions_in_place_of_words(tmp_path: Path) -> None:
    for number, picture in enumerate(zoo.pictures(10, side=40)):
        path = tmp_path / "photos" / zoo.images.CLASSES[number % 3] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    runs = []
    for seed in (0, 1):
        zoo.save("vit", tmp_path / str(seed), seed)
        data = {"name": "photos", "model": {"id": str(tmp_path / str(seed))}}
        data["runtime"] = {"device": "cpu", "threads": 1}  # models this small are slower on more
        data |= {
            "corpus": {"path": str(tmp_path / "photos"), "label": "label"},
            "warehouse": str(tmp_path / "w"),
        }
        runs.append(run_stages(parse_config(data)))
    house = House(runs[0].warehouse, runs[0].run_id, "", runs[1].run_id, "", tmp_path)
    row = house.row(house.first, house.retrained)
    assert row["explained_again"] == row["flips"]
    words = [w for w in house.table(house.first, house.retrained, "words") if w["class"] == "*"]
    assert {w["word"] for w in words} > {"top left", "centre", "border"}
    assert {w["share_a"] for w in words} == {1}


def test_a_run_is_not_compared_with_itself_or_another_kind(house: House, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="with itself"):
        house.row(house.first, house.first)
    stars = save_head(house.models / "stars", ("stars",), "regression")
    run = run_stages(audit_config(stars, house.models / "0.parquet", house.warehouse.root)).run_id
    with pytest.raises(InputError, match="head is single_label, and this one's regression"):
        house.row(house.first, run)
