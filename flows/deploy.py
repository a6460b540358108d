"""An audit on a schedule: a deployment of `flows.audit.audit` from the installed package, on a server of the user's.

The deployment's parameter is the configuration as it is written, `${VAR}` not expanded. One run at a time: a run
that is due while another is under way is cancelled. Two automations of the server go with it: one marks runs as
crashed whose heartbeats stop, which frees their place; one says through a block who has to know that a run failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import SendNotification
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL
from prefect.workers.process import ProcessWorker
from pydantic import ValidationError

from calig.config import AuditConfig
from calig.config.dates import DEFAULT_ZONE
from calig.errors import InputError
from flows.audit import audit
from flows.lost_runs import HEARTBEAT_SECONDS, LOST_RUNS, TAG, put
from flows.zone import in_zone

SUBJECT = "calig audit {{ deployment.name }}: {{ flow_run.state.name }}"
BODY = (
    "{{ flow_run.state.message or flow_run.state.name }}\n"
    "{{ flow_run|ui_url or 'prefect flow-run inspect ' ~ flow_run.id }}"
)
"""Why, and where: a server without PREFECT_UI_URL knows no links, and gives the command that shows the run."""
CHECKED = 400
"""Runs of a schedule that are looked at before it is put on the server."""
YEAR = 365.2425 * 86_400
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What was put on the server: the name (flow/deployment), the schedule's zone, when the next run is due, if any.

    `runs_per_year` is about how often the schedule runs.
    """

    name: str
    timezone: str
    next_run: datetime | None
    runs_per_year: float


def deploy(
    config: AuditConfig,
    cron: str,
    *,
    timezone: str | None = None,
    pool: str = "calig",
    folder: Path | None = None,
    paused: bool = False,
    notify: Sequence[str] = (),
) -> Deployed:
    """Make the deployment of an audit, or bring it up to date.

    Parameters
    ----------
    config
        The audit; `${VAR}` in it is expanded where it runs (see `load_template`). Its name is the deployment's.
    cron, timezone
        When it runs: five fields, and the IANA name of the zone they are meant in; None: `corpus.timezone`, else UTC.
        The corpus of the deployment has the same zone.
    pool
        The work pool; made, for process workers, if there is none.
    folder
        The folder that its runs work in on the worker's machine; None: the current one.
    paused
        Do not run it by the schedule.
    notify
        Blocks that are told of failed runs, as `type/name` (`prefect block ls` shows them); others no longer are.

    Raises
    ------
    InputError
        No server answers, or the schedule or a block is not one, or `corpus.timezone` is another zone.
    """
    schedule = _schedule(cron, timezone or config.corpus.zone)
    if config.corpus.is_dated:
        config = in_zone(config, schedule.timezone or DEFAULT_ZONE, "--timezone")
        _check_days(schedule)
    name = config.name or "audit"
    with _server() as client:
        blocks = [_block(client, block) for block in notify]
        try:
            client.read_work_pool(pool)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
        deployment = client.create_deployment(
            flow_id=client.create_flow(audit),
            name=name,
            entrypoint=f"{audit.fn.__module__}.{audit.fn.__name__}",
            description=audit.description,
            parameters={"config": config.model_dump(mode="json", exclude_unset=True)},
            parameter_openapi_schema=audit.parameters.model_dump_for_openapi(),
            enforce_parameter_schema=True,
            schedules=[DeploymentScheduleCreate(schedule=schedule, active=True)],
            paused=paused,
            concurrency_limit=1,
            concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
            work_pool_name=pool,
            job_variables={
                "working_dir": str((folder or Path.cwd()).absolute()),
                "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)},
            },
            tags=[TAG],
        )
        put(client, LOST_RUNS.name, LOST_RUNS)
        title = f"calig: {name} failed"
        put(client, title, failure_notice(title, deployment, blocks) if blocks else None)
    zone = schedule.timezone or DEFAULT_ZONE
    return Deployed(
        f"{audit.name}/{name}", zone, None if paused else _next_run(schedule), runs_per_year(schedule)
    )


def _next_run(schedule: CronSchedule) -> datetime | None:
    """Return when a schedule is due next, in its own zone."""
    return next(iter(due(schedule, 1, datetime.now(UTC))), None)


def due(schedule: CronSchedule, count: int, start: datetime) -> list[datetime]:
    """Return when a schedule is due, as Prefect's server reckons, in its own zone."""
    from prefect.server.schemas.schedules import CronSchedule as Calendar
    from prefect.utilities.asyncutils import run_coro_as_sync

    calendar = Calendar(cron=schedule.cron, timezone=schedule.timezone)
    return list(run_coro_as_sync(calendar.get_dates(count, start)) or [])


