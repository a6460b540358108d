"""Baselines: the input that stands for "no content", by name (METHOD: baseline input).

A baseline whose states vanish is degenerate where the model normalises them: the norm scales any direction away from
zero up to full size, so that the whole integral lies at the path's first steps, and no mesh holds it. Decoders without
position embeddings whose padding row is zero, as it is when nobody trains it, have such a baseline.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from calig.errors import InputError
from calig.models.classifier import Baseline, Classifier
from calig.models.images import Geometry, blurred, channel_means
from calig.models.inputs import Batch, Encoder
from calig.models.loading import Pretrained
from calig.models.text import embedded_ids, padding_id
from calig.records import Document, Failure, Modality

_VANISHES = 1e-3
"""A baseline state this small, relative to the input's, has no direction that a normalisation would keep."""
_STEEP = 10.0
"""Steeper than in the middle of its path by this factor, a model cannot be integrated from such a state: where norms
see (nearly) zero it is 20 times as steep and more, and where other tokens are mixed into zeros at once, 7 at most."""
_TRIED = "The film is good, and never dull."
_STAND_INS = (",", ".", "the", " ")

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


def settle(
    name: str, pretrained: Pretrained, classifier: Classifier, encoder: Encoder
) -> tuple[str, Baseline]:
    """The baseline of a name, and its name; where `pad` is degenerate, another token's row takes its place.

    Which token that is depends on the model alone: the mask token, the unknown token, a comma, …, then the
    vocabulary in the order of its ids; the first whose row is about as large as most.

    Raises
    ------
    InputError
        The model has no such token, or the baseline is degenerate and was asked for by another name than `pad`.
    """
    baseline = baseline_of(name, pretrained, classifier)
    if not _degenerate(name, baseline, pretrained, classifier, encoder):
        return name, baseline
    why = (
        f"method.baseline: {name} leaves hidden states of (nearly) zero, which this model's norms scale up without "
        "bound"
    )
    if pretrained.modality == "image":
        raise InputError(f"{why}; use blur or mean")
    for other in _stand_ins(pretrained):
        found = baseline_of(other, pretrained, classifier)
        if not _degenerate(other, found, pretrained, classifier, encoder):
            if name == "pad":
                return other, found
            raise InputError(f"{why}; use {other!r}, whose row is ordinary")
    raise InputError(f"{why}, and no token has an ordinary row; use token:<text>")


def _degenerate(
    name: str, baseline: Baseline, pretrained: Pretrained, classifier: Classifier, encoder: Encoder
) -> bool:
    """Whether states vanish at the baseline, and the model is too steep there to be integrated."""
    if isinstance(baseline, Tensor) and classifier.modality == "text":
        rows = _rows(pretrained)
        if not _vanishes(baseline, _size(rows[:: max(1, len(rows) // 100)]).median(), centred=True):
            return False
        document = Document("", _TRIED)
    elif name in ("zero", "mask"):
        own = Geometry.of(classifier.model.config)
        pixels = torch.linspace(-1, 1, own.channels * own.image[0] * own.image[1])
        document = Document("", image=pixels.reshape(own.channels, *own.image))
    else:
        return False
    (tried,) = encoder.read([document])
    if isinstance(tried, Failure):
        return False
    batch = encoder.batch([tried], classifier.device)
    with torch.enable_grad():
        clean, base = (classifier.run(batch, other).states[0].detach() for other in (None, baseline))
        centred = any(isinstance(module, nn.LayerNorm) for module in classifier.model.modules())
        sizes = _size(clean)
        seen = batch.content & (sizes > _VANISHES * sizes.max())  # not tokens whose own rows vanish too
        if not _vanishes(base[seen], sizes[seen], centred):
            return False
        at_start, midway = (_slope(classifier, base + a * (clean - base), batch, seen) for a in (0.0, 0.5))
    # a model whose numbers are not finite midway either fails at every document, and says so there
    return math.isfinite(midway) and not at_start <= _STEEP * midway


def _slope(classifier: Classifier, state: Tensor, batch: Batch, seen: Tensor) -> float:
    """The size of the gradient of the first logit, less the last, with respect to the tokens seen at depth 0."""
    leaf = state.requires_grad_()
    logits = classifier.run_from(0, leaf, batch)
    output = logits[0, 0] - logits[0, -1] if logits.shape[1] > 1 else logits[0, 0]
    (gradient,) = torch.autograd.grad(output, leaf)
    return float(gradient[seen].double().norm())


def _size(rows: Tensor) -> Tensor:
    sizes: Tensor = rows.detach().double().norm(dim=-1)
    return sizes


def _rows(pretrained: Pretrained) -> Tensor:
    """(V, E) the word embeddings."""
    return cast(Tensor, pretrained.model.get_input_embeddings().weight)


def _vanishes(rows: Tensor, own: Tensor, centred: bool) -> bool:
    """Whether any row (…, D) is (nearly) zero beside sizes of others; a LayerNorm takes the mean over D away first."""
    sizes = [_size(rows), *([_size(rows - rows.mean(dim=-1, keepdim=True))] if centred else [])]
    return any(bool((own.isfinite() & (own > 0) & (size <= _VANISHES * own)).any()) for size in sizes)


def _stand_ins(pretrained: Pretrained) -> Iterator[str]:
    """Names of baselines that may take the place of a degenerate one: tokens whose rows are about as large as most."""
    tokenizer = pretrained.tokenizer
    assert tokenizer is not None
    sizes = _size(_rows(pretrained))
    usual = float(sizes.median())
    ordinary = ((sizes > usual / 2) & (sizes < 2 * usual)).tolist()

    def stands(name: str) -> bool:
        try:
            index = _token(name, pretrained)
        except InputError:
            return False
        return index is not None and index < len(ordinary) and ordinary[index]

    texts = [*([tokenizer.unk_token] if tokenizer.unk_token else []), *_STAND_INS]
    names = ["mask", *(f"token:{text}" for text in texts)]
    yield from filter(stands, names)
    special = set(tokenizer.all_special_ids)
    for index in range(embedded_ids(pretrained.model)):
        if ordinary[index] and index not in special:
            text = str(tokenizer.decode([index]))
            if text.strip().isprintable() and text.strip() and stands(f"token:{text}"):
                yield f"token:{text}"


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
