"""Workers as actors of a Ray cluster: the one at an address, or one started on this machine for the time being.

Ray's dashboard and usage reports are off, and a cluster of our own listens on the loopback interface alone. Workers
need the warehouse, the model and the corpus under the same names as here, and the same version of calig.
"""

from __future__ import annotations

import importlib.metadata
import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from calig.config import AuditConfig
from calig.config.schema import RuntimeConfig
from calig.engines.engine import Engine, Progress, WorkerLostError
from calig.engines.work import Message, Outcome, Settings, Worker, receive
from calig.errors import InputError
from calig.workers import cores

log = logging.getLogger(__name__)

T = TypeVar("T")

_ATTEMPTS = 3
"""How often an actor is started before it is given up."""
_REACH_SECONDS = 10.0
"""How long the head node may take to answer."""
_SAY_EVERY = 60.0
"""Seconds between two lines that say that no worker is free."""
_STORE_BYTES = 128 * 2**20
"""Memory of the object store of a cluster of our own, in which little ever lies."""
_TELL_EVERY = 0.2
"""Seconds, at least, between two messages of a worker."""


class Cluster(Engine):
    """Actors, each of which holds a share of the cluster's CPUs and GPUs.

    One that is lost is replaced when the cluster has room; meanwhile its work goes to the others.
    """

    def __init__(self, config: AuditConfig) -> None:
        self._ray = _import_ray()
        self._ours = _connect(self._ray, config.runtime.ray_address)
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        share = _Share.of(config.runtime, nodes)
        super().__init__(share.workers)
        self._actors: dict[str, Any] = {}
        self._free: SimpleQueue[tuple[str, Any] | BaseException] = SimpleQueue()
        self._make = self._ray.remote(Actor).options(
            num_cpus=share.cpus, num_gpus=share.gpus, max_restarts=0, scheduling_strategy="SPREAD"
        )
        self._arguments = (Settings.here(share.threads), _versions(), Path.cwd(), _landmark(config))
        for number in range(share.workers):
            self._hire(f"worker {number + 1}")

    def run(self, work: Callable[..., T], *arguments: Any, progress: Progress) -> T:
        """Let a free actor do the work."""
        name, actor = self._next()
        try:
            outcome = self._do(actor, work, arguments, progress)
        except self._ray.exceptions.RayError as error:
            self.stop_if_closed()
            self._ray.kill(actor)
            self._hire(name)
            reason = str(error).splitlines()[0]
            raise WorkerLostError(f"{name} was lost; its shard is to be done again ({reason})") from None
        except BaseException:
            self._free.put((name, actor))
            raise
        self._free.put((name, actor))
        self.loads[f"{name}, actor {actor._actor_id.hex()}"] = outcome.loads
        result: T = outcome.get()
        return result

    def close(self) -> None:
        """Kill all actors and, where the cluster is ours, end it."""
        if self.closed.is_set():
            return
        self.closed.set()
        for actor in self._actors.values():
            self._ray.kill(actor)
        for _ in self._actors:
            self._free.put(KeyboardInterrupt())
        if self._ours:
            self._ray.shutdown()

    def _do(
        self, actor: Any, work: Callable[..., Any], arguments: tuple[Any, ...], progress: Progress
    ) -> Outcome:
        for reference in actor.run.options(num_returns="streaming").remote(work, arguments):
            outcome = receive(self._ray.get(reference), progress)
            if outcome is not None:
                return outcome
        raise self._ray.exceptions.RayError("it said nothing of the end")

    def _next(self) -> tuple[str, Any]:
        """The next worker that is free."""
        while True:
            self.stop_if_closed()
            try:
                free = self._free.get(timeout=_SAY_EVERY)
            except Empty:
                log.warning("no Ray worker is free, and the cluster may have no room for one; still waiting")
                continue
            if isinstance(free, BaseException):
                self._free.put(free)  # the others are to know as well
                raise free
            return free

    def _hire(self, name: str, attempt: int = 1) -> None:
        """Make an actor; it counts as free once it is there."""
        actor = self._actors[name] = self._make.remote(*self._arguments)

        def wait() -> None:
            try:
                refusal = self._ray.get(actor.refusal.remote())
                self._free.put((name, actor) if refusal is None else InputError(refusal))
            except self._ray.exceptions.RayError as error:
                if self.closed.is_set():
                    return
                reason = str(error).splitlines()[0]
                log.warning("%s did not start: %s", name, reason)
                if attempt < _ATTEMPTS:
                    self._hire(name, attempt + 1)
                else:
                    self._free.put(WorkerLostError(f"{name} does not start ({reason})"))

        threading.Thread(target=wait, daemon=True).start()


