"""Questions worth asking of a warehouse, as SQL that `calig query` answers: ``sql/questions/NN-name.sql``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from calig.errors import InputError


@dataclass(frozen=True, slots=True)
class Question:
    """A question: its short `name`, its `title` in words, and the `sql` that answers it."""

    name: str
    title: str
    sql: str


def questions() -> list[Question]:
    """Return the questions that ship with calig, in their order."""
    folder = files("calig.warehouse").joinpath("sql", "questions")
    found = []
    for file in sorted(folder.iterdir(), key=lambda item: item.name):
        if file.name.endswith(".sql"):
            title, _, sql = file.read_text(encoding="utf-8").partition("\n")
            found.append(Question(file.name[3:-4], title.removeprefix("--").strip(), sql.strip()))
    return found


def question(name: str) -> Question:
    """Return the question of this name.

    Raises
    ------
    InputError
        There is none; lists those there are.
    """
    for one in questions():
        if one.name == name:
            return one
    raise InputError(f"no question @{name}; there are: {', '.join('@' + one.name for one in questions())}")
