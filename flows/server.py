"""Prefect's server for the time of a command."""

from __future__ import annotations

import signal

from prefect.client.orchestration import get_client


def reach() -> None:
    """Make sure that there is a Prefect API, starting Prefect's own temporary server where none is configured.

    A terminal sends Ctrl-C to that server too. It starts with the signal blocked, which it keeps, so that
    the flow it serves can still report its end; Prefect stops it when this process ends. A Ctrl-C meanwhile
    counts once the server is there.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with get_client(sync_client=True):
            pass
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
