"""The model under evaluation, its documents, and what looking at them costs.

Every method explains the same `Case`s: one document with the class (or output) that is explained, chosen once. A
method gives one signed number per token; what it costs is counted in passes of the whole model, by hooks on its blocks,
so that a run of its upper half alone counts half.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from calig.attribution.explainer import Explainer
from calig.attribution.heads import Target, choose, unlabelled
from calig.attribution.passes import numbers, output_of
from calig.attribution.quadrature import Float64
from calig.faults import apart, failure_of
from calig.models.classifier import Classifier
from calig.models.inputs import Batch, Encoded, Encoder
from calig.models.settings import own_settings
from calig.records import Bool, Document, Failure, Head, Int


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One document under evaluation, and what is explained of it.

    Attributes
    ----------
    document
        The document.
    encoded
        Its T tokens.
    target
        Index of the explained class or output.
    logits
        (C,) the model's logits.
    rationale
        (W,) which of its words people marked as the reason, where somebody did; words as in `units`.
    """

    document: Document
    encoded: Encoded
    target: int
    logits: Float64
    rationale: Bool | None = None

    @property
    def content(self) -> Bool:
        """(T,) true for tokens of the document itself: what is ranked, and removed."""
        return ~self.encoded.is_special

    @property
    def units(self) -> Int:
        """(T,) the unit each token belongs to, −1 for special tokens: words 0..W−1 of a text, patches of an image.

        A token of a text in no word, such as a line break, is a unit of its own, after the words.
        """
        ids = np.where(self.content, self.encoded.word_ids, -1)
        apart = self.content & (ids < 0)
        ids[apart] = ids.max(initial=-1) + 1 + np.arange(apart.sum())
        if self.encoded.patches is not None:
            ids = np.where(self.content, np.arange(len(ids)), -1)
        found = np.unique(ids[self.content])
        return np.where(self.content, np.searchsorted(found, ids), -1).astype(np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A method's answer on one case: signed `scores` (T,), and what they cost.

    `passes` are forward and backward passes of the whole model over this document, each counting one.
    """

    scores: Float64
    passes: float
    seconds: float


@dataclass(slots=True)
class Cost:
    """Passes (whole-model forwards and backwards, over one document each) and seconds spent in a block of code."""

    passes: float = 0.0
    seconds: float = 0.0


@dataclass(slots=True, eq=False)
class Subject:
    """A model under evaluation.

    Parameters
    ----------
    explainer
        Its explainer, with the method that is evaluated.
    samples
        Model evaluations that a sampling method (LIME, KernelSHAP) may spend on a document.
    seed
        Of everything random: the same document gets the same draws, whatever it is evaluated with.
    """

    explainer: Explainer
    samples: int = 256
    seed: int = 0

    @property
    def classifier(self) -> Classifier:
        """The model as embeddings, blocks, head."""
        return self.explainer.engine.classifier

    @property
    def encoder(self) -> Encoder:
        """What turns documents into tokens."""
        return self.explainer.engine.encoder

    @property
    def head(self) -> Head:
        """What its logits mean."""
        return self.explainer.head

    @own_settings()
    def cases(
        self, documents: Sequence[Document], targets: Sequence[Target] | None = None
    ) -> list[Case | Failure]:
        """Encode documents and choose what is explained of each: the method's target, unless `targets` are given."""
        wanted = targets or [self.explainer.method.target] * len(documents)
        encoded = [
            item if isinstance(item, Failure) else unlabelled(wanted[i], documents[i]) or item
            for i, item in enumerate(self.encoder.read(documents))
        ]
        good = [(i, item) for i, item in enumerate(encoded) if not isinstance(item, Failure)]

        def logits(some: Sequence[tuple[int, Encoded]]) -> Sequence[Float64 | Failure]:
            return list(self.logits([item for _, item in some]))

        def failed(one: tuple[int, Encoded], error: BaseException) -> Failure:
            return failure_of(documents[one[0]].key, error, "not-explained", "running the model on it")

        answers = {i: answer for (i, _), answer in zip(good, apart(good, logits, failed), strict=True)}
        found: list[Case | Failure] = []
        for i, (document, item) in enumerate(zip(documents, encoded, strict=True)):
            if isinstance(item, Failure):
                found.append(item)
                continue
            answer = answers[i]
            if isinstance(answer, Failure):
                found.append(answer)
            elif not np.isfinite(answer).all():
                found.append(Failure(document.key, "non-finite", "the model's output is NaN or infinite"))
            else:
                target = choose(wanted[i], document, answer, self.head, self.explainer.classes)
                found.append(Case(document, item, target, answer))
        return found

    def groups(self, encoded: Sequence[Encoded], copies: int = 1) -> Iterator[list[int]]:
        """Indices of inputs that share a batch: of one shape, longest × count × copies within the token budget."""
        return self.explainer.engine.pack(encoded, 1 / copies)

    def batch(self, encoded: Sequence[Encoded]) -> Batch:
        """Put encoded inputs of one shape into a batch, on the model's device."""
        return self.encoder.batch(encoded, self.classifier.device)

    @own_settings()
    def logits(self, encoded: Sequence[Encoded]) -> Float64:
        """(n, C) the model's logits on encoded inputs, in order, run in batches that fit."""
        found: dict[int, Float64] = {}
        for group in self.groups(encoded):
            with torch.no_grad():
                rows = numbers(self.classifier.answer(self.batch([encoded[i] for i in group])))
            found.update(zip(group, rows, strict=True))
        return np.array([found[i] for i in range(len(encoded))])

    def explained(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(B,) the explained output, as the method has it: the target's logit, or its margin."""
        return output_of(logits, targets, self.explainer.method.output)

    def targets(self, cases: Sequence[Case]) -> Tensor:
        """(B,) the cases' targets, on the model's device."""
        return torch.tensor([case.target for case in cases], device=self.classifier.device)

    def generator(self, case: Case, purpose: str) -> np.random.Generator:
        """Random numbers that depend on the seed, the document and the purpose alone."""
        content = int.from_bytes(f"{purpose}/{case.document.key}".encode(), "big")
        return np.random.default_rng([self.seed, content])

    @contextmanager
    def counted(self) -> Iterator[Cost]:
        """Count what is spent within the `with` block."""
        cost = Cost()
        depth = self.classifier.depth
        start = time.perf_counter()

        def backward(gradient: Tensor) -> None:
            cost.passes += len(gradient) / depth

        def forward(_module: nn.Module, _args: Any, output: Any) -> None:
            state = output[0] if isinstance(output, tuple) else output
            cost.passes += len(state) / depth
            if state.requires_grad:
                state.register_hook(backward)

        hooks = [module.register_forward_hook(forward) for module in dict.fromkeys(self.classifier.blocks)]
        try:
            yield cost
        finally:
            for hook in hooks:
                hook.remove()
            cost.seconds = time.perf_counter() - start

    def measured(
        self, cases: Sequence[Case], method: Callable[[Sequence[Case]], Sequence[Float64]]
    ) -> list[Scored]:
        """Run a method over cases and share its cost out, by tokens."""
        with self.counted() as cost:
            scores = method(cases)
        shares = np.array([len(case.encoded) for case in cases], dtype=np.float64)
        shares /= shares.sum()
        return [
            Scored(np.asarray(own, dtype=np.float64), cost.passes / len(cases), float(cost.seconds * share))
            for own, share in zip(scores, shares, strict=True)
        ]
