"""How far attribution is: a bar in the terminal and an artifact in Prefect, both with rate and time left."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_EVERY_SECONDS = 5.0
_trackers: dict[str, Tracker] = {}


class Tracker:
    """Counts documents done, from any thread; `publish` shows them in Prefect."""

    def __init__(self, total: int, bar: Progress) -> None:
        self._total, self._done, self._bar = total, 0, bar
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._task = bar.add_task("attributing", total=total, rate="")
        self._artifact: Any = create_progress_artifact(0.0, key="calig-progress", description=self.text)

    @property
    def text(self) -> str:
        """Documents done, rate, and time left, in words."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        rate = self._done / elapsed
        left = f"{(self._total - self._done) / rate:.0f} s left" if self._done else "time left not known yet"
        return f"{self._done} of {self._total} documents, {rate:.2f} documents/s, {left}"

    def add(self, documents: int) -> None:
        """Count documents as done (negative: take back)."""
        with self._lock:
            self._done += documents
            rate = self._done / max(time.monotonic() - self._start, 1e-9)
            self._bar.update(self._task, completed=self._done, rate=f"{rate:.2f} documents/s")

    def publish(self) -> None:
        """Update the Prefect artifact."""
        update_progress_artifact(self._artifact, 100.0 * self._done / max(self._total, 1), self.text)


@contextlib.contextmanager
def tracking(run_id: str, total: int) -> Iterator[Tracker]:
    """Track a run's documents for the time of the block."""
    console = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tracker = _trackers[run_id] = Tracker(total, bar)
        stop = threading.Event()

        def keep_publishing() -> None:
            while not stop.wait(_EVERY_SECONDS):
                with contextlib.suppress(Exception):  # progress must never fail a run
                    tracker.publish()
                if not console.is_terminal:
                    console.print(tracker.text)

        thread = threading.Thread(target=keep_publishing, daemon=True)
        thread.start()
        try:
            yield tracker
        finally:
            stop.set()
            thread.join()
            del _trackers[run_id]
            tracker.publish()


def advance(run_id: str, documents: int) -> None:
    """Count documents of a run as done, where it is tracked in this process."""
    if tracker := _trackers.get(run_id):
        tracker.add(documents)
