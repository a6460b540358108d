"""The library's front door: `Explainer` turns texts, pairs of texts, and images into `Attribution`s."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from calig.attribution.baselines import settle
from calig.attribution.engine import DepthResult, Engine, TextResult
from calig.attribution.fusion import agreement, column
from calig.attribution.heads import (
    Target,
    choose,
    class_index,
    fit,
    pilot_target,
    targets_of,
    unlabelled,
)
from calig.attribution.method import ENGINE_VERSION, Method
from calig.attribution.passes import give_back_memory
from calig.attribution.quadrature import Float64
from calig.attribution.schedule import PILOT_EXACTNESS, Schedule, learn
from calig.errors import DocumentError, InputError
from calig.faults import apart, failure_of
from calig.models.classifier import Classifier
from calig.models.families import how_to_declare
from calig.models.images import ImageEncoder
from calig.models.inputs import Encoded, Encoder
from calig.models.loading import Pretrained, load_pretrained
from calig.models.refusing import in_one_line
from calig.models.settings import own_settings
from calig.models.text import TextEncoder
from calig.records import NO_LABEL, Attribution, Document, Failure, Modality, document_key

log = logging.getLogger(__name__)

Found: TypeAlias = tuple[int, Attribution | Failure, list[DepthResult]]
"""A document's place, its result, and what the engine found at each depth: nothing where it failed."""


