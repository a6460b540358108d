"""The sentences of the page: the verdict, what to look at first, and what to ask next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from calig.commands import command
from calig.records import ALL_CLASSES
from calig.report.data import CONFIDENT
from calig.report.formats import integer, number, percent, plural, signed
from calig.report.heat import clip, isolated
from calig.report.model import RegionEffect, ReportData, RunSummary, WordEffect
from calig.report.since import Gate
from calig.report.since import verdict as gates_verdict
from calig.report.terms import terms
from calig.warehouse.runs import FINISHED, UNDER_WAY

BORDER = "border"
BORDER_LIFT = 1.25
REGIONS_NAMED = WORDS_NAMED = 3
PATCH_SHARE = 0.08
FEWEST_IMAGES = 5
NOTE_CHARACTERS = 300
NAME_CHARACTERS = 30
CONVERGED_SHARE = 0.95
"""Documents within tolerance below which a run whose gates hold is not simply called passed."""
ORDER_SHOWN = 6
PATCH_LIFT = 4


@dataclass(frozen=True, slots=True)
class Pointer:
    """A finding in one sentence: its topic, the sentence, and the section it leads to."""

    topic: str
    text: str | Markup
    section: str


def verdict(run: RunSummary) -> str:
    """The run in one sentence."""
    document = terms(run.head, run.modality).document
    if not run.documents:
        return f"There are no {document}s: the corpus of this run has no row."
    if not run.explained:
        among = plural(run.documents, document)
        return f"No {document} could be explained: {plural(run.failures, 'failure')} in {among}."
    parts = [f"{plural(run.explained, document)} explained, {_convergence(run)}"]
    if run.few and run.labelled and run.head != "regression":
        right = "right in every class" if run.head == "multi_label" else "predicted right"
        parts.append(f"{integer(run.labelled - run.errors)} of {integer(run.labelled)} labelled {right}")
    elif run.accuracy is not None:
        share = "every class right in" if run.head == "multi_label" else "accuracy"
        parts.append(
            f"{share} {percent(run.accuracy) if run.head == 'multi_label' else number(run.accuracy)}"
        )
    if run.mean_absolute_error is not None:
        parts.append(f"mean absolute error {number(run.mean_absolute_error)}")
    parts.append(plural(run.failures, "failure") if run.failures else "no failures")
    return "; ".join(parts) + "."


def _convergence(run: RunSummary) -> str:
    """How far the explanations are within tolerance; of fixed steps, for which none was asked, what the error is."""
    if run.steps is not None:
        return f"with {plural(run.steps, 'step')} each, error estimates up to {number(run.worst_error_estimate, 2)}"
    if run.converged_documents == run.explained:
        return "all within tolerance at every depth"
    many = integer(run.converged_documents) if run.converged_documents else "none"
    return f"{many} within tolerance at every depth"


def rows(run: RunSummary) -> str | Markup:
    """Which of the corpus's rows the run is about, where it is not about all; else nothing."""
    given = run.config.get("corpus")
    corpus = given if isinstance(given, Mapping) else {}
    sample = corpus.get("sample")
    if isinstance(sample, Mapping) and run.corpus_rows is not None and run.documents < run.corpus_rows:
        text = f"{integer(run.documents)} of {integer(run.corpus_rows)}, drawn by their keys (corpus.sample)"
        if sample.get("by") is None:
            return f"{text}."
        return Markup(
            "{}, in equal numbers by {} as far as the corpus has them: counts and accuracy are those of the sample, "
            "not of the corpus."
        ).format(text, isolated(str(sample["by"]), NAME_CHARACTERS))
    if corpus.get("limit") is not None and run.documents >= corpus["limit"]:
        return (
            f"The first {integer(run.documents)} only (corpus.limit), which may be of one class or one day; "
            "corpus.sample draws from all."
        )
    return ""


