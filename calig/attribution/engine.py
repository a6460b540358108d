"""Layer-wise integrated gradients and attention gradients of a batch of texts or images, to a stated error.

For depth l, with h the hidden state of the input and h' that of the baseline input at that depth,

    LIG[l, i] = Σ_d (h[i, d] − h'[i, d]) · ∫₀¹ ∂f_l(h' + α(h − h')) / ∂h[i, d] dα,

where f_l is the rest of the model. The path's ends belong to the input's own run and the baseline's: one backward pass
through each gives the integrand there at every depth, and the input's also its attention gradients. From there each
(document, depth) climbs by itself until it is within the tolerance; rows of all climbing documents share batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from calig.attribution.climbing import Samples, climb
from calig.attribution.method import Method
from calig.attribution.passes import End, Passes, contribution, numbers, output_of
from calig.attribution.quadrature import Float64
from calig.attribution.schedule import Schedule
from calig.models.classifier import Baseline, Classifier
from calig.models.inputs import Batch, Encoded, Encoder

_GROUP = 2
"""Token budgets that a group of texts fills: later rounds of a climb still fill a batch, and progress shows."""


@dataclass(frozen=True, slots=True, eq=False)
class DepthResult:
    """LIG of one document at one depth: `ig` (T,), its errors, nodes spent, and the samples it was made of.

    `context` (T,) is integrated at the same nodes, where it is taken along the path; else (0,).
    """

    ig: Float64
    context: Float64
    error_estimate: float
    completeness_error: float
    converged: bool
    nodes: int
    samples: Samples | None


@dataclass(frozen=True, slots=True, eq=False)
class TextResult:
    """What the engine found for one text: logits (C,), depths 0..L, and, per block, context (T,) and its norm.

    The norm is that of context itself where it is taken along the path, of the whole map Ā where at the input.
    """

    logits: Float64
    target: int
    output: float
    baseline_output: float
    depths: list[DepthResult]
    context: Float64
    context_norm: Float64
    block_passes: int

    @property
    def finite(self) -> bool:
        """Whether every number is finite."""
        ends = np.array([self.output, self.baseline_output])
        return all(
            np.isfinite(n).all() for n in (self.logits, ends, self.context, *(d.ig for d in self.depths))
        )


class Engine:
    """Runs the method on encoded texts."""

    def __init__(
        self,
        classifier: Classifier,
        encoder: Encoder,
        method: Method,
        baseline: Baseline,
        schedule: Schedule,
        token_budget: int | None = None,
    ) -> None:
        self.classifier = classifier
        self.encoder = encoder
        self.method = method
        self.schedule = schedule
        self.rule = method.quadrature
        self.passes = Passes(classifier, baseline, method.output, method.context == "path", token_budget)

    def with_method(self, method: Method, schedule: Schedule) -> Engine:
        """The same model and baseline under another method and schedule."""
        return Engine(
            self.classifier, self.encoder, method, self.passes.baseline, schedule, self.passes.token_budget
        )

    def pack(self, encoded: Sequence[Encoded], budgets: float = _GROUP) -> Iterator[list[int]]:
        """Group inputs of one shape and similar length, shorter first: longest × count fits so many token budgets.

        The length is the same where answers would depend on it else.
        """
        room = budgets * self.passes.token_budget
        group: list[int] = []
        for index in sorted(range(len(encoded)), key=lambda i: (len(encoded[i]), encoded[i].shape, i)):
            alike = not group or encoded[index].shape == encoded[group[0]].shape
            if group and self.classifier.one_length:
                alike = alike and len(encoded[index]) == len(encoded[group[0]])
            if group and not (alike and len(encoded[index]) * (len(group) + 1) <= room):
                yield group
                group = []
            group.append(index)
        if group:
            yield group

    def explain(self, texts: Sequence[Encoded], choose: Callable[[int, Float64], int]) -> list[TextResult]:
        """Explain one packed group. `choose(i, logits)` gives text i's target.

        A text whose outputs are not finite gets a result whose `finite` is false, and does not disturb the others.
        """
        batch = self.encoder.batch(texts, self.classifier.device)
        clean, targets, norms = self.passes.at_input(batch, choose)
        base = self.passes.at_baseline(batch, targets)
        logits = numbers(clean.logits)
        outputs = numbers(output_of(clean.logits, targets, self.method.output))
        baselines = numbers(output_of(base.logits, targets, self.method.output))
        finite = np.flatnonzero(np.isfinite(logits).all(axis=1) & np.isfinite(baselines)).tolist()
        depths = [
            self._integrate(depth, texts, batch, clean, base, targets, outputs, baselines, finite)
            for depth in range(self.classifier.depth + 1)
        ]
        results = []
        for i, text in enumerate(texts):
            mine = [depth[i] for depth in depths]
            evaluated = [d.samples.evaluated if d.samples else 0 for d in mine]
            passes = sum(n * (self.classifier.depth - depth) for depth, n in enumerate(evaluated))
            if self.passes.context:
                context = np.stack([d.context for d in mine[:-1]])
                norm = np.abs(context).sum(axis=1)
            else:
                context, norm = np.stack([numbers(given[i, : len(text)]) for given in clean.given]), norms[i]
            results.append(
                TextResult(
                    logits=logits[i],
                    target=int(targets[i]),
                    output=float(outputs[i]),
                    baseline_output=float(baselines[i]),
                    depths=mine,
                    context=context,
                    context_norm=norm,
                    block_passes=passes + 2 * self.classifier.depth,
                )
            )
        return results

    def _integrate(
        self,
        depth: int,
        texts: Sequence[Encoded],
        batch: Batch,
        clean: End,
        base: End,
        targets: Tensor,
        outputs: Float64,
        baselines: Float64,
        finite: Sequence[int],
    ) -> list[DepthResult]:
        """Climb, at one depth, every text whose outputs are finite."""
        start, delta = base.states[depth], clean.states[depth] - base.states[depth]
        ends = [contribution(end.gradients[depth], delta) for end in (base, clean)]
        at_base, at_input = (numbers(part) for part in ends)
        given = None
        if self.passes.context and depth < self.classifier.depth:
            given = np.stack([numbers(end.given[depth]) for end in (base, clean)], axis=1)
        lengths = [len(text) for text in texts]
        samples = [
            Samples(
                (at_base[i, : lengths[i]], float(baselines[i])),
                (at_input[i, : lengths[i]], float(outputs[i])),
                None if given is None else given[i, :, : lengths[i]],
            )
            for i in finite
        ]

        def evaluate(rows: list[tuple[int, float]]) -> tuple[list[Float64], Float64, list[Float64]]:
            own = [(finite[i], node) for i, node in rows]
            values, found, context = self.passes.along(depth, batch, start, delta, targets, own, lengths)
            cut = [
                [row[: lengths[i]] for row, (i, _) in zip(part, own, strict=True)]
                for part in (values, context)
            ]
            return cut[0], found, cut[1]

        climbed = climb(
            self.rule,
            self.schedule.starts[depth],
            self.schedule.factors[depth],
            samples,
            evaluate,
            self.method.tolerance,
            fixed=self.method.steps is not None,
        )
        nothing = [np.full(length, np.nan) for length in lengths]
        results = [DepthResult(none, none, np.nan, np.nan, False, 0, None) for none in nothing]
        for i, mine, end in zip(finite, samples, climbed, strict=True):
            ig = end.verdict.integral
            results[i] = DepthResult(
                ig=ig,
                context=end.verdict.weights @ mine.context[mine.rows(end.nodes)],
                error_estimate=end.verdict.estimate,
                completeness_error=abs(float(ig.sum()) - float(outputs[i] - baselines[i])),
                converged=end.converged,
                nodes=mine.evaluated + 2 * self.rule.ends,
                samples=mine,
            )
        return results
