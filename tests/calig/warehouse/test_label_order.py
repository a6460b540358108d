"""Labels in another order than the model's classes are found, and nothing else is taken for that."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from calig.warehouse.label_order import other_order


def counted(labels: np.ndarray, predicted: np.ndarray) -> list[tuple[int, int, int]]:
    pairs, counts = np.unique(np.stack([labels, predicted]), axis=1, return_counts=True)
    return [(int(a), int(b), int(n)) for a, b, n in zip(*pairs, counts, strict=True)]


def predictions(truth: np.ndarray, classes: int, accuracy: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wrong = (truth + rng.integers(1, max(classes, 2), len(truth))) % classes
    return np.where(rng.random(len(truth)) < accuracy, truth, wrong)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_any_order_of_three_classes(order: tuple[int, ...]) -> None:
    """Labels i that mean class order[i], of a model that is right in 85 %."""
    labels = np.random.default_rng(1).integers(0, 3, 300)
    predicted = predictions(np.array(order)[labels], 3, 0.85)
    found = other_order(counted(labels, predicted), 3)
    if order == (0, 1, 2):
        assert found is None
    else:
        assert found is not None
        assert found.classes == order
        assert found.accuracy == np.mean(np.array(order)[labels] == predicted)


def test_classes_without_documents_stay() -> None:
    labels = np.random.default_rng(2).integers(1, 3, 200)
    predicted = predictions(3 - labels, 3, 1.0)
    found = other_order(counted(labels, predicted), 5)
    assert found is not None
    assert found.classes == (0, 2, 1, 3, 4)


@pytest.mark.parametrize(
    ("labels", "predicted"),
    [
        ([0] * 70 + [1] * 30, [1] * 100),  # a model that knows one class
        ([0] * 100, [1] * 100),  # and a corpus that has one
        ([0, 1] * 4, [1, 0] * 4),  # too few to tell
        ([0, 1] * 200, [0, 1, 1, 0] * 100),  # chance
        ([0, 1, 2] * 50, [0, 1, 1] * 50),  # two classes that are mixed up
        ([], []),
    ],
)
def test_what_is_no_other_order(labels: list[int], predicted: list[int]) -> None:
    assert other_order(counted(np.array(labels, int), np.array(predicted, int)), 3) is None


def test_chance_is_rarely_called_an_order() -> None:
    rng = np.random.default_rng(3)
    found = [
        other_order(counted(rng.integers(0, classes, size), rng.integers(0, classes, size)), classes)
        for classes, size in [(2, 20), (3, 30), (10, 60), (20, 100)] * 100
    ]
    assert sum(one is not None for one in found) == 0