def label_order(run: RunSummary) -> str | Markup:
    """A warning, where the labels fit the predictions much better in another order of the classes; else nothing."""
    if not run.label_order:
        return ""
    moved = [
        Markup("{} fits {}").format(isolated(label, NAME_CHARACTERS), isolated(fits, NAME_CHARACTERS))
        for label, fits in zip(run.classes, run.label_order, strict=True)
        if label != fits
    ]
    shown = Markup(", ").join(moved[:ORDER_SHOWN]) + (
        f" and {len(moved) - ORDER_SHOWN} more" if len(moved) > ORDER_SHOWN else ""
    )
    return Markup(
        "The labels may number the classes in another order than the model: read so, accuracy would be {}, not {} "
        "(the label {}). If that is so, map the labels in corpus.labels."
    ).format(number(run.label_order_accuracy), number(run.accuracy), shown)


def gate(run: RunSummary, gates: Sequence[Gate] = ()) -> tuple[str, str]:
    """The state of the run and of its gates as (CSS class, words); runs of before gates were kept know one limit."""
    if run.status == "running":
        return "open", "Still running"
    if run.status in UNDER_WAY:
        return "open", "Not finished"
    if run.status not in FINISHED:
        return "bad", "Run failed"
    if not run.documents and all(one.state != "fails" for one in gates):
        return "warn", "No documents"
    if not run.explained and all(one.passed is not False for one in gates):
        return "bad", "Nothing explained"
    if not gates and not run.passed:
        return "bad", "Too many failures"
    plain = "good", "Complete" if run.failure_limit is None else "Gates passed"
    style, words = gates_verdict(gates) if gates else plain
    if style != "bad" and run.steps is None and run.converged_documents < CONVERGED_SHARE * run.explained:
        outside = (run.explained - run.converged_documents) / run.explained
        return "warn", f"{words}, but {percent(outside)} not within tolerance"
    return style, words


def pointers(data: ReportData, gates: Sequence[Gate] = ()) -> list[Pointer]:
    """What to look at, most urgent first."""
    run = data.run
    called = terms(run.head, run.modality)
    found = []
    if run.failure_limit is not None and run.failure_share > run.failure_limit:
        text = f"{percent(run.failure_share)} of {called.document}s failed; the limit is {percent(run.failure_limit)}."
        found.append(Pointer("Failures", text, "failures"))
    if run.few:
        text = f"{plural(run.explained, 'document')}: too few for means of words. Read them one by one."
        found.append(Pointer("Few documents", text, "documents"))
    outside = run.explained - run.converged_documents
    many = run.steps is None and run.converged_documents < CONVERGED_SHARE * run.explained
    if many:
        found.append(Pointer("Convergence", _outside(run, gates), "convergence"))
    if run.notes:
        more = f" ({len(run.notes) - 1} more)" if len(run.notes) > 1 else ""
        found.append(Pointer("Corpus", f"{clip(run.notes[0], NOTE_CHARACTERS)}{more}", "corpus"))
    if run.labelled:
        found.append(Pointer("Errors", _errors(run), "documents"))
    strongest = _strongest_regions(data) if run.modality == "image" else _strongest(data)
    if strongest and not run.few:
        found.append(Pointer(called.evidence, strongest, called.evidence.lower()))
    if patch := _single_patch(data):
        found.append(Pointer("Single patch", patch, called.evidence.lower()))
    if border := _border(data):
        found.append(Pointer("Border", border, called.evidence.lower()))
    found += _layer_pointers(data)
    if outside and not many and run.steps is None:
        found.append(Pointer("Convergence", _outside(run, gates), "convergence"))
    if run.truncated:
        text = (
            f"{plural(run.truncated, 'document')} longer than the model reads: only the start is explained."
        )
        found.append(Pointer("Truncation", text, "convergence"))
    return found


def _outside(run: RunSummary, gates: Sequence[Gate]) -> str:
    """How many documents are not within tolerance, and that the run passed because no gate is about that."""
    called = terms(run.head, run.modality)
    outside = plural(run.explained - run.converged_documents, called.document)
    worst = number(run.worst_error_estimate, 2)
    left = f", and left out of {called.evidence.lower()} and layers" if run.unconverged else ""
    text = f"{outside} outside tolerance at some depth{left}; worst error estimate {worst}."
    if (
        any("converged" in one.name for one in gates)
        or run.converged_documents >= CONVERGED_SHARE * run.explained
    ):
        return text
    return f"{text} No gate is about it; gates.max_unconverged_share would be."


