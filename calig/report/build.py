"""Write a run's report into its folder."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from calig.listing import is_file
from calig.report import changes, since
from calig.report.data import collect
from calig.report.render import render
from calig.warehouse.inventory import writing_anew
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_run, open_tables


def build(warehouse: Warehouse, run_id: str) -> Path:
    """Write the report of an aggregated run, and the pages of its comparisons, that the report leads to.

    Each is written in one step: a reader sees the old page or the new one.

    Parameters
    ----------
    warehouse
        The warehouse.
    run_id
        The run's full id.

    Returns
    -------
    The page's path, ``runs/<run id>/report/index.html`` in the warehouse.

    Raises
    ------
    InputError
        If the run, its files or its aggregates are missing or damaged.
    """
    with closing(open_run(warehouse, run_id)) as connection, closing(open_tables(warehouse)) as tables:
        opening = since.collect(tables, connection, run_id)
        data = collect(connection, run_id, opening.offending)
        if data.run.status == "aggregated" and is_file(warehouse.run(run_id) / "gates.json"):
            # the report is the last that an audit makes: with it the run is complete
            data = replace(data, run=replace(data.run, status="complete"))
        page = render(data, opening, warehouse.place)
    for one in opening.changes:
        changes.build(warehouse, run_id, one.reference_id)
    path = warehouse.run(run_id) / "report" / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing_anew(warehouse, run_id, "report"):
        warehouse.files.write_atomic(path, page.encode("utf-8"))
    return path