def _check_days(schedule: CronSchedule) -> None:
    """Raise an InputError if a change of the clocks moves a run of the next year or so to another day.

    Where the clocks go from 0:00 to 1:00, Prefect starts a run of 0:00 at 23:00 of the day before, which would audit
    the documents of one day twice and those of the next never. UTC has no such change: its days are those meant.
    """
    start = datetime.now(UTC)
    meant = [
        moment.date()
        for moment in due(CronSchedule(cron=schedule.cron, timezone=DEFAULT_ZONE), CHECKED, start)
    ]
    taken = {moment.date() for moment in due(schedule, CHECKED, start - timedelta(days=1))}
    if missed := [day for day in meant[1:] if day < max(taken) and day not in taken]:
        raise InputError(
            f"--cron: {schedule.cron!r} falls into the hour that {schedule.timezone} leaves out on {missed[0]}, and "
            "Prefect would start that run on the day before: choose an hour from 1 to 22"
        )


def runs_per_year(schedule: CronSchedule) -> float:
    """About how often a schedule runs in a year, by how far its next runs lie apart."""
    moments = [moment.timestamp() for moment in due(schedule, CHECKED, datetime.now(UTC))]
    if len(moments) < 2:
        return float(len(moments))
    return (len(moments) - 1) * YEAR / (moments[-1] - moments[0])


def _schedule(cron: str, timezone: str) -> CronSchedule:
    """Make the schedule; what Prefect would read otherwise than cron does, or never start, is refused."""
    fields = len(cron.split())
    if fields != 5 and not cron.strip().startswith("@"):
        seconds = ": Prefect would take the sixth for seconds" if fields == 6 else ""
        raise InputError(
            f"--cron: {cron!r} has {fields} fields{seconds}; write five: minute, hour, day of month, month, day of "
            "week, as '0 2 * * *'"
        )
    try:
        schedule = CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        if error.errors()[0]["loc"][0] == "timezone":
            raise InputError(
                f"--timezone: {timezone!r} is no time zone; write it as Europe/Berlin"
            ) from error
        raise InputError(
            f"--cron: {cron!r} is no cron line: minute, hour, day of month, month, day of week, as '0 2 * * *'"
        ) from error
    try:
        dates = due(schedule, 1, datetime.now(UTC))
    except ValueError:  # of Prefect's croniter
        dates = []
    if not dates:
        raise InputError(
            f"--cron: {cron!r} is never due: no such day comes in the next 50 years; choose another day or month"
        )
    return schedule


@contextmanager
def _server() -> Iterator[SyncPrefectClient]:
    """Give a client of the server that PREFECT_API_URL names; a deployment on one that ends with us is of no use."""
    url = PREFECT_API_URL.value()
    advice = "start one (prefect server start) and export PREFECT_API_URL=http://127.0.0.1:4200/api"
    if not url:
        raise InputError(f"a schedule needs a Prefect server, and PREFECT_API_URL names none: {advice}")
    with get_client(sync_client=True) as client:
        if (problem := client.api_healthcheck()) is not None:
            raise InputError(f"the Prefect server {url} does not answer ({problem}): {advice}")
        try:
            yield client
        except PrefectHTTPStatusError as error:
            raise InputError(
                f"the Prefect server {url} refuses: {' '.join(error.response.text.split())[:500]}"
            ) from error


def _block(client: SyncPrefectClient, block: str) -> UUID:
    """Return the id of a block that can notify."""
    kind, slash, name = block.partition("/")
    if not (kind and slash and name):
        raise InputError(
            f"--notify: {block!r} is no block; write it as prefect block ls does: slack-webhook/ops"
        )
    try:
        found = client.read_block_document_by_name(name, kind)
    except ObjectNotFound as error:
        raise InputError(
            f"--notify: there is no block {block}; make it in Prefect's UI, or with infra/blocks.py"
        ) from error
    capabilities = found.block_schema.capabilities if found.block_schema else []
    if "notify" not in capabilities:
        raise InputError(
            f"--notify: {block} cannot notify; take a slack-webhook, custom-webhook or sendgrid-email"
        )
    return found.id


def failure_notice(title: str, deployment: UUID, blocks: Sequence[UUID]) -> AutomationCore:
    """Tell the blocks when a run of the deployment failed, and why."""
    return AutomationCore(
        name=title,
        description="Says why a run failed (a gate that does not hold, too), and where it is.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={
                "prefect.resource.role": "deployment",
                "prefect.resource.id": f"prefect.deployment.{deployment}",
            },
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            threshold=1,
            within=timedelta(0),
        ),
        actions=[SendNotification(block_document_id=block, subject=SUBJECT, body=BODY) for block in blocks],
    )
