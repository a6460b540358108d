"""Where shards are computed: in this process, in processes of this machine, or on a Ray cluster.

    AuditConfig → open_engine → Engine.run(work, …), called by as many threads as there are workers

An engine knows neither shards nor Prefect: it hands a call to a free worker, and gives what comes back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from calig.config import AuditConfig
from calig.engines.engine import Engine, Progress, WorkerLostError
from calig.engines.placement import place

__all__ = ["Engine", "Progress", "WorkerLostError", "open_engine"]


@contextmanager
def open_engine(config: AuditConfig) -> Iterator[Engine]:
    """Open the engine that `runtime` asks for; on leaving the block all its workers end.

    Raises
    ------
    InputError
        What is asked for is not installed or not there.
    """
    engine = _engine(config)
    try:
        yield engine
    finally:
        engine.close()


def _engine(config: AuditConfig) -> Engine:
    runtime = config.runtime
    if runtime.engine == "ray":
        from calig.engines.cluster import Cluster

        return Cluster(config)
    placement = place(runtime)
    if runtime.engine == "processes" or (runtime.engine == "auto" and placement.workers > 1):
        from calig.engines.processes import Processes

        return Processes(placement)
    from calig.engines.threads import Threads

    return Threads(placement)
