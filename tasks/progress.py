"""How far attribution is: a bar in the terminal and an artifact in Prefect, both with rate and time left."""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_EVERY_SECONDS = 5.0
_QUIETER = 6
_trackers: dict[str, Tracker] = {}


class Tracker:
    """Counts documents done, from any thread; `publish` shows them in Prefect."""

    def __init__(self, total: int, bar: Progress, what: str) -> None:
        self._total, self._done, self._bar, self._what = total, 0, bar, what
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._task = bar.add_task(what, total=total, rate="", visible=False)
        self._artifact: Any = None

    @property
    def rate(self) -> float:
        """Documents per second so far."""
        return self._done / max(time.monotonic() - self._start, 1e-9)

    @property
    def text(self) -> str:
        """Documents done, rate, and time left, in words."""
        rate = self.rate
        left = f"{(self._total - self._done) / rate:.0f} s left" if self._done else "time left not known yet"
        return f"{self._what}: {self._done} of {self._total} documents, {rate:.2f} documents/s, {left}"

    def add(self, documents: int) -> None:
        """Count documents as done (negative: take back)."""
        with self._lock:
            self._done += documents
            shown = f"{self.rate:.2f} documents/s"
            self._bar.update(self._task, completed=self._done, rate=shown, visible=True)

    def publish(self) -> None:
        """Make or update the Prefect artifact, once there is something to show."""
        share = 100.0 * self._done / max(self._total, 1)
        if self._artifact is not None:
            update_progress_artifact(self._artifact, share, self.text)
        elif self._done:
            self._artifact = create_progress_artifact(share, key="calig-progress", description=self.text)


@contextlib.contextmanager
def tracking(key: str, total: int, what: str = "attributing") -> Iterator[Tracker]:
    """Track documents for the time of the block; `advance(key, …)` counts them from any thread."""
    console = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tracker = _trackers[key] = Tracker(total, bar, what)
        stop = threading.Event()

        def keep_publishing() -> None:
            for beat in itertools.count(1):
                if stop.wait(_EVERY_SECONDS):
                    return
                with contextlib.suppress(Exception):  # progress must never fail a run
                    tracker.publish()
                if not console.is_terminal and beat % _QUIETER == 0:
                    console.print(tracker.text)

        within_run = contextvars.copy_context().run  # Prefect tells by it whose artifact this is
        thread = threading.Thread(target=within_run, args=(keep_publishing,), daemon=True)
        thread.start()
        try:
            yield tracker
        finally:
            stop.set()
            thread.join()
            del _trackers[key]
            tracker.publish()


def advance(key: str, documents: int) -> None:
    """Count documents as done, where they are tracked in this process."""
    if tracker := _trackers.get(key):
        tracker.add(documents)


@contextlib.contextmanager
def counting(key: str) -> Iterator[Callable[[int], None]]:
    """Give what a shard reports its documents to; if it fails, those that it reported are taken back."""
    done = 0

    def progress(documents: int) -> None:
        nonlocal done
        done += documents
        advance(key, documents)

    try:
        yield progress
    except BaseException:
        advance(key, -done)
        raise
