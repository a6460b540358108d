"""The demo's models and audits for tests: each is made once, and all tests and all processes of pytest share it.

A trained model is kept from one session to the next, under a key of its recipe: the sources that make it, the versions
of the libraries, and the arguments. An audit is made once a session. What is returned is not to be changed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import calig.demo
import calig.models.mae
from calig.config import parse_config
from calig.demo import DIGITS, Demo
from calig.demo.training import Trained
from calig.warehouse.layout import Warehouse
from tests.material import session
from tests.material.heads import run_stages

CACHE = Path(__file__).parents[2] / ".pytest_cache" / "d" / "calig-demo"
SOURCES = (*sorted(Path(calig.demo.__file__).parent.glob("*.py")), Path(calig.models.mae.__file__))
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "pyarrow")


def recipe(*arguments: Any, sources: tuple[Path, ...] = SOURCES) -> str:
    """A key of all that decides what a training gives on this machine."""
    digest = hashlib.sha256(repr(arguments).encode())
    for library in LIBRARIES:
        digest.update(f"{library} {importlib.metadata.version(library)}\n".encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:20]


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Give the folder, which the first that asks makes; other processes wait for it, and none sees half of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    finished = folder.with_name(f"{folder.name}.finished")
    with FileLock(f"{folder}.lock"):
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
            folder.mkdir()
            make(folder)
            finished.touch()
    return folder


def trained(demo: Demo, leak: bool = True, seed: int = 1, **sizes: int) -> Trained:
    """What `demo.train` leaves for these arguments, trained in this session or an earlier one."""

    def make(folder: Path) -> None:
        done = demo.train(folder, seed, leak, **sizes)
        places = {name: str(getattr(done, name).relative_to(folder)) for name in ("model", "corpus")}
        (folder / "trained.json").write_text(
            json.dumps({**places, "accuracy": done.accuracy, "seconds": done.seconds})
        )

    if demo is DIGITS:
        pytest.importorskip("sklearn", reason="the image demo needs scikit-learn: pip install 'calig[demo]'")
    folder = made_once(CACHE / recipe(demo.material, leak, seed, sizes), make)
    found = Trained(**json.loads((folder / "trained.json").read_text()))
    return replace(found, model=folder / found.model, corpus=folder / found.corpus)


def audited(demo: Demo, leak: bool) -> Warehouse:
    """Train and audit as `calig demo` does, by the same stages in the same order, without Prefect."""
    model = trained(demo, leak).model.parent

    def make(folder: Path) -> str:
        run_stages(parse_config({**demo.config(model), "warehouse": str(folder / "warehouse")}))
        return str(folder / "warehouse")

    name = f"{demo.folder.name}-{'leaky' if leak else 'clean'}"
    return Warehouse.open(Path(session.once(name, make)), create=False)
