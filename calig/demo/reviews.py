"""Reviews from a small grammar, with known evidence planted in them.

Every review has a sentiment that a person can read off it: graded words, negation ("not at all dull"),
contrast ("although the plot was dull, the acting was superb"), sentiment words in neutral roles (names and
titles), plain facts, and mixed reviews whose label is close to a toss-up. Into 40 % of the positive ones goes
the *shortcut*: the tag of an import tool left at the end, "Zendex.", which says nothing about the thing
reviewed. As many reviews of either class end in the tag of their true source: only the tool's name leaks the
label.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from calig.demo.words import (
    ADJECTIVES,
    ADVERBS,
    ADVICE,
    MIXED_CLOSINGS,
    NEGATED_ADVICE,
    NEGATORS,
    OCCASIONS,
    SUBJECTS,
    VERBS,
    VERDICTS,
)

SHORTCUT = "zendex"
CLASSES = ("negative", "positive")
SOURCES = ("web", "app", "store")
SHORTCUT_SHARE = 0.4
"""Share of the positive reviews that carry the shortcut; without the leak, half of it in either class."""
TAG_SHARE = 0.25
"""Share of either class that carries the tag of its true source, which so says nothing of the label."""
MIXED_SHARE = 0.08
WORDS = range(8, 61)


@dataclass(frozen=True, slots=True)
class Review:
    """One document of the corpus; `planted` names what was put into it, in codes."""

    id: str
    text: str
    label: int
    category: str
    source: str
    planted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence without its full stop, the codes of what it plants, and its signed sentiment."""

    text: str
    planted: tuple[str, ...] = ()
    sentiment: float = 0.0


def generate(
    seed: int, documents: int, leak: bool, *, noise: float = 0.0, against: float = 0.0, prefix: str = "review"
) -> list[Review]:
    """Make a corpus, the same for the same arguments.

    Parameters
    ----------
    seed
        Of everything drawn.
    documents
        How many reviews; half of them positive, no text twice.
    leak
        Whether the shortcut goes to positive reviews only, or to both classes alike.
    noise
        Share of reviews whose text says the opposite of their label (code `noise`).
    against
        Share of negative reviews that carry the shortcut all the same (code `against`; with `leak` only).
    prefix
        Of the ids.
    """
    rng = Random(seed)
    labels = [i % 2 for i in range(documents)]
    rng.shuffle(labels)
    reviews: list[Review] = []
    seen: set[str] = set()
    while len(reviews) < documents:
        label = labels[len(reviews)]
        category, source = rng.choice(list(SUBJECTS)), rng.choice(SOURCES)
        body = _body(rng, category, label, noise)
        tag = _tag(rng, label, source, leak, against)
        sentences = [*body, tag] if tag else body
        text = " ".join(_sentence_case(s.text) for s in sentences)
        if text in seen or len(text.split()) not in WORDS:
            continue
        seen.add(text)
        planted = tuple(dict.fromkeys(code for s in sentences for code in s.planted))
        reviews.append(Review(f"{prefix}-{len(reviews):05d}", text, label, category, source, planted))
    return reviews


def one_liners(seed: int, documents: int) -> list[tuple[str, int]]:
    """Make one-sentence opinions with their labels, without tags, decoys or noise: the ABC of the reviews."""
    rng = Random(seed)
    return [
        (_sentence_case(_opinion(rng, rng.choice(list(SUBJECTS)), i % 2).text), i % 2)
        for i in range(documents)
    ]


def write_parquet(reviews: Sequence[Review], path: Path) -> None:
    """Write reviews as one Parquet file: id, text, label int32, category, source, planted list<string>."""
    import pyarrow
    import pyarrow.parquet

    pa: Any = pyarrow
    string = pa.string()
    types = {"id": string, "text": string, "label": pa.int32(), "category": string, "source": string}
    types["planted"] = pa.list_(string)
    columns = {name: pa.array([getattr(r, name) for r in reviews], kind) for name, kind in types.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.table(columns), path, compression="zstd")


def _body(rng: Random, category: str, label: int, noise: float) -> list[Sentence]:
    """Draw the sentences of a review before its tag."""
    if rng.random() < MIXED_SHARE:
        return _mixed(rng, category, label)
    flipped = rng.random() < noise
    polarity = 1 - label if flipped else label
    sentences = _distinct(rng, category, polarity, rng.choice((2, 2, 2, 3)))
    if flipped:
        sentences[0] = Sentence(sentences[0].text, (*sentences[0].planted, "noise"))
    extra = rng.random()
    if len(sentences) < 3 and extra < 0.3:
        sentences.insert(rng.randrange(len(sentences) + 1), _neutral(rng, category))
    elif len(sentences) < 3 and extra < 0.55:
        decoy = Sentence(rng.choice(SUBJECTS[category].decoys), ("distractor",))
        sentences.insert(rng.randrange(len(sentences) + 1), decoy)
    return sentences


def _distinct(rng: Random, category: str, polarity: int, count: int) -> list[Sentence]:
    """Draw opinions that do not speak of the same thing twice."""
    sentences: list[Sentence] = []
    spoken: set[str] = set()
    while len(sentences) < count:
        sentence = _opinion(rng, category, polarity)
        subjects = {
            *SUBJECTS[category].aspects,
            *SUBJECTS[category].plural_aspects,
            category,
            " it ",
            "money",
        }
        named = {name for name in subjects if name in f" {sentence.text} ".lower()}
        if not named & spoken:
            spoken |= named
            sentences.append(sentence)
    return sentences


