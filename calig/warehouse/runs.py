"""The runs of a warehouse, read from their manifests, and how a user names one."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, get_args

from calig.errors import DamagedError, InputError
from calig.formats import readable
from calig.listing import children, denied, exists
from calig.records import HEADS, MODALITIES, Head, Modality, distinct_names
from calig.warehouse.damage import pass_over, read_each
from calig.warehouse.layout import Warehouse
from calig.warehouse.tags import check_name, read_tag, tag_files

logger = logging.getLogger(__name__)

State: TypeAlias = Literal["running", "attributed", "aggregated", "complete", "partial", "failed"]
STATES: tuple[State, ...] = get_args(State)
UNDER_WAY: tuple[State, ...] = ("running", "attributed", "aggregated")
"""States from which a run goes on to another one, as long as its process lives."""
FINISHED: tuple[State, ...] = ("complete", "partial")
"""States of runs that others may name, compare with and count: tables, comparisons, gates and report are there."""
IS_FINISHED = f"status IN {FINISHED}"
"""The same as a condition in SQL, on the table `runs`."""


@dataclass(frozen=True, slots=True)
class RunManifest:
    """What was run, and how: `runs/<run id>/manifest.json`.

    Attributes
    ----------
    run_id, name
        The run's id, and the audit's name.
    status
        One of `STATES`, in this order: "running"; "attributed", the results of all its documents are there;
        "aggregated", its tables are as well; "complete", and so are its comparisons, gates and report, or "partial",
        the same of the documents that were done when its deadline came; or "failed", it stopped while it was running.
    started, finished
        ISO 8601 times; `finished` is None while it runs.
    model
        Keys id, revision, hash, classes (names by class index), head and modality (the last two missing in old runs).
    corpus
        Keys key, source, documents, rows (those that a sample was drawn from, else None), left_out (files beside those
        read, by kind), the date that {{ today }} was, None where the audit names none, and notes: what is not in the
        corpus as the source has it. Old runs lack rows, left_out and notes.
    attribution_key
        The folder of its attributions.
    method
        Keys target, output, baseline, tolerance, max_nodes, max_length, fusion and weight.
    depths
        L+1.
    attributed, reused
        Documents computed in this run, and taken from earlier ones.
    config, versions, timings
        The full configuration; versions of packages, and of the rule for words; seconds per stage.
    own_block_passes, own_seconds
        Block passes and seconds of the attributions that this run computed; None while it is running, and in old runs.
    schedule
        Key of the step schedule that it went by (`calig.attribution.schedule.Schedule.key`); None in old runs.
    format, engine_version, calig_version
        By which version it was written (`calig.formats`): format 1, and None, where it does not say.
    files
        Name → sha256 and bytes of every other file in the run's folder, once it is finished; None before, and in old
        runs. `attributions.parquet` among them names the shards that it counts on (`calig.warehouse.inventory`).
    """

    run_id: str
    name: str
    status: str
    started: str
    finished: str | None
    model: dict[str, Any]
    corpus: dict[str, Any]
    attribution_key: str
    method: dict[str, Any]
    depths: int
    attributed: int
    reused: int
    config: dict[str, Any]
    versions: dict[str, str]
    timings: dict[str, float]
    own_block_passes: int | None = None
    own_seconds: float | None = None
    schedule: str | None = None
    format: int = 1
    engine_version: int | None = None
    calig_version: str | None = None
    files: dict[str, dict[str, Any]] | None = None

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end, so that others may name it, compare with it and count it."""
        return self.status in FINISHED

    @property
    def is_attributed(self) -> bool:
        """Whether all results that it will have are there, so that its tables can be made."""
        return self.status in ("attributed", "aggregated", *FINISHED)

    @property
    def classes(self) -> list[str]:
        """Names of the classes, by class index, each its own."""
        return list(distinct_names([str(label) for label in self.model["classes"]]))

    @property
    def head(self) -> Head:
        """What the model's outputs are; runs of before there were several say nothing, and are single-label."""
        return next((head for head in HEADS if head == self.model.get("head")), "single_label")

    @property
    def modality(self) -> Modality:
        """What the model reads; runs of before there were several say nothing, and are of texts."""
        return next((one for one in MODALITIES if one == self.model.get("modality")), "text")

    @property
    def words(self) -> str | None:
        """What found the run's words (`calig.words.rule`); None where it was the tokenizer, as in old runs."""
        return self.versions.get("words")

    @property
    def weight(self) -> float:
        """Weight λ of the attention gradients in the score."""
        return float(self.method["weight"])

    @property
    def started_at(self) -> datetime:
        """When the run started, UTC."""
        return utc(self.started)

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON-ready values."""
        return asdict(self)


def utc(time: str) -> datetime:
    """Read an ISO 8601 time, taken as UTC where it names no zone; return it in UTC, without zone."""
    moment = datetime.fromisoformat(time)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def read_run(warehouse: Warehouse, run_id: str) -> RunManifest:
    """Read a run's manifest.

    Raises
    ------
    InputError
        If it is missing, may not be read, is not a manifest, or is of a newer format; says which.
    """
    path = warehouse.run(run_id) / "manifest.json"
    try:
        manifest = RunManifest(**readable(f"run {run_id}", json.loads(path.read_bytes())))
        _ = manifest.started_at, manifest.weight, manifest.classes, range(manifest.depths)
        if manifest.status not in STATES:
            raise ValueError(f"its status is {manifest.status!r}")
    except FileNotFoundError:
        raise InputError(f"run {run_id}: no {path}; `calig runs` lists the runs there are") from None
    except PermissionError as error:
        raise denied(path) from error
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(
            f"run {run_id}: {path} is not a run's manifest ({error}); delete the folder"
        ) from error
    return manifest


def write_run(warehouse: Warehouse, run: RunManifest) -> None:
    """Write a run's manifest in the place of the one before."""
    warehouse.files.write_json(warehouse.run(run.run_id) / "manifest.json", run.to_json())


