"""What is finished and not in the tables of calig.duckdb: a writer died before it was, or the tables are old ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import duckdb

from calig.listing import children, is_file
from calig.warehouse.comparisons import read_manifest
from calig.warehouse.evaluations import list_evaluations
from calig.warehouse.layout import Warehouse
from calig.warehouse.runs import RunManifest, list_runs

logger = logging.getLogger(__name__)

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Lacking:
    """What the tables lack: ids of finished runs and evaluations; and of runs that they have, the comparisons (run,
    reference), and the runs whose gates' outcomes are in their folders alone.
    """

    runs: tuple[str, ...] = ()
    evaluations: tuple[str, ...] = ()
    comparisons: tuple[tuple[str, str], ...] = ()
    gates: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.runs or self.evaluations or self.comparisons or self.gates)

    @property
    def text(self) -> str:
        """What is lacking, in words."""
        kinds = (
            ("run", self.runs),
            ("evaluation", self.evaluations),
            ("comparison of run", [f"{run_id} with {reference}" for run_id, reference in self.comparisons]),
            ("gates of run", self.gates),
        )
        return "; ".join(_listed(kind, ids) for kind, ids in kinds if ids)


def _listed(kind: str, ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"{kind} {', '.join(ids[-_SHOWN:])}{more}"


def _find_unlisted(
    connection: duckdb.DuckDBPyConnection, warehouse: Warehouse, runs: Sequence[RunManifest]
) -> Lacking:
    """Find those of these runs, and the finished evaluations, that have no row in the tables that are attached."""
    there = _column(connection, "SELECT run_id FROM runs")
    evaluated = _column(connection, "SELECT evaluation_id FROM evaluations")
    return Lacking(
        tuple(run.run_id for run in runs if run.run_id not in there),
        tuple(
            one.evaluation_id
            for one in list_evaluations(warehouse)
            if one.status == "complete" and one.evaluation_id not in evaluated
        ),
    )


def find_lacking(connection: duckdb.DuckDBPyConnection, warehouse: Warehouse) -> Lacking:
    """Find all that is finished and not in the tables that the connection has attached.

    Of a run that is under way in another process the tables lack what they lack.
    """
    finished = [run for run in list_runs(warehouse) if run.is_finished]
    unlisted = _find_unlisted(connection, warehouse, finished)
    runs = [run for run in finished if run.run_id not in unlisted.runs]
    compared = set(connection.execute("SELECT run_id, reference_id FROM comparisons").fetchall())
    checked = _column(connection, "SELECT DISTINCT run_id FROM gates")
    return Lacking(
        unlisted.runs,
        unlisted.evaluations,
        tuple(
            (run.run_id, folder.name)
            for run in runs
            for folder in children(warehouse.run(run.run_id) / "comparisons")
            if (run.run_id, folder.name) not in compared and read_manifest(folder) is not None
        ),
        tuple(run.run_id for run in runs if run.run_id not in checked and _has_outcomes(warehouse, run)),
    )


def _has_outcomes(warehouse: Warehouse, run: RunManifest) -> bool:
    path = warehouse.run(run.run_id) / "gates.json"
    try:
        return is_file(path) and bool(json.loads(path.read_bytes()))
    except ValueError:  # damaged, which whoever reads it says
        return False


def _column(connection: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    return {str(row[0]) for row in connection.execute(sql).fetchall()}


def say_unlisted(connection: duckdb.DuckDBPyConnection, warehouse: Warehouse) -> None:
    """Name in the log the finished runs and evaluations that a reader of the tables does not see, once in a process."""
    found = _find_unlisted(connection, warehouse, [run for run in list_runs(warehouse) if run.is_finished])
    if found:
        _say(
            f"not in {warehouse.database} yet: {found.text}; the next audit adds them, and so does `calig rebuild`"
        )


@cache
def _say(line: str) -> None:
    logger.warning(line)
