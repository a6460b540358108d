"""What an audit's configuration may say: pydantic models, a title and a description on every field."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from calig.config.dates import DEFAULT_ZONE, day_of, expand, is_dated, zone
from calig.config.evaluation import EvaluationConfig
from calig.config.fields import Day, Integer, LabelReading, Name, Number, Section, Target, Text, columns_kept
from calig.config.history import CompareConfig, CompareTo, GatesConfig, WatchLists


def _dated(text: str) -> str:
    expand(text, dt.date(2000, 1, 1))
    return text


def _zone(name: str) -> str:
    zone(name)
    return name


Dated = Annotated[Text, AfterValidator(_dated)]
"""Text that may have placeholders of `calig.config.dates`."""


ColumnType = Literal["text", "integer", "number", "boolean", "date", "timestamp"]
"""What a column's values can be read as."""


class ModelConfig(Section):
    """The classifier to explain."""

    id: Text = Field(
        title="Model", description="Hub id, or path of a folder with the model and its tokenizer."
    )
    revision: Text | None = Field(
        default=None,
        title="Model revision",
        description="Branch, tag or commit on the hub; empty: its default.",
    )
    head: Literal["auto", "single_label", "multi_label", "binary", "regression"] = Field(
        default="auto",
        title="Head",
        description="What its outputs are: auto is what its configuration says; binary is one logit.",
    )


def _documents(value: object) -> object:
    """Take a number alone for that of the documents."""
    return {"documents": value} if isinstance(value, int | str) else value


class SampleConfig(Section):
    """How documents are drawn from the corpus: by their keys, so that the same ones are drawn every night."""

    documents: Integer = Field(ge=1, title="Documents", description="How many rows are drawn.")
    by: Text | None = Field(
        default=None,
        title="By",
        description=(
            "Column of which every value gets the same number of rows, as far as it has them; empty: each row has the "
            "same chance."
        ),
    )


class OtherColumns(Section):
    """All columns but some."""

    without: tuple[Text, ...] = Field(
        title="Columns left out", description="Names of the columns that are not read."
    )


