"""How a machine is shared out among workers."""

from __future__ import annotations

from typing import Any

import pytest

from calig.config.schema import RuntimeConfig
from calig.engines import placement
from calig.engines.placement import Placement, place


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets cores and GPUs."""

    def of(cores: int, gpus: tuple[str, ...] = ()) -> None:
        monkeypatch.setattr(placement, "cores", lambda: cores)
        monkeypatch.setattr(placement, "visible_gpus", lambda: gpus)

    return of


@pytest.mark.parametrize(
    ("gpus", "runtime", "expected"),
    [
        ((), {}, Placement(1, 16)),
        ((), {"workers": 5}, Placement(5, 3)),
        ((), {"workers": 32}, Placement(32, 1)),
        ((), {"workers": 4, "threads": 7}, Placement(4, 7)),
        (("0", "1"), {}, Placement(2, 8, ("0", "1"))),
        (("0", "1"), {"device": "cuda", "workers": 4}, Placement(4, 4, ("0", "1"))),
        (("0", "1"), {"device": "cpu"}, Placement(1, 16)),
        (("0", "1"), {"device": "cuda:1", "workers": 2}, Placement(2, 8)),
    ],
)
def test_a_worker_per_gpu_and_the_cores_evenly(
    machine: Any, gpus: tuple[str, ...], runtime: dict[str, Any], expected: Placement
) -> None:
    machine(16, gpus)
    assert place(RuntimeConfig(**runtime)) == expected


def test_workers_take_the_gpus_by_turns() -> None:
    placed = Placement(3, 2, ("GPU-a", "GPU-b"))
    seen = [placed.environment(number)["CUDA_VISIBLE_DEVICES"] for number in range(3)]
    assert seen == ["GPU-a", "GPU-b", "GPU-a"]
    assert placed.environment(0)["OMP_NUM_THREADS"] == "2"
    assert "CUDA_VISIBLE_DEVICES" not in Placement(3, 2).environment(0)


def test_the_gpus_are_those_that_this_process_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert placement.visible_gpus() == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-x")
    assert placement.visible_gpus() == ("3", "GPU-x")
