"""Faults of a saved model's files, for models of any family: what is on disk is no longer what its class would run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.material import zoo

WEIGHTS = "model.safetensors"
Tensors = dict[str, Tensor]


def copied(name: str, folder: Path) -> Path:
    """A copy of a family's model, to be damaged."""
    return Path(shutil.copytree(zoo.folder(name), folder / name))


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, edit: Callable[[Tensors], Tensors]) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(edit(tensors), folder / WEIGHTS, metadata={"format": "pt"})


def head_of(name: str) -> set[str]:
    """Names of the weights of a family's head."""
    model = zoo.shared(name).model
    return {key for key in model.state_dict() if not key.startswith(f"{model.base_model_prefix}.")}


def with_another_block(tensors: Tensors) -> Tensors:
    """The last block once more, under the next number."""
    numbers = [int(found.group(1)) for key in tensors if (found := re.search(r"\.(\d+)\.", key))]
    last = max(numbers)
    more = {
        re.sub(rf"\.{last}\.", f".{last + 1}.", key, count=1): tensor.clone()
        for key, tensor in tensors.items()
        if (found := re.search(r"\.(\d+)\.", key)) and int(found.group(1)) == last
    }
    return {**tensors, **more}


def without(keys: Collection[str]) -> Callable[[Tensors], Tensors]:
    """Without some of the weights."""
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key not in keys}


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    """All under a prefix, as wrappers leave it."""
    return lambda tensors: {prefix + key: tensor for key, tensor in tensors.items()}


def reshaped(tensors: Tensors) -> Tensors:
    """One matrix in a block with a row more."""
    key = next(key for key, tensor in tensors.items() if re.search(r"\.\d+\.", key) and tensor.ndim == 2)
    return {**tensors, key: torch.cat([tensors[key], tensors[key][:1]])}


def with_lora(tensors: Tensors) -> Tensors:
    """A LoRA adapter's matrices among the model's own, as peft names them where it is saved unmerged."""
    found: Tensors = {}
    key = next(key for key, tensor in tensors.items() if re.search(r"\.\d+\.", key) and tensor.ndim == 2)
    for name, tensor in tensors.items():
        stem = name.removesuffix(".weight")
        found[f"{stem}.base_layer.weight" if name == key else name] = tensor
        if name == key:
            found[f"{stem}.lora_A.default.weight"] = torch.ones(2, tensor.shape[1])
            found[f"{stem}.lora_B.default.weight"] = torch.ones(tensor.shape[0], 2)
    return found


def with_own_part(tensors: Tensors) -> Tensors:
    """A pooler that no class of transformers has."""
    return {**tensors, "mean_pooler.0.weight": torch.ones(zoo.HIDDEN, zoo.HIDDEN)}
