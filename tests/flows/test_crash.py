"""A few of the kills of `make crash`: nothing is lost, done twice, or left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

KILLS, OWN_SERVERS, SEED = 15, 1, 7


def test_killed_audits_keep_their_promises() -> None:
    asked = ["--kills", str(KILLS), "--own-servers", str(OWN_SERVERS), "--seed", str(SEED)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", *asked],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.stdout, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["broken"] == []
    assert sum(summary["reached"].values()) == KILLS + OWN_SERVERS
    assert summary["reached"].get("not reached", 0) < KILLS / 3, done.stdout
    assert done.returncode == 0
