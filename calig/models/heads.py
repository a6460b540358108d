"""Classification heads: what a model's logits mean.

`single_label`: one class of several, softmax. `multi_label`: any of several classes, a sigmoid each. `binary`: one
logit z that decides between two classes; it is read as the two logits (0, z). `regression`: numbers.
"""

from __future__ import annotations

from typing import Any

from calig.errors import InputError
from calig.records import HEADS, Head, distinct_names


def find_head(config: Any, asked: str | None = None) -> Head:
    """The head that a configuration says it has, or the one asked for, where that is possible.

    Parameters
    ----------
    config
        A model's configuration; its `problem_type` and `num_labels` decide.
    asked
        One of `HEADS`: a model of one logit may be `binary` or `regression`, one of several `single_label` or
        `multi_label`, whatever its configuration says.

    Raises
    ------
    InputError
        What is asked for is no head, or not one that so many logits can be.
    """
    several = config.num_labels > 1
    found: Head
    if config.problem_type == "regression":
        found = "regression"
    elif several:
        found = "multi_label" if config.problem_type == "multi_label_classification" else "single_label"
    else:
        found = "regression" if config.problem_type is None else "binary"
    if asked is None or asked == found:
        return found
    if asked not in HEADS:
        raise InputError(f"model.head: {asked!r} is not one of {', '.join(HEADS)}")
    possible = ("single_label", "multi_label") if several else ("binary", "regression")
    if asked not in possible:
        logits = f"{config.num_labels} logits" if several else "one logit"
        raise InputError(
            f"model.head: a model of {logits} cannot be {asked}; use {' or '.join(possible)}, or leave it out"
        )
    return next(head for head in HEADS if head == asked)


def class_names(config: Any, head: Head) -> tuple[str, ...]:
    """Names of the classes in index order, each its own; a binary head has its label's opposite first."""
    return distinct_names(_names(config, head))


def notes_on_names(config: Any, head: Head, model_id: str) -> tuple[str, ...]:
    """Say which classes are shown by another name than the model gives them, in one line; nothing where none are."""
    names = _names(config, head)
    changed = [shown for shown, name in zip(distinct_names(names), names, strict=True) if shown != name]
    if not changed:
        return ()
    return (
        f"model.id: {model_id}: classes that are called alike are told apart by their index: {', '.join(changed)}",
    )


def _names(config: Any, head: Head) -> tuple[str, ...]:
    names = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    return (f"not {names[0]}", names[0]) if head == "binary" else names
