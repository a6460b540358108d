"""Loading a classifier, with its tokenizer or image processor, from a folder or a hub id, safely, with one clear line
when it cannot be.

Safetensors only, no remote code; weights are cast to the dtype asked for, whatever they were saved in.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from calig.errors import InputError, first_line
from calig.faults import of_machine
from calig.models.adapters import Adapter, digest_tensor, find_adapter, merged
from calig.models.alignment import encode
from calig.models.configuration import check_index, modality_of, read_config
from calig.models.families import family_of
from calig.models.heads import class_names, find_head, notes_on_names
from calig.models.hub import model_file
from calig.models.independence import depends_on_length
from calig.models.mae import silently
from calig.models.quantised import dequantised, quantisation
from calig.models.refusing import in_one_line, named
from calig.models.settings import own_settings
from calig.models.text import embedded_ids
from calig.models.weights import judge
from calig.records import Head, Modality

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
_PIECES = ("spm.model", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "sentencepiece.model")
"""Names under which tokenizers are saved as sentencepiece's own file."""
_PLAIN = "A plain text."
_SAVE_AGAIN = "check its config.json, or save the model again with save_pretrained()"


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A model ready to explain (eval mode, parameters frozen), its classes in index order, its head.

    A model of texts has a tokenizer, one of images an image processor. `notes` are lines to be told once, about weights
    that are not read and names of classes. `unmerged` is a hash of the weights of a model and its adapter, where there
    is one.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    classes: tuple[str, ...]
    revision: str | None
    head: Head = "single_label"
    processor: Any = None
    notes: tuple[str, ...] = ()
    unmerged: str | None = None

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
        if resolved.type == "meta":
            raise RuntimeError("tensors there hold no numbers")
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"runtime.device: {device!r} cannot be used here ({str(error).splitlines()[0]}); use cpu or auto"
        ) from error
    return resolved


