"""What `calig deploy` puts on a server, and what it refuses, each in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calig.errors import InputError
from tests.material import session
from tests.material.deployments import deploy, deployment, scheduled, write_audit
from tests.material.services import NEEDS_POSTGRES, ROOT, Server, prefect_on_postgres, server_at, wait_for
from tests.material.tiers import extended
from tests.material.tiny import audit_config

ON_POSTGRES = pytest.param(
    "postgres", marks=[*NEEDS_POSTGRES, extended("the same on PostgreSQL, where servers of many people are")]
)
WITH_SERVER = pytest.mark.parametrize("server", ["sqlite", ON_POSTGRES], indirect=True)


@pytest.fixture
def server(request: pytest.FixtureRequest, prefect_server: str) -> Server:
    """A Prefect server, on the database that the test asks for."""
    if request.param == "postgres":
        return prefect_on_postgres()
    return server_at(prefect_server, session.folder() / "prefect")


@pytest.mark.parametrize(
    ("cron", "runs"),
    [
        ("0 2 * * *", 365),
        ("0 2 * * 1-5", 261),
        ("30 2 * * 1", 52),
        ("0 * * * *", 8766),
        ("*/5 * * * *", 105_190),
        ("0 3 1 * *", 12),
        ("0 3 1 1 *", 1),
    ],
)
def test_how_often_a_schedule_runs_in_a_year(cron: str, runs: int) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    from flows.deploy import runs_per_year

    found = runs_per_year(CronSchedule(cron=cron, timezone="Europe/Berlin"))
    assert found == pytest.approx(runs, rel=0.02, abs=0.6)


@WITH_SERVER
def test_deploying_puts_one_deployment_on_the_server_and_again_brings_it_up_to_date(
    server: Server, tmp_path: Path
) -> None:
    config = write_audit(
        tmp_path, "weekly", 8, gates={"max_failure_share": 0.2}, runtime={"workers": "${WORKERS:-1}"}
    )
    said = deploy(server, config, "--cron", "30 2 * * 1", "--timezone", "Europe/Berlin")
    assert said.startswith("calig-audit/weekly: 30 2 * * 1 Europe/Berlin, next run ")
    assert "the schedule runs about 52 times a year, and gates.runs_per_year is 365" in " ".join(said.split())
    made = deployment(server, "weekly")
    assert made["parameters"]["config"] == {
        "name": "weekly",
        "model": {"id": "${MODEL}"},
        "corpus": {"path": "weekly.parquet", "text": "text", "label": "label", "id": "id"},
        "runtime": {"shard_documents": 8, "threads": 1, "workers": 1},
        "warehouse": "weekly-warehouse",
        "gates": {"max_failure_share": {"limit": 0.2}},
    }
    [schedule] = made["schedules"]
    assert schedule["schedule"] | {"day_or": True} == {
        "cron": "30 2 * * 1",
        "timezone": "Europe/Berlin",
        "day_or": True,
    }
    assert made["global_concurrency_limit"]["limit"] == 1
    assert made["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert made["entrypoint"] == "flows.audit.audit"
    assert made["job_variables"]["working_dir"] == str(tmp_path)
    assert server.api("GET", "/work_pools/calig")["type"] == "process"
    wait_for(lambda: scheduled(server, "weekly"), 60, "the scheduler")
    assert all("T01:30" in due or "T00:30" in due for due in scheduled(server, "weekly")), "02:30 in Berlin"

    nightly = deploy(server, config, "--cron", "0 4 * * *", "--paused", "--set", "gates=")
    assert "paused" in nightly
    assert "runs_per_year" not in nightly
    again = deployment(server, "weekly")
    assert again["id"] == made["id"]
    assert again["paused"]
    assert "gates" not in again["parameters"]["config"]
    assert [one["schedule"]["cron"] for one in again["schedules"]] == ["0 4 * * *"]
    assert scheduled(server, "weekly") == []
    automations = server.api("POST", "/automations/filter", {})
    assert [one["name"] for one in automations] == ["calig: runs without heartbeat are lost"]


@WITH_SERVER
def test_prefect_deploy_takes_the_file_in_infra(server: Server, tmp_path: Path) -> None:
    deploy(server, write_audit(tmp_path, "by-calig", 8), "--cron", "30 2 * * 1")
    arguments = ("--no-prompt", "deploy", "--prefect-file", "infra/prefect.yaml", "--all")
    done = server.command("prefect", *arguments, cwd=ROOT, CALIG_HOME=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    made = deployment(server, "sst2")
    assert made["parameters"]["config"]["model"] == {"id": "${CALIG_SHARED}/models/minilm-sst2"}
    assert made["pull_steps"] == [
        {"prefect.deployments.steps.set_working_directory": {"directory": str(tmp_path)}}
    ]
    assert made["schedules"][0]["schedule"]["timezone"] == "Europe/Berlin"
    for key in ("entrypoint", "concurrency_options", "parameter_openapi_schema", "work_pool_name"):
        assert made[key] == deployment(server, "by-calig")[key], key


def _refused(tmp_path: Path, cron: str = "0 2 * * *", **options: Any) -> None:
    from flows.deploy import deploy as deploy_audit

    deploy_audit(
        audit_config(tmp_path / "model", tmp_path / "corpus.parquet", tmp_path / "w"), cron, **options
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cron": "0 2 * *"}, "--cron: '0 2 * *' has 4 fields; write five: minute, hour, "),
        (
            {"cron": "0 0 2 * * *"},
            "--cron: '0 0 2 * * *' has 6 fields: Prefect would take the sixth for seconds; write five",
        ),
        ({"cron": "0 0 2 * * * 2027"}, "--cron: '0 0 2 * * * 2027' has 7 fields; write five"),
        ({"cron": "61 2 * * *"}, "--cron: '61 2 * * *' is no cron line"),
        ({"cron": "@reboot"}, "--cron: '@reboot' is no cron line"),
        ({"cron": "0 0 31 2 *"}, "--cron: '0 0 31 2 *' is never due"),
        ({"cron": "0 0 31 4,6,9,11 *"}, "--cron: '0 0 31 4,6,9,11 *' is never due"),
        ({"timezone": "Berlin"}, "--timezone: 'Berlin' is no time zone; write it as Europe/Berlin"),
    ],
)
def test_a_schedule_that_is_none(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        _refused(tmp_path, **options)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_named_or_does_not_answer(tmp_path: Path) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(InputError, match=r"PREFECT_API_URL names none: start one \(prefect server start\)"),
    ):
        _refused(tmp_path)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(InputError, match=r"http://127.0.0.1:9/api does not answer \(.*\): start one"),
    ):
        _refused(tmp_path)


@pytest.mark.usefixtures("prefect_server")
def test_a_block_that_is_not_there_or_cannot_notify(tmp_path: Path) -> None:
    from prefect.blocks.webhook import Webhook
    from prefect.client.orchestration import get_client

    Webhook(url="http://127.0.0.1:9").save("plain", overwrite=True)
    for block, says in (
        ("slack", "--notify: 'slack' is no block; write it as prefect block ls does: slack-webhook/ops"),
        ("slack-webhook/none", "--notify: there is no block slack-webhook/none; make it "),
        ("webhook/plain", "--notify: webhook/plain cannot notify; take a slack-webhook, "),
    ):
        with pytest.raises(InputError) as caught:
            _refused(tmp_path, notify=[block])
        assert str(caught.value).startswith(says)
    with get_client(sync_client=True) as client:
        assert "tiny" not in [one.name for one in client.read_deployments()], "nothing is deployed by halves"


@pytest.mark.parametrize(
    ("ui", "message", "ends"),
    [
        ("http://prefect.example", "a gate", "a gate\nhttp://prefect.example/runs/flow-run/{id}"),
        (None, "a gate", "a gate\nprefect flow-run inspect {id}"),
        (None, None, "Crashed\nprefect flow-run inspect {id}"),
    ],
)
def test_a_notice_says_where_the_run_is_also_without_a_ui(
    ui: str | None, message: str | None, ends: str
) -> None:
    from uuid import uuid4

    from prefect.server.events import jinja_filters
    from prefect.server.schemas.core import FlowRun
    from prefect.server.schemas.states import State, StateType
    from prefect.server.utilities.user_templates import (
        register_user_template_filters,
        render_user_template,
    )
    from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings
    from prefect.utilities.asyncutils import run_coro_as_sync

    from flows.deploy import BODY

    register_user_template_filters(jinja_filters.all_filters)
    state = State(type=StateType.CRASHED, message=message)
    run = FlowRun(id=uuid4(), flow_id=uuid4(), state=state)
    with temporary_settings({PREFECT_UI_URL: ui, PREFECT_API_URL: None}):
        text = run_coro_as_sync(render_user_template(BODY, {"flow_run": run}))
    assert text == ends.format(id=run.id)