class Explainer:
    """Explains a classifier's decisions, layer by layer.

    Parameters
    ----------
    pretrained
        A loaded model with its tokenizer or image processor, and its classes.
    method
        The method's choices.
    schedule
        A pilot's step schedule; None: every document climbs from where any may begin.
    token_budget
        Tokens in flight at once (rows × length); None: by device.

    Attributes
    ----------
    method
        The method as it is computed: its baseline is another token's where the padding token's row is zero and the
        model's norms would scale that up without bound.
    notes
        Lines on such a choice, to be told once.

    Raises
    ------
    InputError
        The baseline, output or target asked for does not exist in this model, the baseline asked for cannot be
        integrated from, or the model's family is not supported.
    """

    @own_settings()
    def __init__(
        self,
        pretrained: Pretrained,
        method: Method = Method(),  # noqa: B008 - frozen
        schedule: Schedule | None = None,
        token_budget: int | None = None,
    ) -> None:
        self.pretrained = pretrained
        self.classes = pretrained.classes
        self.head = pretrained.head
        asked = fit(method, self.head, self.classes, pretrained.modality)
        kind = type(pretrained.model).__name__
        advice = f"check its config.json, or {how_to_declare(str(pretrained.model.config.model_type))}"
        with in_one_line(f"model.id: {kind} cannot be read as embeddings, blocks and a head", advice):
            classifier = Classifier(pretrained.model, self.head)
            encoder = _encoder(pretrained, classifier, asked)
            name, baseline = settle(asked.baseline, pretrained, classifier, encoder)
            self.method = method = replace(asked, baseline=name)
            self.engine = Engine(
                classifier,
                encoder,
                method,
                baseline,
                schedule or Schedule.default(method.quadrature, classifier.depth),
                token_budget,
            )
        self.notes: tuple[str, ...] = () if name == asked.baseline else (_stands_in(asked.baseline, name),)

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str | Path,
        *,
        revision: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        baseline: str = "pad",
        output: str = "logit",
        context: str = "path",
        tolerance: float = 1e-2,
        fusion: str = "agreement",
        weight: float = 0.5,
        max_nodes: int = 486,
        max_length: int | None = None,
        image_size: int | None = None,
        rule: str = "auto",
        steps: int | None = None,
        target: str | int = "predicted",
        token_budget: int | None = None,
        head: str | None = None,
    ) -> Explainer:
        """Load a classifier and explain with it; parameters as in `Method` and `load_pretrained`.

        Raises
        ------
        InputError
            The model cannot be used; the message says why and what to do. Weights in its files that its class does not
            read are named in a warning of the logger `calig`.
        """
        method = Method(
            baseline=baseline,
            output=output,
            context=context,
            tolerance=tolerance,
            fusion=fusion,
            weight=weight,
            max_nodes=max_nodes,
            max_length=max_length,
            image_size=image_size,
            rule=rule,
            steps=steps,
            target=target,
        )
        model_id = str(path_or_hub_id)
        pretrained = load_pretrained(model_id, revision=revision, device=device, dtype=dtype, head=head)
        explainer = cls(pretrained, method, token_budget=token_budget)
        for note in (*pretrained.notes, *explainer.notes):
            log.warning("%s", note)
        return explainer

    @property
    def depth(self) -> int:
        """L, the number of blocks."""
        return self.engine.classifier.depth

    @property
    def modality(self) -> Modality:
        """What the model reads."""
        return self.pretrained.modality

    @property
    def schedule(self) -> Schedule:
        """The step schedule in use."""
        return self.engine.schedule

    @own_settings()
    def explain(
        self,
        inputs: Sequence[str | tuple[str, str] | Image.Image | Tensor],
        target: Target | Sequence[Target] | None = None,
    ) -> list[Attribution]:
        """Explain texts or images; one attribution for each, in order.

        Parameters
        ----------
        inputs
            Texts; for a model of pairs, tuples of two; for a model of images, PIL images or (C, H, W) tensors: of
            bytes, which pass the model's image processor, or of floats, taken as the pixel values it would give.
        target
            `predicted`, `runner-up`, a class index or name, or one such per input, in a list, array or tensor; indices
            may be integers of NumPy or torch. None: the method's target.
            Of a regression: `predicted` where it has one output, else an output's index or name.

        Raises
        ------
        DocumentError
            A text has no tokens, an image not the shape that the model takes, or the output on one is not finite.
        InputError
            A target is not a class of the model, or an item is not what the model reads.
        """
        noun = self.modality
        if isinstance(inputs, (str, Image.Image)) or (isinstance(inputs, Tensor) and inputs.ndim == 3):
            one = "string" if isinstance(inputs, str) else "image"
            raise InputError(f"explain() takes a list of {noun}s, not one {one}: explain([{noun}])")
        targets = None if target is None else targets_of(target, len(inputs), noun)
        make = _text if noun == "text" else _image
        documents = [make(index, item) for index, item in enumerate(inputs)]
        results = self.attribute(documents, targets)
        for index, result in enumerate(results):
            if isinstance(result, Failure):
                if result.reason == NO_LABEL:  # nothing that explain() is given has one
                    raise InputError(
                        "method.target: label needs a label for every document; set corpus.label"
                    )
                raise DocumentError(result.reason, f"{noun} {index}: {result.detail}")
        return [result for result in results if isinstance(result, Attribution)]

    @own_settings()
    def attribute(
        self,
        documents: Sequence[Document],
        targets: Sequence[Target] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Attribution | Failure]:
        """Explain documents; one that cannot be explained becomes a `Failure`, the others go on.

        Parameters
        ----------
        documents
            The documents.
        targets
            One target per document; None: the method's.
        progress
            Called with the number of documents just done.
        """
        wanted = None if targets is None else targets_of(targets, len(documents), "document")
        found = {i: item for i, item, _ in self._run(self.engine, documents, wanted, progress)}
        return [found[i] for i in range(len(documents))]

    @own_settings()
    def pilot(self, documents: Sequence[Document], progress: Callable[[int], None] | None = None) -> Schedule:
        """Learn a step schedule from documents that are integrated more exactly; `progress` as in `attribute`.

        The schedule serves every class: which one is explained of a document is `pilot_target`'s choice, whatever the
        method's target. With fixed steps there is nothing to learn but the time that they take.
        """
        engine = self.engine
        fixed = self.method.steps is not None
        finely = engine
        if not fixed:
            exact = replace(self.method, rule="auto", tolerance=self.method.tolerance / PILOT_EXACTNESS)
            finely = engine.with_method(exact, Schedule.for_pilot(self.depth))
        targets = [pilot_target(document, self.head, self.classes) for document in documents]
        start = time.perf_counter()
        results = sorted(self._run(finely, documents, targets, progress), key=lambda result: result[0])
        seconds = (time.perf_counter() - start) / max(1, len(documents))
        explained = [depths for _, item, depths in results if isinstance(item, Attribution)]
        samples = [[d.samples for d in depth if d.samples] for depth in zip(*explained, strict=True)]
        if fixed or not samples:
            return replace(self.schedule, seconds_per_document=seconds)
        return learn(engine.rule, samples, self.method.tolerance, seconds)

    def class_index(self, target: Target) -> int | None:
        """Index of a class given by index or name; None for `predicted`, `runner-up` and `label`."""
        return class_index(target, self.head, self.classes)

    def _run(
        self,
        engine: Engine,
        documents: Sequence[Document],
        targets: Sequence[Target] | None,
        progress: Callable[[int], None] | None,
    ) -> Iterator[Found]:
        """What is found of each document; as they are done, not in order."""
        for target in set(targets or ()):
            self.class_index(target)
        for first in range(0, len(documents), engine.encoder.window):
            window = documents[first : first + engine.encoder.window]
            wanted = targets[first : first + len(window)] if targets else [self.method.target] * len(window)
            for i, item, depths in self._run_window(engine, window, wanted, progress):
                yield first + i, item, depths

    def _run_window(
        self,
        engine: Engine,
        documents: Sequence[Document],
        targets: Sequence[Target],
        progress: Callable[[int], None] | None,
    ) -> Iterator[Found]:
        encoded: dict[int, Encoded] = {}
        failures = 0
        for i, found in enumerate(engine.encoder.read(documents)):
            item = found if isinstance(found, Failure) else unlabelled(targets[i], documents[i]) or found
            if isinstance(item, Failure):
                failures += 1
                yield i, item, []
            else:
                encoded[i] = item
        if progress and failures:
            progress(failures)

        def explained(members: Sequence[int]) -> list[Found]:
            def chosen(row: int, logits: Float64) -> int:
                i = members[row]
                return choose(targets[i], documents[i], logits, self.head, self.classes)

            start = time.perf_counter()
            results = engine.explain([encoded[i] for i in members], chosen)
            spent = (time.perf_counter() - start) / max(1, sum(r.block_passes for r in results))
            return [
                (
                    i,
                    self._finish(documents[i], encoded[i], targets[i], result, spent * result.block_passes),
                    result.depths,
                )
                for i, result in zip(members, results, strict=True)
            ]

        def failed(i: int, error: BaseException) -> Found:
            failure = failure_of(documents[i].key, error, "not-explained", "explaining it")
            return i, replace(failure, target=self._named(targets[i], documents[i])), []

        todo = list(encoded)
        for group in engine.pack(list(encoded.values())):
            members = [todo[g] for g in group]
            yield from apart(members, explained, failed)
            give_back_memory()
            if progress:
                progress(len(members))

    def _named(self, target: Target, document: Document) -> int | None:
        """The class that a target names without the model's answer; None where that decides."""
        return document.label if target == "label" else self.class_index(target)

    def _rival(self, result: TextResult) -> int | None:
        """The strongest class beside the target at the input, where the margin over it is explained."""
        if self.method.output != "margin":
            return None
        others = result.logits.copy()
        others[result.target] = -np.inf
        return int(np.argmax(others))

    def _finish(
        self, document: Document, encoded: Encoded, target: Target, result: TextResult, seconds: float
    ) -> Attribution | Failure:
        if not result.finite:
            detail = f"the model's output on this {self.modality} is NaN or infinite"
            return Failure(document.key, "non-finite", detail, self._named(target, document))
        layer_ig = np.stack([depth.ig for depth in result.depths]).astype(np.float32)
        context = result.context.astype(np.float32)
        norm = result.context_norm.astype(np.float32)
        heads = self.engine.classifier.heads
        if self.method.fusion == "column":
            relevance = column(layer_ig, context, norm, self.method.weight)
        else:
            relevance = agreement(layer_ig, context, heads, encoded.is_special, self.method.weight)
        return Attribution(
            key=document.key,
            tokens=encoded.tokens,
            word_ids=encoded.word_ids,
            char_spans=encoded.char_spans,
            segments=encoded.segments,
            is_special=encoded.is_special,
            layer_ig=layer_ig,
            context=context,
            context_norm=norm,
            relevance=relevance,
            scores=relevance.sum(axis=0),
            target=result.target,
            rival=self._rival(result),
            predicted=result.target if self.head == "regression" else int(np.argmax(result.logits)),
            logits=result.logits.astype(np.float32),
            logit=result.output,
            baseline_logit=result.baseline_output,
            completeness_error=np.array([d.completeness_error for d in result.depths], dtype=np.float32),
            error_estimate=np.array([d.error_estimate for d in result.depths], dtype=np.float32),
            converged=np.array([d.converged for d in result.depths]),
            nodes=np.array([d.nodes for d in result.depths], dtype=np.int32),
            block_passes=result.block_passes,
            seconds=seconds,
            truncated=encoded.truncated,
            head=self.head,
            heads=heads,
            patches=encoded.patches,
            grid=encoded.grid,
            thumbnail=encoded.thumbnail(),
        )


