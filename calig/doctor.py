"""What `calig doctor` looks at, and what it mends."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from calig.errors import InputError

_LOW_DISK = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: healthy, not (False), or merely worth knowing (None); the text says what to do."""

    subject: str
    healthy: bool | None
    text: str


def examine(warehouse: Path, fix: bool = False) -> Iterator[Finding]:
    """Look at everything an audit needs; with `fix`, mend what can be mended in the warehouse."""
    yield Finding(
        "python", sys.version_info >= (3, 11), f"{platform.python_version()} (3.11 or newer is needed)"
    )
    yield from _packages()
    yield _device()
    yield _prefect()
    yield _disk(warehouse)
    yield from _warehouse(warehouse, fix)


def _packages() -> Iterator[Finding]:
    try:
        requirements = importlib.metadata.requires("calig") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("calig", None, "not installed as a package: versions are not checked; pip install -e .")
        return
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(requirement.name, False, f"missing: pip install '{requirement}'")
            continue
        good = requirement.specifier.contains(version, prereleases=True)
        yield Finding(requirement.name, good, version if good else f"{version}: pip install '{requirement}'")


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("device", True, f"{torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}")
    threads = torch.get_num_threads()
    return Finding(
        "device", None, f"no GPU seen, the CPU with {threads} threads: runtime.device auto uses it"
    )


def _prefect() -> Finding:
    """Ask the server that PREFECT_API_URL names whether it is there."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        text = "no PREFECT_API_URL: every audit starts a server of its own (30 s); `prefect server start` saves that"
        return Finding("prefect", None, text)
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=5) as answer:
            return Finding("prefect", answer.status == 200, f"{url} answers")
    except (urllib.error.URLError, OSError, ValueError) as error:
        return Finding(
            "prefect", False, f"{url} does not answer ({error}): start it, or unset PREFECT_API_URL"
        )


def _disk(warehouse: Path) -> Finding:
    place = warehouse.expanduser().resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    text = f"{free / 2**30:.1f} GiB free at {place}"
    return Finding(
        "disk", free > _LOW_DISK, text if free > _LOW_DISK else f"{text}: make room, or move the warehouse"
    )


def _warehouse(path: Path, fix: bool) -> Iterator[Finding]:
    from calig.warehouse.aggregate import rebuild
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.query import query
    from calig.warehouse.runs import list_runs
    from calig.warehouse.shards import completed, sweep

    try:
        warehouse = Warehouse.open(path, create=False)
    except InputError:
        yield Finding("warehouse", None, f"none at {path} yet: the first audit makes one")
        return
    runs = list_runs(warehouse)
    unfinished = [run.run_id for run in runs if run.status != "complete"]
    text = f"{len(runs)} runs at {warehouse.root}"
    if unfinished:
        text += f"; unfinished: {', '.join(unfinished[-3:])} (run the audit again: it goes on from there)"
    yield Finding("warehouse", None if unfinished else True, text)
    for folder in sorted(warehouse.attributions("").glob("*")):
        shards = completed(folder, check=fix)
        swept = sweep(folder) if fix else []
        text = f"{len(shards)} shards" + (f", {len(swept)} leftover files deleted" if swept else "")
        yield Finding(f"attributions {folder.name[:8]}", True, text)
    complete = {run.run_id for run in runs if run.status == "complete"}
    if not complete:
        return
    try:
        lacking = complete - {row[0] for row in query(warehouse, "SELECT run_id FROM runs").rows}
        problem = f"{len(lacking)} complete runs are not in {warehouse.database}" if lacking else ""
    except InputError as error:
        problem = str(error)
    if not problem:
        yield Finding("tables", True, str(warehouse.database))
    elif fix:
        yield Finding("tables", True, f"rebuilt for {len(rebuild(warehouse))} runs")
    else:
        yield Finding("tables", False, f"{problem}: run `calig rebuild` or `calig doctor --fix`")
