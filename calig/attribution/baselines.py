"""Baselines: the input that stands for "no content", by name (METHOD: baseline input)."""

from __future__ import annotations

from functools import partial

import torch

from calig.errors import InputError
from calig.models.classifier import Baseline, Classifier
from calig.models.images import blurred, channel_means
from calig.models.loading import Pretrained
from calig.models.text import padding_id
from calig.records import Modality

_NAMES: dict[Modality, str] = {
    "text": "pad, mask, zero, token:<text>",
    "image": "zero, mean, blur, blur:<sigma in pixels>, mask",
}


def baseline_name(name: str, modality: Modality) -> str:
    """The baseline's name; an image is padded with zeros, so `pad` is another name of `zero`.

    Raises
    ------
    InputError
        The modality has no such baseline.
    """
    if name == "pad" and modality == "image":
        return "zero"
    known = {"text": ("pad", "mask", "zero"), "image": ("zero", "mean", "blur", "mask")}[modality]
    if name in known or (modality == "text" and name.startswith("token:")):
        return name
    if modality == "image" and name.startswith("blur:") and _sigma(name) > 0:
        return name
    raise InputError(f"method.baseline: {name!r} is not one of {_NAMES[modality]}")


def baseline_of(name: str, pretrained: Pretrained, classifier: Classifier) -> Baseline:
    """The baseline of a name that `baseline_name` has passed, for one model.

    Raises
    ------
    InputError
        The model has no such token.
    """
    if pretrained.modality == "text":
        return classifier.word_embedding(_token(name, pretrained))
    if name == "zero":
        return torch.zeros_like
    if name == "mean":
        return channel_means
    if name.startswith("blur"):
        return partial(blurred, sigma=_sigma(name) if ":" in name else None)
    mask = classifier.mask_embedding()
    if mask is None:
        raise InputError(
            f"method.baseline: {type(pretrained.model).__name__} has no mask token (a masked autoencoder's encoder "
            "never sees one: hidden patches are left out); use zero, mean or blur"
        )
    return mask


def _token(name: str, pretrained: Pretrained) -> int | None:
    """Id of the token that stands in the content's place; None for a zero embedding."""
    tokenizer = pretrained.tokenizer
    assert tokenizer is not None
    if name == "zero":
        return None
    if name in ("pad", "mask"):
        token_id: int | None = tokenizer.pad_token_id if name == "pad" else tokenizer.mask_token_id
        if name == "pad" and token_id is None:
            token_id = padding_id(pretrained.model)
        if token_id is None:
            raise InputError(f"method.baseline: the tokenizer has no {name} token; use zero or token:<text>")
        return token_id
    ids = tokenizer(name.removeprefix("token:"), add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise InputError(f"method.baseline: {name!r} is {len(ids)} tokens for this tokenizer; name one token")
    return int(ids[0])


def _sigma(name: str) -> float:
    try:
        return float(name.removeprefix("blur:"))
    except ValueError:
        return 0.0
