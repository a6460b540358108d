"""The library's front door: `Explainer` turns texts, and pairs of texts, into `Attribution`s."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from calig.attribution.engine import DepthResult, Engine, TextResult
from calig.attribution.fusion import column
from calig.attribution.heads import Target, choose, class_index, fit
from calig.attribution.method import ENGINE_VERSION, Method
from calig.attribution.passes import give_back_memory
from calig.attribution.quadrature import Float64
from calig.attribution.schedule import PILOT_EXACTNESS, Schedule, learn
from calig.errors import DocumentError, InputError
from calig.models.classifier import Classifier
from calig.models.loading import Pretrained, load_pretrained
from calig.models.text import EncodedText, TextEncoder, padding_id
from calig.records import Attribution, Document, Failure, document_key

_SURROGATE = re.compile("[\ud800-\udfff]")


class Explainer:
    """Explains a classifier's decisions, layer by layer.

    Parameters
    ----------
    pretrained
        A loaded model with its tokenizer and classes.
    method
        The method's choices.
    schedule
        A pilot's step schedule; None: every document climbs from where any may begin.
    token_budget
        Tokens in flight at once (rows × length); None: by device.

    Raises
    ------
    InputError
        The baseline, output or target asked for does not exist in this model, or its family is not supported.
    """

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
        self.method = method = fit(method, self.head, self.classes)
        classifier = Classifier(pretrained.model, self.head)
        encoder = TextEncoder(pretrained.model, pretrained.tokenizer, method.max_length)
        self._engine = Engine(
            classifier,
            encoder,
            method,
            self._baseline(classifier),
            schedule or Schedule.default(method.quadrature, classifier.depth),
            token_budget,
        )

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str,
        *,
        revision: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        baseline: str = "pad",
        output: str = "logit",
        tolerance: float = 1e-2,
        fusion: str = "column",
        weight: float = 0.5,
        max_nodes: int = 486,
        max_length: int | None = None,
        rule: str = "auto",
        steps: int | None = None,
        token_budget: int | None = None,
        head: str | None = None,
    ) -> Explainer:
        """Load a sequence classifier and explain with it; parameters as in `Method` and `load_pretrained`.

        Raises
        ------
        InputError
            The model cannot be used; the message says why and what to do.
        """
        method = Method(
            baseline=baseline,
            output=output,
            tolerance=tolerance,
            fusion=fusion,
            weight=weight,
            max_nodes=max_nodes,
            max_length=max_length,
            rule=rule,
            steps=steps,
        )
        pretrained = load_pretrained(path_or_hub_id, revision=revision, device=device, dtype=dtype, head=head)
        return cls(pretrained, method, token_budget=token_budget)

    @property
    def depth(self) -> int:
        """L, the number of blocks."""
        return self._engine.classifier.depth

    @property
    def schedule(self) -> Schedule:
        """The step schedule in use."""
        return self._engine.schedule

    def explain(
        self,
        texts: Sequence[str | tuple[str, str]],
        target: Target | Sequence[Target] | None = None,
    ) -> list[Attribution]:
        """Explain texts; one attribution per text, in order.

        Parameters
        ----------
        texts
            The texts; for a model of pairs, tuples of two.
        target
            `predicted`, `runner-up`, a class index or name, or one such per text; None: the method's target.
            Of a regression: `predicted` where it has one output, else an output's index or name.

        Raises
        ------
        DocumentError
            A text has no tokens, or the model's output on it is not finite.
        InputError
            A target is not a class of the model, or an item is neither a text nor a pair.
        """
        if isinstance(texts, str):
            raise InputError("explain() takes a list of texts, not one string: explain([text])")
        targets: Sequence[Target] | None = None
        if target is not None:
            targets = [target] * len(texts) if isinstance(target, (str, int)) else target
            if len(targets) != len(texts):
                raise InputError(f"{len(targets)} targets for {len(texts)} texts: give one, or one per text")
        documents = [_document(index, item) for index, item in enumerate(texts)]
        results = self.attribute(documents, targets)
        for index, result in enumerate(results):
            if isinstance(result, Failure):
                raise DocumentError(result.reason, f"text {index}: {result.detail}")
        return [result for result in results if isinstance(result, Attribution)]

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
        found = {i: item for i, item, _ in self._run(self._engine, documents, targets, progress)}
        return [found[i] for i in range(len(documents))]

    def pilot(self, documents: Sequence[Document], progress: Callable[[int], None] | None = None) -> Schedule:
        """Learn a step schedule from documents that are integrated more exactly; `progress` as in `attribute`.

        With fixed steps there is nothing to learn but the time that they take.
        """
        engine = self._engine
        fixed = self.method.steps is not None
        exact = replace(self.method, rule="auto", tolerance=self.method.tolerance / PILOT_EXACTNESS)
        finely = engine if fixed else engine.with_method(exact, Schedule.for_pilot(self.depth))
        start = time.perf_counter()
        results = sorted(self._run(finely, documents, None, progress), key=lambda result: result[0])
        seconds = (time.perf_counter() - start) / max(1, len(documents))
        explained = [depths for _, item, depths in results if isinstance(item, Attribution)]
        samples = [[d.samples for d in depth if d.samples] for depth in zip(*explained, strict=True)]
        if fixed or not samples:
            return replace(self.schedule, seconds_per_document=seconds)
        return learn(engine.rule, samples, self.method.tolerance, seconds)

    def class_index(self, target: Target) -> int | None:
        """Index of a class given by index or name; None for `predicted`, `runner-up` and `label`."""
        return class_index(target, self.head, self.classes)

    def _baseline(self, classifier: Classifier) -> Tensor:
        """(E,) word embedding that stands for "no content"."""
        tokenizer, name = self.pretrained.tokenizer, self.method.baseline
        if name == "zero":
            return classifier.word_embedding(None)
        if name in ("pad", "mask"):
            token_id = tokenizer.pad_token_id if name == "pad" else tokenizer.mask_token_id
            if name == "pad" and token_id is None:
                token_id = padding_id(self.pretrained.model)
            if token_id is None:
                raise InputError(
                    f"method.baseline: the tokenizer has no {name} token; use zero or token:<text>"
                )
            return classifier.word_embedding(token_id)
        if name.startswith("token:"):
            ids = tokenizer(name.removeprefix("token:"), add_special_tokens=False)["input_ids"]
            if len(ids) != 1:
                raise InputError(
                    f"method.baseline: {name!r} is {len(ids)} tokens for this tokenizer; name one token"
                )
            return classifier.word_embedding(ids[0])
        raise InputError(f"method.baseline: {name!r} is not one of pad, mask, zero, token:<text>")

    def _run(
        self,
        engine: Engine,
        documents: Sequence[Document],
        targets: Sequence[Target] | None,
        progress: Callable[[int], None] | None,
    ) -> Iterator[tuple[int, Attribution | Failure, list[DepthResult]]]:
        """Each document's place, result, and what the engine found at each depth; as they are done, not in order."""
        for target in set(targets or ()):
            self.class_index(target)
        failures: dict[int, Failure] = {}
        for i, document in enumerate(documents):
            if _SURROGATE.search(document.text + "\n" + (document.pair or "")):
                detail = f"{_noun(document)} holds half a surrogate pair, which is no character"
                failures[i] = Failure(document.key, "undecodable", detail)
        readable = [i for i in range(len(documents)) if i not in failures]
        texts = engine.encoder.encode([_input(documents[i]) for i in readable])
        encoded = dict(zip(readable, texts, strict=True))
        for i, text in encoded.items():
            if text.is_special.all():
                blank = not (documents[i].text + (documents[i].pair or "")).strip()
                of_pair = documents[i].pair is not None
                detail = "both texts are empty" if of_pair else "the text is empty"
                detail = detail if blank else "the tokenizer finds no token in it"
                failures[i] = Failure(documents[i].key, "empty", detail)
        yield from ((i, failure, []) for i, failure in failures.items())
        if progress and failures:
            progress(len(failures))
        todo = [i for i in range(len(documents)) if i not in failures]
        for group in engine.pack([len(encoded[i]) for i in todo]):
            members = [todo[g] for g in group]

            def chosen(row: int, logits: Float64, members: list[int] = members) -> int:
                i = members[row]
                target = targets[i] if targets else self.method.target
                return choose(target, documents[i], logits, self.head, self.classes)

            start = time.perf_counter()
            results = engine.explain([encoded[i] for i in members], chosen)
            spent = (time.perf_counter() - start) / max(1, sum(r.block_passes for r in results))
            for i, result in zip(members, results, strict=True):
                item = self._finish(documents[i], encoded[i], result, spent * result.block_passes)
                yield i, item, result.depths
            give_back_memory()
            if progress:
                progress(len(members))

    def _finish(
        self, document: Document, text: EncodedText, result: TextResult, seconds: float
    ) -> Attribution | Failure:
        if not result.finite:
            return Failure(document.key, "non-finite", "the model's output on this text is NaN or infinite")
        layer_ig = np.stack([depth.ig for depth in result.depths]).astype(np.float32)
        context = result.context.astype(np.float32)
        norm = result.context_norm.astype(np.float32)
        relevance = column(layer_ig, context, norm, self.method.weight)
        return Attribution(
            key=document.key,
            tokens=text.tokens,
            word_ids=text.word_ids,
            char_spans=text.char_spans,
            segments=text.segments,
            is_special=text.is_special,
            layer_ig=layer_ig,
            context=context,
            context_norm=norm,
            relevance=relevance,
            scores=relevance.sum(axis=0),
            target=result.target,
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
            truncated=text.truncated,
            head=self.head,
        )


def _document(index: int, item: object) -> Document:
    match item:
        case str():
            return Document(document_key(item), item)
        case (str() as text, str() as pair) if isinstance(item, tuple):
            return Document(document_key(text, pair=pair), text, pair=pair)
    raise InputError(
        f"text {index} is a {type(item).__name__}: give a text, or a pair as a tuple of two texts"
    )


def _input(document: Document) -> str | tuple[str, str]:
    return document.text if document.pair is None else (document.text, document.pair)


def _noun(document: Document) -> str:
    return "the text" if document.pair is None else "one of the texts"


def schedule_key(model: str, method: Method) -> str:
    """Key of the schedule of a model (by hash) and method under this engine version; 32 hex digits."""
    return _key({"model": model, "method": method.identity()})


def attribution_key(model: str, method: Method, schedule: Schedule) -> str:
    """Key of the attributions of a model (by hash) and method with a schedule; 32 hex digits.

    Fusion and its weight, shard size and token budget are not part of it: they change no stored number.
    """
    return _key({"model": model, "method": method.identity(), "schedule": schedule.key})


def _key(content: dict[str, object]) -> str:
    text = json.dumps({"engine": ENGINE_VERSION, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
