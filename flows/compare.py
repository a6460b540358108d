"""What changed: a run compared with earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from calig.comparing.stages import Wanted
from calig.warehouse.layout import Warehouse
from flows.server import reach
from flows.stage import stage
from tasks.compare import compare_runs


@stage(name="calig-compare", flow_run_name="compare {run_id}", validate_parameters=False)
def compare(
    warehouse: Warehouse, run_id: str, wanted: Sequence[Wanted], retries: int = 2
) -> list[dict[str, Any]]:
    """Make the comparisons of a run that are asked for; return their rows of the table `comparisons`.

    Safe to run again at any time: a comparison that is there is not made again.
    """
    task = compare_runs.with_options(retries=retries)
    return [task(warehouse, one) for one in wanted]


def compare_from_terminal(warehouse: Warehouse, one: Wanted) -> dict[str, Any]:
    """Run `compare` for one comparison, with a Prefect server at hand."""
    reach()
    with warehouse.at_work():
        return compare(warehouse, one.run_id, [one])[0]
