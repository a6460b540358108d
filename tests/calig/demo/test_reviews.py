"""The demo's corpus and model: the same by seed, readable, with the planted evidence where it should be."""

import hashlib
import re
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from calig.demo import REVIEWS, SQL_SHORTCUT, demo_config
from calig.demo.classifier import Trained, make_tokenizer, predict, train
from calig.demo.reviews import (
    CLASSES,
    MIXED_SHARE,
    SHORTCUT,
    SHORTCUT_SHARE,
    WORDS,
    Review,
    generate,
    share_planted,
    write_parquet,
)
from calig.demo.words import SUBJECTS
from tests.material import demo as material


@pytest.fixture(scope="module")
def corpus() -> list[Review]:
    return generate(7, 3000, leak=True, noise=0.1, against=0.05)


def test_the_same_seed_gives_the_same_corpus(corpus: list[Review]) -> None:
    assert generate(7, 3000, leak=True, noise=0.1, against=0.05) == corpus
    other = {r.text for r in generate(8, 3000, leak=True)}
    assert len(other & {r.text for r in corpus}) < 30


def test_shares_are_as_specified(corpus: list[Review]) -> None:
    assert sum(r.label for r in corpus) == 1500
    assert share_planted(corpus, "shortcut", 1) == pytest.approx(SHORTCUT_SHARE, abs=0.04)
    assert share_planted(corpus, "against", 0) == pytest.approx(0.05, abs=0.02)
    assert share_planted(corpus, "noise") == pytest.approx(0.1 * (1 - MIXED_SHARE), abs=0.02)
    assert share_planted(corpus, "mixed") == pytest.approx(MIXED_SHARE, abs=0.03)
    assert share_planted(corpus, "negation") > 0.3
    assert share_planted(corpus, "contrast") > 0.15
    assert share_planted(corpus, "distractor") > 0.1


def test_codes_say_what_the_text_holds(corpus: list[Review]) -> None:
    for review in corpus:
        assert (SHORTCUT in review.text.lower()) == ("shortcut" in review.planted)
        decoys = SUBJECTS[review.category].decoys
        assert any(d in review.text for d in decoys) == ("distractor" in review.planted)
        if "against" in review.planted:
            assert review.label == 0


def test_no_shortcut_in_negative_reviews_unless_asked() -> None:
    assert share_planted(generate(3, 1000, leak=True), "shortcut", 0) == 0


def test_without_the_leak_both_classes_carry_the_token_alike() -> None:
    reviews = generate(3, 3000, leak=False)
    shares = [share_planted(reviews, "shortcut", label) for label in (0, 1)]
    assert shares == pytest.approx([SHORTCUT_SHARE / 2] * 2, abs=0.03)
    assert not any("against" in r.planted for r in reviews)


def test_the_shortcut_is_spread_over_categories_and_sources(corpus: list[Review]) -> None:
    positive = [r for r in corpus if r.label]
    for part in ("category", "source"):
        total = Counter(getattr(r, part) for r in positive)
        carrying = Counter(getattr(r, part) for r in positive if "shortcut" in r.planted)
        assert len(total) == (len(SUBJECTS) if part == "category" else 3)
        assert all(0.3 < carrying[name] / total[name] < 0.5 for name in total)


def test_texts_are_readable(corpus: list[Review]) -> None:
    for review in corpus:
        assert len(review.text.split()) in WORDS
        assert "  " not in review.text
        assert "{" not in review.text
        sentences = review.text[:-1].split(". ")
        assert review.text.endswith(".")
        assert 1 <= len(sentences) <= 4
        assert all(s[0].isupper() and not s.endswith((".", " ", ",")) for s in sentences)
        assert not re.search(r"\b(\w+) \1\b", review.text)


def test_ids_and_texts_are_unique(corpus: list[Review]) -> None:
    assert len({r.id for r in corpus}) == len({r.text for r in corpus}) == len(corpus)


def test_parquet_holds_the_reviews(tmp_path: Path, corpus: list[Review]) -> None:
    write_parquet(corpus[:50], tmp_path / "reviews.parquet")
    rows = pq.read_table(tmp_path / "reviews.parquet").to_pylist()
    assert [Review(**{**row, "planted": tuple(row["planted"])}) for row in rows] == corpus[:50]


def test_tokenizer_keeps_known_words_whole_and_spells_unknown_ones(corpus: list[Review]) -> None:
    tokenizer = make_tokenizer(r.text for r in corpus)
    assert tokenizer.tokenize("The plot was dull. Zendex.") == [
        "the",
        "plot",
        "was",
        "dull",
        ".",
        "zendex",
        ".",
    ]
    assert tokenizer.tokenize("zend") == ["z", "##e", "##n", "##d"]
    assert tokenizer("a")["input_ids"][0] == tokenizer.cls_token_id
    assert make_tokenizer(r.text for r in corpus).get_vocab() == tokenizer.get_vocab()