def _encoder(pretrained: Pretrained, classifier: Classifier, method: Method) -> Encoder:
    if pretrained.modality == "image":
        return ImageEncoder(
            pretrained.model, pretrained.processor, classifier.special, classifier.resizes, method.image_size
        )
    assert pretrained.tokenizer is not None
    return TextEncoder(pretrained.model, pretrained.tokenizer, method.max_length)


def _stands_in(asked: str, taken: str) -> str:
    return (
        f"method.baseline: {asked} leaves hidden states of (nearly) zero, which this model's norms scale up without "
        f"bound: {taken!r}, whose row is ordinary, is taken in its place"
    )


def _text(index: int, item: object) -> Document:
    match item:
        case str():
            return Document(document_key(item), item)
        case (str() as text, str() as pair) if isinstance(item, tuple):
            return Document(document_key(text, pair=pair), text, pair=pair)
    raise InputError(
        f"text {index} is a {type(item).__name__}: give a text, or a pair as a tuple of two texts"
    )


def _image(index: int, item: object) -> Document:
    values: Any
    if isinstance(item, Image.Image):
        values, kind = np.asarray(item), item.mode
    elif isinstance(item, Tensor):
        if not (item.ndim == 3 and (item.dtype == torch.uint8 or item.is_floating_point())):
            raise InputError(
                f"image {index} is a tensor of {item.dtype} and shape {tuple(item.shape)}: give (channels, height, "
                "width), of bytes (uint8) or of pixel values (floats)"
            )
        values, kind = (
            item.detach().cpu().to(torch.float64 if item.is_floating_point() else item.dtype).numpy(),
            "",
        )
    else:
        hint = "open it with PIL.Image.open" if isinstance(item, str) else "give a PIL image or a tensor"
        raise InputError(f"image {index} is a {type(item).__name__}: {hint}")
    header = f"{kind} {values.dtype} {values.shape}\0".encode()
    return Document(hashlib.sha256(header + values.tobytes()).hexdigest(), image=item)


def schedule_key(model: str, method: Method, before: bool = False) -> str:
    """Key of the schedule of a model (by hash) and method under this engine version; 32 hex digits.

    `before`: as it was when keys held the target.
    """
    return _key({"model": model, "method": _choices(method, before)})


def attribution_key(model: str, method: Method, schedule: Schedule, before: bool = False) -> str:
    """Key of the attributions of a model (by hash) and method with a schedule; 32 hex digits. `before`: as above.

    The target, fusion and its weight, shard size and token budget are not part of it: they change no stored number.
    """
    return _key({"model": model, "method": _choices(method, before), "schedule": schedule.key})


def _choices(method: Method, before: bool) -> dict[str, object]:
    return {**method.identity(), **({"target": method.target} if before else {})}


def _key(content: dict[str, object]) -> str:
    text = json.dumps({"engine": ENGINE_VERSION, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
