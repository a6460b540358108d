"""Adapters (LoRA and its like): a folder that holds one is explained with it, or refused, whatever is installed.

An adapter lies beside a whole model, or in a folder of its own that names the model below it. It is applied by `peft`
and merged into the weights, so that the model has its own blocks and its own speed. Its numbers come from
`adapter_model.safetensors`, never from a pickle; of its `adapter_config.json` only what says how they are applied is
used. The merged model is tried on a made-up input: it must answer as the unmerged one does.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.hub import extract_commit_hash

from calig.errors import InputError, first_line
from calig.listing import is_file, matching
from calig.models.hub import model_file
from calig.models.trial import tiny_inputs

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PICKLE = "adapter_model.bin"
_STEM = "base_model.model."
_HEADS = ("classifier", "score")
"""What peft calls the head of a sequence classifier, and saves whether or not it is asked to."""
_UNUSED = (
    *("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type"),
    *("corda_config", "eva_config", "loftq_config", "lora_ga_config", "megatron_core", "runtime_config"),
)
"""Settings that say nothing of how trained weights are applied; some make peft import or unpickle what they name."""
_INITIALISED = ("gaussian", "orthogonal", "eva")
"""Ways to begin the training that leave the weights of the model below as they are."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter, and where the model below it is.

    Attributes
    ----------
    model_id
        The folder or hub id that was named.
    settings
        The content of its adapter_config.json.
    weights
        Its adapter_model.safetensors.
    base, base_revision
        Folder or hub id of the model that it is applied to, and the revision of that.
    configured
        Whether a config.json lies beside it.
    commit
        Its commit on the hub.
    """

    model_id: str
    settings: Mapping[str, Any]
    weights: Path
    base: str
    base_revision: str | None
    configured: bool
    commit: str | None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, by its name below `base_model.model.`."""
        try:
            with safe_open(self.weights, "pt") as file:
                names = file.keys()
                return {key.removeprefix(_STEM): tuple(file.get_slice(key).get_shape()) for key in names}
        except SafetensorError as error:
            raise InputError(
                f"model.id: {self.model_id}: its {WEIGHTS} cannot be read ({error}); fetch or save it again"
            ) from error

    def supplied(self) -> frozenset[str]:
        """Names of the model's own weights that it brings whole, as a trained head."""
        return frozenset(key.replace(".modules_to_save.", ".") for key in self.shapes())

    def outputs(self) -> int | None:
        """How many classes the head has that it brings; None where it brings none."""
        heads = ("classifier", "score", "classification_head", "head", "summary")
        rows = [
            shape[0]
            for key, shape in sorted(self.shapes().items())
            if len(shape) == 2
            and key.endswith(".weight")
            and key.partition(".")[0] in heads
            and "lora_" not in key
        ]
        return rows[-1] if rows else None

    def has(self, *names: str) -> bool:
        """Whether one of these files lies beside it."""
        return any(model_file(self.model_id, name, self.commit) is not None for name in names)


