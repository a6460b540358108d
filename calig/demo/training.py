"""What the demo's two trainings share: how a model descends its loss, on how many threads, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

THREADS = 1
"""So small a model gains little from more, and loses much where the cores are busy."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What training left behind: folders, held-out accuracy (share), and the wall-clock seconds it took."""

    model: Path
    corpus: Path
    accuracy: float
    seconds: float


def descent(model: Any, steps: int, peak: float) -> Callable[[Any], None]:
    """Put a model into training; each call with a loss is a step of AdamW, `steps` in one cycle up to a rate."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, pct_start=0.08)
    model.train()

    def step(loss: Any) -> None:
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()

    return step


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads, then with as many as before: the thread count changes sums' rounding."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
