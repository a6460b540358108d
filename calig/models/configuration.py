"""A model's configuration, read and checked before its weights are."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from typing import Any

from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

from calig.errors import InputError
from calig.listing import exists, is_file, is_folder, matching
from calig.models.adapters import Adapter, find_adapter
from calig.models.experts import refuse_configured_experts
from calig.models.families import family_of
from calig.models.hub import model_file
from calig.models.mae import classifier_of
from calig.models.refusing import named
from calig.records import Modality

_SEQUENCES, _IMAGES = "ForSequenceClassification", "ForImageClassification"


def read_config(model_id: str, revision: str | None = None) -> Any:
    """Read and check the configuration alone: it must be there, and be that of a classifier that can be explained."""
    folder = Path(model_id)
    looks_like_path = model_id.startswith((".", "/", "~")) or exists(folder) or model_id.count("/") > 1
    if looks_like_path and not is_folder(folder):
        raise InputError(
            f"model.id: no model folder at {model_id}; give a folder with config.json, or a hub id"
        )
    adapter = find_adapter(model_id, revision)
    base = model_id if adapter is None else adapter.base
    if looks_like_path and base == model_id:
        _check_folder(model_id)
    elif adapter is not None:
        _check_base(adapter)
    try:
        if adapter is None or adapter.configured:
            config = AutoConfig.from_pretrained(model_id, revision=revision, trust_remote_code=False)
        else:
            config = AutoConfig.from_pretrained(base, revision=adapter.base_revision, trust_remote_code=False)
    except Exception as error:  # whatever the values of a stranger's file lead transformers to
        raise InputError(f"model.id: {base}: its config.json cannot be used ({named(error)})") from error
    if adapter is not None:
        config._commit_hash = adapter.commit  # the name that is explained is the adapter's
        _add_head(config, adapter)
    config.return_dict = True  # an answer is read by its names
    _name_class(config)
    kinds = config.architectures or []
    if config.model_type == "vit_mae":
        _, missing = classifier_of(model_id, list(config.id2label.values()), revision)
        raise InputError(
            f"model.id: {model_id} is a masked autoencoder, pre-trained and no more: as ViTForImageClassification its "
            f"encoder is whole, but {' and '.join(missing)} are missing; fine-tune what "
            "calig.models.mae.classifier_of() makes of it, and name the model you save"
        )
    if not _classifies(kinds):
        raise InputError(
            f"model.id: {model_id} is a {', '.join(kinds) or config.model_type} without a classification "
            f"head; fine-tune it as …{_SEQUENCES} or …{_IMAGES} first"
        )
    family_of(config)
    _refuse_encoder_decoders(config)
    refuse_configured_experts(config)
    return config


def _classifies(kinds: list[str]) -> bool:
    return any(kind.endswith(_SEQUENCES) or _IMAGES in kind for kind in kinds)


def _check_folder(model_id: str) -> None:
    """Raise an InputError if a folder lacks config.json, or weights that are safetensors."""
    folder = Path(model_id)
    if not is_file(folder / "config.json"):
        raise InputError(f"model.id: {model_id} has no config.json; save the model with save_pretrained()")
    if not matching(folder, "*.safetensors"):
        pickles = [path.name for pattern in ("*.bin", "*.pt*") for path in matching(folder, pattern)]
        found = f"only pickle weights ({', '.join(pickles)})" if pickles else "no weights"
        raise InputError(
            f"model.id: {model_id} has {found}; calig reads safetensors only: "
            "save it again with save_pretrained(), which writes model.safetensors"
        )


def _check_base(adapter: Adapter) -> None:
    """Raise an InputError if the model below an adapter is not there, or is an adapter as well."""
    name = f"model.id: {adapter.model_id}: the model below its adapter, base_model_name_or_path"
    here = is_folder(Path(adapter.base))
    if not here and (adapter.base.startswith((".", "/", "~")) or adapter.base.count("/") > 1):
        raise InputError(f"{name}, is no folder here: {adapter.base}; correct it in adapter_config.json")
    if here:
        _check_folder(adapter.base)
    if find_adapter(adapter.base, adapter.base_revision) is not None:
        raise InputError(f"{name}, has an adapter itself: {adapter.base}; merge that one and save the model")


def _add_head(config: Any, adapter: Adapter) -> None:
    """Let the configuration of a model without a classification head have the one that an adapter brings."""
    outputs = adapter.outputs()
    if outputs is None:
        return
    if not _classifies(config.architectures or []):
        kind = next(iter(_classes(config)), None)
        if kind is not None:
            config.architectures = [kind.__name__]
    if config.num_labels != outputs:
        config.num_labels = outputs


def _classes(config: Any) -> list[type[Any]]:
    """The classes of classifiers that transformers has for a configuration: of sequences, then of images."""
    found: list[type[Any]] = []
    for mapping in (MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING):
        if type(config) in mapping:
            kind: Any = mapping[type(config)]
            found.append(kind[0] if isinstance(kind, tuple) else kind)
    return found


def _name_class(config: Any) -> None:
    """Let a configuration that names no architecture have the one classifier of its type, as transformers does."""
    classes = _classes(config)
    if not config.architectures and len(classes) == 1:
        config.architectures = [classes[0].__name__]


def _refuse_encoder_decoders(config: Any) -> None:
    """Raise an InputError if texts are classified by an encoder and a decoder."""
    for kind in _classes(config) if getattr(config, "is_encoder_decoder", False) else ():
        if "decoder_input_ids" in signature(kind.forward).parameters:
            raise InputError(
                f"model.id: {config.model_type} models are an encoder and a decoder and cannot be explained: a text "
                "passes both, and the decoder reads the encoder's states at each of its blocks, so that no state "
                "between two blocks is all that the head depends on; use a classifier of one of them alone"
            )


def modality_of(config: Any) -> Modality:
    """What a model of this configuration reads: images, if its architecture classifies images."""
    return "image" if any(_IMAGES in kind for kind in config.architectures or []) else "text"


def check_index(model_id: str, revision: str | None) -> None:
    """Raise an InputError if the index of weights in several files names any that is not safetensors, or elsewhere."""
    path = model_file(model_id, SAFE_WEIGHTS_INDEX_NAME, revision)
    if path is None:
        return
    try:
        named = {str(name) for name in json.loads(path.read_text())["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"model.id: {model_id}: its {SAFE_WEIGHTS_INDEX_NAME} is damaged; fetch or save the model again"
        ) from error
    odd = sorted(name for name in named if not name.endswith(".safetensors") or Path(name).name != name)
    if odd:
        raise InputError(
            f"model.id: {model_id}: its {SAFE_WEIGHTS_INDEX_NAME} names {odd[0]!r}; calig reads safetensors only, and "
            "only those beside the index: save the model again with save_pretrained()"
        )
