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


def check_select(sql: str) -> bool:
    """Check that `sql` is one SELECT that can only read the connection's tables and views.

    DESCRIBE, SHOW, SUMMARIZE, FROM, PIVOT and UNPIVOT are SELECTs to DuckDB.

    Returns
    -------
    Whether it holds a PIVOT that does not name its values, which DuckDB runs as several statements: they have to be
    found first.

    Raises
    ------
    InputError
        If it does not parse, or is, or holds, anything else; says what.
    """
    with duckdb.connect() as connection:
        try:
            statements = connection.extract_statements(sql)
            if not statements:
                raise InputError(f"SQL: 0 statements, only blanks and comments; {ONLY}")
            if len(statements) != 1:
                raise InputError(f"SQL: {len(statements)} statements; {ONLY}")
            kind = statements[0].type.name
            pivots = kind == "MULTI"
            if pivots:
                sql = _with_values(sql)
                kind = connection.extract_statements(sql)[0].type.name
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
    return pivots


def _with_values(sql: str) -> str:
    """Return the SQL with a list of values after each column of its PIVOTs that has none, so that it is one SELECT.

    It is for checking only: nothing else is changed, so that both read and call the same.
    """
    text = sql.encode()
    starts = [start for start, kind in duckdb.tokenize(sql) if kind != duckdb.token_type.comment]
    tokens = [
        (start, text[start:end].split(b"--")[0].split(b"/*")[0].strip().upper())
        for start, end in zip(starts, [*starts[1:], len(text)], strict=True)
    ]
    places: list[int] = []
    depth = 0
    pivots: dict[int, str] = {}  # depth of brackets → what the PIVOT there waits for
    for start, token in tokens:
        state = pivots.get(depth)
        ends = token in (b",", b")", b";", b"USING", b"GROUP", b"ORDER", b"LIMIT")
        if state == "values" and ends:
            places.append(start)
        if state in ("values", "listed") and ends:
            pivots[depth] = "values" if token == b"," else "done"
        if token == b"(":
            depth += 1
        elif token == b")":
            pivots.pop(depth, None)
            depth -= 1
        elif token == b"PIVOT":
            pivots[depth] = "columns"
        elif token == b"ON" and state == "columns":
            pivots[depth] = "values"
        elif token == b"IN" and state == "values":
            pivots[depth] = "listed"
    places += [len(text)] * (pivots.get(0) == "values")
    for place in reversed(places):
        text = text[:place] + b"\n IN ('') " + text[place:]
    return text.decode()


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