def end_run(warehouse: Warehouse, run: RunManifest, state: State, **changes: Any) -> None:
    """Write that a run has come to its end now, in this state; `changes` are other fields of its manifest."""
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    write_run(warehouse, replace(run, status=state, finished=finished, **changes))


def list_runs(warehouse: Warehouse) -> list[RunManifest]:
    """Return all runs that have a manifest, unfinished ones too, oldest first; damaged ones are named in the log.

    Raises
    ------
    InputError
        The folder of runs, or a run's, may not be read.
    """
    runs, damaged = _read_runs(warehouse)
    pass_over(damaged.values())
    return runs


def list_all_runs(warehouse: Warehouse) -> list[RunManifest]:
    """Return what `list_runs` returns, for those who have to know of every run.

    Raises
    ------
    InputError
        Also if a manifest is damaged.
    """
    runs, damaged = _read_runs(warehouse)
    for error in damaged.values():
        raise error
    return runs


def damaged_runs(warehouse: Warehouse) -> dict[str, DamagedError]:
    """Return the ids of runs whose manifest is damaged, with what is wrong."""
    return _read_runs(warehouse)[1]


def _read_runs(warehouse: Warehouse) -> tuple[list[RunManifest], dict[str, DamagedError]]:
    ids = [folder.name for folder in children(warehouse.runs) if exists(folder / "manifest.json")]
    runs, damaged = read_each(ids, lambda run_id: read_run(warehouse, run_id))
    return sorted(runs.values(), key=lambda run: (run.started_at, run.run_id)), damaged


def resolve_run(warehouse: Warehouse, ref: str, before: str | None = None) -> str:
    """Return the id of the run that `ref` names.

    Parameters
    ----------
    warehouse
        Where to look.
    ref
        "latest" (the newest complete run) or "previous" (the one before it); a tag; an id; an audit's name, which is
        its newest complete run; or a unique prefix of an id. What comes first in this order counts, and the log says
        so where more than one of them fits.
    before
        Id of a run: only runs that started before it are an audit's latest.

    Raises
    ------
    InputError
        If no run or several fit, the run is damaged, or a tag's run is gone; lists the candidates.
    """
    runs, damaged = _read_runs(warehouse)
    run_id = _named(warehouse, ref, before, runs, damaged)
    pass_over(damaged.values())
    return run_id


