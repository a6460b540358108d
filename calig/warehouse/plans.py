"""What a plan predicted, and what the run that followed took: small JSON files.

A plan lies in the attribution key's folder, named by its corpus and by the class that it asks for. A run of the same
takes a copy into its folder; when it is complete, its own numbers are written beside the predicted ones, and the plan
is gone.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from calig.errors import InputError, NewerError
from calig.formats import STAMP, readable, stamp
from calig.warehouse.damage import pass_over
from calig.warehouse.explained import Asked
from calig.warehouse.layout import Warehouse
from calig.warehouse.shards import ShardManifest

PLAN = "plan.json"

Unit: TypeAlias = Literal[
    "documents", "tokens", "shards", "passes", "seconds", "core-hours", "GPU-hours", "bytes", "files"
]


@dataclass(frozen=True, slots=True)
class Figure:
    """One predicted number.

    Attributes
    ----------
    name
        What it is.
    value, low, high
        The prediction and a 95 % interval; the three are equal where the number is counted or not estimated. The
        interval is None where too few documents were measured for one.
    unit
        What it is counted in.
    basis
        What it is based on, in words.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    unit: Unit
    basis: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What explaining a corpus takes.

    Attributes
    ----------
    audit, attribution_key, corpus_key
        The audit's name, and the keys that its attributions and its corpus lie under.
    made
        When, ISO 8601, UTC.
    machine, device, threads
        The processor that the pilot ran on; the kind of device, and CPU threads, that a worker has.
    workers
        Workers that the times are for.
    figures
        The predicted numbers.
    cannot_see
        In words, of each gate that allows for chance: the changes that it could not see with so many documents.
    actual
        Name of a figure → what the run took; None until a run with this plan is complete.
    asked
        Which class of the documents is explained (`calig.warehouse.explained`).
    """

    audit: str
    attribution_key: str
    corpus_key: str
    made: str
    machine: str
    device: str
    threads: int
    workers: int
    figures: tuple[Figure, ...]
    cannot_see: tuple[str, ...] = ()
    actual: Mapping[str, float] | None = None
    asked: Asked = "predicted"

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON-ready values."""
        return {**asdict(self), **stamp()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """Read what `to_json` made; raises KeyError or TypeError on anything else, NewerError on what is newer."""
        value = {key: own for key, own in readable("a plan", value).items() if key not in STAMP}
        figures = tuple(Figure(**figure) for figure in value["figures"])
        return cls(**{**value, "figures": figures, "cannot_see": tuple(value.get("cannot_see", ()))})


def compute_of(device: str, threads: int) -> tuple[Unit, float]:
    """What attribution is paid in, and how much of it an hour of one worker is."""
    return ("core-hours", float(threads)) if device == "cpu" else ("GPU-hours", 1.0)


def plan_path(warehouse: Warehouse, attribution_key: str, corpus_key: str, asked: Asked) -> Path:
    """Return where the plan for a corpus, and a class asked for, waits for its run."""
    return warehouse.attributions(attribution_key) / f"plan-{corpus_key}-{asked}.json"


def store_plan(warehouse: Warehouse, plan: Plan) -> None:
    """Leave a plan for the run that follows."""
    path = plan_path(warehouse, plan.attribution_key, plan.corpus_key, plan.asked)
    warehouse.files.write_json(path, plan.to_json())


def take_plan(warehouse: Warehouse, run_id: str, attribution_key: str, corpus_key: str, asked: Asked) -> None:
    """Copy the plan for this corpus and class, where there is one, into the run's folder.

    A newer version's is passed over.
    """
    try:
        found = _read(plan_path(warehouse, attribution_key, corpus_key, asked))
    except NewerError as error:
        pass_over([error])
        return
    if found is not None:
        warehouse.files.write_json(warehouse.run(run_id) / PLAN, found.to_json())


def read_plan(warehouse: Warehouse, run_id: str) -> Plan:
    """Read the plan that a run had.

    Raises
    ------
    InputError
        If it had none, or one of a newer format.
    """
    found = _read(warehouse.run(run_id) / PLAN)
    if found is None:
        raise InputError(
            f"run {run_id}: no plan was made before it; `calig plan CONFIG.yaml`, then `calig audit CONFIG.yaml`"
        )
    return found


def close_plan(
    warehouse: Warehouse,
    run_id: str,
    shards: Sequence[ShardManifest],
    seconds: Mapping[str, float],
    memory: int,
) -> None:
    """Write what a run took beside what was predicted, if something was; the plan then waits for no other run.

    Parameters
    ----------
    warehouse, run_id
        The run, just complete.
    shards
        The manifests of its attribution key, before small shards are merged; those that it computed count.
    seconds
        Its timings, "attribute" and "aggregate" among them.
    memory
        Peak memory of a worker, in bytes.
    """
    plan = _read(warehouse.run(run_id) / PLAN)
    if plan is None:
        return
    own = [shard for shard in shards if run_id in shard.paid]
    unit, rate = compute_of(plan.device, plan.threads)
    actual = {
        "documents": sum(shard.documents for shard in own),
        "tokens": sum(shard.tokens for shard in own),
        "shards": len(own),
        "block passes": sum(shard.paid[run_id][0] for shard in own),
        unit: rate * sum(shard.paid[run_id][1] for shard in own) / 3600,
        "attribution": seconds.get("attribute", 0.0),
        "memory per worker": memory,
        "tokens Parquet": sum(shard.size("tokens") for shard in own),
        "documents Parquet": sum(shard.size("documents") for shard in own),
        "files": sum(len(shard.files) + 1 for shard in own),
        "aggregate": seconds.get("aggregate", 0.0),
    }
    warehouse.files.write_json(warehouse.run(run_id) / PLAN, {**plan.to_json(), "actual": actual})
    warehouse.files.discard(plan_path(warehouse, plan.attribution_key, plan.corpus_key, plan.asked))


def peak_memory() -> int:
    """Return the most resident memory, in bytes, that this process or one of its ended children had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * max(
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def _read(path: Path) -> Plan | None:
    """Read a plan; None where there is none, or a damaged one."""
    try:
        return Plan.from_json(json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
