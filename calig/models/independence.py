"""A document's numbers do not depend on those that are read with it, or were read before it.

Two kinds of rotary position make them depend. LongRoPE chooses its frequencies by the longest text of a batch. Dynamic
RoPE also keeps the longest length that it has seen. Models that declare one of these, and whatever else is found out by
trying, are given batches of texts of one length, and what they remember is put back before each.

Tried at load: a short text alone; beside another of its length; beside a longer one, also one whose positions are said
to lie far beyond it; and after these. What depends on the others even so is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from calig.errors import InputError
from calig.models.inputs import Batch
from calig.models.text import embedded_ids, free_id, longest_input, padding_id
from calig.models.trial import ordinary_ids, tiny_inputs

if TYPE_CHECKING:
    from calig.models.classifier import Classifier

_SHORT, _LONG = 5, 24
_ROUNDING = 1e-4
"""Relative to the largest logit; what rounding does in padded batches stays below it, or below √ε of a coarser type."""
_ABSENT = object()


def depends_on_length(config: Any) -> bool:
    """Whether a configuration declares rotary positions whose frequencies depend on the longest text of a batch."""
    return any("dynamic" in kind or "longrope" in kind for kind in _rope_types(config.to_dict()))


class Memory:
    """What a model's modules remember from one call to the next: numbers and tensors that a call changed.

    Parameters
    ----------
    model
        As it is before the calls that are watched.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before = {
            (module, name): (value, value.clone() if isinstance(value, Tensor) else value)
            for module in model.modules()
            for name, value in _remembered(module)
        }

    def keep_changed(self) -> None:
        """Keep what calls have changed since; only that is put back."""
        now = {
            (module, name): value for module in self._model.modules() for name, value in _remembered(module)
        }
        for key, value in now.items():
            if key not in self._before:
                self._before[key] = (_ABSENT, _ABSENT)
            elif _equal(value, self._before[key][1]):
                del self._before[key]

    def put_back(self) -> None:
        """Let the modules remember what they did at first."""
        for (module, name), (value, content) in self._before.items():
            if value is _ABSENT:
                if name in module._buffers or name in vars(module):
                    delattr(module, name)
                continue
            if isinstance(value, Tensor):
                with torch.no_grad():
                    value.copy_(content)
            if name in module._buffers:
                module._buffers[name] = value
            else:
                setattr(module, name, value)


def reset_rotary(model: nn.Module) -> None:
    """Let rotary positions forget what was read before, by whomever."""
    for module in model.modules():
        for name, value in list(_remembered(module)):
            if name.endswith("original_inv_freq") and isinstance(value, Tensor):
                current = name.replace("original_inv_freq", "inv_freq")
                if (buffer := module._buffers.get(current)) is not None:
                    module._buffers[current] = value.to(buffer.device).clone()
            elif name.endswith("max_seq_len_cached") and hasattr(module, "original_max_seq_len"):
                setattr(module, name, module.original_max_seq_len)


def find_dependence(classifier: Classifier) -> tuple[bool, Memory | None]:
    """Whether texts of one batch must be of one length, and what must be put back before each.

    Raises
    ------
    InputError
        Answers depend on other inputs even so.
    """
    model, kind = classifier.model, type(classifier.model).__name__
    reset_rotary(model)
    memory = Memory(model)
    with torch.no_grad():
        if classifier.modality == "image":
            pixels = tiny_inputs(model)["pixel_values"]
            alone = _image(classifier, pixels)
            pair = _image(classifier, torch.cat([pixels, pixels.flip(-1)]))
            _refuse_unlike(pair, alone, f"{kind} gives an image other answers beside another image")
            return False, None
        ids = ordinary_ids(model, _SHORT + _LONG)
        limit = longest_input(model)
        short, long = ids[:_SHORT], ids[_SHORT : _SHORT + (min(_LONG, limit) if limit else _LONG)]
        alone = _texts(classifier, short)
        pair = _texts(classifier, short, short[::-1])
        _refuse_unlike(pair, alone, f"{kind} gives a text other answers beside another of its length")
        beside = _texts(classifier, short, long)
        by_length = depends_on_length(model.config) or _unlike(beside, alone, _closely(alone))
        far = _far(classifier, short)
        if far is not None and not by_length:
            by_length = _unlike(far, alone, _closely(alone))
        memory.keep_changed()
        memory.put_back()
        again = _texts(classifier, short)
        _refuse_unlike(again, alone, f"{kind} gives a text other answers after a longer one")
    return by_length, memory


