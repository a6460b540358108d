"""What the tables, views and columns mean, and the SQL files that define them."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files

TABLES = (
    "runs",
    "document_depths",
    "layer_stats",
    "settling",
    "token_stats",
    "word_stats",
    "document_maps",
    "region_stats",
    "patch_stats",
    "class_stats",
    "completeness",
    "failures",
    "watched",
    "gates",
    "comparisons",
    "comparison_outcomes",
    "comparison_layers",
    "comparison_words",
    "comparison_documents",
)
EVALUATION_TABLES = (
    "evaluations",
    "evaluation",
    "evaluation_stats",
    "evaluation_methods",
    "evaluation_documents",
)
VIEWS = ("tokens", "words", "documents", "relevance_long", "word_tokens", "patches", "thumbnails")


def read_sql(name: str) -> str:
    """Return the text of ``sql/<name>`` as shipped."""
    return files("calig.warehouse").joinpath("sql", name).read_text(encoding="utf-8")


@cache
def catalog() -> dict[str, dict[str, str]]:
    """Return, per table or view, its meaning under ``about`` and each column's under the column's name."""
    return tomllib.loads(read_sql("catalog.toml"))


def about(table: str, column: str | None = None) -> str:
    """Return what a table or view, or a column of it, means.

    Raises
    ------
    KeyError
        If the catalog does not say.
    """
    entries = catalog()[table]
    if column is None:
        return entries["about"]
    if column != "about" and column in entries:
        return entries[column]
    for pattern, meaning in entries.items():
        if "*" in pattern and fnmatchcase(column, pattern):
            return meaning
    raise KeyError(f"{table}.{column}")


def quote(text: str) -> str:
    """Return `text` as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def name(identifier: str) -> str:
    """Return `identifier` as a quoted SQL name."""
    return '"' + identifier.replace('"', '""') + '"'


def comment_statements(kind: str, table: str, columns: list[str]) -> list[str]:
    """Return the COMMENT statements for a table or view (`kind` TABLE or VIEW) and its columns."""
    statements = [f"COMMENT ON {kind} {name(table)} IS {quote(about(table))}"]
    for column in columns:
        statements.append(f"COMMENT ON COLUMN {name(table)}.{name(column)} IS {quote(about(table, column))}")
    return statements
