"""A worker's model: described once, loaded once a thread, with the step schedule that the warehouse holds for it.

A worker is a thread of a process that `calig.engines` provides; so long as it lives, it keeps the model last asked for.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from calig.config import AuditConfig
from calig.config.schema import RuntimeConfig
from calig.errors import InputError
from calig.records import Head, Modality
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import RunManifest
from calig.words import rule

if TYPE_CHECKING:
    from calig.attribution.explainer import Explainer
    from calig.attribution.method import Method
    from calig.attribution.schedule import Schedule
    from calig.models.loading import Pretrained

log = logging.getLogger(__name__)

_VERSIONED = ("calig", "torch", "transformers", "tokenizers", "pillow", "prefect", "duckdb", "pyarrow")
CARD_VERSION = 4
"""Bumped when what is checked of a model, or kept in its card, changes: cards from before are made again."""
_worker = threading.local()
_guard = threading.Lock()
_loads = 0
_threads: int | None = None


class ModelChangedError(InputError):
    """The model loaded is not the one that was fingerprinted."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the audit needs to know of a model without loading it: hash, classes, depth L, head, and what it reads.

    `notes` are lines for whoever started the audit, on weights in the model's files that are not read, on classes that
    are called alike, and on a baseline that is taken in place of a degenerate one, which is then `baseline`. `hashes`
    are those of its parts (`calig.models.loading.fingerprints`), to say what differs between two models; it is none of
    what tells them apart.
    """

    id: str
    revision: str | None
    hash: str
    classes: tuple[str, ...]
    depth: int
    head: Head = "single_label"
    modality: Modality = "text"
    notes: tuple[str, ...] = ()
    baseline: str | None = None
    hashes: Mapping[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def of_run(cls, run: RunManifest) -> ModelCard:
        """The model of a run that is in the warehouse."""
        return cls(
            run.model["id"],
            run.model["revision"],
            run.model["hash"],
            tuple(run.classes),
            run.depths - 1,
            run.head,
            run.modality,
            baseline=run.model.get("baseline"),
            hashes=run.model.get("hashes", {}),
        )


def method_of(config: AuditConfig, model: ModelCard | None = None) -> Method:
    """The engine's method as the configuration states it; as computed for a model's head, where one is given."""
    from calig.attribution.heads import fit
    from calig.attribution.method import Method

    method = Method(**config.method.model_dump())
    if model is None:
        return method
    if model.baseline is not None:
        method = replace(method, baseline=model.baseline)
    return fit(method, model.head, model.classes, model.modality)


def key_of(config: AuditConfig, model: ModelCard, schedule: Schedule, before: bool = False) -> str:
    """The key that attributions lie under which are made so; `before`: that of versions whose keys held the target."""
    from calig.attribution.explainer import attribution_key

    return attribution_key(model.hash, method_of(config, model), schedule, before)


def schedule_path(warehouse: Warehouse, config: AuditConfig, model: ModelCard, before: bool = False) -> Path:
    """Where the step schedule of the model and method is, or will be; `before`: where such versions have it."""
    from calig.attribution.explainer import schedule_key

    return warehouse.schedules / f"{schedule_key(model.hash, method_of(config, model), before)}.json"


def stored_schedule(warehouse: Warehouse, config: AuditConfig, model: ModelCard) -> Schedule | None:
    """The step schedule that the warehouse holds, be it from a version whose keys held the target; None: none."""
    paths = (schedule_path(warehouse, config, model, before) for before in (False, True))
    return next((found for found in map(read_schedule, paths) if found is not None), None)


def read_schedule(path: Path) -> Schedule | None:
    """Read a step schedule; None where there is none, or a damaged one."""
    from calig.attribution.schedule import Schedule

    try:
        return Schedule.from_json(path.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        log.warning("schedule %s is damaged: it does not count", path.name)
        return None


def pretrained_of(config: AuditConfig, revision: str | None) -> Pretrained:
    """Load the model as configured, and give torch the threads that fall to one worker."""
    import torch

    from calig.models.loading import load_pretrained

    runtime = config.runtime
    torch.set_num_threads(threads_of(runtime))
    return load_pretrained(
        config.model.id,
        revision=revision,
        device=runtime.device,
        dtype=runtime.dtype,
        head=head_of(config),
    )


def threads_of(runtime: RuntimeConfig) -> int:
    """The CPU threads of a worker: as configured, as its engine says, or the cores shared out evenly."""
    return runtime.threads or _threads or max(1, cores() // (runtime.workers or 1))


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(threads: int) -> None:
    """Say how many CPU threads fall to each worker of this process, where the configuration does not."""
    global _threads
    _threads = threads


def loaded() -> int:
    """How many models the workers of this process have loaded so far."""
    return _loads


def head_of(config: AuditConfig) -> str | None:
    """The head that the configuration names; None where the model is to say."""
    return None if config.model.head == "auto" else config.model.head


def load_explainer(config: AuditConfig, model: ModelCard, schedule: Schedule | None = None) -> Explainer:
    """Load the model, check that it is still the one fingerprinted, and make its explainer."""
    from calig.attribution.explainer import Explainer
    from calig.models.loading import fingerprint

    pretrained = pretrained_of(config, model.revision)
    if fingerprint(pretrained) != model.hash:
        raise ModelChangedError(
            f"model.id: {config.model.id} changed while the audit ran; run the audit again"
        )
    method = method_of(config, model)
    explainer = Explainer(pretrained, method, schedule, config.runtime.token_budget)
    if explainer.method != method:  # it would be explained otherwise than its key says
        raise ModelChangedError(f"{explainer.notes[0]}, and this run was made without; run the audit again")
    return explainer


def workers_explainer(config: AuditConfig, model: ModelCard, schedule: Schedule | None) -> Explainer:
    """The thread's explainer: a worker loads a model once, not once a shard."""
    runtime = config.runtime
    identity = (model, config.method, schedule, runtime.device, runtime.token_budget)
    if getattr(_worker, "identity", None) != identity:
        _worker.identity, _worker.explainer = None, None  # the old model goes before the new one comes
        _worker.explainer = load_explainer(config, model, schedule)
        _count_load()
        _worker.identity = identity
    explainer: Explainer = _worker.explainer
    return explainer


def _count_load() -> None:
    global _loads
    with _guard:
        _loads += 1


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on, and under `words` the rule that finds words."""
    return {**{name: _version(name) for name in _VERSIONED}, "words": rule()}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
