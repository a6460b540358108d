"""Layer-wise integrated gradients and attention gradients of a batch of texts, to a stated error.

For depth l, with h the hidden state of the input and h' that of the baseline input at that depth,

    LIG[l, i] = Σ_d (h[i, d] − h'[i, d]) · ∫₀¹ ∂f_l(h' + α(h − h')) / ∂h[i, d] dα,

where f_l is the rest of the model. The path's ends belong to the input's own run and the baseline's: one backward pass
through each gives the integrand there at every depth, and the input's also its attention gradients. From there each
(document, depth) climbs by itself until it is within the tolerance; rows of all climbing documents share batches.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calig.attribution.method import Method
from calig.attribution.quadrature import Float64, Samples, climb, rule
from calig.attribution.schedule import Schedule
from calig.models.classifier import Classifier, Pass
from calig.models.text import Batch, EncodedText, TextEncoder

log = logging.getLogger(__name__)

TOKEN_BUDGET = {"cpu": 2048, "cuda": 131_072}
"""Tokens in flight at once, rows × length, by device type, unless the user says otherwise."""

_ATTENTION_BUDGET = 2**24
"""Attention probabilities held at once, over texts, blocks and heads."""

_DEGENERATE = 1e-3
"""A baseline state this small, relative to the input's, has no direction that a normalisation would keep."""


@dataclass(frozen=True, slots=True, eq=False)
class DepthResult:
    """LIG of one document at one depth: `ig` (T,), its errors, nodes spent, and the samples it was made of."""

    ig: Float64
    error_estimate: float
    completeness_error: float
    converged: bool
    nodes: int
    samples: Samples | None


@dataclass(frozen=True, slots=True, eq=False)
class TextResult:
    """What the engine found for one text: logits (C,), depths 0..L, and, per block, context (T,) and its norm."""

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


def output_of(logits: Tensor, targets: Tensor, output: str) -> Tensor:
    """The explained output (B,): the target's logit, or its margin over the strongest other class."""
    chosen = logits.gather(1, targets[:, None])[:, 0]
    if output == "logit":
        return chosen
    others = logits.scatter(1, targets[:, None], float("-inf"))
    return chosen - others.max(dim=1).values


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    """One end of the paths of B texts: its states and the output's gradients there, per depth (B, T, D), and logits."""

    states: list[Tensor]
    gradients: list[Tensor]
    logits: Tensor


