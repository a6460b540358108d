"""Audits that are deployed on a Prefect server by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.material.services import Server
from tests.material.tiny import audit_dict, make_rows, write_parquet

SECRET = "x7Qz-never-to-be-stored"
"""The name of a folder that only the environment variable MODEL knows."""


def write_audit(folder: Path, name: str, documents: int, bad: int = 0, **sections: Any) -> Path:
    """An audit's YAML with relative paths, the model in ${MODEL}; `bad` of the documents are empty."""
    rows = [*make_rows(documents, seed=3), *({"id": f"b{n}", "text": "", "label": 0} for n in range(bad))]
    write_parquet(folder / f"{name}.parquet", rows)
    data = audit_dict(Path("${MODEL}"), Path(f"{name}.parquet"), Path(f"{name}-warehouse"), **sections)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(data | {"name": name}))
    return path


def deploy(server: Server, config: Path, *options: str) -> str:
    """Deploy an audit by the command line, on a machine where MODEL is a folder; return what it prints."""
    variables = {"MODEL": str(server.folder / SECRET), "SHARD": "4"}
    done = server.command("calig", "deploy", config.name, *options, cwd=config.parent, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def deployment(server: Server, name: str) -> dict[str, Any]:
    """What the server knows of the deployment of an audit."""
    found: dict[str, Any] = server.api("GET", f"/deployments/name/calig-audit/{name}")
    return found


def scheduled(server: Server, name: str) -> list[str]:
    """When the runs of a deployment are due."""
    body = {
        "deployments": {"name": {"any_": [name]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "sort": "EXPECTED_START_TIME_ASC",
    }
    return [run["expected_start_time"] for run in server.api("POST", "/flow_runs/filter", body)]