def _errors(run: RunSummary) -> str:
    labelled = plural(run.labelled, f"labelled {terms(run.head, run.modality).document}")
    if run.head == "regression":
        text = f"The output is off by {number(run.mean_absolute_error)} on average over {labelled}"
        return text + f", by {number(run.largest_error)} at most."
    text = f"{integer(run.errors)} of {labelled} predicted wrong"
    if run.head == "multi_label":
        return text + " in at least one class."
    return text + f", {integer(run.confident_errors)} with probability {CONFIDENT} or more."


def special_share(data: ReportData, label: str) -> float | None:
    """Mean over depths 0..L−1 of the special tokens' share of gross relevance, for an explained class."""
    shares = [
        row.special_share
        for row in data.layers
        if row.label == label and row.depth < data.run.depths - 1 and row.special_share is not None
    ]
    return sum(shares) / len(shares) if shares else None


def median_settling(counts: Sequence[tuple[int | None, int]], depths: int) -> float | None:
    """The median settling depth, those that never settle counted as beyond the last; None if it is there."""
    expanded = sorted(depth if depth is not None else depths for depth, count in counts for _ in range(count))
    if not expanded:
        return None
    half = len(expanded) // 2
    middle = expanded[half] if len(expanded) % 2 else (expanded[half - 1] + expanded[half]) / 2
    return float(middle) if middle < depths - 1 else None


def queries(run: RunSummary, warehouse: str) -> Sequence[tuple[str, str]]:
    """(what it answers, the command) for a reader who wants to go on; `warehouse` is its folder or URL."""
    run_id, regression, image = run.run_id, run.head == "regression", run.modality == "image"
    shown = "image" if image else "text"
    errors = (
        (
            "All errors, largest first",
            f"SELECT source_id, label_value, logit, logit - label_value AS error, {shown} FROM documents "
            "WHERE label_value IS NOT NULL ORDER BY abs(logit - label_value) DESC LIMIT 50",
        )
        if regression
        else (
            "All errors, most confident first",
            f"SELECT source_id, label, predicted, probability, {shown} FROM documents "
            "WHERE NOT correct ORDER BY probability DESC LIMIT 50",
        )
    )
    wrong = "d.label_value IS NOT NULL" if regression else "NOT d.correct"
    item = "region" if image else "word"
    unit, moved = ("patch", "concat(w.patch_row, ',', w.patch_column)") if image else ("word", "w.text")
    asked = (
        (
            f"Every {item} whose interval excludes zero",
            f"SELECT class, {item}, documents, effect, effect_low, effect_high FROM {item}_stats "
            "WHERE effect_low > 0 OR effect_high < 0 ORDER BY class, effect DESC",
        ),
        errors,
        (
            f"The {unit} that moved each {'output' if regression else 'error'} most",
            f"SELECT d.source_id, arg_max({moved}, abs(w.logit_effect)) AS {unit}, max(abs(w.logit_effect)) AS effect "
            f"FROM {'patches' if image else 'words'} AS w JOIN documents AS d USING (run_id, doc_id) "
            f"WHERE {wrong} GROUP BY d.source_id ORDER BY max(abs(w.logit_effect)) DESC",
        ),
    )
    return [(title, command("query", sql, "--run", run_id, warehouse=warehouse)) for title, sql in asked]


def _strongest(data: ReportData) -> Markup:
    """The strongest word for each class; of many classes, for those in which one word acts most."""
    best: dict[str, WordEffect] = {}
    for word in data.words:
        if word.supports and word.clear:
            best.setdefault(word.label, word)
    found = sorted(best.values(), key=lambda word: -word.effect)[:WORDS_NAMED]
    shown, unit = [], terms(data.run.head).unit
    for word in sorted(found, key=lambda word: data.run.classes.index(word.label)):
        where = f"{signed(word.effect, 2)} {unit} in {plural(word.documents, 'document')}"
        verb = "raises" if data.run.head == "regression" else "for"
        shown.append(_named(word.word, verb, word.label, where))
    return _evidence(shown)