class Actor:
    """A worker on some node of the cluster; its model lives as long as it does."""

    def __init__(
        self, settings: Settings, versions: tuple[str, int], folder: Path, landmark: Path | None
    ) -> None:
        self._messages: SimpleQueue[Message] = SimpleQueue()
        self._told = 0.0
        self._worker = Worker(self._messages.put)
        self._thread = ThreadPoolExecutor(1)  # a model belongs to its thread
        settings.apply(self._messages.put)
        if folder.is_dir():
            os.chdir(folder)
        self._refusal = _refusal(versions, landmark)

    def refusal(self) -> str | None:
        """Why this worker cannot do the work, if so."""
        return self._refusal

    def run(self, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Iterator[Message]:
        """Do a piece of work; give what there is to tell, its outcome last."""
        self._thread.submit(self._worker.perform, work, arguments)
        done = 0
        while True:
            message = self._messages.get()
            if isinstance(message, int):
                done += message
                if time.monotonic() < self._told + _TELL_EVERY:
                    continue
            if done:
                yield done
                done, self._told = 0, time.monotonic()
            if not isinstance(message, int):
                yield message
            if isinstance(message, Outcome):
                return


@dataclass(frozen=True, slots=True)
class _Share:
    """So many workers, the CPU threads of each, and what each has Ray reserve for it."""

    workers: int
    threads: int
    cpus: int
    gpus: float

    @classmethod
    def of(cls, runtime: RuntimeConfig, nodes: list[dict[str, float]]) -> _Share:
        """Share out what the nodes have, by the name of the resource."""
        gpus = sum(node.get("GPU", 0) for node in nodes) if runtime.device in ("auto", "cuda") else 0
        workers = runtime.workers or max(int(gpus), 1)
        even = int(sum(node.get("CPU", 0) for node in nodes) // workers)
        fitting = [
            threads
            for threads in range(1, (runtime.threads or even) + 1)
            if sum(node.get("CPU", 0) // threads for node in nodes) >= workers
        ]
        cpus = max(fitting, default=0)
        share = 1 / math.ceil(workers / gpus) if gpus >= 1 else float(runtime.device == "cuda")
        return cls(workers, runtime.threads or max(cpus, 1), cpus, share)


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError("runtime.engine: ray is not installed; pip install 'calig[ray]'") from None
    return ray


def _connect(ray: Any, address: str | None) -> bool:
    """Connect to the cluster; whether it is our own. A process that is connected already stays where it is."""
    if ray.is_initialized():
        return False
    if address is not None and address != "auto":
        _reach(address)
    options: dict[str, Any] = {
        "log_to_driver": False,
        "configure_logging": False,
        "logging_level": logging.ERROR,
    }
    if address is None:
        options |= {"address": "local", "num_cpus": cores(), "include_dashboard": False}
        options |= {"object_store_memory": _STORE_BYTES, "_node_ip_address": "127.0.0.1"}
    else:
        options["address"] = address
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = address or "this machine"
        raise InputError(
            f"runtime.ray_address: no Ray cluster at {where} ({str(error).splitlines()[0]})"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
    return True


def _reach(address: str) -> None:
    """See that something answers at the address: Ray itself would go on trying for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "://" in address or not port.isdigit():
        raise InputError(
            f"runtime.ray_address: {address} is not host:port; give the head node's, and start the audit on a node "
            "of the cluster (Ray Client, ray://, is not enough)"
        )
    try:
        socket.create_connection((host, int(port)), _REACH_SECONDS).close()
    except OSError as error:
        raise InputError(f"runtime.ray_address: no Ray cluster at {address} ({error})") from None


def _versions() -> tuple[str, int]:
    """What must be the same on all nodes for their results to be one."""
    from calig.attribution.method import ENGINE_VERSION

    return importlib.metadata.version("calig"), ENGINE_VERSION


def _landmark(config: AuditConfig) -> Path | None:
    """A file of the warehouse that a worker must see too; none where it is on a store."""
    if "://" in config.warehouse:
        return None
    path = Path(config.warehouse).expanduser().resolve() / ".working"
    return path if path.exists() else None


def _refusal(versions: tuple[str, int], landmark: Path | None) -> str | None:
    """Why a worker on this machine cannot do the work."""
    here = socket.gethostname()
    if (found := _versions()) != versions:
        return f"runtime.engine: {here} has calig {found}, not {versions}; install the same on all nodes"
    if landmark is not None and not landmark.exists():
        return (
            f"warehouse: {here} does not see {landmark.parent}; use a folder that all nodes of the Ray cluster share, "
            "or s3://…"
        )
    return None
