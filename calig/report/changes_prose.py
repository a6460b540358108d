"""The sentences of a comparison's page: what the two runs are, what drifted how far, and how it was tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from calig.comparison.counts import listed, of_kind
from calig.comparison.verdict import CANNOT_TELL, NOTHING
from calig.report.changes_data import Changes, Comparison, Outcome, Side
from calig.report.formats import integer, number, percent, plain, plural, signed

PSI_SMALL, PSI_LARGE = 0.1, 0.25
"""Rules of thumb of the population stability index: below the first little, above the second much."""
SHARES = ("accuracy", "share", "documents", "probability")
"""Measures with one of these in their name are shares."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A divergence with its rule of thumb: what it is of, PSI and Jensen-Shannon divergence in bits, the verdict."""

    title: str
    psi: float | None
    js: float | None
    size: str
    by_chance: float | None = None
    too_few: bool = False

    @property
    def said(self) -> str:
        """The rule of thumb's word for it, unless chance alone reaches as far."""
        if self.psi and self.too_few:
            return "too few documents to tell"
        if self.psi and self.by_chance is not None and self.psi <= self.by_chance:
            return f"no more than chance, which reaches {number(self.by_chance, 2)}"
        return {"small": "little", "medium": "some", "large": "much", "": ""}[self.size]


def drifts(comparison: Comparison) -> list[Drift]:
    """The divergences of predicted classes, confidence and layer profile."""
    drawn = bool(comparison.psi_draws)
    found = []
    for title, psi, js, by_chance in (
        ("Predicted classes", comparison.class_psi, comparison.class_js, comparison.class_psi_by_chance),
        ("Layer profile", comparison.layer_psi, None, comparison.layer_psi_by_chance),
    ):
        small = by_chance is not None and psi is not None and psi <= by_chance
        too_few = psi is not None and drawn and by_chance is None
        style = "small" if small or too_few else size(psi)
        found.append(Drift(title, psi, js, style, by_chance, drawn and by_chance is None))
    psi = comparison.confidence_psi
    return [found[0], Drift("Confidence", psi, comparison.confidence_js, size(psi)), found[1]]


def size(psi: float | None) -> str:
    """small, medium or large by the rule of thumb; empty for no value."""
    if psi is None:
        return ""
    return "small" if psi < PSI_SMALL else "large" if psi > PSI_LARGE else "medium"


class Told(Protocol):
    """What the state of a comparison is read from: columns of the table `comparisons`."""

    @property
    def changed(self) -> bool | None:
        """Whether a test found a change."""

    @property
    def flips(self) -> int | None:
        """Predictions that differ on the same document."""

    @property
    def verdict(self) -> str | None:
        """The sentence."""


def verdict(comparison: Comparison) -> str:
    """The comparison in one sentence: its own, or one made of its counts."""
    if comparison.verdict:
        text = comparison.verdict.replace(" %", "\u00a0%")
        return text[0].upper() + text[1:]
    if not comparison.changed:
        return "No change found."
    counts = (
        (comparison.words_changed, "word", "words"),
        (comparison.layers_changed, "measure of the layer profile", "measures of the layer profile"),
        (comparison.outcomes_changed, "outcome", "outcomes"),
    )
    parts = [f"{integer(count)} {one if count == 1 else many}" for count, one, many in counts if count]
    return f"Changed: {', '.join(parts)}."


def headline(comparison: Comparison) -> tuple[str, str]:
    """The finding that matters most, and what else is said."""
    first, _, rest = verdict(comparison).partition("; ")
    return first, rest[:1].upper() + rest[1:]


def state(comparison: Told) -> tuple[str, str]:
    """The comparison as (CSS class, words)."""
    said = (comparison.verdict or "").lower()
    if comparison.changed:
        return "changed", "Changed"
    if comparison.flips:
        return "changed", "Predictions changed"
    if said.startswith(NOTHING):
        return "good", "Nothing changed"
    if said.startswith((CANNOT_TELL, "there are no documents")):
        return "open", "Cannot tell"
    return "good", "No change found"


