"""Content taken out of a document, and the model's answers on what is left.

Of a text, tokens are deleted, or stand-ins take their places. A deleted token leaves every row of the input, so that
those behind it move up. A stand-in (`mask`, `pad`) takes the place of a token's word embedding inside the model's own
embedding module, as a baseline does: ids, mask, positions and the row that the head pools from stay the input's.
Exchanging ids would not do that: RoBERTa-like models number positions, and decoders' heads find their row, by the
padding id. Of an image, the pixels of patches are replaced by zeros, by the image's mean colour, or by its blur; a
patch cannot be deleted. Special tokens always stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from calig.attribution.baselines import baseline_of
from calig.attribution.passes import numbers
from calig.attribution.quadrature import Float64
from calig.errors import InputError
from calig.evaluation.subject import Case, Subject
from calig.models.classifier import Baseline
from calig.models.images import EncodedImage
from calig.models.inputs import Encoded
from calig.models.text import EncodedText
from calig.records import Bool, Modality

_KNOWN: dict[Modality, tuple[str, ...]] = {
    "text": ("delete", "mask", "pad"),
    "image": ("zero", "mean", "blur"),
}
_CHUNK = 1024
"""Texts held at once with content removed."""
_PIXEL_BYTES = 2**26
"""Bytes of pixels held at once with content removed."""


@dataclass(frozen=True, slots=True, eq=False)
class Removal:
    """A document with content removed: the tokens `gone` (T,), by the removal `how`."""

    case: Case
    gone: Bool
    how: str


def removals_of(subject: Subject) -> tuple[str, ...]:
    """What content of this model's inputs can be removed by: without a mask token, not by `mask`."""
    return tuple(how for how in _KNOWN[subject.explainer.modality] if how == "delete" or _has(subject, how))


def default_removals(subject: Subject) -> tuple[str, ...]:
    """Two removals, one of which at least is not the method's baseline, whose assumption a metric would share.

    Texts: deletion, and the mask token, or, without one, padding. Images: zero, and the mean colour.
    """
    return removals_of(subject)[:2]


def check_removals(subject: Subject, removals: Sequence[str]) -> None:
    """Raise an InputError if content of this model's inputs cannot be removed so."""
    have = removals_of(subject)
    for how in removals:
        if how not in have:
            modality = subject.explainer.modality
            why = f"the tokenizer has no {how} token" if how in _KNOWN[modality] else f"it reads {modality}s"
            raise InputError(
                f"evaluation.removals: {how!r} is not one of {', '.join(have)}, which this model has: {why}"
            )


def remove(subject: Subject, case: Case, gone: Bool, how: str) -> Encoded:
    """Return the document's input with content removed: a shorter text, or an image with other pixels.

    Parameters
    ----------
    subject
        The model.
    case
        The document, T tokens.
    gone
        (T,) the tokens that are removed; special tokens among them stay. Where nothing would be left of a text, for
        want of special tokens, its first token stays.
    how
        `delete`, or, of images, `zero`, `mean` or `blur`. Stand-ins for tokens do not change a text's input, but its
        embeddings: see `answers`.

    Raises
    ------
    InputError
        Not a removal that changes this input.
    """
    encoded = case.encoded
    if isinstance(encoded, EncodedText) and how == "delete":
        return _kept(encoded, case.encoded.is_special | ~gone)
    if isinstance(encoded, EncodedImage) and how in _KNOWN["image"]:
        other = _baseline(subject, how)
        assert not isinstance(other, Tensor)
        return _replaced(encoded, gone, other)
    check_removals(subject, [how])
    raise InputError(f"evaluation.removals: {how!r} changes a text's embeddings, not its input")


def answers(subject: Subject, removals: Sequence[Removal]) -> Float64:
    """(n, C) the model's logits with content removed, in order, in batches that fit.

    Memory is that of a batch: changed inputs are made as they are needed.

    Raises
    ------
    InputError
        The model has not such a removal.
    """
    check_removals(subject, list(dict.fromkeys(removal.how for removal in removals)))
    found: dict[int, Float64] = {}
    for how, indices in groupby(_ordered(removals), key=lambda i: removals[i].how):
        for chunk in _chunks([*indices], removals):
            rows = [removals[i] for i in chunk]
            if how in ("mask", "pad"):
                logits = _stood_in(subject, rows, how)
            else:
                logits = subject.logits([remove(subject, row.case, row.gone, how) for row in rows])
            found.update(zip(chunk, logits, strict=True))
    return np.array([found[i] for i in range(len(removals))])


def _ordered(removals: Sequence[Removal]) -> list[int]:
    """Indices of removals, those of one kind and of like length together."""

    def place(index: int) -> tuple[str, int, int]:
        removal = removals[index]
        left = len(removal.gone) - (int(removal.gone.sum()) if removal.how == "delete" else 0)
        return removal.how, left, index

    return sorted(range(len(removals)), key=place)


def _chunks(indices: list[int], removals: Sequence[Removal]) -> Iterator[list[int]]:
    encoded = removals[indices[0]].case.encoded
    size = _CHUNK
    if isinstance(encoded, EncodedImage):
        size = max(1, _PIXEL_BYTES // (encoded.pixels.numel() * encoded.pixels.element_size()))
    for first in range(0, len(indices), size):
        yield indices[first : first + size]


def _stood_in(subject: Subject, rows: Sequence[Removal], how: str) -> Float64:
    """(n, C) logits with a stand-in's embedding in the place of each removed token's."""
    vector = _baseline(subject, how)
    encoded = [row.case.encoded for row in rows]
    found: dict[int, Float64] = {}
    for group in subject.groups(encoded):
        batch = subject.batch([encoded[i] for i in group])
        gone = torch.zeros_like(batch.content)
        for row, i in enumerate(group):
            mine = torch.from_numpy(rows[i].gone & rows[i].case.content)
            gone[row, : len(mine)] = mine.to(gone.device)
        with torch.no_grad():
            logits = subject.classifier.run(replace(batch, content=gone), vector).logits
        found.update(zip(group, numbers(logits), strict=True))
    return np.array([found[i] for i in range(len(rows))])


def _has(subject: Subject, how: str) -> bool:
    try:
        _baseline(subject, how)
    except InputError:
        return False
    return True


def _baseline(subject: Subject, how: str) -> Baseline:
    return baseline_of(how, subject.explainer.pretrained, subject.classifier)


def _kept(encoded: EncodedText, keep: Bool) -> EncodedText:
    places = np.flatnonzero(keep) if keep.any() else np.array([0])
    return replace(
        encoded,
        tokens=[encoded.tokens[place] for place in places],
        word_ids=encoded.word_ids[places],
        char_spans=encoded.char_spans[places],
        segments=encoded.segments[places],
        is_special=encoded.is_special[places],
        ids=encoded.ids[places],
        types=encoded.types[places],
    )


def _replaced(encoded: EncodedImage, gone: Bool, other: Callable[[Tensor], Tensor]) -> EncodedImage:
    assert encoded.grid is not None
    pixels = encoded.pixels
    rows, columns = encoded.grid
    patches = torch.from_numpy(gone[~encoded.is_special].reshape(1, rows, columns))
    return replace(encoded, pixels=torch.where(encoded.in_pixels(patches), other(pixels[None])[0], pixels))
