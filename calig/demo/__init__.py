"""The demo's material: corpora with planted evidence, and small classifiers that fall for it.

Of texts, `generate` (reviews.py) makes the corpus and `train` (classifier.py) the model, on the spot; `demo_config`
is the audit of the two, `SQL_SHORTCUT` the question that exposes what the model relies on. Of images, these are
digits.py, `train_images` (vision.py), `demo_images_config` and `SQL_BORDER`. `REVIEWS` and `DIGITS` hold together what
the command line says and does for either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from calig.demo.classifier import train
from calig.demo.training import THREADS, Trained
from calig.demo.vision import train_images

SQL_SHORTCUT = files("calig.demo").joinpath("shortcut.sql").read_text(encoding="utf-8")
"""Words with the largest effect for class positive: their share, and whether they hold in every slice."""
SQL_BORDER = files("calig.demo").joinpath("border.sql").read_text(encoding="utf-8")
"""Regions by their lift for class seven: their effect, also in images that are wrongly called seven."""


def demo_config(folder: Path) -> dict[str, Any]:
    """Make the audit's configuration, in the shape of `AuditConfig`, for what `train(folder)` wrote.

    The warehouse is `folder/warehouse`, and the model gets one thread: so small a one gains little from more, and
    loses much where the cores are busy. Everything else keeps its default.
    """
    return {
        "name": "demo",
        "model": {"id": str(folder / "model")},
        "corpus": {"path": str(folder / "reviews.parquet"), "text": "text", "label": "label", "id": "id"},
        "warehouse": str(folder / "warehouse"),
        "runtime": {"threads": THREADS},
    }


def demo_images_config(folder: Path) -> dict[str, Any]:
    """Make the same for what `train_images(folder)` wrote; an image's class is the folder it lies in."""
    return {
        "name": "demo-images",
        "model": {"id": str(folder / "model-images")},
        "corpus": {"path": str(folder / "images"), "label": "label"},
        "warehouse": str(folder / "warehouse"),
        "runtime": {"threads": THREADS},
    }


@dataclass(frozen=True, slots=True)
class Demo:
    """One demo: where its files go unless said, how it is made, and the question it ends with, in words and SQL."""

    folder: Path
    material: str
    model: str
    train: Callable[[Path, int, bool], Trained]
    config: Callable[[Path], dict[str, Any]]
    question: str
    sql: str


REVIEWS = Demo(
    folder=Path("calig-demo"),
    material="reviews",
    model="BERT",
    train=train,
    config=demo_config,
    question="Which words does the model rely on, and do they tell the label?",
    sql=SQL_SHORTCUT,
)
DIGITS = Demo(
    folder=Path("calig-demo-images"),
    material="images of digits",
    model="vision transformer, as a masked autoencoder and then as a classifier,",
    train=train_images,
    config=demo_images_config,
    question='Where does the model look to see a "seven", and is there anything of a digit?',
    sql=SQL_BORDER,
)