@own_settings()
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
        safetensors, or its tokenizer cannot be read or its tokens not found in a text, or it has no image processor.
    """
    if dtype not in DTYPES:
        raise InputError(f"runtime.dtype: {dtype!r} is not one of {', '.join(DTYPES)}")
    target_device = resolve_device(device)
    with in_one_line(f"model.id: {model_id} cannot be loaded", _SAVE_AGAIN):
        return _load(model_id, revision, target_device, DTYPES[dtype], head)


def _load(
    model_id: str, revision: str | None, device: torch.device, dtype: torch.dtype, head: str | None
) -> Pretrained:
    config = read_config(model_id, revision)
    adapter = find_adapter(model_id, revision)
    found = find_head(config, head)
    modality = modality_of(config)
    loaded, notes, unmerged = _load_model(model_id, revision, config, dtype, adapter)
    tokenizer = processor = None
    if modality == "text":
        tokenizer = _load_tokenizer(
            *_beside(model_id, revision, adapter, "tokenizer_config.json", "tokenizer.json")
        )
        rows = embedded_ids(loaded)
        if len(tokenizer) > rows:
            raise InputError(
                f"model.id: {model_id}: its tokenizer has {len(tokenizer)} tokens and the model embeds {rows}; "
                + _too_many(tokenizer, rows)
            )
    else:
        processor = _load_processor(*_beside(model_id, revision, adapter, "preprocessor_config.json"))
    model = nn.Module.to(loaded, device=device, dtype=dtype).requires_grad_(False)
    nn.Module.eval(model)
    classes = class_names(config, found)
    notes += notes_on_names(config, found, model_id)
    commit = getattr(config, "_commit_hash", None)
    return Pretrained(model, tokenizer, classes, commit, found, processor, notes, unmerged)


def _load_model(
    model_id: str, revision: str | None, config: Any, dtype: torch.dtype, adapter: Adapter | None
) -> tuple[PreTrainedModel, tuple[str, ...], str | None]:
    """The model, its adapter merged into it; notes on weights that are not read; and the hash of an adapted model."""
    auto = (
        AutoModelForSequenceClassification
        if modality_of(config) == "text"
        else AutoModelForImageClassification
    )
    base, revision = (model_id, revision) if adapter is None else (adapter.base, adapter.base_revision)
    check_index(base, revision)
    quantised = quantisation(config, base)
    try:
        with silently():
            loaded, info = auto.from_pretrained(
                base,
                revision=revision,
                config=config,
                dtype=dtype if adapter is None else torch.promote_types(dtype, torch.float32),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                # what is installed must not decide whether an adapter is applied
                adapter_kwargs={"subfolder": "no adapter"},
                **({"attn_implementation": "eager"} if family_of(config).eager else {}),
            )
    except SafetensorError as error:
        raise InputError(
            f"model.id: {base}: its weights cannot be read ({first_line(error)}); fetch or save the model again"
        ) from error
    except (RuntimeError, MemoryError) as error:
        if of_machine(error):
            raise InputError(
                f"model.id: {base}: the weights that its config.json asks for do not fit into memory ({named(error)}); "
                "correct its sizes, or use a machine with more"
            ) from error
        if quantised is not None:
            raise InputError(
                f"model.id: {base}: its weights are quantised ({quantised}) and cannot be read here ({named(error)}); "
                "name the model that it was made from"
            ) from error
        raise InputError(
            f"model.id: {base}: its weights do not fit its config.json ({named(error)}); both must come from the "
            "same save_pretrained()"
        ) from error
    except KeyError as error:
        key = error.args[0] if error.args else None
        fields = [name for name, value in config.to_dict().items() if isinstance(key, str) and value == key]
        if not fields:
            raise
        raise InputError(
            f"model.id: {base}: its config.json sets {fields[0]} to {key!r}, which transformers does not know; correct "
            "it, or install a newer transformers"
        ) from error
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"model.id: {base}: {named(error)}") from error
    if getattr(loaded, "_hf_peft_config_loaded", False):
        raise InputError(
            f"model.id: {base}: this transformers applied an adapter by itself; install transformers >= 5.17"
        )
    notes = judge(loaded, info, base, () if adapter is None else adapter.supplied())
    if quantised is not None and getattr(loaded, "is_quantized", False):
        loaded, note = dequantised(loaded, base, quantised)
        notes += (note,)
    if adapter is None:
        return loaded, notes, None
    loaded, digest = merged(loaded, adapter)
    return loaded, notes, digest


def _beside(
    model_id: str, revision: str | None, adapter: Adapter | None, *names: str
) -> tuple[str, str | None]:
    """Where a tokenizer or processor is read from: beside an adapter, else beside the model below it."""
    if adapter is None or adapter.has(*names):
        return model_id, revision
    return adapter.base, adapter.base_revision


def _load_processor(model_id: str, revision: str | None) -> Any:
    """The image processor that needs Pillow alone: torchvision's gives other pixels, by rounding."""
    try:
        return AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            model_id, revision=revision, trust_remote_code=False, backend="pil"
        )
    except Exception as error:  # whatever a configuration of strangers leads it to
        raise InputError(
            f"model.id: {model_id} has no usable image processor ({first_line(error)}); save it beside the model "
            "with save_pretrained(), which writes preprocessor_config.json"
        ) from error


def _load_tokenizer(model_id: str, revision: str | None) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_id, revision=revision, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises Exception itself
        _refuse_pieces(model_id, revision)
        raise InputError(
            f"model.id: {model_id}: its tokenizer cannot be read ({first_line(error)}); save it again with "
            "save_pretrained()"
        ) from error
    if _made_up(tokenizer):
        _refuse_pieces(model_id, revision)
        raise InputError(
            f"model.id: {model_id} has no tokenizer, or an empty one; save the tokenizer beside the model with "
            "save_pretrained()"
        )
    if not tokenizer.is_fast:
        _try_alignment(model_id, tokenizer)
    return tokenizer


