"""What differs in how two runs were explained, said before anything that was found between them.

Runs of one attribution key were explained alike. Of others the key's parts are compared: the engine, the model, what of
the method changes numbers, the step schedule. Runs of format 1 do not record the engine and the schedule; both are
found by trying which of them, with what the run does record, make its key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from calig.errors import NewerError
from calig.formats import ENGINE_VERSION
from calig.listing import matching
from calig.warehouse.layout import Warehouse
from calig.warehouse.pairing import labels_in_keys
from calig.warehouse.runs import RunManifest
from calig.warehouse.views import RunFiles
from calig.workers import read_schedule

NUMBERS = (
    *("output", "baseline", "context", "tolerance", "max_nodes", "max_length", "image_size"),
    *("rule", "steps", "fusion", "weight"),
)
"""What of `RunManifest.method` changes numbers that are compared."""
_IN_KEYS_OF_FORMAT_1 = ("target", *NUMBERS[:-2])
_MAY_BE = "numbers of the same documents may differ by that alone"


@dataclass(frozen=True, slots=True)
class Differences:
    """What differs between two runs: whether the engine is the same (None: not known), and all of it, in sentences."""

    same_engine: bool | None
    said: tuple[str, ...]


def differences(warehouse: Warehouse, a: RunFiles, b: RunFiles) -> Differences:
    """Say what differs in how the runs a, the reference, and b were explained."""
    of_a, of_b = a.manifest, b.manifest
    if of_a.attribution_key == of_b.attribution_key:
        return Differences(True, tuple(_settings(of_a, of_b)))
    (engine_a, schedule_a), (engine_b, schedule_b) = (made_by(warehouse, own) for own in (of_a, of_b))
    same = None if None in (engine_a, engine_b) else engine_a == engine_b
    said = [*_model(of_a, of_b), *_settings(of_a, of_b)]
    if not said and None not in (schedule_a, schedule_b) and schedule_a != schedule_b:
        said.append("the step schedule is another one: differences within the tolerance may come from it")
    if of_a.format != of_b.format:
        alike = ", the engine did not" if same else ""
        said.append(
            f"the keys of attributions changed between these runs (format {of_a.format}, then {of_b.format}){alike}; "
            "documents are compared by what they hold"
        )
    if same is False:
        said.insert(
            0, f"the engine changed between these runs (version {engine_a}, then {engine_b}): {_MAY_BE}"
        )
    elif same is None:
        unknown = " and ".join(
            own.run_id for own, engine in ((of_a, engine_a), (of_b, engine_b)) if engine is None
        )
        said.insert(
            0,
            f"the engine may have changed between these runs ({unknown} does not say its version): {_MAY_BE}",
        )
    if of_b.modality == "image" and labels_in_keys(a) != labels_in_keys(b):
        said.append(
            "no image can be recognised in both runs: the keys of one hold labels, as they did up to 0.1.0 where the "
            "label was explained"
        )
    return Differences(
        same, tuple(said) or ("the keys of their attributions differ, and it is not recorded by what",)
    )


def made_by(warehouse: Warehouse, run: RunManifest) -> tuple[int | None, str | None]:
    """The version of the engine, and the key of the step schedule, that a run was explained with; None: not known."""
    if run.engine_version is not None:
        return run.engine_version, run.schedule
    for path in matching(warehouse.schedules, "*.json"):
        try:
            schedule = read_schedule(path)
        except NewerError:  # which no run of format 1 went by
            continue
        if schedule is None:
            continue
        for engine in range(ENGINE_VERSION, 0, -1):
            if _key_of_format_1(run, engine, schedule.key) == run.attribution_key:
                return engine, schedule.key
    return None, None


def _key_of_format_1(run: RunManifest, engine: int, schedule: str) -> str:
    """The attribution key that a run of format 1 had with this engine and schedule."""
    method = {name: run.method.get(name) for name in _IN_KEYS_OF_FORMAT_1}
    if method["image_size"] is None:
        del method["image_size"]
    content = {"engine": engine, "model": run.model["hash"], "method": method, "schedule": schedule}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _model(a: RunManifest, b: RunManifest) -> Iterator[str]:
    """What differs between the models."""
    dtypes = [run.config.get("runtime", {}).get("dtype") for run in (a, b)]
    if None not in dtypes and dtypes[0] != dtypes[1]:
        yield f"the setting runtime.dtype changed from {dtypes[0]} to {dtypes[1]}"
    if a.model["hash"] == b.model["hash"]:
        return
    reader = "image processor" if b.modality == "image" else "tokenizer"
    parts = {"weights": "weights", "configuration": "configuration", "reader": reader}
    hashes = [run.model.get("hashes") or {} for run in (a, b)]
    if not all(hashes):
        yield f"the model is another one: its weights, configuration or {reader}"
        return
    changed = [name for part, name in parts.items() if hashes[0].get(part) != hashes[1].get(part)]
    yield (
        f"the model is another one: its {_listed(changed)} changed"
        if changed
        else ("the model is another one by what of its files it is read with")
    )


def _settings(a: RunManifest, b: RunManifest) -> Iterator[str]:
    """What of the method differs."""
    for name in ("target", *NUMBERS):
        if name in a.method and name in b.method and a.method[name] != b.method[name]:
            yield f"the setting method.{name} changed from {_value(a.method[name])} to {_value(b.method[name])}"


def _value(value: Any) -> str:
    return "not set" if value is None else str(value)


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
