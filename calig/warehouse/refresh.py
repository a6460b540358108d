"""The tables of a warehouse that is opened for writing: what they lack is made, before anything else is done.

A process may die after a run is finished and before the tables have it (in versions of before a run's state said how
far it was), or while a comparison is loaded; calig.duckdb may be deleted, or damaged on its disk. None of this needs
care: it holds nothing that is not in the Parquet files. Runs under way are left alone.
"""

from __future__ import annotations

import logging

import duckdb

from calig.errors import InputError
from calig.listing import exists
from calig.warehouse.aggregate import make_anew, replace_rows
from calig.warehouse.comparisons import insert_comparison
from calig.warehouse.database import UnreadableTablesError, attach, new_database
from calig.warehouse.evaluation_tables import write_evaluation
from calig.warehouse.evaluations import list_evaluations
from calig.warehouse.gates import insert_gates
from calig.warehouse.lacking import Lacking, find_lacking
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import list_runs
from calig.warehouse.views import run_files

logger = logging.getLogger(__name__)


def refresh_tables(warehouse: Warehouse, memory: str = "4GB", wait: float = 0.0) -> None:
    """Make what the tables lack of what is finished, and say so in a line of the log; all of them if they are damaged.

    Parameters
    ----------
    warehouse
        The warehouse.
    memory
        What DuckDB may use.
    wait
        Seconds to wait for another writer to finish, if there is anything to do.

    Raises
    ------
    InputError
        If another writer is at work, or calig.duckdb is of another version of calig, which may be a newer one.
    """
    if not _wanting(warehouse):
        return
    with warehouse.writer_lock(wait=wait):
        lacking = _wanting(warehouse)  # somebody else may have been faster
        if isinstance(lacking, str):
            made = make_anew(warehouse, memory)
            found = f"{len(made.runs)} runs and {len(made.evaluations)} evaluations"
            logger.warning("%s: made again from the Parquet files, for %s", lacking, found)
        elif lacking:
            _add(warehouse, lacking, memory)


def _wanting(warehouse: Warehouse) -> Lacking | str:
    """What the tables lack, or in words why all of them are to be made."""
    if not exists(warehouse.database):
        finished = any(run.is_finished for run in list_runs(warehouse))
        evaluated = any(one.status == "complete" for one in list_evaluations(warehouse))
        return f"{warehouse.database} was missing" if finished or evaluated else Lacking()
    with duckdb.connect() as connection:
        try:
            attach(connection, warehouse.database)
            return find_lacking(connection, warehouse)
        except UnreadableTablesError as error:
            return error.reason


def _add(warehouse: Warehouse, lacking: Lacking, memory: str) -> None:
    """Add what is lacking; what cannot be made, since files of it are gone, is named and left out."""
    left_out: list[str] = []
    with new_database(warehouse, memory, keep=True) as connection:
        for run_id in lacking.runs:
            try:
                files = run_files(warehouse, run_id)
            except InputError as error:
                left_out.append(str(error))
                continue
            replace_rows(connection, warehouse, files)
        for evaluation_id in lacking.evaluations:
            write_evaluation(connection, warehouse, evaluation_id)
        for run_id, reference_id in lacking.comparisons:
            insert_comparison(connection, warehouse.comparison(run_id, reference_id))
        for run_id in lacking.gates:
            insert_gates(connection, warehouse.run(run_id))
    logger.warning("%s lacked %s: added", warehouse.database, lacking.text)
    for reason in left_out:
        logger.warning("not added: %s", reason)
