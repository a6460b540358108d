"""A range of a run's shards, as a flow run of its own: what the workers of a work pool are given to do."""

from __future__ import annotations

from uuid import UUID

from prefect import State, flow
from prefect.client.orchestration import get_client
from prefect.states import Failed

from calig import ranges
from calig.config import AuditConfig, expand_config
from calig.errors import InputError
from calig.warehouse.layout import Warehouse
from flows.shards import attribute_shards
from tasks.progress import tracking

WRONG_INPUT = "WrongInput"
"""Name of the state of a range that no other try would help."""


@flow(name="calig-attribute-range", flow_run_name="{run_id}: {label}")
def attribute_range(audit_run: UUID, run_id: str, label: str, shards: list[int]) -> int | State[int]:
    """Explain the documents of some shards of a run that is under way elsewhere; return how many there are.

    Parameters
    ----------
    audit_run
        The flow run of the audit, whose parameter is its configuration: it is read from the server, and `${VAR}` in it
        expanded here, from this worker's environment. So nothing of it is sent a second time.
    run_id
        The run that the audit has started; its state is in the warehouse.
    label
        What the range is called.
    shards
        The shards' numbers.
    """
    try:
        return _attribute(_config(audit_run), run_id, shards)
    except InputError as error:
        return Failed(name=WRONG_INPUT, message=str(error))


def _config(audit_run: UUID) -> AuditConfig:
    """Return the audit's configuration, the workers being those of this machine."""
    with get_client(sync_client=True) as client:
        written = client.read_flow_run(audit_run).parameters["config"]
    config = expand_config(AuditConfig.model_validate(written))
    here = {"engine": "auto", "work_pool": None, "workers": None}
    return config.model_copy(update={"runtime": config.runtime.model_copy(update=here)})


def _attribute(config: AuditConfig, run_id: str, numbers: list[int]) -> int:
    warehouse = Warehouse.open(config.warehouse)
    run = ranges.find_run(warehouse, config, run_id)
    shards = ranges.read_shards(run, numbers)
    documents = sum(map(len, shards.values()))
    numbered = ((number + 1, doc_ids) for number, doc_ids in shards.items())  # from 1, as elsewhere
    with warehouse.at_work(), tracking(run_id, documents):
        attribute_shards(run, numbered, max(shards) + 1)
    return documents
