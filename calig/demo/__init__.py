"""The demo's material: a corpus with planted evidence, and a small classifier that falls for it.

`generate` (reviews.py) writes the corpus, `train` (classifier.py) makes the model on the spot, `demo_config`
is the audit of the two, `SQL_SHORTCUT` the question that exposes what the model relies on.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

SQL_SHORTCUT = files("calig.demo").joinpath("shortcut.sql").read_text(encoding="utf-8")
"""Words with the largest effect for class positive: their share, and whether they hold in every slice."""


def demo_config(folder: Path) -> dict[str, Any]:
    """Make the audit's configuration, in the shape of `AuditConfig`, for what `train(folder)` wrote.

    The warehouse is `folder/warehouse`; the method and everything else keep their defaults.
    """
    return {
        "name": "demo",
        "model": {"id": str(folder / "model")},
        "corpus": {"path": str(folder / "reviews.parquet"), "text": "text", "label": "label", "id": "id"},
        "warehouse": str(folder / "warehouse"),
    }
