"""A model is verified before it is explained: read as blocks, it must give its own answers, to rounding.

Verified on two made-up rows of a few tokens, the second padded, or on two made-up images: (1) the watched run equals
the model's own forward; (2) entering at each depth with the states of *another* input gives that other input's answer,
so nothing of the input reaches the head beside the entered state; (3) the pass that keeps attention probabilities gives
the same answer, and one map (B, heads, T, T) a block, tied to it. (2) is enough for Σ LIG = Δy at every depth. Of
images also (4): a patch of pixels makes one token, after the special ones, row by row.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from calig.errors import InputError, first_line
from calig.models.families import how_to_declare
from calig.models.images import Geometry
from calig.models.inputs import Batch
from calig.models.text import embedded_ids, free_id, padding_id
from calig.models.trial import ordinary_ids

if TYPE_CHECKING:
    from calig.models.classifier import Baseline, Classifier

_TOKENS = 6


def verify(classifier: Classifier) -> tuple[str, int, tuple[str, ...]]:
    """Verify a classifier; returns where its attention probabilities are, the number of heads, and special tokens.

    Special tokens are named of images only: those before the patches.

    Where its answers are not finite there is nothing to compare, and only shapes are verified.

    Raises
    ------
    InputError
        Something does not hold; the message says what.
    """
    kind, hint = type(classifier.model).__name__, how_to_declare(classifier.family.model_type)
    special: tuple[str, ...] = ()
    batch: Batch
    other: Baseline
    with torch.enable_grad():
        if classifier.modality == "image":
            special, batch, other = _images(classifier, kind)
        else:
            batch, other = _example(classifier)
        with torch.no_grad():
            own = classifier.answer(batch)
            clean = classifier.run(batch)
        length = batch.mask.shape[1]
        depths = {tuple(state.shape[:2]) for state in clean.states}
        if depths != {batch.mask.shape} or len(clean.states) != classifier.depth + 1:
            raise InputError(
                f"model.id: the blocks of {kind} do not see {length} tokens of a {classifier.modality} of "
                f"{length}, each block once (seen: {len(clean.states) - 1} of {classifier.depth} blocks, shapes "
                f"{sorted(depths)}): it pads, pools or skips inside; {hint}"
            )
        if not _same(clean.logits, own):
            raise InputError(f"model.id: {kind} answers otherwise when its blocks are watched; {hint}")
        with torch.no_grad():
            base = classifier.run(batch, other)
            for depth, state in enumerate(base.states):
                if not _same(classifier.run_from(depth, state, batch), base.logits):
                    raise InputError(
                        f"model.id: {kind} entered at depth {depth} does not give its own answer: what it does above "
                        f"that depth depends on more than the hidden state there; {hint}"
                    )
        return *_attention(classifier, batch, clean.logits, kind, hint), special


def gives_by_value(classifier: Classifier) -> bool:
    """Whether blocks' values tell what tokens give to others, as attention probabilities do, entered at any depth.

    Raises
    ------
    InputError
        Neither tells it where the model is entered.
    """
    batch = _images(classifier, "")[1] if classifier.modality == "image" else _example(classifier)[0]
    with torch.enable_grad():
        clean = classifier.run(batch, attention=True)
        weights = torch.linspace(1, 2, clean.logits.shape[1], device=classifier.device)
        output = (clean.logits.float() * weights).sum()
        gradients = torch.autograd.grad(output, clean.probabilities)
        pairs = zip(clean.probabilities, gradients, strict=True)
        expected = [classifier.given(a, g).to(a.dtype) for a, g in pairs]
        for by_value in (True, False):
            classifier.by_value = by_value
            with suppress(AttributeError, IndexError, RuntimeError, TypeError, ValueError):
                classifier.run(batch, mixed=True)
                if all(
                    _same(_given(classifier, depth, state, batch, weights), expected[depth])
                    for depth, state in enumerate(clean.states[:-1])
                ):
                    return by_value
    raise InputError(
        f"model.id: what tokens give to others in the blocks of {type(classifier.model).__name__} cannot be told where "
        f"it is entered; {how_to_declare(classifier.family.model_type)}"
    )


def _given(classifier: Classifier, depth: int, state: Tensor, batch: Batch, weights: Tensor) -> Tensor:
    """What tokens give in the first block that runs, of the model entered at a depth."""
    logits, mixed = classifier.run_from_mixed(depth, state.detach().requires_grad_(), batch)
    (gradient,) = torch.autograd.grad((logits.float() * weights).sum(), mixed)
    return classifier.given(mixed, gradient).to(state.dtype)


def _attention(
    classifier: Classifier, batch: Batch, expected: Tensor, kind: str, hint: str
) -> tuple[str, int]:
    """The first place where the attention probabilities are to be found, and the number of heads."""
    declared = classifier.family.attention
    reasons = []
    for where in (declared,) if declared else ("interface", "outputs"):
        try:
            found = classifier.run(batch, attention=where)
        except (AttributeError, TypeError, ValueError) as error:
            reasons.append(f"{where}: {first_line(error)}")
            continue
        maps = found.probabilities
        rows, length = batch.mask.shape
        square = [a for a in maps if a.ndim == 4 and (a.shape[0], *a.shape[2:]) == (rows, length, length)]
        if len(maps) != classifier.depth or len(square) != classifier.depth:
            reasons.append(f"{where}: {len(square)} maps for {classifier.depth} blocks")
        elif not all(a.requires_grad for a in maps):
            reasons.append(f"{where}: its maps are cut off from its answer")
        elif not _same(found.logits, expected):
            reasons.append(f"{where}: the model answers otherwise")
        else:
            return where, maps[0].shape[1]
    raise InputError(
        f"model.id: cannot find the attention probabilities (heads × tokens × tokens) of {kind} "
        f"({'; '.join(reasons)}); {hint}"
    )


def _images(classifier: Classifier, kind: str) -> tuple[tuple[str, ...], Batch, Baseline]:
    """Names of the special tokens; two images, and what makes another pair of them.

    One patch of one image is changed, and the tokens that change with it, at depth 0, tell where patches are.
    """
    own = Geometry.of(classifier.model.config)
    generator = torch.Generator().manual_seed(0)
    shape = (2, own.channels, *own.image)
    pixels, others = (
        torch.randn(shape, generator=generator).to(classifier.device, classifier.model.dtype)
        for _ in range(2)
    )
    rows, columns = own.grid(pixels)
    row, column = rows // 2, columns - 1
    spot = (
        slice(row * own.patch[0], (row + 1) * own.patch[0]),
        slice(column * own.patch[1], (column + 1) * own.patch[1]),
    )
    changed = pixels.clone()
    changed[(..., *spot)] = others[(..., *spot)]
    nothing = torch.zeros((2, 0), dtype=torch.bool, device=classifier.device)
    with torch.no_grad():
        before, after = (
            classifier.run(Batch({"pixel_values": images}, nothing)).states[0] for images in (pixels, changed)
        )
    first = before.shape[1] - rows * columns
    moved = (before != after).any(dim=-1).any(dim=0).nonzero().flatten().tolist()
    finite = bool(before.isfinite().all())
    if first < 0 or (finite and moved != [first + row * columns + column]):
        raise InputError(
            f"model.id: {kind} does not make one token of each of {rows} × {columns} patches, row by row, after its "
            f"special tokens ({before.shape[1]} tokens; one changed patch moves {len(moved)} of them): patches "
            f"overlap, or are merged or sorted; {how_to_declare(classifier.family.model_type)}"
        )
    usual = ("[CLS]", *(f"[REG{i}]" for i in range(1, first)))
    special = (classifier.family.special or usual)[:first]
    content = torch.arange(before.shape[1], device=classifier.device) >= first
    return special, Batch({"pixel_values": pixels}, content.expand(2, -1)), lambda _: others


def _same(found: Tensor, expected: Tensor) -> bool:
    """Whether logits agree to what rounding may do in a deep model; true where there is nothing to compare."""
    if not bool(expected.isfinite().all()):
        return True
    scale = float(expected.abs().max())
    rounding: float = torch.finfo(expected.dtype).eps ** (1 / 3)
    return float((found.detach() - expected).abs().max()) <= rounding * scale


def _example(classifier: Classifier) -> tuple[Batch, Tensor]:
    """Two rows of ids that are no special token of the configuration, and the embedding of another such id."""
    model = classifier.model
    usable = ordinary_ids(model, 2 * _TOKENS)
    ids = torch.tensor(usable).reshape(2, _TOKENS)
    mask = torch.ones_like(ids)
    mask[1, -1] = 0
    configured = padding_id(model)
    pad = free_id(set(usable), embedded_ids(model)) if configured is None else configured
    ids[1, -1] = pad
    content = mask.bool()
    content[:, 0] = False
    inputs = {"input_ids": ids, "attention_mask": mask}
    batch = Batch(
        {name: value.to(classifier.device) for name, value in inputs.items()},
        content.to(classifier.device),
        None if configured is not None else pad,
    )
    return batch, classifier.word_embedding(usable[-1])