def _named(item: str, verb: str, label: str, where: str) -> Markup:
    names = (isolated(name, NAME_CHARACTERS) for name in (item, label))
    return Markup("“{}” {verb} {} ({where})").format(*names, verb=verb, where=where)


def _evidence(shown: Sequence[Markup]) -> Markup:
    return Markup("Strongest evidence: {}.").format(Markup(", ").join(shown)) if shown else Markup()


def _strongest_regions(data: ReportData) -> Markup:
    """The strongest region for each of the classes that lean most on one."""
    called = terms(data.run.head, data.run.modality)
    best: dict[str, RegionEffect] = {}
    for region in data.regions:
        if region.region != BORDER and region.supports and region.clear and region.documents >= FEWEST_IMAGES:
            best.setdefault(region.label, region)
    shown = []
    for region in sorted(best.values(), key=lambda found: -found.effect)[:REGIONS_NAMED]:
        where = f"{signed(region.effect, 2)} {called.unit} in {plural(region.documents, called.document)}"
        lift = "" if region.lift is None else f", {number(region.lift, 2)} × its area"
        verb = "raises" if data.run.head == "regression" else "for"
        shown.append(_named(region.region, verb, region.label, f"{where}{lift}"))
    return _evidence(shown)


def _single_patch(data: ReportData) -> str | Markup:
    """The class of which one patch, in the mean over its images, holds far more than its area."""
    found = [(float(one.shares.max(initial=0.0)), one) for one in data.maps if one.documents >= FEWEST_IMAGES]
    found = [(share, one) for share, one in found if share >= max(PATCH_SHARE, PATCH_LIFT / one.shares.size)]
    if not found:
        return ""
    share, strongest = max(found, key=lambda pair: pair[0])
    row, column = divmod(int(strongest.shares.argmax()), strongest.shares.shape[1])
    lift = number(share * strongest.shares.size, 2)
    return Markup(
        "The patch in row {}, column {} holds {} of {}’s relevance, {} × its area: a mark that gives the class away?"
    ).format(row, column, percent(share), isolated(strongest.label, NAME_CHARACTERS), lift)


def _border(data: ReportData) -> str | Markup:
    """The class whose border patches hold most for their area, if that is much: a classic shortcut."""
    found = [
        region
        for region in data.regions
        if region.region == BORDER and region.documents >= FEWEST_IMAGES and (region.lift or 0) >= BORDER_LIFT
    ]
    if not found:
        return ""
    worst = max(found, key=lambda region: region.lift or 0)
    text = Markup(
        "The outermost patches hold {} of {}’s relevance on {} of the area, {} ×: frames, marks and corners are "
        "classic shortcuts"
    ).format(
        percent(worst.share),
        isolated(worst.label, NAME_CHARACTERS),
        percent(worst.area),
        number(worst.lift, 2),
    )
    others = len(found) - 1
    return text + (
        f"; {integer(others)} more {'class is' if others == 1 else 'classes are'} like it." if others else "."
    )


def _layer_pointers(data: ReportData) -> list[Pointer]:
    found = []
    called = terms(data.run.head, data.run.modality)
    last = data.run.depths - 2
    median = median_settling(data.settling, data.run.depths)
    never = sum(count for depth, count in data.settling if depth is None)
    if data.settling:
        total = sum(count for _, count in data.settling)
        among = f"{integer(total)} {called.document}s"
        text = f"{integer(never)} of {among} never settle on their final ranking of {called.items}"
        if median is not None:
            text = f"Half of the {called.document}s settle by depth {median:g} (of 0–{last}); {integer(never)} never do"
        text += "."
        found.append(Pointer("Layers", text, "layers"))
    share = special_share(data, ALL_CLASSES)
    if share is not None:
        text = f"They carry {percent(share)} of all relevance, averaged over depths 0–{last}."
        found.append(Pointer("Special tokens", text, "layers"))
    return found