def relation(comparison: Comparison) -> str:
    """How the two runs relate: model, corpus, pairing."""
    model = "the same model" if comparison.same_model else "another model"
    corpus = "the same corpus" if comparison.same_corpus else "another corpus"
    if comparison.in_pairs:
        how = f"{plural(comparison.paired or 0, 'document')} that both hold are compared one by one"
    else:
        how = f"two samples of documents are compared{_mixture(comparison)}"
    if comparison.same_model is None or comparison.same_corpus is None:
        return f"{how[0].upper()}{how[1:]}."
    joined = f"{model[0].upper()}{model[1:]}, {corpus}"
    return f"{joined}; {how}."


def differences(found: Sequence[str] | None) -> list[str]:
    """What differs in how two runs were explained, a sentence each; none for comparisons of before it was kept."""
    return [f"{one[0].upper()}{one[1:]}." for one in found or ()]


def _mixture(comparison: Comparison) -> str:
    """How many documents are in both samples, with the same text and with another, and how many in one alone."""
    if comparison.only_a is None or comparison.only_b is None:
        return ""
    edited = comparison.text_changed or 0
    if not (comparison.paired or edited):
        return ", no document is in both"
    parts = [
        f"{integer(comparison.paired)} in both",
        *([f"{integer(edited)} in both with another text"] if edited else []),
        f"{integer(comparison.only_a)} in the reference alone",
        f"{integer(comparison.only_b)} in the run alone",
    ]
    return f": {', '.join(parts)}"


def rules(changes: Changes) -> list[str]:
    """How it was tested, sentence by sentence."""
    comparison, settings = changes.comparison, changes.run.config.get("compare")
    third = None if comparison.alpha is None else comparison.alpha / 3
    found = [
        "Where nothing changed, the chance that anything at all is called changed is at most "
        f"{plain(None if comparison.alpha is None else float(f'{comparison.alpha:.3g}'))}. "
        f"Words, layers and outcomes are three families; in each, p-values are adjusted by Benjamini and Hochberg and "
        f"held to {number(third)}.",
        f"{_tests(comparison.words_tested)} of words ({integer(comparison.words_changed)} called changed), "
        f"{_tests(comparison.layers_tested)} of the layer profile ({integer(comparison.layers_changed)}), "
        f"{_tests(comparison.outcomes_tested)} of outcomes ({integer(comparison.outcomes_changed)}).",
        "Documents are the sample: a word counts once per document, however often it stands in it.",
    ]
    if isinstance(settings, dict):
        sizes = {
            "min_effect": "{} logits of a word’s mean effect",
            "min_share": "{} of a share of documents",
            "min_size": "{} standard deviations of a measure of the layer profile",
            "min_documents": "a word in fewer than {} documents of either run has no tested effect",
        }
        known = [text.format(plain(settings[key])) for key, text in sizes.items() if key in settings]
        if known:
            found.append(f"What is smaller is not called a change: {'; '.join(known)}.")
    untested = listed(of_kind(asdict(comparison), "untested"))
    if untested:
        found.append(
            f"Not tested, because too few documents hold or have them for any difference to come out: {untested}."
        )
    if comparison.in_pairs:
        documents = plural(comparison.explained_again or 0, "document")
        again = f"{documents} whose class changed explained again for it"
        left = (
            f", {integer(comparison.left_out)} left out because that could not be done"
            if comparison.left_out
            else ""
        )
        found.append(f"Explained is the class of the reference: {again}{left}.")
    elif comparison.paired:
        apart = (
            f" In {integer(comparison.left_out)} of them the run explains another class than the reference: what "
            "words do there is not compared one by one."
            if comparison.left_out
            else ""
        )
        found.append(
            f"Not all documents are in both runs, so the tests are of two samples. {integer(comparison.paired)} are in "
            f"both: flips are counted among these.{apart}"
        )
    return found


def _tests(count: int | None) -> str:
    return plural(count or 0, "test")


def value(outcome: Outcome, which: float | None) -> str:
    """A value of an outcome, as a share where it is one."""
    return percent(which) if is_share(outcome) else number(which)


def change(outcome: Outcome, which: float | None) -> str:
    """A difference of an outcome, in points of per cent where it is a share."""
    return signed(None if which is None else which * 100, 2) if is_share(outcome) else signed(which, 2)


def is_share(outcome: Outcome) -> bool:
    """Whether an outcome is a share."""
    return any(part in outcome.measure for part in SHARES)


def accuracy(side: Side | None, fallback: float | None) -> float | None:
    """The accuracy of a side: the comparison's, or that of the run."""
    return fallback if fallback is not None else side.accuracy if side else None
