"""Questions worth asking of a warehouse, as SQL that `calig query` answers: ``sql/questions/NN-name.sql``.

A file begins with comments: the question; what it needs, as ``-- needs: …``, where not every run has it; and its
parameters, as ``-- name = default: meaning``, each of which stands as ``{name}`` in the SQL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from calig.errors import InputError
from calig.warehouse.catalog import name as quoted

_PARAMETER = re.compile(r"-- (\w+) = (\w+): (.+)")
_NEEDS = "-- needs: "
COLUMN = "column"
"""The parameter that is a column of the corpus; others are whole numbers."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a question: its `name`, the `default`, and its `meaning` in words."""

    name: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question.

    Attributes
    ----------
    name, title
        Its short name, and what is asked, in words.
    needs
        What a run has to have for an answer; empty where every run has it.
    parameters
        What can be set.
    template
        The SQL, with parameters in braces.
    """

    name: str
    title: str
    needs: str
    parameters: tuple[Parameter, ...]
    template: str

    @property
    def sql(self) -> str:
        """The SQL that answers it, parameters at their defaults."""
        return self.sql_with({})

    @property
    def defaults(self) -> dict[str, str]:
        """The parameters' defaults, by their names."""
        return {one.name: one.default for one in self.parameters}

    @property
    def offered(self) -> str:
        """Its parameters with their defaults, as they are given."""
        return ", ".join(f"{one.name}={one.default}" for one in self.parameters) or "no parameters"

    def sql_with(self, given: Mapping[str, str]) -> str:
        """Return the SQL that answers it with these parameters.

        Raises
        ------
        InputError
            It has no such parameter, or a number is none.
        """
        for key, value in given.items():
            if key not in self.defaults:
                raise InputError(f"@{self.name}: there is no parameter {key!r}; it has {self.offered}")
            if key != COLUMN and not (value.isdecimal() and value.isascii() and int(value) < 10**9):
                raise InputError(f"@{self.name}: {key}={value}: write a whole number, such as {key}=50")
        sql = self.template
        for key, value in {**self.defaults, **given}.items():
            sql = sql.replace(f"{{{key}}}", quoted(value) if key == COLUMN else value)
        return sql

    def described(self) -> str:
        """The question in one line: its title, its parameters and what it needs."""
        parts = [self.title, *(f"{one.name}={one.default}: {one.meaning}" for one in self.parameters)]
        return "; ".join([*parts, *([f"needs {self.needs}"] if self.needs else [])])


def questions() -> list[Question]:
    """Return the questions that ship with calig, in their order."""
    folder = files("calig.warehouse").joinpath("sql", "questions")
    return [
        _read(file.name[3:-4], file.read_text(encoding="utf-8"))
        for file in sorted(folder.iterdir(), key=lambda item: item.name)
        if file.name.endswith(".sql")
    ]


def _read(name: str, text: str) -> Question:
    title, *lines = text.splitlines()
    needs = ""
    parameters = []
    while lines and lines[0].startswith("-- "):
        line = lines.pop(0)
        if found := _PARAMETER.fullmatch(line):
            parameters.append(Parameter(*found.groups()))
        else:
            needs = line.removeprefix(_NEEDS)
    return Question(
        name, title.removeprefix("--").strip(), needs, tuple(parameters), "\n".join(lines).strip()
    )


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


def asked(text: str) -> tuple[Question, dict[str, str]]:
    """Read what a user asks, as "@by-category column=source": return the question and the parameters given.

    A value may have blanks in it; it goes on to the next `name=`.

    Raises
    ------
    InputError
        There is no such question, or what follows its name is no parameter.
    """
    name, _, rest = text.strip().removeprefix("@").partition(" ")
    found = question(name)
    given = dict(re.findall(r"(\w+)=(.*?)(?=\s+\w+=|$)", rest.strip(), re.DOTALL))
    if rest.strip() and not re.match(r"\w+=", rest.strip()):
        raise InputError(
            f"@{name}: {rest.strip()!r} is no parameter, written name=value; it has {found.offered}"
        )
    return found, {key: value.strip() for key, value in given.items()}