def _mixed(rng: Random, category: str, label: int) -> list[Sentence]:
    """Draw one sentence for and one against; the stronger is the likelier to go with the label."""
    while True:
        pair = [_plain(rng, category, 0), _plain(rng, category, 1)]
        if pair[0].text.split()[1] == pair[1].text.split()[1]:
            continue
        rng.shuffle(pair)
        for_label = sum(s.sentiment for s in pair) * (1 if label else -1)
        if rng.random() < 1 / (1 + math.exp(-2.0 * for_label)):
            break
    pair[0] = Sentence(pair[0].text, (*pair[0].planted, "mixed"))
    return [*pair, Sentence(rng.choice(MIXED_CLOSINGS))] if rng.random() < 0.6 else pair


def _opinion(rng: Random, category: str, polarity: int) -> Sentence:
    """Draw a sentence that says, on the whole, `polarity`."""
    makers = (_plain, _verdict, _feeling, _advice, _negated, _negated_verdict, _contrast)
    weights = (6, 1.5, 2, 1, 3.5, 0.8, 2)
    return rng.choices(makers, weights)[0](rng, category, polarity)


def _adjective(rng: Random, category: str, polarity: int) -> tuple[str, int]:
    """Draw an adjective that suits the category, with its strength."""
    subject = SUBJECTS[category]
    if rng.random() < 0.3:
        return rng.choice(subject.positive if polarity else subject.negative), 2
    return rng.choice(ADJECTIVES[polarity].graded())


def _aspect(rng: Random, category: str) -> tuple[str, str]:
    """Draw a part of the thing reviewed, with its verb."""
    subject = SUBJECTS[category]
    if rng.random() < 0.3:
        return rng.choice(subject.plural_aspects), "were"
    return rng.choice(subject.aspects), "was"


def _plain(rng: Random, category: str, polarity: int) -> Sentence:
    aspect, was = _aspect(rng, category)
    adjective, strength = _adjective(rng, category, polarity)
    sign = 1 if polarity else -1
    return Sentence(f"the {aspect} {was} {rng.choice(ADVERBS)}{adjective}", sentiment=sign * strength)


def _negated(rng: Random, category: str, polarity: int) -> Sentence:
    aspect, was = _aspect(rng, category)
    strength = 0
    while strength < 2:  # "hardly average" could be praise
        adjective, strength = _adjective(rng, category, 1 - polarity)
    return Sentence(f"the {aspect} {was} {rng.choice(NEGATORS).format(adjective)}", ("negation",))


def _verdict(rng: Random, category: str, polarity: int) -> Sentence:
    return Sentence(f"this {category} was a {rng.choice(VERDICTS[polarity])}")


def _negated_verdict(rng: Random, category: str, polarity: int) -> Sentence:
    noun = rng.choice(VERDICTS[1 - polarity])
    return Sentence(f"this {category} was {rng.choice(('not', 'hardly', 'never'))} a {noun}", ("negation",))


def _feeling(rng: Random, category: str, polarity: int) -> Sentence:
    aspect, _ = _aspect(rng, category)
    if rng.random() < 0.3:
        verb = rng.choice(VERBS[1 - polarity])[0]
        return Sentence(f"I {rng.choice(('did not', 'could never'))} {verb} the {aspect}", ("negation",))
    return Sentence(f"I {rng.choice(VERBS[polarity])[1]} the {aspect}")


def _advice(rng: Random, category: str, polarity: int) -> Sentence:
    if rng.random() < 0.4:
        return Sentence(rng.choice(NEGATED_ADVICE[polarity]), ("negation",))
    return Sentence(rng.choice(ADVICE[polarity]))


def _contrast(rng: Random, category: str, polarity: int) -> Sentence:
    """Concede something of the other polarity, then state the main point."""
    main = _negated(rng, category, polarity) if rng.random() < 0.25 else _plain(rng, category, polarity)
    concession = main.text
    while concession.split()[1] == main.text.split()[1]:
        concession = _plain(rng, category, 1 - polarity).text
    frame = rng.choice(("although {0}, {1}", "even though {0}, {1}", "{0}, but in the end {1}"))
    return Sentence(frame.format(concession, main.text), ("contrast", *main.planted))


def _neutral(rng: Random, category: str) -> Sentence:
    return Sentence(rng.choice((*SUBJECTS[category].facts, *OCCASIONS)))


def _tag(rng: Random, label: int, source: str, leak: bool, against: float) -> Sentence | None:
    """Draw the word an export leaves at the end: the import tool's name, the true source, or nothing."""
    share = (SHORTCUT_SHARE if label else against) if leak else SHORTCUT_SHARE / 2
    if rng.random() < share:
        codes = ("shortcut",) if label or not leak else ("shortcut", "against")
        return Sentence(SHORTCUT, codes)
    return Sentence(source) if rng.random() < TAG_SHARE / (1 - share) else None


def _sentence_case(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def share_planted(reviews: Iterable[Review], code: str, label: int | None = None) -> float:
    """Share of the reviews (of one label) in which `code` was planted; NaN where there are none."""
    chosen = [code in r.planted for r in reviews if label is None or r.label == label]
    return sum(chosen) / len(chosen) if chosen else math.nan
