"""Write a run's report into its folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from calig.report.data import collect
from calig.report.render import render


def write(page: str, path: Path) -> Path:
    """Write the page in one step: a reader sees the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=".index-", suffix=".html", delete=False
    ) as file:
        file.write(page)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    return Path(file.name).replace(path)
