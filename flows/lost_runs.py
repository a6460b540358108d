"""What shows that a flow run lives, and the server's automation that marks those as crashed that show nothing more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState

HEARTBEAT_SECONDS = 30
"""How often a flow run shows that it lives, the shortest that Prefect takes."""

TAG = "calig"
"""Of runs of our deployments: those alone send heartbeats so often."""

MISSED = 3
"""Heartbeats that must be missing before a run counts as lost."""

LOST_RUNS = AutomationCore(
    name="calig: runs without heartbeat are lost",
    description="Marks a flow run as crashed when its process says nothing any more; its place is free then.",
    trigger=EventTrigger(
        posture=Posture.Proactive,
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"},
        for_each={"prefect.resource.id"},
        after={"prefect.flow-run.heartbeat"},
        expect={
            "prefect.flow-run.heartbeat",
            *(f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Crashed", "Cancelled")),
        },
        threshold=1,
        within=timedelta(seconds=MISSED * HEARTBEAT_SECONDS),
    ),
    actions=[
        ChangeFlowRunState(
            state=StateType.CRASHED,
            name="Crashed",
            force=False,
            message="Its process gives no sign of life: it was killed, or its machine went down. "
            "The next run goes on from what is finished.",
        )
    ],
)


def put(client: SyncPrefectClient, name: str, automation: AutomationCore | None) -> None:
    """Make the one automation of this name be this one; None: be none.

    One that is the same is left alone: an update would make the server forget which heartbeats it waits for.
    """
    old = client.read_automations_by_name(name)
    if automation is None:
        for one in old:
            client.delete_automation(one.id)
    elif not old:
        client.create_automation(automation)
    elif _content(old[0]) != _content(automation):
        client.update_automation(old[0].id, automation)


def _content(automation: AutomationCore) -> dict[str, Any]:
    """What an automation says, without the ids that a server gives."""
    return AutomationCore.model_validate(automation.model_dump()).model_dump()
