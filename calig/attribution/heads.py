"""What may be explained of a model's outputs, by its head, and which of them a target means.

One softmax or one sigmoid per class: a class's logit, or its margin. One logit z: its two classes have logits 0 and
z, and only the margin tells them apart, so that is what is explained: z for the second class, −z for the first
(METHOD: sign(logit)·logit). A regression: one of its outputs, as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from calig.attribution.baselines import baseline_name
from calig.attribution.method import Method
from calig.attribution.quadrature import Float64
from calig.errors import InputError
from calig.records import NO_LABEL, Document, Failure, Head, Modality

Target: TypeAlias = str | int
BY_DOCUMENT = ("predicted", "runner-up", "label")


def fit(method: Method, head: Head, classes: Sequence[str], modality: Modality = "text") -> Method:
    """The method as it is computed for this head and modality.

    Raises
    ------
    InputError
        The head has not such an output or target, or the modality not such a baseline or size.
    """
    method = replace(method, baseline=baseline_name(method.baseline, modality))
    for field, other in (("max_length", "image"), ("image_size", "text")):
        if getattr(method, field) is not None and modality == other:
            raise InputError(f"method.{field}: the model reads {other}s, which have none; remove it")
    if head == "regression" and method.output == "margin":
        raise InputError(
            "method.output: a regression has no classes to take a margin over; use logit, its value"
        )
    class_index(method.target, head, classes)
    return replace(method, output="margin") if head == "binary" else method


def targets_of(given: Any, count: int, noun: str) -> list[Target]:
    """One target for each of `count` inputs, which `noun` names: of one for all, or of a sequence or array of them.

    Raises
    ------
    InputError
        There are not as many as inputs, or it is no sequence.
    """
    if isinstance(given, (str, int)) or getattr(given, "ndim", 1) == 0 or np.isscalar(given):
        return [plain(given)] * count
    if getattr(given, "ndim", 1) != 1 or not hasattr(given, "__getitem__"):
        shape = getattr(given, "shape", None)
        of = "" if shape is None else f" of shape {tuple(shape)}"
        raise InputError(
            f"target is a {type(given).__name__}{of}: give a class index or name, predicted or runner-up, or a list of "
            f"these, one per {noun}"
        )
    if len(given) != count:
        raise InputError(f"{len(given)} targets for {count} {noun}s: give one, or one per {noun}")
    found = [plain(one) for one in given]
    for i, one in enumerate(found):
        if not isinstance(one, (str, int, float)):
            raise InputError(f"target {i} is a {type(one).__name__}: give a class index or name")
    return found


def plain(target: Any) -> Target:
    """A target as Python's own number where it is an integer of NumPy or torch; anything else as it is."""
    if getattr(target, "ndim", None) == 0 and hasattr(target, "item"):
        target = target.item()
    found: Target = target
    return found


def class_index(target: Target, head: Head, classes: Sequence[str]) -> int | None:
    """Index of a class or output given by index or name; None where it is another for each document.

    Raises
    ------
    InputError
        There is no such class or output, or the head has no such target.
    """
    if isinstance(target, int) and not isinstance(target, bool) and 0 <= target < len(classes):
        return target
    if isinstance(target, str) and target not in BY_DOCUMENT and target in classes:
        return list(classes).index(target)
    if head == "regression":
        return _output(target, classes)
    if target in BY_DOCUMENT:
        return None
    raise InputError(
        f"method.target: {target!r} is not a class of the model; use predicted, runner-up, label, an index below "
        f"{len(classes)} or one of {', '.join(classes)}"
    )


def _output(target: Target, outputs: Sequence[str]) -> int:
    if len(outputs) == 1 and target == "predicted":
        return 0
    if target in ("runner-up", "label"):
        raise InputError(f"method.target: {target} means a class, and a regression has none; remove it")
    if len(outputs) > 1:
        raise InputError(
            f"method.target: {target!r} is none of the regression's {len(outputs)} outputs; name one: an index "
            f"below {len(outputs)} or one of {', '.join(outputs)}"
        )
    raise InputError(
        f"method.target: {target!r} is not the regression's one output, {outputs[0]}; remove method.target"
    )


def choose(target: Target, document: Document, logits: Float64, head: Head, classes: Sequence[str]) -> int:
    """Index of the class or output that a target means for a document with these logits (C,)."""
    index = class_index(target, head, classes)
    if index is not None:
        return index
    if target == "label":
        return _label(document, classes)
    order = np.argsort(-logits, kind="stable")
    return int(order[0 if target == "predicted" else 1])


def pilot_target(document: Document, head: Head, classes: Sequence[str]) -> Target:
    """The class that the pilot explains of a document: which one depends on the document's key alone.

    Half of the documents give the predicted class, a quarter the runner-up, and a quarter any class in turn, so that
    one schedule serves whatever class is asked for later; of a regression's outputs each comes in turn.
    """
    turn, rest = divmod(int.from_bytes(hashlib.sha256(document.key.encode()).digest()[:8], "big"), 4)
    if head != "regression" and rest < 3:
        return "runner-up" if rest == 2 else "predicted"
    return turn % len(classes)


def unlabelled(target: Target, document: Document) -> Failure | None:
    """The failure of a document that has no label, where the label is what is explained; else None."""
    if target != "label" or document.label is not None:
        return None
    return Failure(
        document.key, NO_LABEL, "it has no label, and method.target: label explains the labelled class"
    )


def _label(document: Document, classes: Sequence[str]) -> int:
    assert document.label is not None  # see `unlabelled`
    if not 0 <= document.label < len(classes):
        raise InputError(
            f"method.target: label {document.label} is no class of the model, which has "
            f"{len(classes)} (0 to {len(classes) - 1}); map the corpus's labels to its classes"
        )
    return document.label
