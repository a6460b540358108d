"""Loading a classifier, with its tokenizer or image processor, from a folder or a hub id, safely, with one clear line
when it cannot be.

Safetensors only, no remote code; weights are cast to the dtype asked for, whatever they were saved in.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME
from transformers.utils import logging as hf_logging
from transformers.utils.hub import cached_file

from calig.errors import InputError
from calig.models.families import family_of
from calig.models.heads import class_names, find_head
from calig.models.mae import classifier_of
from calig.records import Head, Modality

_SEQUENCES, _IMAGES = "ForSequenceClassification", "ForImageClassification"
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A model ready to explain (eval mode, parameters frozen), its classes in index order, its head.

    A model of texts has a tokenizer, one of images an image processor.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    classes: tuple[str, ...]
    revision: str | None
    head: Head = "single_label"
    processor: Any = None

    @property
    def modality(self) -> Modality:
        """What the model reads."""
        return "text" if self.processor is None else "image"


def resolve_device(device: str) -> torch.device:
    """`auto` is the GPU when there is one; an unknown or absent device is an InputError."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"runtime.device: {device!r} cannot be used here ({str(error).splitlines()[0]}); use cpu or auto"
        ) from error
    return resolved


def load_pretrained(
    model_id: str,
    *,
    revision: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    head: str | None = None,
) -> Pretrained:
    """Load a classifier of sequences and its tokenizer, or one of images and its image processor.

    Parameters
    ----------
    model_id
        A folder in the hub's layout, or a hub id.
    revision
        Branch, tag or commit on the hub.
    device
        `cpu`, `cuda`, `cuda:1`, … or `auto`.
    dtype
        `float32`, `float64` or `bfloat16`.
    head
        What the logits mean, one of `calig.models.heads.HEADS`; None: as the configuration says.

    Raises
    ------
    InputError
        There is no such model, it has no classification head or cannot have the one asked for, its weights are not
        safetensors, or its tokenizer has no character offsets, or it has no image processor.
    """
    if dtype not in DTYPES:
        raise InputError(f"runtime.dtype: {dtype!r} is not one of {', '.join(DTYPES)}")
    target_device = resolve_device(device)
    config = read_config(model_id, revision)
    _check_index(model_id, revision)
    found = find_head(config, head)
    modality = modality_of(config)
    auto = AutoModelForSequenceClassification if modality == "text" else AutoModelForImageClassification
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        loaded, info = auto.from_pretrained(
            model_id,
            revision=revision,
            config=config,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **({"attn_implementation": "eager"} if family_of(config).eager else {}),
        )
    except SafetensorError as error:
        raise InputError(
            f"model.id: {model_id}: its weights cannot be read ({_first_line(error)}); fetch or save the model again"
        ) from error
    except RuntimeError as error:
        raise InputError(
            f"model.id: {model_id}: its weights do not fit its config.json; both must come from the same "
            "save_pretrained()"
        ) from error
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise InputError(f"model.id: {model_id}: {_first_line(error)}") from error
    finally:
        if bars:
            hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    missing = sorted(info["missing_keys"])
    if missing:
        raise InputError(
            f"model.id: {model_id} lacks the weights {', '.join(missing[:3])}{'…' if len(missing) > 3 else ''}: "
            "it was saved without a trained classification head; fine-tune it or name the fine-tuned model"
        )
    tokenizer = processor = None
    if modality == "text":
        tokenizer = _load_tokenizer(model_id, revision)
        rows = loaded.get_input_embeddings().num_embeddings
        if len(tokenizer) > rows:
            raise InputError(
                f"model.id: {model_id}: its tokenizer has {len(tokenizer)} tokens and the model embeds {rows}; "
                "save the tokenizer that the model was trained with beside it"
            )
    else:
        processor = _load_processor(model_id, revision)
    model = loaded.to(device=target_device, dtype=DTYPES[dtype]).eval().requires_grad_(False)
    classes = class_names(config, found)
    return Pretrained(model, tokenizer, classes, getattr(config, "_commit_hash", None), found, processor)


