"""The files in infra/: each is what the program that reads it takes, and says what `calig deploy` says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any
from uuid import UUID

import pytest
import yaml

from tests.material.services import ROOT

INFRA = ROOT / "infra"


def _yaml(name: str) -> Any:
    return yaml.safe_load((INFRA / name).read_text())


def test_the_automations_are_those_of_calig_deploy() -> None:
    from prefect.automations import AutomationCore

    from flows.deploy import failure_notice
    from flows.lost_runs import LOST_RUNS

    lost = AutomationCore.model_validate(_yaml("automations/lost-runs.yaml"))
    assert lost.model_dump() == LOST_RUNS.model_dump()

    block, deployment = UUID(int=1), UUID(int=2)
    text = Template((INFRA / "automations/failed-audits.yaml").read_text()).safe_substitute(BLOCK_ID=block)
    told = AutomationCore.model_validate(yaml.safe_load(text)).model_dump()
    expected = failure_notice("calig: an audit failed", deployment, [block]).model_dump()
    assert told["trigger"].pop("match_related") == {
        "prefect.resource.role": "flow",
        "prefect.resource.name": "calig-audit",
    }
    expected["trigger"].pop("match_related")
    assert told == expected


def test_the_example_deployment_is_an_audit_and_beats_as_the_automation_counts_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from calig.config import load_config, parse_config
    from flows.audit import audit
    from flows.lost_runs import HEARTBEAT_SECONDS, TAG

    content = _yaml("prefect.yaml")
    [deployment] = content["deployments"]
    config = deployment["parameters"]["config"]
    monkeypatch.setenv("CALIG_SHARED", "/shared")
    audited = load_config(INFRA / "audits" / "sst2.yaml")
    expanded = json.loads(json.dumps(config).replace("${CALIG_SHARED}", "/shared"))
    assert parse_config(expanded) == audited
    assert deployment["entrypoint"] == f"{audit.fn.__module__}.{audit.fn.__name__}"
    assert deployment["tags"] == [TAG]
    variables = deployment["work_pool"]["job_variables"]["env"]
    assert variables == {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)}


def test_the_compose_file_fits_its_schema_and_opens_nothing_beyond_loopback() -> None:
    schemas = pytest.importorskip("check_jsonschema", reason="pip install check-jsonschema")
    import jsonschema

    compose = _yaml("compose.yaml")
    schema = files(schemas) / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(compose, json.loads(schema.read_text()))
    services = compose["services"]
    assert set(services) == {"postgres", "server", "worker"}
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:4200:4200"]
    used = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert {name for name in used if re.fullmatch(r"\w+", name)} == set(compose["volumes"])
    for service in services.values():
        assert service["healthcheck"]["test"][0] == "CMD"
        assert all(
            needed["condition"] == "service_healthy" for needed in service.get("depends_on", {}).values()
        )
        for variable, value in service["environment"].items():
            if "PASSWORD" in variable or "@" in value:
                assert "${POSTGRES_PASSWORD" in value, "no secret in the file"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in (INFRA / "systemd").iterdir():
        text = unit.read_text()
        for program in set(re.findall(r"/opt/calig/bin/\w+", text)):
            text = text.replace(program, "/bin/true")  # of this machine: systemd wants to see the program
        (tmp_path / unit.name).write_text(text)
    units = sorted(tmp_path.iterdir())
    assert len(units) == 5
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 0
    [due] = re.findall("OnCalendar=(.*)", (INFRA / "systemd" / "calig-audit@.timer").read_text())
    read = subprocess.run(["systemd-analyze", "calendar", due], capture_output=True, text=True)
    assert read.returncode == 0, read.stderr


def _cron_line() -> tuple[str, str, str]:
    """When, who and what of the one line of calig.cron."""
    lines = (INFRA / "calig.cron").read_text().splitlines()
    [line] = [line for line in lines if line and not line.startswith("#") and "=" not in line.split()[0]]
    *when, who, what = line.split(None, 6)
    return " ".join(when), who, what


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not installed")
@pytest.mark.parametrize(("code", "mailed"), [(0, ""), (1, "calig: gates.min_accuracy: 0.6 is below 0.8\n")])
def test_the_cron_line_says_something_only_when_the_audit_failed(
    code: int, mailed: str, tmp_path: Path
) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    when, who, what = _cron_line()
    assert CronSchedule(cron=when).cron == "0 2 * * *"
    assert who == "calig"
    assert "%" not in what, "cron would end the line there"
    calig = tmp_path / "calig"
    calig.write_text(f'#!/bin/sh\necho "calig: gates.min_accuracy: 0.6 is below 0.8"\nexit {code}\n')
    calig.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    here = what.replace("/srv/calig", str(tmp_path))
    done = subprocess.run(["/bin/sh", "-c", here], env=environment, capture_output=True, text=True)
    assert done.stdout + done.stderr == mailed
    lock = ["flock", str(tmp_path / "reviews.lock"), "/bin/sh", "-c", here]
    held = subprocess.run(lock, env=environment, capture_output=True, text=True)
    assert held.stdout + held.stderr == "", "the last night is still at work"
