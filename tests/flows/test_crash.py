"""A few of the kills of `python -m tests.crash`: nothing is lost, done twice, or left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.material.services import without_prefect
from tests.material.tiers import extended

KILLS, WORKERS, OWN_SERVERS, SEED = 15, 1, 1, 7


@extended("seventeen audits that are killed, and as many that go on from there")
def test_killed_audits_keep_their_promises() -> None:
    numbers = {"--kills": KILLS, "--workers": WORKERS, "--own-servers": OWN_SERVERS, "--seed": SEED}
    asked = [word for name, number in numbers.items() for word in (name, str(number))]
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", *asked],
        cwd=Path(__file__).parents[2],
        env=without_prefect(),
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.stdout, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["broken"] == []
    assert sum(summary["kinds"].values()) == KILLS + WORKERS + OWN_SERVERS
    assert sum(summary["died_in"].values()) == KILLS
    assert summary["died_in"].get("not reached", 0) < KILLS / 3, done.stdout
    assert done.returncode == 0