def _made_up(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer is one that transformers makes up where there are no files."""
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        return True
    if not tokenizer.vocab_files_names:
        return False
    try:
        usual = type(tokenizer)()
    except Exception:  # there is none without files
        return False
    return set(tokenizer.get_vocab()) - set(tokenizer.get_added_vocab()) <= set(usual.get_vocab())


def _refuse_pieces(model_id: str, revision: str | None) -> None:
    """Raise an InputError if the tokenizer is saved as sentencepiece alone, and that is not installed."""
    pieces = [name for name in _PIECES if model_file(model_id, name, revision)]
    if pieces and importlib.util.find_spec("sentencepiece") is None:
        raise InputError(
            f"model.id: {model_id}: its tokenizer is saved as {pieces[0]} alone, which needs sentencepiece to be "
            "read: pip install 'calig[sentencepiece]'"
        )


def _too_many(tokenizer: PreTrainedTokenizerBase, rows: int) -> str:
    """What to do about tokens that the model does not embed."""
    added = {int(index): str(token) for index, token in tokenizer.added_tokens_decoder.items()}
    beyond = [added.get(index) for index in range(rows, len(tokenizer))]
    if None in beyond:
        return "save the tokenizer that the model was trained with beside it"
    names = f"{', '.join(map(str, beyond[:3]))}{' …' if len(beyond) > 3 else ''}"
    return (
        f"{names} {'was' if len(beyond) == 1 else 'were'} added to it and not to the model: call "
        f"model.resize_token_embeddings({len(tokenizer)}) and save the model again, or save the tokenizer without"
    )


def _try_alignment(model_id: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer without offsets whose tokens cannot be found in a plain text."""
    try:
        encode(tokenizer, [_PLAIN], None)
    except Exception as error:  # whatever a tokenizer of strangers raises on a text
        raise InputError(
            f"model.id: {model_id}: its tokenizer ({type(tokenizer).__name__}) gives no character offsets, and its "
            f"tokens cannot be found in a text by themselves ({first_line(error)}); save a fast tokenizer "
            "(tokenizer.json) beside the model, if there is one"
        ) from error


def fingerprint(pretrained: Pretrained) -> str:
    """SHA-256 (hex) of what decides the model's answers: weights, configuration, preprocessing, dtype, head."""
    digest = hashlib.sha256()
    _digest_weights(digest, pretrained)
    digest.update(_settings(pretrained))
    _digest_reader(digest, pretrained)
    if pretrained.head != find_head(pretrained.model.config):
        digest.update(pretrained.head.encode())
    if depends_on_length(pretrained.model.config):  # 0.1.0 put texts of other lengths beside them
        digest.update(b"texts of one length")
    return digest.hexdigest()


def fingerprints(pretrained: Pretrained) -> dict[str, str]:
    """SHA-256 (hex) of the parts that `fingerprint` is of: weights (with their dtype), configuration, and reader.

    The reader is the tokenizer, or the processor of images.
    """
    digests = {name: hashlib.sha256() for name in ("weights", "configuration", "reader")}
    _digest_weights(digests["weights"], pretrained)
    digests["configuration"].update(_settings(pretrained) + pretrained.head.encode())
    _digest_reader(digests["reader"], pretrained)
    return {name: digest.hexdigest() for name, digest in digests.items()}


def _digest_weights(digest: Any, pretrained: Pretrained) -> None:
    if pretrained.unmerged is None:
        for name, tensor in sorted(pretrained.model.state_dict().items()):
            digest_tensor(digest, name, tensor)
    else:  # how a merge rounds depends on the machine
        digest.update(f"{pretrained.unmerged} {pretrained.model.dtype}".encode())


def _settings(pretrained: Pretrained) -> bytes:
    """The configuration, but for what says nothing of the model's answers."""
    config = pretrained.model.config.to_dict()
    for volatile in ("_name_or_path", "transformers_version", "dtype", "torch_dtype"):
        config.pop(volatile, None)
    return json.dumps(config, sort_keys=True, default=str).encode()


def _digest_reader(digest: Any, pretrained: Pretrained) -> None:
    if pretrained.processor is not None:
        digest.update(json.dumps(pretrained.processor.to_dict(), sort_keys=True, default=str).encode())
    if pretrained.tokenizer is not None:
        _digest_tokenizer(digest, pretrained.tokenizer)


def _digest_tokenizer(digest: Any, tokenizer: Any) -> None:
    if not tokenizer.is_fast:
        _digest_files(digest, tokenizer)
        return
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    for last_call in ("truncation", "padding"):  # set by every call, whatever the files say
        rules.pop(last_call, None)
    digest.update(json.dumps(rules, sort_keys=True).encode())
    digest.update(f"{tokenizer.special_tokens_map} {tokenizer.model_max_length}".encode())


def _digest_files(digest: Any, tokenizer: Any) -> None:
    """The same of a tokenizer that is written in Python: its vocabulary files and its settings."""
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(map(Path, tokenizer.save_vocabulary(folder, None) or ())):
            digest.update(path.name.encode() + path.read_bytes())
    own = {
        name: str(value)
        for name, value in tokenizer.init_kwargs.items()
        if not (name.endswith("_file") or name in ("name_or_path", "transformers_version"))
    }
    digest.update(f"{type(tokenizer).__name__} {json.dumps(own, sort_keys=True)}".encode())
    digest.update(f"{tokenizer.special_tokens_map} {tokenizer.model_max_length}".encode())
