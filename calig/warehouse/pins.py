"""What is being read stays: who reads a run pins the folders of its files, and what is pinned is not deleted.

A pin is the kernel's shared lock (flock) on the folder itself. It needs no file and no right to write, so that a
warehouse of somebody else's, or on a disk that is read-only, is pinned as well; and it goes with the process that holds
it, however that ends. Files are deleted, and folders moved away, only under the exclusive lock, which is never waited
for: what is pinned now is left to the next compaction or prune. Where a file system has no such locks on folders (some
network file systems), nothing can be pinned: readers find the files once more where one is gone, and what is to be
deleted is not held back.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from calig.listing import exists
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import read_run

FEW = 50
"""Runs whose folders are pinned one by one."""
_NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.EISDIR, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def pinned(*folders: Path) -> Iterator[None]:
    """Keep what is in these folders from being deleted within the `with` block; those that are missing are passed over.

    Waits for a deletion under way, which is short.
    """
    with ExitStack() as held:
        for folder in folders:
            while True:
                descriptor = _lock(folder, fcntl.LOCK_SH)
                if descriptor is None or _is_in_place(descriptor, folder):
                    break
                os.close(descriptor)  # it was moved away between its opening and the lock
            if descriptor is not None:
                held.callback(os.close, descriptor)
        yield


@contextmanager
def unpinned(folder: Path) -> Iterator[bool]:
    """Keep others from pinning a folder, or the one above it, within the `with` block, if nobody has: whether so."""
    with ExitStack() as held:
        try:
            for own in (folder.parent, folder):
                descriptor = _lock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if descriptor is not None:
                    held.callback(os.close, descriptor)
        except BlockingIOError:
            held.close()
            yield False
            return
        yield True


@contextmanager
def pinned_runs(warehouse: Warehouse, *run_ids: str) -> Iterator[None]:
    """Pin all that holds the data of runs: their folders, corpora and attributions.

    Of more runs than `FEW` the folders above these are pinned, since a process may not have many files open.

    Raises
    ------
    InputError
        If a run's manifest is missing or cannot be read.
    """
    with ExitStack() as held:
        if len(run_ids) > FEW:
            held.enter_context(pinned(warehouse.runs, warehouse.corpora, warehouse.attributions("")))
        else:
            held.enter_context(pinned(*map(warehouse.run, run_ids)))
            runs = [read_run(warehouse, run_id) for run_id in run_ids]
            corpora = [warehouse.corpus(run.corpus["key"]) for run in runs]
            attributions = [warehouse.attributions(run.attribution_key) for run in runs]
            own = dict.fromkeys([*corpora, *attributions])
            # what a mirror has yet to fetch is pinned by the folder above it
            held.enter_context(
                pinned(*dict.fromkeys(folder if exists(folder) else folder.parent for folder in own))
            )
        yield


def _lock(folder: Path, how: int) -> int | None:
    """Lock a folder; None where there is none, or none that can be locked."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError as error:
        os.close(descriptor)
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return descriptor


def _is_in_place(descriptor: int, folder: Path) -> bool:
    """Whether an open folder is still the one at its path."""
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False
