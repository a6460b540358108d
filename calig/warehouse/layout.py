"""Where things lie in a warehouse, and who may write there: one at a time."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from calig.commands import work_in
from calig.environment import unwritable
from calig.errors import BusyError, InputError
from calig.files import Files
from calig.listing import exists, is_folder

if TYPE_CHECKING:
    from calig.warehouse.mirror import Mirror


DATABASE = "calig.duckdb"


@dataclass(frozen=True, slots=True)
class Sent:
    """A warehouse as it comes to another process, which is to open it there: its folder or URL."""

    place: str


class Warehouse:
    """An open warehouse: its root folder (absolute), the paths of what lies in it, and its `files`.

    Use `Warehouse.open`, which checks the folder, once in a command, flow or worker, and pass it on. Of a warehouse on
    an object store, the folder is its `mirror`'s. Pickled, it becomes a `Sent`.

    No dataclass, into whose fields Prefect would look for futures: a mirror knows thousands of files.
    """

    __slots__ = ("files", "mirror", "root")

    def __init__(self, root: Path, mirror: Mirror | None = None) -> None:
        self.root, self.mirror = root, mirror
        self.files = Files(root, mirror)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Warehouse) and self.root == other.root

    def __hash__(self) -> int:
        return hash(self.root)

    def __repr__(self) -> str:
        return f"Warehouse({self.place})"

    def __reduce__(self) -> tuple[type[Sent], tuple[str]]:
        return Sent, (self.place,)

    @classmethod
    def open(cls, path: str | Path, create: bool = True) -> Warehouse:
        """Open the warehouse at `path`.

        Parameters
        ----------
        path
            A local folder, `~` is expanded; or a URL such as s3://bucket/prefix.
        create
            Create the folder when it is missing, and ask for the right to write in it.

        Raises
        ------
        InputError
            If the path is a file, cannot be written to (with `create`), or does not exist (without); if the store
            cannot be used.
        """
        if "://" in str(path):
            return cls._of_store(str(path), create)
        root = Path(path).expanduser().resolve()
        work_in(str(root))
        if exists(root) and not is_folder(root):
            raise InputError(f"warehouse {root}: this is a file, not a folder; name another with --warehouse")
        if not create and not exists(root):
            raise InputError(
                f"no warehouse at {root}: run `calig audit CONFIG.yaml` first or name one with --warehouse"
            )
        if create:
            try:
                root.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                reason = error.strerror or str(error)
                raise InputError(
                    f"warehouse {root}: cannot create the folder ({reason}); name another"
                ) from error
            if (problem := unwritable(root)) is not None:
                raise InputError(f"warehouse {root}: it cannot be written ({problem}); name another folder")
        return cls(root)

    @classmethod
    def _of_store(cls, url: str, create: bool) -> Warehouse:
        from calig.warehouse.mirror import Mirror

        mirror = Mirror.of(url, write=create)
        work_in(mirror.url)
        if not create and mirror.is_empty:
            raise InputError(
                f"no warehouse at {url}: run `calig audit CONFIG.yaml` first or name one with --warehouse"
            )
        return cls(mirror.root, mirror)

    @property
    def place(self) -> str:
        """What `--warehouse` takes for it: its folder or URL."""
        return self.mirror.url if self.mirror else str(self.root)

    @property
    def corpora(self) -> Path:
        """The folder of ingested corpora, one folder per corpus key."""
        return self.root / "corpora"

    @property
    def schedules(self) -> Path:
        """The folder of learned quadrature schedules."""
        return self.root / "schedules"

    @property
    def runs(self) -> Path:
        """The folder of runs, one folder per run id."""
        return self.root / "runs"

    @property
    def evaluations(self) -> Path:
        """The folder of evaluations, one folder per evaluation id."""
        return self.root / "evaluations"

    @property
    def tags(self) -> Path:
        """The folder of tags, one file per tag, which holds a run's id."""
        return self.root / "tags"

    @property
    def pruned(self) -> Path:
        """The folder of what a prune has set aside, there while it is not finished."""
        return self.root / ".pruned"

    @property
    def database(self) -> Path:
        """The DuckDB file of aggregates."""
        return self.root / DATABASE

    def corpus(self, key: str) -> Path:
        """Return the folder of the corpus with this key."""
        return self.corpora / key

    def attributions(self, key: str) -> Path:
        """Return the folder of shards with this attribution key."""
        return self.root / "attributions" / key

    def evaluation(self, evaluation_id: str) -> Path:
        """Return the folder of the evaluation with this id."""
        return self.evaluations / evaluation_id

    def run(self, run_id: str) -> Path:
        """Return the folder of the run with this id."""
        return self.runs / run_id

    def comparison(self, run_id: str, reference_id: str) -> Path:
        """Return the folder of the comparison of a run with a reference; it lies in the run's."""
        return self.run(run_id) / "comparisons" / reference_id

    @property
    def unwritable(self) -> str | None:
        """Why nothing can be written in the warehouse's folder; None: it can."""
        return unwritable(self.root)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Say, within the `with` block, that something writes in this warehouse: what is unfinished is not swept."""
        with _working(self.root, fcntl.LOCK_SH):
            yield

    @contextmanager
    def at_rest(self) -> Iterator[bool]:
        """Keep others from starting to write within the `with` block, if nobody is at work: whether that is so."""
        try:
            with _working(self.root, fcntl.LOCK_EX | fcntl.LOCK_NB):
                yield True
        except BlockingIOError:
            yield False

    @contextmanager
    def writer_lock(self, folder: Path | None = None, wait: float = 0.0) -> Iterator[None]:
        """Be the one writer of this warehouse, or of one folder of it, within the `with` block.

        The lock is the kernel's (flock), so it goes with the process that held it, however that ends.

        Parameters
        ----------
        folder
            A folder of the warehouse, created if need be; None: the database.
        wait
            Seconds to wait for another writer to finish.

        Raises
        ------
        BusyError
            If another process, or another part of this one, still holds it; names the holder's pid, host and start.
        InputError
            If the warehouse cannot be written.
        """
        if (problem := self.unwritable) is not None:
            raise InputError(
                f"warehouse {self.root}: it cannot be written ({problem}); it can be read (calig query, runs, history)"
            )
        place = folder or self.root
        place.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + wait
        with self.at_work(), (place / ".lock").open("a+") as stream:
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() < deadline:
                        time.sleep(0.2)
                        continue
                    stream.seek(0)
                    raise BusyError(
                        f"warehouse {self.root}: another writer is at work ({_holder(stream.read())}); "
                        "wait until it has finished, or stop it, and try again"
                    ) from None
            stream.truncate(0)
            holder = {"pid": os.getpid(), "host": socket.gethostname()}
            json.dump({**holder, "since": datetime.now(UTC).isoformat(timespec="seconds")}, stream)
            stream.flush()
            try:
                with self._lease(place, deadline - time.monotonic()):
                    yield
            finally:
                stream.truncate(0)

    @contextmanager
    def _lease(self, place: Path, wait: float) -> Iterator[None]:
        """Be the one writer on all machines, where they share a store; what is there is brought first."""
        if self.mirror is None:
            yield
            return
        name = place.relative_to(self.root).as_posix().replace("/", "-")
        with self.mirror.lease("database" if place == self.root else name, wait):
            yield


@contextmanager
def _working(root: Path, how: int) -> Iterator[None]:
    with (root / ".working").open("a") as stream:
        fcntl.flock(stream, how)
        yield


def _holder(content: str) -> str:
    """Describe the lock's holder from the lock file's content, which may be caught half-written."""
    try:
        holder = json.loads(content)
        return f"pid {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "it has just started"
