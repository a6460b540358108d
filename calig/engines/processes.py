"""Workers as processes of this machine, each pinned to its GPU; one that dies is replaced, and holds up no other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from queue import LifoQueue
from typing import Any, TypeVar

from calig.engines.engine import Engine, Progress, WorkerLostError
from calig.engines.placement import Placement
from calig.engines.work import Outcome, Settings, receive

T = TypeVar("T")

_PATIENCE = 10.0
"""Seconds in which a process whose socket is closed must have ended."""


class Processes(Engine):
    """Processes that are started when there is work for them, and then kept."""

    def __init__(self, placement: Placement) -> None:
        super().__init__(placement.workers)
        self._placement = placement
        self._guard = threading.Lock()
        self._children: dict[int, _Child] = {}
        self._free: LifoQueue[int] = LifoQueue()  # those that have loaded a model come first
        for number in reversed(range(placement.workers)):
            self._free.put(number)

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that are there."""
        with self._guard:
            return [child.process.pid for child in self._children.values()]

    def run(self, work: Callable[..., T], *arguments: Any, progress: Progress) -> T:
        """Let a free process do the work."""
        number = self._free.get()
        try:
            child = self._child(number)
            try:
                outcome = child.do(work, arguments, progress)
            except (EOFError, OSError):
                self.stop_if_closed()
                raise WorkerLostError(self._bury(number)) from None
            self.loads[child.name] = outcome.loads
            result: T = outcome.get()
            return result
        finally:
            self._free.put(number)

    def close(self) -> None:
        """Kill all processes: what they had finished is in the warehouse."""
        with self._guard:
            self.closed.set()
            for child in self._children.values():
                child.process.kill()
            for child in self._children.values():
                child.process.wait()
                child.connection.close()

    def _child(self, number: int) -> _Child:
        with self._guard:
            self.stop_if_closed()
            if number not in self._children:
                _let_go_of_gpus()
                self._children[number] = _Child(self._placement, number)
            return self._children[number]

    def _bury(self, number: int) -> str:
        """Let go of a process that does not answer; say what became of it."""
        with self._guard:
            child = self._children.pop(number)
        child.connection.close()
        return child.obituary()


class _Child:
    """A worker process, and the socket to it."""

    def __init__(self, placement: Placement, number: int) -> None:
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        with theirs:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-c", "from calig.engines.child import main; main()"),
                    str(theirs.fileno()),
                ],
                env=os.environ | {"PYTHONPATH": path} | placement.environment(number),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the process that started it, which then ends it
            )
        self.name = f"worker {number + 1} (pid {self.process.pid})"
        self.connection: Connection[Any, Any] = Connection(ours.detach())
        self.connection.send(Settings.here(placement.threads))

    def do(self, work: Callable[..., Any], arguments: tuple[Any, ...], progress: Progress) -> Outcome:
        """Hand over a piece of work and wait for its end.

        Raises
        ------
        EOFError, OSError
            The process died.
        """
        self.connection.send((work, arguments))
        while True:
            outcome = receive(self.connection.recv(), progress)
            if outcome is not None:
                return outcome

    def obituary(self) -> str:
        """Wait for the end of the process and say how it ended."""
        try:
            code = self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if code >= 0:
            return f"{self.name} ended with exit code {code}; its shard is to be done again"
        reason = signal.Signals(-code).name
        hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
        return f"{self.name} was killed by {reason}{hint}; its shard is to be done again"


def _let_go_of_gpus() -> None:
    """Give back GPU memory that this process keeps in reserve: the workers have use for it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
