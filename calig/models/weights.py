"""What is in a model's files and what its class has a place for must be the same.

transformers fills weights that a file lacks with random numbers, and drops those that it has no place for. Here each
such weight is judged. Refused: what is missing or of another shape, if the forward pass reads it; blocks, adapters and
other trained parts that would be dropped; the weights of a class that is not one of transformers'. Named, and no more:
heads of pre-training, poolers that the class leaves out, constants that older versions saved.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from calig.errors import InputError
from calig.models.trial import tiny_inputs

_ADAPTER = re.compile(
    r"^base_model\.model\.|\.base_layer\.|\.modules_to_save\.|(^|\.)(lora|vera|hada|lokr|oft|boft|ia3|hra|randlora)_\w"
    r"|(^|\.)prompt_embeddings\b|\.adapters\.|(^|\.)(adapter_down|adapter_up)\."
)
_WRAPPER = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|module)\.")
_CONSTANT = re.compile(
    r"(^|\.)(position_ids|token_type_ids|(original_)?inv_freq|masked_bias|relative_position_index|num_batches_tracked"
    r"|rotary_emb\.(cos|sin)_cached|_float_tensor|mask_token)$"
    r"|\.attn\.bias$|\.attn\.attention\.bias$"
)
"""Numbers that are made from the configuration, or read in pre-training alone."""
_PRETRAINING = (
    *(
        "cls",
        "lm_head",
        "lm_loss",
        "predictions",
        "sop_classifier",
        "seq_relationship",
        "pred_layer",
        "qa_outputs",
    ),
    *("vocab_transform", "vocab_layer_norm", "vocab_projector", "generator_predictions", "generator_lm_head"),
    *("discriminator_predictions", "lm_predictions", "mask_predictions", "entity_predictions", "mlm_head"),
    *("decode_head", "auxiliary_head", "final_logits_bias"),
)
"""Heads of transformers' own classes for pre-training and other tasks, by their name in the model."""


def judge(
    model: PreTrainedModel,
    info: Mapping[str, Any],
    model_id: str,
    supplied: Collection[str] = (),
) -> tuple[str, ...]:
    """Refuse a model whose files say other than what would run; return what is to be told of the rest, a line each.

    A missing weight that the forward pass does not read becomes NaN: the same each time, and seen if it is read.

    Parameters
    ----------
    model
        As `from_pretrained(…, ignore_mismatched_sizes=True, output_loading_info=True)` made it.
    info
        What that call said of the weights.
    model_id
        Its name, for messages.
    supplied
        Names of weights that an adapter brings.

    Raises
    ------
    InputError
        One line that names the weights and says what to do.
    """
    name, kind = f"model.id: {model_id}", type(model).__name__
    missing = {key for key in info["missing_keys"] if key not in supplied}
    unexpected = set(info["unexpected_keys"])
    known = {key for key, _ in (*model.named_parameters(), *model.named_buffers())}
    _refuse_wrapped(name, kind, missing, unexpected, known)
    shapes = [shapes for shapes in sorted(info["mismatched_keys"]) if shapes[0] not in supplied]
    if shapes:
        said = [f"{key} {tuple(saved)} for {tuple(asked)}" for key, saved, asked in shapes[:3]]
        raise InputError(
            f"{name}: its weights do not fit its config.json, which asks for other shapes of {_count(shapes)}: "
            f"{', '.join(said)}{_more(shapes)}; both must come from the same save_pretrained()"
        )
    _forget(model, {*info["missing_keys"], *(key for key, _, _ in info["mismatched_keys"])})
    notes = []
    if missing:
        _refuse_missing(model, name, kind, missing)
        notes.append(f"{name}: it lacks {_listed(missing)}, which {kind} has and does not read to classify")
    left_out = {key for key in unexpected if not _harmless(key, model, known)}
    if left_out:
        raise InputError(
            f"{name}: {kind} has no place for {_listed(left_out)}: {_reason(left_out, model)}; what would be explained "
            "is not the model that was saved"
        )
    _refuse_class(model, name, kind)
    if unexpected:
        notes.append(
            f"{name}: {_listed(unexpected)} are in its files and {kind} does not read them: heads of its pre-training, "
            "a pooler, or constants"
        )
    return tuple(notes)


def _refuse_wrapped(name: str, kind: str, missing: set[str], unexpected: set[str], known: set[str]) -> None:
    """Refuse adapters that were not merged, and names that a wrapper has changed."""
    if adapted := {key for key in unexpected if _ADAPTER.search(key)}:
        raise InputError(
            f"{name}: its files hold the weights of an adapter, {_listed(adapted)}, which {kind} would leave out; save "
            "the model after merge_and_unload(), or the adapter in a folder of its own, with its adapter_config.json"
        )
    if wrapped := {key for key in unexpected if _WRAPPER.search(key) and _WRAPPER.sub("", key) in known}:
        match = _WRAPPER.search(min(wrapped))
        assert match is not None
        prefix, attribute = match.group(), match.group(1)
        raise InputError(
            f"{name}: {_count(wrapped)} under the prefix {prefix!r}, as {min(wrapped)}, would be left out; save the "
            f"model inside the wrapper, with model.{attribute}.save_pretrained(), or rename them, without the prefix"
        )
    if prefix := _prefix(missing, unexpected):
        under = [key for key in unexpected if key.startswith(prefix)]
        raise InputError(
            f"{name}: {_count(under)} under the prefix {prefix!r}, as {min(under)}, would be left out; rename them, "
            "without the prefix"
        )