def _far(classifier: Classifier, short: list[int]) -> Tensor | None:
    """Logits (2, C) of a short text beside one whose positions are beyond all that the model was made for.

    Only of transformers' rotary positions, which are computed for whatever numbers they are given.
    """
    model = classifier.model
    names = (name for module in model.modules() for name, _ in _remembered(module))
    rotary = any(name.endswith("original_inv_freq") for name in names)
    if not rotary or "position_ids" not in inspect.signature(model.forward).parameters:
        return None
    end = 2 * max(int(getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 0), 2048)
    start = torch.tensor([0, end - len(short)])[:, None]
    batch = _batch(classifier, short, short[::-1])
    places = (start + torch.arange(len(short))).to(classifier.device)
    return classifier.answer(Batch({**batch.inputs, "position_ids": places}, batch.content, batch.pad_id))


def _texts(classifier: Classifier, *rows: list[int]) -> Tensor:
    return classifier.answer(_batch(classifier, *rows))


def _batch(classifier: Classifier, *rows: list[int]) -> Batch:
    """Rows of ids, padded on the right as texts are."""
    model, longest = classifier.model, max(map(len, rows))
    configured = padding_id(model)
    used = {i for row in rows for i in row}
    pad = free_id(used, embedded_ids(model)) if configured is None else configured
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=classifier.device)
    lengths = torch.tensor([len(row) for row in rows], device=classifier.device)
    mask = (torch.arange(longest, device=classifier.device) < lengths[:, None]).long()
    return Batch(
        {"input_ids": ids, "attention_mask": mask}, mask.bool(), None if configured is not None else pad
    )


def _image(classifier: Classifier, pixels: Tensor) -> Tensor:
    nothing = torch.zeros((len(pixels), 0), dtype=torch.bool, device=classifier.device)
    return classifier.answer(Batch({"pixel_values": pixels}, nothing))


def _refuse_unlike(found: Tensor, alone: Tensor, what: str) -> None:
    if _unlike(found, alone, torch.finfo(alone.dtype).eps ** (1 / 3)):
        raise InputError(
            f"model.id: {what}: a document's numbers would depend on others, so it cannot be explained"
        )


def _unlike(found: Tensor, alone: Tensor, tolerance: float) -> bool:
    """Whether the first row is other than the one alone; false where there is nothing to compare."""
    if not bool(alone.isfinite().all()):
        return False
    return not float((found[0] - alone[0]).abs().max()) <= tolerance * max(float(alone.abs().max()), 1e-3)


def _closely(alone: Tensor) -> float:
    rounding: float = torch.finfo(alone.dtype).eps ** 0.5
    return max(_ROUNDING, rounding)


def _remembered(module: nn.Module) -> Iterator[tuple[str, Any]]:
    plain = ((name, value) for name, value in vars(module).items() if name != "training")
    for name, value in (*plain, *module._buffers.items()):
        if value is None or isinstance(value, (bool, int, float, Tensor)):
            yield name, value


def _equal(value: Any, before: Any) -> bool:
    if isinstance(value, Tensor) and isinstance(before, Tensor):
        return value.shape == before.shape and value.dtype == before.dtype and torch.equal(value, before)
    return type(value) is type(before) and bool(value == before)


def _rope_types(settings: Any, inside: bool = False) -> Iterator[str]:
    """The kinds of rotary position that a configuration names, of all parts of the model and kinds of layer."""
    if not isinstance(settings, dict):
        return
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _rope_types(value, inside or name in ("rope_parameters", "rope_scaling"))
        elif inside and name in ("rope_type", "type") and isinstance(value, str):
            yield value
