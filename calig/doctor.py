"""What `calig doctor` looks at, and what it mends."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from calig.environment import LOOPBACK, is_homeless, temporary_folder, unwritable
from calig.errors import InputError, NewerError
from calig.listing import children, exists, is_file, is_folder
from calig.stores import cache_folder, cache_home

if TYPE_CHECKING:
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.runs import RunManifest

_LOW_DISK = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: healthy, not (False), or merely worth knowing (None); the text says what to do."""

    subject: str
    healthy: bool | None
    text: str


def examine(warehouse: str | Path, fix: bool = False) -> Iterator[Finding]:
    """Look at everything an audit needs; with `fix`, mend what can be mended in the warehouse."""
    yield Finding(
        "python", sys.version_info >= (3, 11), f"{platform.python_version()} (3.11 or newer is needed)"
    )
    yield from _packages()
    yield _device()
    yield _prefect()
    yield from _homes()
    yield from _proxies()
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


def _homes() -> Iterator[Finding]:
    """Look for a home that is missing or cannot be written, where Prefect and calig keep their files."""
    if is_homeless():
        text = f"this user has none: {temporary_folder()} stands for it; set HOME to a folder"
        yield Finding("home", None, text)
    elsewhere = "a temporary folder takes its place; set {} to one that can"
    if named := os.environ.get("PREFECT_HOME"):
        cure = "set PREFECT_HOME to one that can, or unset it"
        yield from _writable("prefect home", Path(named).expanduser(), False, cure)
    else:
        yield from _writable("prefect home", Path.home() / ".prefect", None, elsewhere.format("PREFECT_HOME"))
    yield from _writable("cache", cache_home(), None, elsewhere.format("CALIG_CACHE"))


def _writable(subject: str, folder: Path, healthy: bool | None, cure: str) -> Iterator[Finding]:
    """Say so if a folder cannot be written, or not be made."""
    place = folder
    while not place.exists():
        place = place.parent
    if (problem := unwritable(place)) is not None:
        yield Finding(subject, healthy, f"{folder} cannot be written ({problem}): {cure}")


def _proxies() -> Iterator[Finding]:
    """Look for a proxy in the environment: other programs may send what is for this machine through it."""
    found = urllib.request.getproxies_environment()
    if found.get("http") or found.get("all"):
        text = (
            "one is set in the environment: calig goes past it to servers of this machine; for Prefect's own commands "
            f"export NO_PROXY={','.join(LOOPBACK)}"
        )
        yield Finding("proxy", None, text)


def _disk(warehouse: str | Path) -> Finding:
    remote = "://" in str(warehouse)
    place = cache_folder(str(warehouse), "warehouses") if remote else Path(warehouse).expanduser().resolve()
    try:
        while not exists(place):
            place = place.parent
    except InputError as error:
        return Finding("disk", False, str(error))
    free = shutil.disk_usage(place).free
    text = f"{free / 2**30:.1f} GiB free at {place}"
    return Finding(
        "disk", free > _LOW_DISK, text if free > _LOW_DISK else f"{text}: make room, or move the warehouse"
    )


def _warehouse(path: str | Path, fix: bool) -> Iterator[Finding]:
    from calig.warehouse.evaluations import list_evaluations
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.leftovers import sweep_warehouse
    from calig.warehouse.lost import close_lost, is_lost, stopped_runs
    from calig.warehouse.runs import damaged_runs, list_runs

    absent = Finding("warehouse", None, f"none at {path} yet: the first audit makes one")
    try:
        if "://" not in str(path) and not exists(Path(path).expanduser()):
            yield absent
            return
        warehouse = Warehouse.open(path, create=False)
        runs = list_runs(warehouse)
        damaged = damaged_runs(warehouse)
    except InputError as error:
        yield absent if "://" in str(path) else Finding("warehouse", False, str(error))
        return
    if (problem := warehouse.unwritable) is not None:
        text = f"{warehouse.root} cannot be written ({problem}): query, runs and history work, what writes does not"
        yield Finding("warehouse", False if fix else None, text)
        fix = False
    unfinished = [run.run_id for run in runs if not run.is_finished]
    text = f"{len(runs)} runs at {warehouse.root}"
    if unfinished:
        text += f"; unfinished: {', '.join(unfinished[-3:])} (run the audit again: it goes on from there)"
    yield Finding("warehouse", None if unfinished else True, text)
    for run_id, damage in damaged.items():
        healthy = None if isinstance(damage, NewerError) else False
        yield Finding(f"run {run_id}", healthy, str(damage).removeprefix(f"run {run_id}: "))
    if fix and (swept := sweep_warehouse(warehouse)):
        yield Finding("leftovers", True, f"{len(swept)} files that killed writers left are deleted")
    yield from _leftovers(warehouse, fix)
    yield from _tags(warehouse, [*(run.run_id for run in runs), *damaged], fix)
    if fix and (closed := close_lost(warehouse)):
        yield Finding("lost", True, f"marked as failed, their processes died: {', '.join(closed)}")
    elif lost := [run.run_id for run in runs if run.status == "running" and is_lost(warehouse, run)]:
        yield Finding(
            "lost",
            None,
            f"{', '.join(lost)}: no process is at work on it; the next audit of its name marks it failed, "
            "and so does `calig doctor --fix`",
        )
    for run in stopped_runs(warehouse):
        yield Finding(
            f"run {run.run_id}", None, f"stopped when it was {run.status}: the next audit finishes it"
        )
    for run in runs:
        yield from _files_of(warehouse, run, fix)
    for folder in children(warehouse.attributions("")):
        yield _attributions(warehouse, folder, fix)
    evaluations = list_evaluations(warehouse)
    for evaluation in evaluations:
        status = "" if evaluation.status == "complete" else f"{evaluation.status}, evaluate again to go on; "
        try:
            text = status + _shards(warehouse, warehouse.evaluation(evaluation.evaluation_id), fix)
        except NewerError as error:
            status = text = str(error)
        yield Finding(f"evaluation {evaluation.evaluation_id}", None if status else True, text)
    if any(run.is_finished for run in runs) or any(one.status == "complete" for one in evaluations):
        yield _tables(warehouse, fix)


