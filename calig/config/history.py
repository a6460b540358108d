"""What an audit is compared with, which words it watches, and which conditions fail it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from calig.config.fields import Integer, Name, Number, Section, Text

Severity: TypeAlias = Literal["error", "warn"]
SeverityField: TypeAlias = Annotated[
    Severity,
    Field(title="Severity", description="error: the audit fails; warn: the report says so."),
]


def _several(value: object) -> object:
    """Take one name for a list of one."""
    return (value,) if isinstance(value, str) else value


def _limit(value: object) -> object:
    """Take a number alone for a limit whose breach is an error."""
    return value if value is None or isinstance(value, dict | Limit) else {"limit": value}


def _switched(value: object) -> object:
    """Take true for the section's defaults, and false for none."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


class Limit(Section):
    """A limit of a number, and what becomes of a run beyond it."""

    limit: Number = Field(
        ge=0, title="Limit", description="The number that is still allowed; of shares from 0 to 1."
    )
    severity: SeverityField = "error"


def _share(value: Limit | None) -> Limit | None:
    """Refuse a limit that no share can pass."""
    if value is not None and value.limit > 1:
        raise ValueError("should be less than or equal to 1")
    return value


def _term(value: str) -> str:
    """Refuse terms that nothing can be, and the sign for a whole list."""
    if not value.strip() or value == "*":
        raise ValueError("should be a word, or several: blanks stand nowhere, and * is for the whole list")
    return value


Bound: TypeAlias = Annotated[Limit | None, BeforeValidator(_limit)]
Share: TypeAlias = Annotated[Limit | None, BeforeValidator(_limit), AfterValidator(_share)]


class CompareConfig(Section):
    """When a difference between two runs is called a change."""

    alpha: Number = Field(
        default=0.05,
        gt=0,
        lt=1,
        title="False alarms",
        description=(
            "Of a comparison by hand: bound on the chance that it calls anything changed where nothing is. An audit "
            "does not use it: its levels follow from gates.false_alarms_per_year."
        ),
    )
    min_effect: Number = Field(
        default=0.1,
        ge=0,
        title="Smallest effect",
        description="Change of a word's mean effect, in logits, below which it is not called one.",
    )
    min_share: Number = Field(
        default=0.02,
        ge=0,
        le=1,
        title="Smallest share",
        description="Change of a share of documents (with a word, of a class) below which it is not called one.",
    )
    min_size: Number = Field(
        default=0.2,
        ge=0,
        title="Smallest size",
        description="Change of a measure, in standard deviations over documents, below which it is not called one.",
    )
    min_documents: Integer = Field(
        default=5,
        ge=2,
        title="Fewest documents",
        description="Documents of each run that must hold a word, or have a measure or outcome, for it to be tested.",
    )
    previous_documents: Integer = Field(
        default=20,
        ge=1,
        title="Documents of the previous run",
        description=(
            "Fewest explained documents of a run that previous may mean: runs with fewer are passed over, unless all "
            "earlier runs have fewer."
        ),
    )


class SqlGate(Section):
    """A condition in SQL: it holds where the SELECT returns no row."""

    name: Name = Field(title="Name", description="Letters, digits, - _ and dots.")
    sql: Text = Field(
        title="SELECT",
        description="What must return no row; it sees what calig query sees of this run. @name: a bundled question.",
    )
    severity: SeverityField = "error"


class DriftGate(Section):
    """Nothing may be called changed, in the comparisons of compare_to."""

    what: tuple[Literal["words", "layers", "outcomes"], ...] = Field(
        default=("words", "layers", "outcomes"),
        min_length=1,
        title="What",
        description="Of words, layers and outcomes, what may not have changed.",
    )
    severity: SeverityField = "error"


class SlowDriftGate(Section):
    """No measure of the audit may have moved slowly, over many runs (a sequential control, see `calig history`)."""

    what: tuple[Literal["accuracy", "watched", "layers"], ...] = Field(
        default=("accuracy", "watched", "layers"),
        min_length=1,
        title="What",
        description="What is followed: accuracy (of a regression its error), the terms watched, the layer profile.",
    )
    since: Text | None = Field(
        default=None,
        title="Since",
        description="The run, or its tag, at which the control begins; empty: the audit's first run.",
    )
    severity: SeverityField = "error"