def _prefix(missing: set[str], unexpected: set[str]) -> str:
    """What stands before the names of most weights that are missing, or of all that are unexpected; "" if nothing."""
    for one in sorted(missing)[:1]:
        for prefix in {key.removesuffix(one) for key in unexpected if key.endswith(f".{one}")}:
            found = sum(prefix + key in unexpected for key in missing)
            if 2 * found > len(missing) and not _pretraining(prefix, ""):
                return prefix
    first = {key.partition(".")[0] for key in unexpected}
    all_alike = len(first) == 1 and 2 * len(unexpected) > len(missing) > 2
    return f"{first.pop()}." if all_alike and not _pretraining(min(unexpected), "") else ""


def _refuse_missing(model: PreTrainedModel, name: str, kind: str, missing: set[str]) -> None:
    """Refuse a model that lacks weights which its forward pass reads: they are NaN now, and so are its logits then."""
    read = True
    if not any(key.endswith("mask_token") for key in missing):  # a baseline of images may read that one
        try:
            with torch.no_grad():
                read = not bool(model(**tiny_inputs(model)).logits.isfinite().all())
        except Exception:  # what the model raises on a tiny input; it is not known to do without them
            read = True
    if not read:
        return
    body = f"{model.base_model_prefix}."
    in_body = any(key.startswith(body) for key in missing)
    why = (
        "the rest would be random numbers; save the whole model again with save_pretrained(), its config.json with it"
        if in_body
        else "it was saved without a trained classification head; fine-tune it or name the fine-tuned model"
    )
    raise InputError(f"{name} lacks the weights {_listed(missing)}, which {kind} reads: {why}")


def _refuse_class(model: PreTrainedModel, name: str, kind: str) -> None:
    """Refuse a class of one's own that a class of transformers would be run in place of."""
    saved = [re.sub("^(TF|Flax)", "", one) for one in model.config.architectures or []]
    if not saved or kind in saved or any(hasattr(transformers, one) for one in saved):
        return
    raise InputError(
        f"{name}: it was saved as {saved[0]}, a class that transformers does not have; {kind} would run in its place, "
        f"and may compute something else. If it does not, set architectures in config.json to [{kind!r}]"
    )


def _harmless(key: str, model: PreTrainedModel, known: set[str]) -> bool:
    """Whether a weight that the model has no place for says nothing about its answers."""
    base = model.base_model_prefix
    pooler = re.fullmatch(rf"{re.escape(base)}\.pooler\.dense\.(weight|bias)", key) if base else None
    unused = pooler is not None and getattr(getattr(model, base, None), "pooler", None) is None
    generator = key in ("decoder.weight", "decoder.bias") and not hasattr(model, "decoder")  # ModernBERT's
    return key in known or unused or generator or bool(_CONSTANT.search(key)) or _pretraining(key, base)


def _pretraining(key: str, base: str) -> bool:
    return key.removeprefix(f"{base}.").partition(".")[0] in _PRETRAINING


def _reason(left_out: set[str], model: nn.Module) -> str:
    """What weights that would be dropped are, as far as their names say, and what to do."""
    for key in sorted(left_out):
        for match in re.finditer(r"\.(\d+)(?=\.|$)", key):
            path = key[: match.start()]
            try:
                blocks = model.get_submodule(path)
            except AttributeError:
                break
            if isinstance(blocks, nn.ModuleList) and int(match.group(1)) >= len(blocks):
                return (
                    f"its files hold more blocks in {path} than the {len(blocks)} of its config.json; correct "
                    "num_hidden_layers there, or save the model again"
                )
    return (
        "they are parts of another class; save the model as a class that transformers has, or remove them from its "
        "files if its answers do not depend on them"
    )


def _forget(model: nn.Module, keys: Collection[str]) -> None:
    """Make weights that no file had NaN, in place of random numbers."""
    tensors: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for key in keys:
            tensor = tensors.get(key)
            if tensor is not None and tensor.is_floating_point():
                tensor.fill_(float("nan"))


def _listed(keys: Collection[str]) -> str:
    """The first few names, and how many there are more."""
    return f"{', '.join(sorted(keys)[:3])}{_more(keys)}"


def _more(items: Collection[Any]) -> str:
    return f" and {len(items) - 3} more" if len(items) > 3 else ""


def _count(items: Collection[Any]) -> str:
    return "1 weight" if len(items) == 1 else f"{len(items)} weights"
