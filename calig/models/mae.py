"""Masked autoencoders: the encoder of a pre-training checkpoint under a new classification head.

A ViT-MAE encoder is a ViT that saw a part of each image's patches; what was learnt beside it, the decoder, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoConfig, ViTConfig, ViTForImageClassification
from transformers.utils import logging as hf_logging

from calig.errors import InputError, first_line

_OF_A_HEAD = "classifier."


def classifier_of(
    checkpoint: str | Path, classes: Sequence[str], revision: str | None = None
) -> tuple[ViTForImageClassification, list[str]]:
    """Load a masked autoencoder's encoder as a ViT classifier, to be fine-tuned.

    Parameters
    ----------
    checkpoint
        A folder in the hub's layout, or a hub id, of a `ViTMAEForPreTraining`; safetensors.
    classes
        Names of the classes, by index.
    revision
        Branch, tag or commit on the hub.

    Returns
    -------
    The model, and the names of its weights that the checkpoint lacks, which are new: those of the head.

    Raises
    ------
    InputError
        It is no such checkpoint, or its encoder is not whole.
    """
    name = str(checkpoint)
    try:
        found = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{name}: {first_line(error)}") from error
    if found.model_type != "vit_mae":
        raise InputError(
            f"{name} is a {found.model_type}, and no masked autoencoder (vit_mae); name a ViTMAEForPreTraining"
        )
    config = ViTConfig(
        **{key: getattr(found, key) for key in _SHARED},
        id2label=dict(enumerate(classes)),
        label2id={label: index for index, label in enumerate(classes)},
    )
    load: Any = ViTForImageClassification.from_pretrained
    try:
        with silently():
            model, info = load(
                name,
                revision=revision,
                config=config,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{name}: its weights cannot be read ({first_line(error)})") from error
    missing = sorted(info["missing_keys"])
    lost = [key for key in missing if not key.startswith(_OF_A_HEAD)]
    if lost:
        raise InputError(
            f"{name}: its encoder is not whole: {', '.join(lost[:3])}{' …' if len(lost) > 3 else ''} are missing; "
            "fetch or save the checkpoint again"
        )
    return model, missing


_SHARED = (
    *("image_size", "patch_size", "num_channels", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("intermediate_size", "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob"),
    *("layer_norm_eps", "qkv_bias", "initializer_range"),
)


@contextmanager
def silently() -> Iterator[None]:
    """Without transformers' report of the weights, which calig judges itself, and its progress bar."""
    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
