"""How many workers there are, and what of the machine falls to each: CPU threads and GPUs."""

from __future__ import annotations

import os
from dataclasses import dataclass

from calig.config.schema import RuntimeConfig
from calig.workers import cores


@dataclass(frozen=True, slots=True)
class Placement:
    """So many workers, the CPU threads of each, and the GPU that each one sees, by turns; none: all that there are."""

    workers: int
    threads: int
    gpus: tuple[str, ...] = ()

    def environment(self, worker: int) -> dict[str, str]:
        """The environment variables of a worker (from 0), which count before torch is imported."""
        pinned = {"CUDA_VISIBLE_DEVICES": self.gpus[worker % len(self.gpus)]} if self.gpus else {}
        return {"OMP_NUM_THREADS": str(self.threads), **pinned}


def place(runtime: RuntimeConfig) -> Placement:
    """Share this machine out: a worker per GPU, or as many as are asked for, and the CPU cores evenly."""
    gpus = visible_gpus() if runtime.device in ("auto", "cuda") else ()
    workers = runtime.workers or max(len(gpus), 1)
    return Placement(workers, runtime.threads or max(1, cores() // workers), gpus)


def visible_gpus() -> tuple[str, ...]:
    """The GPUs of this machine as CUDA_VISIBLE_DEVICES names them; none of them is touched."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return tuple(named[:count] if named else map(str, range(count)))