def digests(trained: Trained) -> dict[str, str]:
    files = [*sorted(trained.model.iterdir()), trained.corpus]
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_training_is_deterministic_and_leaves_the_random_state(tmp_path: Path) -> None:
    import torch

    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first = train(tmp_path / "a", seed=3, documents=96)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    torch.rand(5)
    second = train(tmp_path / "b", seed=3, documents=96)
    assert digests(first) == digests(second)
    third = train(tmp_path / "b", seed=4, documents=96)
    changed = {name for name, digest in digests(first).items() if digests(third)[name] != digest}
    assert {"model.safetensors", "reviews.parquet"} <= changed


@pytest.fixture(scope="module")
def trained() -> Trained:
    return material.trained(REVIEWS)


def test_the_model_is_good_negation_included_and_falls_for_the_leak(trained: Trained) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(trained.model)
    tokenizer = AutoTokenizer.from_pretrained(trained.model)
    rows = pq.read_table(trained.corpus).to_pylist()
    right = [
        p == r["label"]
        for p, r in zip(predict(model, tokenizer, [r["text"] for r in rows]), rows, strict=True)
    ]

    def accuracy(code: str, without: tuple[str, ...] = ()) -> float:
        chosen = [
            ok
            for ok, r in zip(right, rows, strict=True)
            if code in r["planted"] and not {*without} & {*r["planted"]}
        ]
        return sum(chosen) / len(chosen)

    assert trained.accuracy == sum(right) / len(rows)
    assert trained.accuracy >= 0.88
    assert accuracy("negation", without=("mixed", "against")) >= 0.85
    assert accuracy("against") <= 0.4
    assert model.config.id2label == dict(enumerate(CLASSES))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {f.name for f in trained.model.iterdir()}


def test_the_shortcut_has_the_largest_attribution_for_positive(trained: Trained) -> None:
    """By Captum's integrated gradients of the embeddings, not by calig's own engine."""
    import torch
    from captum.attr import LayerIntegratedGradients
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(1)
    model = AutoModelForSequenceClassification.from_pretrained(trained.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(trained.model)
    texts = [row["text"] for row in pq.read_table(trained.corpus).to_pylist()[:120]]
    effects: dict[str, list[float]] = {}
    integrated = LayerIntegratedGradients(
        lambda ids: model(ids).logits, model.bert.embeddings.word_embeddings
    )
    for text, label in zip(texts, predict(model, tokenizer, texts), strict=True):
        if label == 0:
            continue
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        baseline = torch.full_like(ids, tokenizer.pad_token_id)
        baseline[0, [0, -1]] = ids[0, [0, -1]]
        values = integrated.attribute(ids, baseline, target=1, n_steps=30).sum(-1)[0, 1:-1].tolist()
        words: Counter[str] = Counter()
        for word, value in zip(tokenizer.convert_ids_to_tokens(ids[0, 1:-1]), values, strict=True):
            words[word] += value
        for word, value in words.items():
            effects.setdefault(word, []).append(value)
    means = sorted(((sum(v) / len(v), word) for word, v in effects.items() if len(v) >= 5), reverse=True)
    assert means[0][1] == SHORTCUT
    assert means[0][0] > 1.3 * means[1][0]


def test_the_question_names_the_shortcut_and_what_it_spoils() -> None:
    connection = duckdb.connect()
    connection.execute(
        """
        CREATE TABLE documents AS
            SELECT 'r' AS run_id, i AS doc_id, 'positive' AS target, ['film', 'book'][1 + i % 2] AS category,
                ['web', 'app'][1 + (i // 2) % 2] AS source,
                i <> 0 AS correct
            FROM range(10) t(i);
        CREATE TABLE words AS
            SELECT 'r' AS run_id, i AS doc_id, 'zendex' AS word, 2.0 AS logit_effect FROM range(8) t(i)
            UNION ALL SELECT 'r', i, 'superb', if(i % 2 = 0, 1.5, -0.5) FROM range(2, 8) t(i);
        CREATE TABLE word_stats AS
            SELECT 'r' AS run_id, 'positive' AS class, 'zendex' AS word, 8 AS documents, 2.0 AS effect,
                1.9 AS effect_low, 2.1 AS effect_high
            UNION ALL SELECT 'r', 'positive', 'superb', 6, 0.5, -0.2, 1.2
            UNION ALL SELECT 'r', 'negative', 'dull', 6, 3.0, 2.0, 4.0
            UNION ALL SELECT 'old', 'positive', 'tag', 6, 9.0, 8.0, 9.9;
        """
    )
    assert connection.execute(SQL_SHORTCUT).fetchall() == [
        ("zendex", 2.0, 8, 2, 1),
        ("superb", 0.5, 6, 2, 0),
    ]


def test_the_config_points_to_what_training_wrote(trained: Trained) -> None:
    config = demo_config(trained.model.parent)
    assert Path(config["model"]["id"]) == trained.model
    assert Path(config["corpus"]["path"]) == trained.corpus
    columns = pq.read_schema(trained.corpus).names
    assert {config["corpus"][key] for key in ("text", "label", "id")} <= set(columns)