class GatesConfig(Section):
    """Conditions that a run is held to; each a limit, or a section with limit and severity."""

    false_alarms_per_year: Number = Field(
        default=1,
        gt=0,
        title="False alarms a year",
        description=(
            "How often a year the gates that allow for chance (drift, slow_drift, max_class_psi, max_layer_psi), and "
            "what the report calls a change, may together be wrong where nothing changed. Their levels follow."
        ),
    )
    runs_per_year: Number = Field(
        default=365, gt=0, title="Runs a year", description="How often a year the audit runs."
    )
    unchecked: Literal["fail", "warn"] = Field(
        default="warn",
        title="Unchecked gates",
        description="What becomes of a run of which a gate could test nothing: the audit fails, or it warns.",
    )

    max_failure_share: Share = Field(
        default=Limit(limit=0.05),
        title="Failure share",
        description="Largest share of documents that may fail.",
    )
    min_accuracy: Share = Field(
        default=None, title="Accuracy", description="Least share of labelled documents predicted right."
    )
    max_mean_absolute_error: Bound = Field(
        default=None, title="Mean absolute error", description="Of a regression: the largest that may be."
    )
    max_unconverged_share: Share = Field(
        default=Limit(limit=0.05),
        title="Unconverged share",
        description=(
            "Largest share of (document, depth) pairs that may be outside the tolerance; not looked at where "
            "method.steps is fixed or min_converged_share is set."
        ),
    )
    min_converged_share: Share = Field(
        default=None,
        title="Converged share",
        description="Least share of (document, depth) pairs within the tolerance.",
    )
    max_completeness_error: Bound = Field(
        default=None,
        title="Completeness error",
        description="Largest completeness residual of any document and depth, in logits.",
    )
    max_class_psi: Bound = Field(
        default=None,
        title="Class drift",
        description="Largest population stability index of the predicted classes, against each run compared with.",
    )
    max_layer_psi: Bound = Field(
        default=None,
        title="Layer drift",
        description="Largest population stability index in the layer profile, against each run compared with.",
    )
    max_flip_share: Share = Field(
        default=None,
        title="Flips",
        description="Largest share of paired documents whose prediction changed, against each run compared with.",
    )
    max_accuracy_drop: Share = Field(
        default=None,
        title="Accuracy drop",
        description="By how much accuracy may be lower than in each run compared with.",
    )
    max_watched_share: dict[str, Annotated[Limit, BeforeValidator(_limit), AfterValidator(_share)]] = Field(
        default_factory=dict,
        title="Watched shares",
        description=(
            "Per watch list, or list/term: the largest part of all documents' relevance that it may have, 0 to 1."
        ),
    )
    drift: Annotated[DriftGate | None, BeforeValidator(_switched)] = Field(
        default=None,
        title="Drift",
        description="true, or a section: nothing may be called changed in the comparisons of compare_to.",
    )
    slow_drift: Annotated[SlowDriftGate | None, BeforeValidator(_switched)] = Field(
        default=None,
        title="Slow drift",
        description="true, or a section: accuracy, watched terms and layers may not move slowly over many runs.",
    )
    sql: tuple[SqlGate, ...] = Field(default=(), title="SQL", description="SELECTs that must return no row.")

    @property
    def night_level(self) -> float:
        """Chance that any alarm is false in one run: `false_alarms_per_year` over `runs_per_year`."""
        return self.false_alarms_per_year / self.runs_per_year

    @model_validator(mode="after")
    def _rates(self) -> GatesConfig:
        if self.false_alarms_per_year >= self.runs_per_year:
            raise ValueError(
                f"gates.false_alarms_per_year: {self.false_alarms_per_year:g} of {self.runs_per_year:g} runs a year "
                "would be alarms: set fewer than gates.runs_per_year"
            )
        return self

    @model_validator(mode="after")
    def _names(self) -> GatesConfig:
        names = [gate.name for gate in self.sql]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"gates.sql: two gates are named {name}; rename one")
            if name in GatesConfig.model_fields:
                raise ValueError(f"gates.sql: {name} is the name of another gate; rename it")
        return self


Term: TypeAlias = Annotated[Text, AfterValidator(_term)]
CompareTo: TypeAlias = Annotated[tuple[Text, ...], BeforeValidator(_several)]
WatchLists: TypeAlias = dict[
    Name,
    Annotated[tuple[Term, ...], Field(min_length=1), BeforeValidator(_several)],
]