class Engine:
    """Runs the method on encoded texts. Out of memory halves the token budget and goes on."""

    def __init__(
        self,
        classifier: Classifier,
        encoder: TextEncoder,
        method: Method,
        baseline: Tensor,
        schedule: Schedule,
        token_budget: int | None = None,
    ) -> None:
        self.classifier = classifier
        self.encoder = encoder
        self.method = method
        self.baseline = baseline
        self.schedule = schedule
        self.rule = rule(method.rule, method.max_nodes, method.steps)
        self.token_budget = token_budget or TOKEN_BUDGET.get(classifier.device.type, TOKEN_BUDGET["cuda"])
        self._attention_budget = _ATTENTION_BUDGET
        self._warned = False

    def pack(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Group texts of similar length so that longest × count stays within a quarter of the token budget.

        A text brings six nodes or more to every batch, so groups this small still fill it, and progress shows.
        """
        room = self.token_budget // 4
        group: list[int] = []
        for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
            if group and lengths[index] * (len(group) + 1) > room:
                yield group
                group = []
            group.append(index)
        if group:
            yield group

    def explain(
        self, texts: Sequence[EncodedText], choose: Callable[[int, Float64], int]
    ) -> list[TextResult]:
        """Explain one packed group. `choose(i, logits)` gives text i's target.

        A text whose outputs are not finite gets a result whose `finite` is false, and does not disturb the others.
        """
        batch = self.encoder.batch(texts, self.classifier.device)
        try:
            clean, targets, context, norms = self._at_input(batch, choose)
            base = self._at_baseline(batch, targets)
        except RuntimeError as error:
            _only_out_of_memory(error, len(texts))
            self._shrink_to(batch.mask.numel() // 2)
            half = len(texts) // 2
        else:
            return self._explain(texts, batch, clean, base, targets, context, norms)
        return self.explain(texts[:half], choose) + self.explain(
            texts[half:], lambda i, row: choose(i + half, row)
        )

    def _explain(
        self,
        texts: Sequence[EncodedText],
        batch: Batch,
        clean: _End,
        base: _End,
        targets: Tensor,
        context: Float64,
        norms: Float64,
    ) -> list[TextResult]:
        logits = clean.logits.cpu().numpy()
        finite = np.isfinite(logits).all(axis=1)
        outputs = output_of(clean.logits, targets, self.method.output).cpu().numpy()
        baselines = output_of(base.logits, targets, self.method.output).cpu().numpy()
        self._warn_of_degenerate(batch, clean.states[0], base.states[0])
        depths = [
            self._integrate(depth, texts, batch, clean, base, targets, outputs, baselines, finite)
            for depth in range(self.classifier.depth + 1)
        ]
        results = []
        for i, text in enumerate(texts):
            mine = [depth[i] for depth in depths]
            evaluated = [d.samples.evaluated if d.samples else 0 for d in mine]
            passes = sum(n * (self.classifier.depth - depth) for depth, n in enumerate(evaluated))
            results.append(
                TextResult(
                    logits=logits[i],
                    target=int(targets[i]),
                    output=float(outputs[i]),
                    baseline_output=float(baselines[i]),
                    depths=mine,
                    context=context[i, :, : len(text)],
                    context_norm=norms[i],
                    block_passes=passes + 2 * self.classifier.depth,
                )
            )
        return results

    def _at_input(
        self, batch: Batch, choose: Callable[[int, Float64], int]
    ) -> tuple[_End, Tensor, Float64, Float64]:
        """Run the input: its end of the paths, targets (B,), and attention gradients, ctx (B, L, T) and ‖Ā‖₁ (B, L)."""
        texts, length = batch.mask.shape
        size = self.classifier.heads * length * length * self.classifier.depth
        ends: list[_End] = []
        targets: list[Tensor] = []
        context = np.empty((texts, self.classifier.depth, length))
        norms = np.empty((texts, self.classifier.depth))
        done, at_once = 0, max(1, self._attention_budget // size)
        while done < texts:
            index = torch.arange(done, min(done + at_once, texts), device=self.classifier.device)
            try:
                found = self.classifier.run(batch.rows(index), attention=True)
                rows = found.logits.detach().double().cpu().numpy()
                chosen = [
                    choose(done + i, row) if np.isfinite(row).all() else 0 for i, row in enumerate(rows)
                ]
                aims = torch.tensor(chosen, device=self.classifier.device)
                end, gradients = self._end(found, aims, found.probabilities)
                for block, (a, g) in enumerate(zip(found.probabilities, gradients, strict=True)):
                    wide = torch.promote_types(torch.float32, a.dtype)
                    relevance = (a.detach().to(wide) * g.to(wide)).mean(dim=1)
                    context[done : done + len(index), block] = relevance.sum(dim=1).double().cpu().numpy()
                    norms[done : done + len(index), block] = (
                        relevance.abs().sum(dim=(1, 2)).double().cpu().numpy()
                    )
            except RuntimeError as error:
                _only_out_of_memory(error, len(index))
                at_once = len(index) // 2
                self._attention_budget = at_once * size
                log.warning("out of memory: going on with attention gradients of %d texts at once", at_once)
                continue
            ends.append(end)
            targets.append(aims)
            done += len(index)
        per_depth = zip(*(end.states for end in ends), strict=True)
        gradients_per_depth = zip(*(end.gradients for end in ends), strict=True)
        whole = _End(
            [torch.cat(parts) for parts in per_depth],
            [torch.cat(parts) for parts in gradients_per_depth],
            torch.cat([end.logits for end in ends]),
        )
        return whole, torch.cat(targets), context, norms

    def _at_baseline(self, batch: Batch, targets: Tensor) -> _End:
        return self._end(self.classifier.run(batch, self.baseline), targets, [])[0]

    def _end(self, found: Pass, targets: Tensor, others: Sequence[Tensor]) -> tuple[_End, Sequence[Tensor]]:
        """Gradients of the output at every state, and at other tensors of the pass."""
        total = output_of(found.logits, targets, self.method.output).sum()
        gradients = torch.autograd.grad(total, [*found.states, *others])
        depths = len(found.states)
        states = [state.detach() for state in found.states]
        end = _End(states, list(gradients[:depths]), found.logits.detach().double())
        return end, gradients[depths:]

    def _warn_of_degenerate(self, batch: Batch, clean: Tensor, base: Tensor) -> None:
        """Warn, once, of a baseline whose states vanish: the whole path then normalises to one state."""
        content = batch.content
        small = base[content].norm(dim=-1) <= _DEGENERATE * clean[content].norm(dim=-1)
        if not self._warned and bool(small.any()):
            self._warned = True
            log.warning(
                "method.baseline: %s leaves hidden states of (nearly) zero, whose scale this model's normalisation "
                "cancels, so that all of the integral lies at the path's first steps; use mask or token:<text>",
                self.method.baseline,
            )

    def _integrate(
        self,
        depth: int,
        texts: Sequence[EncodedText],
        batch: Batch,
        clean: _End,
        base: _End,
        targets: Tensor,
        outputs: Float64,
        baselines: Float64,
        finite: np.ndarray,
    ) -> list[DepthResult]:
        """Climb every text at one depth."""
        start, delta = base.states[depth], clean.states[depth] - base.states[depth]
        ends = [_contribution(end.gradients[depth], delta) for end in (base, clean)]
        at_base, at_input = (part.double().cpu().numpy() for part in ends)
        usable = [i for i in range(len(texts)) if finite[i] and np.isfinite(baselines[i])]
        samples = [
            Samples(
                (at_base[i, : len(texts[i])], float(baselines[i])),
                (at_input[i, : len(texts[i])], float(outputs[i])),
            )
            for i in usable
        ]

        def evaluate(rows: list[tuple[int, float]]) -> tuple[list[Float64], Float64]:
            own = [(usable[i], node) for i, node in rows]
            values, found = self._contributions(depth, batch, start, delta, targets, own)
            return [row[: len(texts[i])] for row, (i, _) in zip(values, own, strict=True)], found

        climbed = climb(
            self.rule,
            self.schedule.starts[depth],
            self.schedule.factors[depth],
            samples,
            evaluate,
            self.method.tolerance,
            fixed=self.method.steps is not None,
        )
        results = [DepthResult(np.full(len(text), np.nan), np.nan, np.nan, False, 0, None) for text in texts]
        for i, mine, end in zip(usable, samples, climbed, strict=True):
            ig = end.verdict.integral
            results[i] = DepthResult(
                ig=ig,
                error_estimate=end.verdict.estimate,
                completeness_error=abs(float(ig.sum()) - float(outputs[i] - baselines[i])),
                converged=end.converged,
                nodes=mine.evaluated + 2 * self.rule.ends,
                samples=mine,
            )
        return results

    def _contributions(
        self,
        depth: int,
        batch: Batch,
        start: Tensor,
        delta: Tensor,
        targets: Tensor,
        rows: Sequence[tuple[int, float]],
    ) -> tuple[Float64, Float64]:
        """Σ_d (h − h')·∂f/∂h at every (text, node) row: (rows, T), summed in float32 or better; and f, (rows,)."""
        parts, outputs = [], []
        wide = torch.promote_types(torch.float32, start.dtype)
        done = 0
        while done < len(rows):
            chunk = rows[done : done + max(1, self.token_budget // start.shape[1])]
            index = torch.tensor([i for i, _ in chunk], device=start.device)
            alphas = torch.tensor([a for _, a in chunk], device=start.device, dtype=wide)
            try:
                moved = delta[index]
                state = torch.addcmul(start[index].to(wide), alphas[:, None, None], moved.to(wide))
                state = state.to(start.dtype).requires_grad_()
                logits = self.classifier.run_from(depth, state, batch.rows(index))
                output = output_of(logits, targets[index], self.method.output)
                (gradient,) = torch.autograd.grad(output.sum(), state)
                part = _contribution(gradient, moved)
            except RuntimeError as error:
                _only_out_of_memory(error, len(chunk))
                self._shrink_to(len(chunk) * start.shape[1] // 2)
                continue
            parts.append(part)
            outputs.append(output.detach())
            done += len(chunk)
        return torch.cat(parts).double().cpu().numpy(), torch.cat(outputs).double().cpu().numpy()

    def _shrink_to(self, tokens: int) -> None:
        self.token_budget = tokens
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        log.warning("out of memory: going on with a token budget of %d", tokens)


def _contribution(gradient: Tensor, moved: Tensor) -> Tensor:
    """Σ_d gradient · moved: (B, T, D) to (B, T), in float32 or better."""
    wide = torch.promote_types(torch.float32, gradient.dtype)
    return (gradient.to(wide) * moved.to(wide)).sum(dim=-1)


def give_back_memory() -> None:
    """Return what batches of many shapes left in pieces to the system; glibc keeps it, and grows, else."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _only_out_of_memory(error: RuntimeError, rows: int) -> None:
    """Re-raise what is not a lack of memory, or happened with a single row: less cannot be asked for."""
    if rows == 1 or not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
        raise error
