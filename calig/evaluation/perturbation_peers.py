"""Explanations from taking parts of a document away: LIME, KernelSHAP and occlusion, by Captum.

Captum perturbs a vector of presence over *units*, 1 there and 0 taken away: words of a text, patches of an image. Where
there are more of them than half of `subject.samples`, neighbours (in reading order) are pooled, so that there are that
many groups. A group's score is shared out evenly over its units, and a unit's over its tokens; special tokens get 0.

A text's absent token gets the embedding of the mask token (where the tokenizer has none, of the pad token) in its
place: positions, mask and the row that the head pools from stay as they are. An absent patch gets the image baseline
of the method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from calig.attribution.passes import numbers
from calig.attribution.quadrature import Float64
from calig.evaluation.gradient_peers import rows_that_fit, seeded
from calig.evaluation.subject import Case, Subject
from calig.models.classifier import Baseline
from calig.models.images import EncodedImage
from calig.models.inputs import Batch
from calig.models.text import embedded_ids, padding_id
from calig.records import Int

KERNEL_WIDTH = 0.25
"""LIME's, on a cosine distance of 0..1: the default of its authors' package for texts (25 of 100)."""
RIDGE = 1.0
"""The penalty of LIME's linear model: the default of its authors' package."""


def lime(subject: Subject, cases: Sequence[Case]) -> list[Float64]:
    """LIME (Ribeiro et al., 2016): coefficients of a ridge regression of the output on presence, near documents first.

    `subject.samples` perturbations, each unit absent with probability ½, weighted by exp(−distance² / 2·width²).
    """
    from captum._utils.models.linear_model import SkLearnRidge
    from captum.attr import Lime
    from captum.attr._core.lime import get_exp_kernel_similarity_function

    def explain(game: Game) -> Tensor:
        kernel = get_exp_kernel_similarity_function("cosine", KERNEL_WIDTH)
        model = Lime(game.outputs, SkLearnRidge(alpha=RIDGE), kernel)
        return _sampled(model, game)

    return [_explained(subject, case, "lime", explain) for case in cases]


def kernel_shap(subject: Subject, cases: Sequence[Case]) -> list[Float64]:
    """KernelSHAP (Lundberg and Lee, 2017): Shapley values by a regression over `subject.samples` coalitions.

    The whole document and the empty one are among them, with a weight that makes scores sum to their difference.
    """
    from captum.attr import KernelShap

    def explain(game: Game) -> Tensor:
        if game.groups == 1:  # nothing to draw
            return _difference(game)
        return _sampled(KernelShap(game.outputs), game)

    return [_explained(subject, case, "kernel-shap", explain) for case in cases]


def occlusion(subject: Subject, cases: Sequence[Case]) -> list[Float64]:
    """Occlusion (Zeiler and Fergus, 2014), or leave-one-out: what the output loses where one unit is absent."""
    from captum.attr import Occlusion

    def explain(game: Game) -> Tensor:
        found: Tensor = Occlusion(game.outputs).attribute(
            game.whole, (1,), baselines=0.0, perturbations_per_eval=game.rows
        )
        return found

    return [_explained(subject, case, "occlusion", explain) for case in cases]


@dataclass(frozen=True, slots=True, eq=False)
class Game:
    """One document as a function of which of its groups of units are present.

    Attributes
    ----------
    subject, case
        The model, and the document with what is explained of it.
    group
        (T,) the group of each token, −1 for special tokens.
    share
        (T,) the part of its group's score that a token gets.
    """

    subject: Subject
    case: Case
    group: Int
    share: Float64

    @classmethod
    def of(cls, subject: Subject, case: Case) -> Game:
        """Pool the units of a document into as many groups as `subject.samples` allow."""
        units, content = case.units, case.content
        count = int(units.max()) + 1
        groups = min(count, max(1, subject.samples // 2))
        group = np.where(content, units.astype(np.int64) * groups // count, -1).astype(np.int32)
        tokens = np.bincount(units[content], minlength=count)
        members = np.bincount(np.arange(count) * groups // count, minlength=groups)
        share = np.where(content, 1.0 / (tokens[units] * members[group]), 0.0)
        return cls(subject, case, group, share)

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return int(self.group.max()) + 1

    @property
    def rows(self) -> int:
        """How many perturbed documents share a batch."""
        return rows_that_fit(self.subject, self.case)

    @property
    def whole(self) -> Tensor:
        """(1, groups) presence of everything."""
        return torch.ones(1, self.groups, device=self.subject.classifier.device)

    def outputs(self, presence: Tensor) -> Tensor:
        """(rows,) the explained output for presence (rows, groups) of 0 and 1."""
        subject, device = self.subject, presence.device
        batch = subject.batch([self.case.encoded])
        same = torch.zeros(len(presence), dtype=torch.long, device=device)
        group = torch.from_numpy(self.group).to(device).long()
        absent = (group >= 0) & (presence[:, group.clamp_min(0)] < 0.5)
        with torch.no_grad():
            logits = _without(subject, self.case, batch.rows(same, absent.shape[1]), absent)
            return subject.explained(logits, subject.targets([self.case] * len(presence)))


def _without(subject: Subject, case: Case, batch: Batch, absent: Tensor) -> Tensor:
    """Logits (rows, C) of copies of a document whose `absent` tokens (rows, T) are taken away."""
    classifier, stand_in = subject.classifier, _stand_in(subject)
    if isinstance(stand_in, Tensor):
        return classifier.run(replace(batch, content=absent), stand_in).logits
    patches, grid = case.encoded.patches, case.encoded.grid
    assert isinstance(case.encoded, EncodedImage)
    assert patches is not None
    assert grid is not None
    places = torch.from_numpy(patches[case.content]).to(absent.device).long()
    where = torch.zeros(len(absent), *grid, dtype=torch.bool, device=absent.device)
    where[:, places[:, 0], places[:, 1]] = absent[:, torch.from_numpy(case.content).to(absent.device)]
    pixels = batch.inputs["pixel_values"]
    mixed = torch.where(case.encoded.in_pixels(where)[:, None], stand_in(pixels), pixels)
    return classifier.answer(batch.with_pixels(mixed))


def _stand_in(subject: Subject) -> Baseline:
    """What stands for an absent unit."""
    if subject.classifier.modality == "image":
        return subject.explainer.engine.passes.baseline
    tokenizer, model = subject.explainer.pretrained.tokenizer, subject.classifier.model
    assert tokenizer is not None
    known = (tokenizer.mask_token_id, tokenizer.pad_token_id, padding_id(model))
    embedded = (i for i in known if i is not None and i < embedded_ids(model))
    return subject.classifier.word_embedding(next(embedded, None))


def _sampled(method: object, game: Game) -> Tensor:
    attribute: Callable[..., Tensor] = getattr(method, "attribute")  # noqa: B009 - Captum is untyped
    return attribute(
        game.whole, baselines=0.0, n_samples=game.subject.samples, perturbations_per_eval=game.rows
    )


def _difference(game: Game) -> Tensor:
    """What the whole document has over the empty one."""
    both = game.outputs(torch.cat([game.whole, torch.zeros_like(game.whole)]))
    return (both[:1] - both[1:])[:, None]


def _explained(subject: Subject, case: Case, purpose: str, explain: Callable[[Game], Tensor]) -> Float64:
    """(T,) the scores of a document's groups, shared out over its tokens."""
    game = Game.of(subject, case)
    with seeded(subject, case, purpose):
        scores = numbers(explain(game).detach())[0]
    return np.where(game.group >= 0, scores[game.group] * game.share, 0.0)