def _check_index(model_id: str, revision: str | None) -> None:
    """Raise an InputError if the index of weights in several files names any that is not safetensors, or elsewhere."""
    path = cached_file(
        model_id,
        SAFE_WEIGHTS_INDEX_NAME,
        revision=revision,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return
    try:
        named = {str(name) for name in json.loads(Path(path).read_text())["weight_map"].values()}
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


def modality_of(config: Any) -> Modality:
    """What a model of this configuration reads: images, if its architecture classifies images."""
    return "image" if any(_IMAGES in kind for kind in config.architectures or []) else "text"


def _load_processor(model_id: str, revision: str | None) -> Any:
    """The image processor that needs Pillow alone: torchvision's gives other pixels, by rounding."""
    try:
        return AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            model_id, revision=revision, trust_remote_code=False, backend="pil"
        )
    except Exception as error:  # whatever a configuration of strangers leads it to
        raise InputError(
            f"model.id: {model_id} has no usable image processor ({_first_line(error)}); save it beside the model "
            "with save_pretrained(), which writes preprocessor_config.json"
        ) from error


def _load_tokenizer(model_id: str, revision: str | None) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_id, revision=revision, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises Exception itself
        raise InputError(
            f"model.id: {model_id}: its tokenizer cannot be read ({_first_line(error)}); save it again with "
            "save_pretrained()"
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers makes one up where there are no files
        raise InputError(
            f"model.id: {model_id} has no tokenizer, or an empty one; save the tokenizer beside the model with "
            "save_pretrained()"
        )
    if not tokenizer.is_fast:
        raise InputError(
            f"model.id: {model_id}: its tokenizer ({type(tokenizer).__name__}) has no character offsets; "
            "save a fast tokenizer (tokenizer.json) beside the model"
        )
    return tokenizer


def read_config(model_id: str, revision: str | None = None) -> Any:
    """Read and check the configuration alone: it must be there, and be that of a classifier that can be explained."""
    folder = Path(model_id)
    looks_like_path = model_id.startswith((".", "/", "~")) or folder.exists() or model_id.count("/") > 1
    if looks_like_path:
        if not folder.is_dir():
            raise InputError(
                f"model.id: no model folder at {model_id}; give a folder with config.json, or a hub id"
            )
        if not (folder / "config.json").is_file():
            raise InputError(
                f"model.id: {model_id} has no config.json; save the model with save_pretrained()"
            )
        if not any(folder.glob("*.safetensors")):
            pickles = sorted(p.name for p in folder.glob("*.bin")) + sorted(
                p.name for p in folder.glob("*.pt*")
            )
            found = f"only pickle weights ({', '.join(pickles)})" if pickles else "no weights"
            raise InputError(
                f"model.id: {model_id} has {found}; calig reads safetensors only: "
                "save it again with save_pretrained(), which writes model.safetensors"
            )
    try:
        config = AutoConfig.from_pretrained(model_id, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"model.id: {model_id}: {_first_line(error)}") from error
    kinds = config.architectures or []
    if config.model_type == "vit_mae":
        _, missing = classifier_of(model_id, list(config.id2label.values()), revision)
        raise InputError(
            f"model.id: {model_id} is a masked autoencoder, pre-trained and no more: as ViTForImageClassification its "
            f"encoder is whole, but {' and '.join(missing)} are missing; fine-tune what "
            "calig.models.mae.classifier_of() makes of it, and name the model you save"
        )
    if not any(kind.endswith(_SEQUENCES) or _IMAGES in kind for kind in kinds):
        raise InputError(
            f"model.id: {model_id} is a {', '.join(kinds) or config.model_type} without a classification "
            f"head; fine-tune it as …{_SEQUENCES} or …{_IMAGES} first"
        )
    family_of(config)
    return config


def fingerprint(pretrained: Pretrained) -> str:
    """SHA-256 (hex) of what decides the model's answers: weights, configuration, preprocessing, dtype, head."""
    digest = hashlib.sha256()
    for name, tensor in sorted(pretrained.model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    config = pretrained.model.config.to_dict()
    for volatile in ("_name_or_path", "transformers_version", "dtype", "torch_dtype"):
        config.pop(volatile, None)
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    if pretrained.processor is not None:
        digest.update(json.dumps(pretrained.processor.to_dict(), sort_keys=True, default=str).encode())
    if pretrained.tokenizer is not None:
        _digest_tokenizer(digest, pretrained.tokenizer)
    if pretrained.head != find_head(pretrained.model.config):
        digest.update(pretrained.head.encode())
    return digest.hexdigest()


def _digest_tokenizer(digest: Any, tokenizer: Any) -> None:
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    for last_call in ("truncation", "padding"):  # set by every call, whatever the files say
        rules.pop(last_call, None)
    digest.update(json.dumps(rules, sort_keys=True).encode())
    digest.update(f"{tokenizer.special_tokens_map} {tokenizer.model_max_length}".encode())


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
