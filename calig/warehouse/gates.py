"""What became of a run's gates: `runs/<run id>/gates.json`, which holds the truth, and the table `gates`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import duckdb
import pyarrow as pa

from calig.config.history import Severity
from calig.errors import InputError
from calig.warehouse.database import new_database
from calig.warehouse.layout import Warehouse

SEE = "; see: "
"""Between what a gate found and the command that shows more; a text that is cut is cut before it."""

GateState: TypeAlias = Literal["holds", "fails", "too few documents", "not checked"]

COLUMNS = pa.schema(
    [
        ("run_id", pa.string()),
        ("gate", pa.string()),
        ("severity", pa.string()),
        ("passed", pa.bool_()),
        ("value", pa.float64()),
        ("limit", pa.float64()),
        ("reference_id", pa.string()),
        ("detail", pa.string()),
        ("documents", pa.list_(pa.int64())),
        ("state", pa.string()),
        ("level", pa.float64()),
        ("chance", pa.float64()),
        ("detectable", pa.float64()),
        ("cannot_see", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class GateOutcome:
    """One row of the table `gates`: what each field means stands in the catalog."""

    run_id: str
    gate: str
    severity: Severity
    passed: bool | None
    value: float | None
    limit: float | None
    reference_id: str | None
    detail: str
    documents: tuple[int, ...] = ()
    state: GateState | None = None  # None: not known of outcomes of earlier versions
    level: float | None = None
    chance: float | None = None
    detectable: float | None = None
    cannot_see: str | None = None

    @property
    def fails_audit(self) -> bool:
        """Whether the audit fails by it: it does not hold, or was not checked, and its severity is error."""
        return self.severity == "error" and (self.passed is False or self.state == "not checked")

    @property
    def line(self) -> str:
        """The gate and what was found, in one line."""
        return f"gates.{self.gate}: {self.detail}"


def store_gates(
    warehouse: Warehouse, run_id: str, outcomes: Sequence[GateOutcome], memory: str = "4GB", wait: float = 0.0
) -> None:
    """Write what became of the run's gates to its file, and then to the table.

    Raises
    ------
    InputError
        If another writer is at work, or calig.duckdb is damaged or of another version.
    """
    warehouse.files.write_json(
        warehouse.run(run_id) / "gates.json", [asdict(outcome) for outcome in outcomes]
    )
    with warehouse.writer_lock(wait=wait), new_database(warehouse, memory, keep=True) as connection:
        connection.execute("DELETE FROM gates WHERE run_id = ?", [run_id])
        insert_gates(connection, warehouse.run(run_id))


def read_gates(folder: Path) -> list[GateOutcome]:
    """Read what became of the gates of the run in this folder; nothing where they were not checked.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    path = folder / "gates.json"
    try:
        rows = json.loads(path.read_bytes())
        return [GateOutcome(**{**row, "documents": tuple(row["documents"])}) for row in rows]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{path} is damaged ({error}): delete it, and `calig rebuild` goes on without"
        ) from error


def insert_gates(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Put what became of the gates of the run in this folder into the table, which has no rows of the run."""
    rows = [asdict(outcome) for outcome in read_gates(folder)]
    connection.register("gate_rows", pa.Table.from_pylist(rows, schema=COLUMNS))
    connection.execute("INSERT INTO gates BY NAME SELECT * FROM gate_rows")
    connection.unregister("gate_rows")