def find_adapter(model_id: str, revision: str | None = None) -> Adapter | None:
    """The adapter that a folder or hub id holds; None where it holds none.

    Raises
    ------
    InputError
        It cannot be applied: peft is not installed, it is pickled, or it does not say to which model it belongs.
    """
    name = f"model.id: {model_id}"
    found = model_file(model_id, CONFIG, revision)
    if found is None:
        if is_file(stray := Path(model_id) / WEIGHTS):
            raise InputError(
                f"{name} holds {stray.name} without {CONFIG}, so that it cannot be applied; save the adapter again "
                "with save_pretrained(), or remove it"
            )
        return None
    try:
        settings = json.loads(found.read_text())
        kind = str(settings["peft_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{name}: its {CONFIG} is damaged; fetch or save the adapter again") from error
    beside = any(file.name != WEIGHTS for file in matching(Path(model_id), "*.safetensors"))
    base = model_id if beside else settings.get("base_model_name_or_path")
    of = "the model beside it" if beside else base
    if not isinstance(base, str) or not base:
        raise InputError(
            f"{name}: its {CONFIG} names no base_model_name_or_path; write the folder or hub id of the model that the "
            "adapter was trained on there"
        )
    if importlib.util.find_spec("peft") is None:
        raise InputError(
            f"{name} is an adapter ({kind}) to {of}, which needs peft to be applied: pip install 'calig[peft]'"
            + (f"; or, to explain the model without it, remove {CONFIG}" if beside else "")
        )
    weights = model_file(model_id, WEIGHTS, revision)
    if weights is None:
        pickled = model_file(model_id, _PICKLE, revision) is not None
        raise InputError(
            f"{name}: its adapter has {'pickled weights (' + _PICKLE + ')' if pickled else 'no weights'}; calig reads "
            f"safetensors only: save it again with save_pretrained(), which writes {WEIGHTS}"
        )
    commit = extract_commit_hash(str(found), None)
    own = None if beside else settings.get("revision")
    configured = model_file(model_id, "config.json", revision) is not None
    return Adapter(model_id, settings, weights, base, own, configured, commit)


def merged(model: PreTrainedModel, adapter: Adapter) -> tuple[PreTrainedModel, str]:
    """Apply an adapter to the model below it, on the CPU and in float32 or better.

    Returns
    -------
    The same model with the adapter in its weights, and a SHA-256 (hex) of both as they were on disk.

    Raises
    ------
    InputError
        It does not fit the model, or cannot be merged into its weights.
    """
    from peft import PeftModel, set_peft_model_state_dict

    name = f"model.id: {adapter.model_id}"
    wide = torch.promote_types(model.dtype, torch.float32)
    nn.Module.to(model, dtype=wide)
    nn.Module.eval(model)
    state = load_file(adapter.weights)
    config = _configuration(adapter, state)
    digest = hashlib.sha256()
    for key, tensor in (*sorted(model.state_dict().items()), *sorted(state.items())):
        digest_tensor(digest, key, tensor)
    said = {key: value for key, value in adapter.settings.items() if key not in _UNUSED}
    digest.update(json.dumps(said, sort_keys=True).encode())
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            wrapped = PeftModel(model, config).to(wide).eval()
            result: Any = set_peft_model_state_dict(wrapped, {key: t.to(wide) for key, t in state.items()})
            lacking = [key for key in result.missing_keys if "default" in key.split(".")]
            if lacking or result.unexpected_keys:
                odd = sorted(lacking or result.unexpected_keys)
                raise InputError(
                    f"{name}: its adapter {'lacks' if lacking else 'has more than its settings say:'} {odd[0]}"
                    f"{f' and {len(odd) - 1} more' if len(odd) > 1 else ''}; save it again with save_pretrained()"
                )
            before = wrapped(**tiny_inputs(model)).logits
            plain: PreTrainedModel = wrapped.merge_and_unload()
            after = plain(**tiny_inputs(plain)).logits
    except InputError:
        raise
    except Exception as error:  # whatever peft raises on settings and weights of strangers
        raise InputError(
            f"{name}: its adapter ({adapter.settings['peft_type']}) cannot be applied and merged "
            f"({first_line(error)}); merge it where it was trained, with merge_and_unload(), and save the model"
        ) from error
    scale = float(before.abs().max())
    if not (bool(after.isfinite().all()) and float((after - before).abs().max()) <= 1e-3 * scale):
        raise InputError(
            f"{name}: with its adapter merged the model answers otherwise than with it beside; it cannot be explained"
        )
    return plain, digest.hexdigest()


def digest_tensor(digest: Any, name: str, tensor: Tensor) -> None:
    """Take a tensor's name, shape, type and content into a hash."""
    digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
    digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def _configuration(adapter: Adapter, state: Mapping[str, Tensor]) -> Any:
    """peft's configuration, from the settings that say how trained weights are applied."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    name, kind = f"model.id: {adapter.model_id}: its {CONFIG}", str(adapter.settings["peft_type"])
    settings = {key: value for key, value in adapter.settings.items() if key not in _UNUSED}
    configurations: Any = PEFT_TYPE_TO_CONFIG_MAPPING
    made = configurations.get(kind)
    if made is None:
        raise InputError(f"{name}: the installed peft knows no peft_type {kind!r}; install a newer one")
    known = {field.name for field in fields(made)}
    new = sorted(key for key, value in settings.items() if key not in known and value)
    if new:
        raise InputError(f"{name} sets {new[0]}, which the installed peft does not know; install a newer one")
    settings = {key: value for key, value in settings.items() if key in known}
    start = settings.pop("init_lora_weights", True)
    if isinstance(start, str) and start not in _INITIALISED:
        raise InputError(
            f"{name}: init_lora_weights: {start!r} changes the model below the adapter; save the adapter for the model "
            "as it was (path_initial_model_for_weight_conversion), or merge it"
        )
    if settings.pop("megatron_config", None):
        raise InputError(f"{name}: megatron_config: adapters of Megatron's layers cannot be merged")
    brought = {head for head in _HEADS if any(key.startswith(f"{_STEM}{head}.") for key in state)}
    lora = {head for head in brought if any(f"{_STEM}{head}.lora_" in key for key in state)}
    if "modules_to_save" in known:
        saved = settings.get("modules_to_save") or []
        settings["modules_to_save"] = [*saved, *sorted(brought - lora - set(saved))] or None
    config = made(**settings)
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise InputError(
            f"model.id: {adapter.model_id}: adapters of type {kind} put states of their own before a text's, and "
            "cannot be merged into the model's weights; use one that can, such as LORA"
        )
    return config