class CorpusConfig(Section):
    """Where the documents are; exactly one of `path` and `dataset`."""

    DATED: ClassVar = ("path", "dataset", "config", "revision", "split")
    """The fields whose placeholders, such as {{ yesterday }}, each run fills in."""

    path: Dated | None = Field(
        default=None,
        title="Files",
        description=(
            "A file, a glob or a folder (or s3://…) of Parquet, CSV, TSV or JSONL files (all but Parquet also as .gz, "
            ".bz2, .xz or .zst), or of image files for models of images. {{ today }}, {{ yesterday }}, "
            "{{ today - 7d }} and {{ yesterday:%Y/%m/%d }} stand for dates; folders such as dt=2026-11-24 become "
            "columns."
        ),
    )
    dataset: Dated | None = Field(
        default=None, title="Dataset", description="Hub dataset id, or a local folder laid out like one."
    )
    config: Dated | None = Field(
        default=None, title="Dataset configuration", description="Name of the dataset's configuration."
    )
    revision: Dated | None = Field(
        default=None, title="Dataset revision", description="Branch, tag or commit of the dataset."
    )
    split: Dated | None = Field(
        default=None,
        title="Split",
        description="Split of the dataset, train if not given; not used with files.",
    )
    timezone: Annotated[Text, AfterValidator(_zone)] | None = Field(
        default=None,
        title="Time zone",
        description=(
            "IANA name, such as Europe/Berlin, of the zone in which today is today; empty: that of the schedule which "
            "starts the run, else UTC."
        ),
    )
    text: Text = Field(default="text", title="Text column", description="Column that holds the documents.")
    text_pair: Text | None = Field(
        default=None,
        title="Second text column",
        description="Column of the second texts, for models of text pairs; a null there is an empty text.",
    )
    image: Text = Field(
        default="image",
        title="Image column",
        description="Column of the images or their paths, for models of images; not used with image files.",
    )
    label: Text | None = Field(
        default=None,
        title="Label column",
        description=(
            "Column of class indices or names (multi-label: lists of them; regression: numbers); label is, of image "
            "files, the folder that each lies in."
        ),
    )
    labels: LabelReading = Field(
        default=None,
        title="Reading of the labels",
        description=(
            "names: labels are names of the model's classes; indices: they are class indices; or a mapping from each "
            "value to a class's name or index, null for no label. Empty: names, then indices; a model whose class "
            "names are numbers needs one of the others."
        ),
    )
    id: Text | None = Field(
        default=None,
        title="Id column",
        description="Column that names the documents; empty: their row numbers, from 0; of image files, their paths.",
    )
    rationale: Text | None = Field(
        default=None,
        title="Rationale column",
        description=(
            "Column of what people marked as the reason for the label: character spans, or lists of tokens; for "
            "calig evaluate."
        ),
    )
    types: dict[Text, ColumnType] = Field(
        default_factory=dict,
        title="Column types",
        description=(
            "What columns are read as: text, integer, number, boolean, date or timestamp. Otherwise CSV columns and "
            "the values in folders' names are text, Parquet columns have the file's types, and JSONL columns those "
            "that the audit's first run found."
        ),
    )
    columns: Annotated[tuple[Text, ...] | OtherColumns | None, BeforeValidator(columns_kept)] = Field(
        default=None,
        title="Columns kept",
        description=(
            "The further columns that are kept for SQL: a list of names, or without: a list of those left out; "
            "empty: all."
        ),
    )
    limit: Integer | None = Field(
        default=None, ge=1, title="Limit", description="Take only the first so many rows."
    )
    sample: Annotated[SampleConfig | None, BeforeValidator(_documents)] = Field(
        default=None,
        title="Sample",
        description="Draw so many rows from all; a number, or documents and by. Not together with limit.",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_split(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("dataset") is not None and data.get("split") is None:
            return {**data, "split": "train"}
        return data

    @model_validator(mode="after")
    def _one_source(self) -> CorpusConfig:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("corpus needs exactly one of corpus.path and corpus.dataset")
        if self.limit is not None and self.sample is not None:
            raise ValueError(
                "corpus.limit takes the first rows and corpus.sample draws from all: set one of them, the other to null"
            )
        if self.path is not None:
            for field in ("config", "revision", "split"):
                if getattr(self, field) is not None:
                    raise ValueError(f"corpus.{field} only goes with corpus.dataset: remove it")
        return self

    @property
    def is_dated(self) -> bool:
        """Whether the documents depend on the day of the run."""
        return any(is_dated(getattr(self, field) or "") for field in self.DATED)

    @property
    def zone(self) -> str:
        """The time zone in which today is today."""
        return self.timezone or DEFAULT_ZONE

    def on(self, today: dt.date) -> CorpusConfig:
        """Return the corpus of a day: its placeholders filled in."""
        given = {field: getattr(self, field) for field in self.DATED}
        filled = {field: expand(text, today) for field, text in given.items() if text is not None}
        return self.model_copy(update=filled)


class MethodConfig(Section):
    """What is explained, and how exactly."""

    target: Target = Field(
        default="predicted",
        title="Target",
        description="The class (or output) to explain: predicted, runner-up, label, an index or a name.",
    )
    output: Literal["logit", "margin"] = Field(
        default="logit",
        title="Output",
        description="The class's logit, or its margin over the strongest other; a regression's value: logit.",
    )
    baseline: str = Field(
        default="pad",
        pattern=r"^(pad|mask|zero|token:[\s\S]+|mean|blur(:[0-9.]+)?)$",
        title="Baseline",
        description=(
            "What replaces the content: of texts pad, mask, zero or token:<text>; of images zero (or pad), mean, "
            "blur, blur:<sigma in pixels> or mask."
        ),
    )
    tolerance: Number = Field(
        default=1e-2,
        gt=0,
        lt=1,
        title="Tolerance",
        description="Bound on the relative error of the token attributions, per document and depth.",
    )
    max_nodes: Integer = Field(
        default=486, ge=6, title="Most nodes", description="Quadrature nodes at most, per document and depth."
    )
    rule: Literal["auto", "midpoint", "trapezoid", "gauss-kronrod", "gauss-legendre"] = Field(
        default="auto",
        title="Quadrature rule",
        description="auto: a mesh that each document refines for itself; or a ladder of one kind of rule.",
    )
    steps: Integer | None = Field(
        default=None,
        ge=1,
        title="Fixed steps",
        description="Exactly so many nodes, whatever the error; empty: as many as the tolerance takes.",
    )
    max_length: Integer | None = Field(
        default=None,
        ge=1,
        title="Longest input",
        description="Tokens at most per document; empty: what the model takes.",
    )
    image_size: Integer | None = Field(
        default=None,
        ge=1,
        title="Image size",
        description="Height and width of images in pixels; empty: what the image processor makes.",
    )
    context: Literal["path", "input"] = Field(
        default="path",
        title="Attention gradients",
        description="Where they are taken: along the path, at the nodes of the integral, or at the input alone.",
    )
    fusion: Literal["agreement", "column"] = Field(
        default="agreement",
        title="Fusion",
        description=(
            "How the depths and the attention gradients make one score: in logits, depths weighted by their agreement "
            "with depth 0 and the attention gradients; or column, each of norm 1."
        ),
    )
    weight: Number = Field(
        default=0.5,
        ge=0,
        le=1,
        title="Attention weight",
        description="Share of the attention gradients in the score.",
    )


class RuntimeConfig(Section):
    """Where and in what portions the work is done; changes no result beyond rounding, but for `dtype`."""

    device: Text = Field(default="auto", title="Device", description="auto, cpu, cuda, cuda:1 and so on.")
    dtype: Literal["float32", "float64", "bfloat16"] = Field(
        default="float32", title="Precision", description="Number format the model computes in."
    )
    engine: Literal["auto", "threads", "processes", "ray", "pool"] = Field(
        default="auto",
        title="Engine",
        description=(
            "What the workers are: threads of this process, processes of this machine, actors of a Ray cluster, or "
            "flow runs of a Prefect work pool; auto: processes if there are several."
        ),
    )
    ray_address: Text | None = Field(
        default=None,
        title="Ray cluster",
        description="Address (host:port, or auto) of the Ray cluster; empty: one is started on this machine.",
    )
    work_pool: Text | None = Field(
        default=None,
        title="Work pool",
        description="Name of the Prefect work pool whose workers run ranges of shards; with engine pool.",
    )
    workers: Integer | None = Field(
        default=None,
        ge=1,
        title="Workers",
        description=(
            "Shards attributed at the same time, each by a model of its own; empty: one per GPU, or one."
        ),
    )
    threads: Integer | None = Field(
        default=None,
        ge=1,
        title="Threads",
        description="CPU threads per worker; empty: the cores shared out evenly.",
    )
    token_budget: Integer | None = Field(
        default=None,
        ge=1,
        title="Token budget",
        description="Tokens at most in one batch; empty: chosen for the device.",
    )
    shard_documents: Integer | None = Field(
        default=None, ge=1, title="Shard size", description="Documents per shard; empty: from the pilot."
    )
    retries: Integer = Field(
        default=2,
        ge=0,
        title="Retries",
        description="How often a step is tried again after a passing failure.",
    )

    @model_validator(mode="after")
    def _placed(self) -> RuntimeConfig:
        if self.ray_address is not None and self.engine != "ray":
            raise ValueError(
                f"runtime.ray_address only goes with runtime.engine ray, not {self.engine}: set that, or remove it"
            )
        if (self.work_pool is not None) != (self.engine == "pool"):
            raise ValueError(
                "runtime.engine pool and runtime.work_pool, the pool's name, go together: set both, or neither"
            )
        if self.engine == "ray" and self.device.startswith("cuda:"):
            raise ValueError(
                f"runtime.device: {self.device} names a GPU of one machine, but with runtime.engine ray the cluster "
                "chooses; use cuda"
            )
        return self


class AuditConfig(Section):
    """One audit: a model, a corpus, a method, and where the results go."""

    name: Name | None = Field(
        default=None,
        title="Name",
        description="Name used in run ids: letters, digits, - _ and dots; the file's name if not given.",
    )
    model: ModelConfig = Field(title="Model", description="The classifier to explain.")
    corpus: CorpusConfig = Field(title="Corpus", description="The documents to explain it on.")
    date: Day | None = Field(
        default=None,
        title="Date",
        description=(
            "What {{ today }} is in the corpus's names, for a rerun; empty: the day on which the run starts."
        ),
    )
    method: MethodConfig = Field(
        default_factory=MethodConfig, title="Method", description="What is explained, and how exactly."
    )
    runtime: RuntimeConfig = Field(
        default_factory=RuntimeConfig,
        title="Runtime",
        description="Where and in what portions the work is done.",
    )
    warehouse: Text = Field(
        default="warehouse",
        title="Warehouse",
        description="Folder, or URL (s3://…), that keeps corpora and results.",
    )
    gates: GatesConfig = Field(
        default_factory=GatesConfig, title="Gates", description="Conditions that the run is held to."
    )
    compare_to: CompareTo = Field(
        default=(),
        title="Compare to",
        description=(
            "Runs that each run is compared with: previous (the last one of this audit), a tag, a run id, or an "
            "audit's name (its latest run); one, or several."
        ),
    )
    compare: CompareConfig = Field(
        default_factory=CompareConfig,
        title="Comparison",
        description="When a difference between two runs is called a change.",
    )
    watch: WatchLists = Field(
        default_factory=dict,
        title="Watch lists",
        description="Named lists of terms whose relevance is followed from run to run.",
    )
    evaluation: EvaluationConfig = Field(
        default_factory=EvaluationConfig,
        title="Evaluation",
        description="Which methods of explanation calig evaluate measures, on what, and by which metrics.",
    )

    @model_validator(mode="after")
    def _measurable(self) -> AuditConfig:
        if "plausibility" in (self.evaluation.metrics or ()) and self.corpus.rationale is None:
            raise ValueError(
                "evaluation.metrics: plausibility needs human rationales; name their column in corpus.rationale"
            )
        return self

    @property
    def dated_corpus(self) -> CorpusConfig:
        """The corpus of the run's date, its placeholders filled in."""
        now = dt.datetime.now(dt.UTC)
        return self.corpus.on(self.date or day_of(now, self.corpus.zone))

    def started(self, moment: dt.datetime) -> AuditConfig:
        """Return the audit as it is started at a moment: its date fixed, where the corpus depends on one.

        So a run that passes midnight, or is resumed the day after, keeps its corpus.
        """
        if self.date is not None or not self.corpus.is_dated:
            return self
        return self.model_copy(update={"date": day_of(moment, self.corpus.zone)})

    @property
    def metric_groups(self) -> tuple[str, ...]:
        """The groups of metrics that `calig evaluate` measures: those asked for, or all that there is material for."""
        wanted: tuple[str, ...] | None = self.evaluation.metrics
        if wanted is None:
            plausible = ("plausibility",) if self.corpus.rationale is not None else ()
            wanted = ("faithfulness", *plausible, "sanity")
        context = ("context",) if self.evaluation.pairs is not None and "context" not in wanted else ()
        return (*wanted, *context)