def _named(
    warehouse: Warehouse,
    ref: str,
    before: str | None,
    runs: Sequence[RunManifest],
    damaged: Mapping[str, DamagedError],
) -> str:
    """Find the run; an error of a damaged run is raised if it is the one that is named."""
    if not runs and damaged:
        raise damaged.get(ref, next(iter(damaged.values())))
    if not runs:
        raise InputError(
            f"no runs in {warehouse.root}: run `calig audit CONFIG.yaml` first or name another with --warehouse"
        )
    recent = ", ".join(run.run_id for run in reversed(runs[-8:]))
    if ref in ("latest", "previous"):
        complete = [run.run_id for run in runs if run.is_finished]
        wanted = 1 if ref == "latest" else 2
        if len(complete) < wanted:
            raise InputError(
                f"run {ref}: {len(complete)} complete runs in {warehouse.root}; name one of: {recent}"
            )
        return complete[-wanted]
    ids = [run.run_id for run in runs]
    tags = {path.name: path for path in tag_files(warehouse.tags)}
    of_audit = [run for run in runs if run.name == ref]
    if ref in tags:
        run_id = read_tag(tags[ref])
        if run_id in damaged:
            raise damaged[run_id]
        if run_id not in ids:
            raise InputError(
                f"tag {ref} names run {run_id}, which is gone: set it with --force, or delete it; there are: {recent}"
            )
        if of_audit:
            logger.warning("run %s: the tag, not the latest run of the audit of this name", ref)
        return run_id
    if ref in ids:
        return ref
    if ref in damaged:
        raise damaged[ref]
    fitting = [run_id for run_id in (*ids, *damaged) if ref and run_id.startswith(ref)]
    if of_audit:
        if fitting:
            logger.warning(
                "run %s: the latest of the audit of this name, not the run whose id starts so", ref
            )
        return _latest_of(ref, of_audit, before)
    if not fitting:
        names = ", ".join(sorted({run.name for run in runs}))
        tagged = f"; tags: {', '.join(tags)}" if tags else ""
        raise InputError(
            f"run {ref}: no such run in {warehouse.root}; there are: {recent}{tagged}; audits: {names}"
        )
    if len(fitting) > 1:
        raise InputError(
            f"run {ref}: fits {len(fitting)} runs: {', '.join(fitting[-8:])}; write more of the id"
        )
    if fitting[0] in damaged:
        raise damaged[fitting[0]]
    return fitting[0]


def _latest_of(name: str, runs: Sequence[RunManifest], before: str | None) -> str:
    """The newest complete one of an audit's runs, of those that started before the run `before`."""
    if before in (ids := [run.run_id for run in runs]):
        runs = runs[: ids.index(before)]
    complete = [run.run_id for run in runs if run.is_finished]
    if not complete:
        there = ", ".join(f"{run.run_id} is {run.status}" for run in runs[-8:]) or "none before this one"
        raise InputError(f"run {name}: the audit of this name has no complete run: {there}")
    return complete[-1]


def set_tag(warehouse: Warehouse, ref: str, name: str, force: bool = False, wait: float = 0.0) -> str:
    """Give a complete run a name.

    Parameters
    ----------
    warehouse, ref
        Where, and which run: whatever `resolve_run` takes.
    name
        The tag: letters, digits, - _ and dots.
    force
        Move the tag if it names another run.
    wait
        Seconds to wait for another writer, which may be pruning the run.

    Returns
    -------
    The run's id.

    Raises
    ------
    InputError
        If there is no such run, it is not complete, or the name cannot be a tag or names another run.
    """
    with warehouse.writer_lock(wait=wait):
        run_id = resolve_run(warehouse, ref)
        runs = {run.run_id: run for run in list_runs(warehouse)}
        if not runs[run_id].is_finished:
            raise InputError(f"run {run_id} is {runs[run_id].status}: only a complete run can be tagged")
        check_name(name, runs)
        path = warehouse.tags / name
        if exists(path) and not force and (before := read_tag(path)) != run_id:
            raise InputError(f"tag {name} names run {before}; move it with --force")
        warehouse.files.write_json(path, {"run_id": run_id})
    return run_id
