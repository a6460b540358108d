"""Pairs with known answers, on a model that is known: an adjective counts, and a denial turns it round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calig.attribution.quadrature import Float64
from calig.errors import InputError
from calig.evaluation.context import Pair, context, pairs, places
from calig.evaluation.subject import Case, Subject
from tests.calig.evaluation.planted import at
from tests.material import zoo

PLAIN = "a good film"


@dataclass(slots=True, eq=False)
class Denying(Subject):
    """Logit 3 for `good`, which `not` makes −3, and `great` hardly anything."""

    def logits(self, encoded: Sequence[Any]) -> Float64:
        return np.array([[0.0, _answer(item.tokens)] for item in encoded])


def _answer(tokens: Sequence[str]) -> float:
    return ("good" in tokens) * (-3.0 if "not" in tokens else 3.0) + 0.1 * ("great" in tokens)


def score(subject: Subject, found: Sequence[Case]) -> list[dict[str, Float64]]:
    """Methods that follow the answer, that are blind to context, that follow it by half, and the wrong way."""
    rows = []
    for case in found:
        good = np.array([token == "good" for token in case.encoded.tokens]).astype(np.float64)
        z = _answer(case.encoded.tokens) * (1 if case.target == 1 else -1)
        denied = "not" in case.encoded.tokens
        rows.append(
            {
                "true": z * good,
                "blind": good,
                "half": (1 if denied else 3) * good,
                "odd": (3 if denied else 1) * good,
            }
        )
    return rows


def subject() -> Denying:
    return Denying(zoo.explainer("bert"))


def test_a_denied_word_by_hand() -> None:
    (values,) = context(subject(), [Pair(PLAIN, "a not good film", "good")], score)
    found = {m: at(values, method=m, metric="context_sensitivity") for m in ("true", "blind", "half", "odd")}
    assert found == {"true": 1, "blind": 0, "half": 0.5, "odd": -0.5}
    agrees = {m: at(values, method=m, metric="context_agreement") for m in found}
    assert agrees == {"true": 1, "blind": 0, "half": 1, "odd": 0}


def test_the_class_explained_is_the_plain_texts_in_both() -> None:
    seen: list[Case] = []

    def watching(subject: Subject, found: Sequence[Case]) -> list[dict[str, Float64]]:
        seen.extend(found)
        return score(subject, found)

    (values,) = context(subject(), [Pair("a not good film", PLAIN, "good")], watching)
    assert [case.target for case in seen] == [0, 0]
    assert [case.document.text for case in seen] == ["a not good film", PLAIN]
    assert at(values, method="true", metric="context_sensitivity") == 1


def test_a_text_of_several_pairs_is_explained_once() -> None:
    seen: list[str] = []

    def watching(subject: Subject, found: Sequence[Case]) -> list[dict[str, Float64]]:
        seen.extend(case.document.text for case in found)
        return score(subject, found)

    given = [Pair(PLAIN, "a not good film", "good"), Pair(PLAIN, "not a good film", "good")]
    found = context(subject(), given, watching)
    assert sorted(seen) == sorted([PLAIN, "a not good film", "not a good film"])
    assert found == [context(subject(), [pair], score)[0] for pair in given]


def test_agreement_counts_only_where_the_models_own_probability_changes() -> None:
    (values,) = context(subject(), [Pair("a good film", "a good great film", "good")], score)
    assert np.isnan(at(values, method="true", metric="context_agreement"))
    assert at(values, method="true", metric="context_sensitivity") == pytest.approx(-0.1 / 6.1)


def test_a_control_has_the_size_of_the_change_and_nothing_else() -> None:
    (values,) = context(subject(), [Pair("a good film", "a good great film", "good", control=True)], score)
    assert {v.metric for v in values} == {"context_control"}
    assert at(values, method="true") == pytest.approx(0.1 / 6.1)
    assert at(values, method="blind") == 0


def test_scores_of_zero_do_not_change_and_scores_that_are_not_finite_have_no_number() -> None:
    def odd(subject: Subject, found: Sequence[Case]) -> list[dict[str, Float64]]:
        zero = [np.zeros(len(case.encoded)) for case in found]
        return [{"zero": own, "broken": own * np.nan} for own in zero]

    (values,) = context(subject(), [Pair(PLAIN, "a not good film", "good")], odd)
    assert at(values, method="zero", metric="context_sensitivity") == 0
    assert at(values, method="zero", metric="context_agreement") == 0
    assert all(np.isnan(v.value) for v in values if v.method == "broken")


def test_a_word_that_was_cut_off_gives_no_value() -> None:
    cut = Denying(zoo.explainer("bert", max_length=5))
    found = context(
        cut, [Pair(PLAIN, "a film full of good ideas", "good"), Pair(PLAIN, "a not good", "good")], score
    )
    assert [len(values) for values in found] == [0, 8]


def test_the_words_tokens_are_summed_on_a_real_model() -> None:
    real = Subject(zoo.explainer("roberta"))
    text, other = "a brilliant film", "a never brilliant film"

    def positions(subject: Subject, found: Sequence[Case]) -> list[dict[str, Float64]]:
        return [{"m": np.arange(len(case.encoded), dtype=np.float64)} for case in found]

    (values,) = context(real, [Pair(text, other, "brilliant")], positions)
    sums = []
    for one in (text, other):
        (encoded,) = real.encoder.encode([one])  # type: ignore[attr-defined]
        start = one.index("brilliant")
        own = [i for i, (s, e) in enumerate(encoded.char_spans) if s < start + 9 and e > start and s < e]
        assert len(own) > 1
        sums.append(sum(own))
    assert at(values, metric="context_sensitivity") == pytest.approx((sums[0] - sums[1]) / sum(sums))


def test_generated_pairs_hold_their_word_in_both_polarities_and_contexts() -> None:
    found = pairs("sentiment")
    assert len(set(found)) == len(found) > 100
    assert all(
        len(places(pair.word, pair.text)) == len(places(pair.word, pair.contrast)) == 1 for pair in found
    )
    denied = [pair for pair in found if not pair.control]
    assert Pair("The film was good.", "The film was not good.", "good") in denied
    assert Pair("The film was good.", "The film, which we saw in May, was good.", "good", True) in found
    for sign in ("not", "never", "hardly", "far from"):
        assert any(f" {sign} " in pair.contrast for pair in denied)
        assert not any(f" {sign} " in pair.contrast for pair in found if pair.control)
    words = Counter(pair.word for pair in denied)
    assert {"good", "bad"} <= set(words)
    assert len(set(words.values())) == 1


def test_a_word_stands_by_itself() -> None:
    assert places("art", "art, party art") == [(0, 3), (11, 14)]
    assert places("art", "party Art") == []
    assert places(" ", "a b") == []
    assert places("c++", "use c++ now") == [(4, 7)]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_pairs_of_ones_own_are_read_from_csv_and_json_lines(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"pairs.{suffix}"
    lines = {
        "csv": "word,text,contrast\ngood,a good film,a not good film\n3,3 films,not 3 films\n",
        "jsonl": '{"text": "a good film", "contrast": "a not good film", "word": "good"}\n'
        '{"text": "3 films", "contrast": "not 3 films", "word": "3"}\n',
    }
    file.write_text(lines[suffix])
    assert pairs(str(file)) == [Pair(PLAIN, "a not good film", "good"), Pair("3 films", "not 3 films", "3")]


def test_pairs_of_ones_own_are_read_from_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "pairs.parquet"
    pq.write_table(pa.table({"text": [PLAIN], "contrast": ["not good"], "word": ["good"], "n": [1]}), file)
    assert pairs(str(file)) == [Pair(PLAIN, "not good", "good")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,contrast\na,b\n", "has no column 'word'; context pairs have the columns text, contrast, word"),
        (
            "text,contrast,word\na good,not good,good\na good,dull,good\n",
            "row 2: the word 'good' is not in its contrast",
        ),
        ("text,contrast,word\na good,not good,\n", "row 1: the word '' is not in its text"),
        ("text,contrast,word\n", "has no rows"),
    ],
)
def test_unusable_files_of_pairs_are_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        pairs(str(file))
    assert "\n" not in str(error.value)
    assert "pairs.csv" in str(error.value)


def test_no_file_and_no_texts_are_refused() -> None:
    with pytest.raises(InputError, match="nowhere"):
        pairs("nowhere.csv")
    with pytest.raises(InputError, match="for models of texts"):
        context(Subject(zoo.explainer("vit")), pairs("sentiment"), score)
