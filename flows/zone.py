"""One time zone per audit: `{{ yesterday }}` is a day in the zone of the schedule that starts the runs."""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import DeploymentResponse

from calig.config import AuditConfig
from calig.config.dates import DEFAULT_ZONE
from calig.errors import InputError


def with_schedule_zone(config: AuditConfig, deployment_id: str | None) -> AuditConfig:
    """Return the configuration with the time zone of the deployment that it runs from.

    Parameters
    ----------
    config
        Returned as it is where no placeholder of the corpus is left to fill in.
    deployment_id
        The deployment of the flow run; None: there is none, and so no schedule.

    Raises
    ------
    InputError
        If the deployment's schedule has another zone than `corpus.timezone`, or its schedules have several.
    """
    if deployment_id is None or config.date is not None or not config.corpus.is_dated:
        return config
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment(UUID(deployment_id))
    zones = schedule_zones(deployment)
    if len(zones) > 1:
        raise InputError(
            f"the schedules of deployment {deployment.name} are in the zones {', '.join(zones)}, but an audit has one "
            "zone, in which yesterday is yesterday: deploy one audit per zone"
        )
    return config if not zones else in_zone(config, zones[0], f"the schedule of deployment {deployment.name}")


def in_zone(config: AuditConfig, timezone: str, origin: str) -> AuditConfig:
    """Return the configuration with `corpus.timezone` set, as `origin` has it.

    Raises
    ------
    InputError
        If the configuration has another zone.
    """
    own = config.corpus.timezone
    if own is not None and own != timezone:
        raise InputError(
            f"corpus.timezone is {own} and {origin} is in {timezone}: {{{{ yesterday }}}} would be two different days; "
            "set both to the same zone, or remove corpus.timezone"
        )
    return config.model_copy(update={"corpus": config.corpus.model_copy(update={"timezone": timezone})})


def schedule_zones(deployment: DeploymentResponse) -> list[str]:
    """Return the zones of a deployment's schedules, each once, sorted."""
    return sorted({getattr(one.schedule, "timezone", None) or DEFAULT_ZONE for one in deployment.schedules})
