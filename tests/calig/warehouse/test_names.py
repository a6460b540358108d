"""Columns, classes and labels of the user may be called as anything of ours, or as a word of SQL."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calig.report.build import build
from calig.warehouse.aggregate import aggregate, rebuild
from calig.warehouse.catalog import EVALUATION_TABLES, TABLES, VIEWS, catalog
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import query
from calig.warehouse.questions import questions
from calig.warehouse.views import DOCUMENT_VIEW, RUN_COLUMNS
from tests.material.tiers import few
from tests.material.tiny import tables
from tests.material.warehouses import make_warehouse

DOCUMENTS = 40


def identifiers(folder: str | None = None) -> list[str]:
    """Every name in our SQL, in lines of Python that hold SQL, and in the catalogue; and the keywords of DuckDB.

    With `folder`, those of the files in folders of this name alone.
    """
    sql = re.compile(r"\b(SELECT|FROM|WHERE|JOIN|AS|GROUP|ORDER|PARTITION|FILTER)\b")
    texts = []
    pending = [files("calig")]
    while pending:
        place = pending.pop()
        for entry in place.iterdir():
            if entry.is_dir():
                pending.append(entry)
            elif folder is not None and place.name != folder:
                continue
            elif entry.name.endswith(".sql"):
                texts += [line.partition("--")[0] for line in entry.read_text("utf-8").splitlines()]
            elif entry.name.endswith(".py"):
                texts += [
                    line for line in entry.read_text("utf-8").splitlines() if '"' in line and sql.search(line)
                ]
    found = {word.lower() for text in texts for word in re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text)}
    if folder is not None:
        return sorted(found - {*RUN_COLUMNS, "category"})
    found |= {name for columns in catalog().values() for name in columns if "*" not in name}
    with duckdb.connect() as connection:
        found |= {
            row[0] for row in connection.execute("SELECT keyword_name FROM duckdb_keywords()").fetchall()
        }
    found |= {*TABLES, *VIEWS, *EVALUATION_TABLES, "*", "portion of the run", "a b", 'a"b', "ä", "filename"}
    return sorted(found - {*RUN_COLUMNS, "category"})


def values(kind: str) -> pa.Array:
    """Values of a type that would change a number if they took the place of one of ours."""
    if kind == "text":
        return pa.array(["left", "right"] * (DOCUMENTS // 2))
    if kind == "boolean":
        return pa.array([True, True, False, None] * (DOCUMENTS // 4))
    return pa.array(np.arange(DOCUMENTS) * 7.5 - 100)


def add_columns(warehouse: Path, run_id: str, names: list[str], kind: str) -> None:
    path = warehouse / "runs" / run_id / "documents.parquet"
    table = pq.read_table(path)
    for name in names:
        table = table.append_column(name, values(kind))
    pq.write_table(table, path)


def set_classes(warehouse: Path, run_id: str, classes: list[str]) -> None:
    import json

    path = warehouse / "runs" / run_id / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["model"]["classes"] = classes
    path.write_text(json.dumps(manifest))


def answers(warehouse: Path, with_questions: bool = True) -> dict[str, Any]:
    """All tables, the views' own columns, and the answers of the bundled questions."""
    (run_id,) = (path.name for path in (warehouse / "runs").iterdir())
    opened = Warehouse.open(warehouse)
    own = ", ".join(f'"{name}"' for name in DOCUMENT_VIEW)
    found: dict[str, Any] = dict(tables(warehouse, run_id))
    found["documents"] = query(opened, f"SELECT {own} FROM documents ORDER BY doc_id").rows
    found["words"] = query(opened, "SELECT * FROM words ORDER BY ALL").rows
    for one in questions() if with_questions else ():
        if "documents" in one.sql and one.name not in ("by-category", "runs"):
            rows = query(opened, one.sql).rows
            found[f"@{one.name}"] = [
                tuple(round(v, 9) if isinstance(v, float) else v for v in row) for row in rows
            ]
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("plain") / "w"
    aggregate(Warehouse.open(root), make_warehouse(root, documents=DOCUMENTS))
    return answers(root)


@pytest.mark.parametrize(
    ("kind", "folder"),
    few(
        [("boolean", "portion"), ("text", None), ("number", None)],
        [("boolean", "portion")],
        "every name, as a column of every type",
    ),
)
def test_a_column_may_have_any_name(
    kind: str, folder: str | None, plain: dict[str, Any], tmp_path: Path
) -> None:
    """All names at once; the tables are those of the same corpus without them, and every column is in `documents`."""
    names = identifiers(folder)
    assert len(names) > (100 if folder else 1000)
    root = tmp_path / "w"
    run_id = make_warehouse(root, documents=DOCUMENTS)
    add_columns(root, run_id, names, kind)
    warehouse = Warehouse.open(root)
    aggregate(warehouse, run_id)
    found = answers(root, with_questions=folder is None)
    assert found == {table: plain[table] for table in found}
    shown = query(warehouse, "SELECT * FROM documents ORDER BY doc_id")
    for name in names:
        column = f"corpus_{name}" if name in DOCUMENT_VIEW else name
        given = [row[shown.columns.index(column)] for row in shown.rows]
        assert given == values(kind).to_pylist(), name
    if folder is None:
        assert build(Warehouse.open(root), run_id).is_file()
        rebuild(warehouse)
        assert answers(root) == plain


MARKS = [
    ["*", "all", "border"],
    ["", " ", "NULL"],
    ["'; DROP TABLE runs; --", "$run_id", "a, b"],
    ["class", "missing", "{x}"],
]


@pytest.mark.parametrize("classes", few(MARKS, MARKS[:1], "names that a class may have"))
def test_a_class_may_have_any_name(classes: list[str], plain: dict[str, Any], tmp_path: Path) -> None:
    """The tables are those of classes with harmless names, but for the names."""
    root = tmp_path / "w"
    run_id = make_warehouse(root, documents=DOCUMENTS)
    set_classes(root, run_id, classes)
    aggregate(Warehouse.open(root), run_id)
    shown = {"*": "* (0)"}
    called = {
        harmless: shown.get(name, name)
        for harmless, name in zip(("negative", "positive", "neutral"), classes, strict=True)
    }

    def renamed(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(map(renamed, value))
        return called.get(value, value) if isinstance(value, str) else value

    def ordered(rows: Any) -> list[str]:
        return sorted(map(repr, rows))

    found = answers(root)
    for table, rows in plain.items():
        assert ordered(found[table]) == ordered(renamed(rows)), table
    assert build(Warehouse.open(root), run_id).is_file()


def test_two_classes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    root = tmp_path / "w"
    run_id = make_warehouse(root, documents=DOCUMENTS)
    set_classes(root, run_id, ["neutral", "neutral", "positive"])
    warehouse = Warehouse.open(root)
    aggregate(warehouse, run_id)
    rows = query(warehouse, "SELECT label, predicted, correct FROM documents WHERE correct IS NOT NULL").rows
    assert {row[0] for row in rows} == {"neutral (0)", "neutral (1)", "positive"}
    assert all(correct is (label == predicted) for label, predicted, correct in rows)
    assert query(warehouse, "SELECT class, class_id FROM class_stats ORDER BY class_id").rows == [
        ("neutral (0)", 0),
        ("neutral (1)", 1),
        ("positive", 2),
    ]
    assert {row[0] for row in query(warehouse, "SELECT DISTINCT class FROM word_stats").rows} <= {
        "neutral (0)",
        "neutral (1)",
        "positive",
    }
