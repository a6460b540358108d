"""A scheduled audit takes the day of its schedule's time zone, and refuses two zones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule

from calig.config import AuditConfig, parse_config
from calig.errors import InputError
from flows.audit import audit
from flows.deploy import _check_days, due
from flows.zone import in_zone, with_schedule_zone


def _config(path: str = "{{ yesterday }}.csv", **corpus: str) -> AuditConfig:
    return parse_config({"model": {"id": "m"}, "corpus": {"path": path, **corpus}})


@contextmanager
def _deployed(*zones: str | None) -> Iterator[str]:
    """A deployment with a schedule in each of the zones."""
    with get_client(sync_client=True) as client:
        made = client.create_deployment(
            flow_id=client.create_flow(audit),
            name=f"zones-{uuid4()}",
            schedules=[
                DeploymentScheduleCreate(
                    schedule=CronSchedule(cron=f"0 {hour} * * *", timezone=zone), active=True
                )
                for hour, zone in enumerate(zones)
            ],
            paused=True,
        )
        try:
            yield str(made)
        finally:
            client.delete_deployment(made)


@pytest.mark.usefixtures("prefect_server")
def test_the_day_is_that_of_the_schedule() -> None:
    """At 01:00 of 25 November in Greenwich it is 24 November in Honolulu."""
    moment = datetime(2026, 11, 25, 1, tzinfo=UTC)
    with _deployed("Pacific/Honolulu") as honolulu:
        started = with_schedule_zone(_config(), honolulu).started(moment)
        assert started.dated_corpus.path == "2026-11-23.csv"
        with pytest.raises(
            InputError, match=r"corpus.timezone is UTC and the schedule of .* is in Pacific/Honolulu"
        ):
            with_schedule_zone(_config(timezone="UTC"), honolulu)
        assert (
            with_schedule_zone(_config(timezone="Pacific/Honolulu"), honolulu).corpus.zone
            == "Pacific/Honolulu"
        )
        assert with_schedule_zone(_config("x.csv", timezone="UTC"), honolulu).corpus.zone == "UTC", (
            "has no date"
        )
    with _deployed(None) as without:
        assert with_schedule_zone(_config(), without).started(moment).dated_corpus.path == "2026-11-24.csv"
    with (
        _deployed("Europe/Berlin", "Asia/Tokyo") as two,
        pytest.raises(InputError, match=r"zones Asia/Tokyo, Europe/Berlin, but an audit has one"),
    ):
        with_schedule_zone(_config(), two)
    with _deployed() as unscheduled:
        assert with_schedule_zone(_config(), unscheduled).corpus.timezone is None


def test_a_run_that_no_deployment_started_keeps_its_zone() -> None:
    config = _config()
    assert with_schedule_zone(config, None) is config
    assert in_zone(config, "Asia/Tokyo", "--timezone").corpus.timezone == "Asia/Tokyo"


@pytest.mark.parametrize("cron", ["0 0 * * *", "30 2 * * *", "59 23 * * *"])
@pytest.mark.parametrize(
    ("zone", "around"),
    [
        ("Europe/Berlin", date(2026, 3, 29)),
        ("Europe/Berlin", date(2026, 10, 25)),
        ("America/New_York", date(2026, 3, 8)),
        ("America/New_York", date(2026, 11, 1)),
        ("Australia/Lord_Howe", date(2026, 4, 5)),
        ("Africa/Cairo", date(2026, 10, 30)),  # at midnight
    ],
)
def test_no_day_is_left_out_or_taken_twice_when_the_clocks_change(cron: str, zone: str, around: date) -> None:
    start = datetime(around.year, around.month, around.day, 12, tzinfo=UTC) - timedelta(4)
    moments = due(CronSchedule(cron=cron, timezone=zone), 8, start)
    config = _config(timezone=zone)
    days = [config.started(datetime.fromtimestamp(moment.timestamp(), UTC)).date for moment in moments]
    first = days[0]
    assert first is not None
    assert days == [first + timedelta(day) for day in range(8)]


@pytest.mark.parametrize("zone", ["Africa/Cairo", "America/Santiago"])
def test_a_run_at_a_midnight_that_there_is_not_every_day_is_refused(zone: str) -> None:
    """Their clocks go from 0:00 to 1:00 once a year, and Prefect would start that run on the day before."""
    with pytest.raises(
        InputError, match=rf"--cron: '0 0 \* \* \*' falls into the hour that {zone} leaves out on 20"
    ):
        _check_days(CronSchedule(cron="0 0 * * *", timezone=zone))
    _check_days(CronSchedule(cron="30 1 * * *", timezone=zone))


@pytest.mark.parametrize("cron", ["0 0 * * *", "30 2 * * 1", "*/5 * * * *", "0 3 1 * *", "30 23 * * *"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_other_schedules_are_not_refused(cron: str, zone: str) -> None:
    _check_days(CronSchedule(cron=cron, timezone=zone))