def _leftovers(warehouse: Warehouse, fix: bool) -> Iterator[Finding]:
    """Look for a prune and for comparisons that were killed; with `fix`, finish the one and delete the others."""
    from calig.warehouse.prune import finish

    if exists(warehouse.pruned):
        if fix:
            yield Finding("prune", True, f"finished for {len(finish(warehouse).runs)} runs")
        else:
            text = "one was stopped: prune again to finish it; `calig doctor --fix` does, too"
            yield Finding("prune", None, text)
    if warehouse.unwritable is not None:  # nobody is at work there, nor was one who could not end
        return
    with warehouse.at_rest() as resting:
        found = [path for run in children(warehouse.runs) for path in children(run / "comparisons")]
        for folder in found:
            if not is_folder(folder) or is_file(folder / "manifest.json"):
                continue
            subject = f"comparison of {folder.parent.parent.name} with {folder.name}"
            if not resting:
                yield Finding(subject, None, "not finished: somebody is at work")
            elif fix:
                warehouse.files.discard(folder)
                yield Finding(subject, True, "was not finished: deleted")
            else:
                yield Finding(subject, None, "not finished: compare again; `calig doctor --fix` deletes it")


def _tags(warehouse: Warehouse, runs: Sequence[str], fix: bool) -> Iterator[Finding]:
    """Look for tags that name no run; with `fix`, delete them."""
    from calig.warehouse.tags import read_tag, tag_files

    for path in tag_files(warehouse.tags):
        try:
            run_id = read_tag(path)
        except InputError:
            problem = "is damaged"
        else:
            if run_id in runs:
                continue
            problem = f"names run {run_id}, which is gone"
        if fix:
            warehouse.files.discard(path)
        cure = "deleted" if fix else "set it again with --force, or run `calig doctor --fix` to delete it"
        yield Finding(f"tag {path.name}", fix, f"{problem}: {cure}")


def _attributions(warehouse: Warehouse, folder: Path, fix: bool) -> Finding:
    """Look at the shards of an attribution key."""
    subject = f"attributions {folder.name[:8]}"
    try:
        return Finding(subject, True, _shards(warehouse, folder, fix))
    except NewerError as error:
        return Finding(subject, None, str(error))


def _files_of(warehouse: Warehouse, run: RunManifest, check: bool) -> Iterator[Finding]:
    """Look whether a finished run's files are as its manifest says; with `check`, at hashes and shards too."""
    from calig.warehouse.inventory import damaged_files, lost_documents

    for name in damaged_files(warehouse, run, check):
        place = f"{warehouse.run(run.run_id) / name} is missing, or not as the run's manifest says"
        yield Finding(f"run {run.run_id}", False, f"{place}: {_cure(run.run_id, name)}")
    if check and (number := lost_documents(warehouse, run)):
        text = f"no shard holds {number} of its documents any more: run the audit again"
        yield Finding(f"run {run.run_id}", False, text)


def _cure(run_id: str, name: str) -> str:
    kind, _, rest = name.partition("/")
    if kind == "report":
        return f"`calig report {run_id}` writes it again"
    if kind == "comparisons":
        reference = rest.partition("/")[0]
        return f"delete its folder; `calig compare {reference} {run_id}` makes it again"
    return "run the audit again"


def _shards(warehouse: Warehouse, folder: Path, fix: bool) -> str:
    """Count a folder's shards; with `fix`, check their hashes, so that damaged ones are set aside."""
    from calig.warehouse.shards import completed

    return f"{len(completed(warehouse.files, folder, check=fix))} shards"


def _tables(warehouse: Warehouse, fix: bool) -> Finding:
    """Look whether the tables have all that is finished; with `fix`, make what they lack, or all of them anew."""
    from calig.warehouse.aggregate import rebuild
    from calig.warehouse.lacking import find_lacking
    from calig.warehouse.query import open_tables
    from calig.warehouse.refresh import refresh_tables

    try:
        with closing(open_tables(warehouse)) as connection:
            lacking = find_lacking(connection, warehouse)
    except NewerError as error:
        return Finding("tables", False, str(error))
    except InputError as error:
        if not fix:
            return Finding("tables", False, f"{error}; `calig doctor --fix` does, too")
        rebuilt = rebuild(warehouse)
        text = f"rebuilt for {len(rebuilt.runs)} runs"
        if rebuilt.evaluations:
            text += f" and {len(rebuilt.evaluations)} evaluations"
        return Finding("tables", True, text)
    if not lacking:
        return Finding("tables", True, str(warehouse.database))
    if not fix:
        return Finding("tables", None, f"{warehouse.database} lacks {lacking.text}: the next audit adds them")
    refresh_tables(warehouse)
    return Finding("tables", True, f"{warehouse.database} lacked {lacking.text}: added")
