"""What a user's SQL may be: one SELECT that reads tables and views, and makes rows, and nothing else.

DuckDB's parser decides, not ours: its syntax tree is walked, and every query node and table function in it
must be on a list. Counting statements and asking for a SELECT is not enough: DuckDB 2.0 runs
``WITH x AS (COPY … TO 'file') SELECT …``, which is one SELECT.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

from calig.errors import InputError

QUERY_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
TABLE_FUNCTIONS = {"range", "generate_series", "unnest", "json_each", "json_tree"}
ONLY = "only one SELECT is answered, over the tables and views that `calig query` without SQL lists"


def check_select(sql: str) -> None:
    """Check that `sql` is one SELECT that can only read the connection's tables and views.

    Raises
    ------
    InputError
        If it does not parse, or is, or holds, anything else; says what.
    """
    with duckdb.connect() as connection:
        try:
            statements = connection.extract_statements(sql)
            if len(statements) != 1:
                raise InputError(f"SQL: {len(statements)} statements; {ONLY}")
            kind = statements[0].type.name
            if kind != "SELECT":
                raise InputError(f"SQL: a {kind} statement; {ONLY}")
            row = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
        except duckdb.Error as error:
            raise sql_error(error) from error
    try:
        tree = json.loads(row[0]) if row else {"error": True, "error_message": "it cannot be read"}
    except RecursionError:
        raise InputError("SQL: it is nested too deeply; write it with fewer brackets or subqueries") from None
    if tree["error"]:
        raise InputError(f"SQL: {tree['error_message']}; {ONLY}")
    for node in _nodes(tree["statements"]):
        kind = str(node.get("type", ""))
        if kind.endswith("_NODE") and kind not in QUERY_NODES:
            raise InputError(f"SQL: it holds a {kind.split('_')[0]}; {ONLY}")
        if kind == "TABLE_FUNCTION" and node["function"]["function_name"].lower() not in TABLE_FUNCTIONS:
            raise InputError(f"SQL: the table function {node['function']['function_name']} is off; {ONLY}")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield all objects of a JSON value."""
    pending = [tree]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def sql_error(error: duckdb.Error) -> InputError:
    """Turn DuckDB's complaint about a user's SQL into one line: what is wrong, and what it offers instead."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    hints = [line for line in lines[1:] if line.startswith(("Did you mean", "Candidate"))]
    return InputError(" ".join([f"SQL: {lines[0]}" if lines else "SQL: it cannot be run", *hints]))
