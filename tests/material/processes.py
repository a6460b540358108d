"""The command line as a process of its own, to be killed when it is at work."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.material.services import without_prefect
from tests.material.tiny import shard_times

ROOT = Path(__file__).parents[2]


def start(
    command: str,
    config: Path,
    tmp_path: Path,
    processes: list[subprocess.Popen[str]],
    server: str | None = None,
) -> Any:
    """Start `python -m calig <command>` with a Prefect home of its own; without `server`, it starts one, too."""
    process = subprocess.Popen(
        [sys.executable, "-m", "calig", command, str(config)],
        env={
            **without_prefect(),
            "PREFECT_HOME": str(tmp_path / "prefect"),
            **({"PREFECT_API_URL": server} if server else {}),
        },
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job ignores it,
    )
    processes.append(process)
    return process


def wait_for_shards(warehouse: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while len(shard_times(warehouse)) < count:
        assert process.poll() is None, f"ended with {process.returncode}: {process.communicate()[1]}"
        assert time.monotonic() < deadline, "no shards in time"
        time.sleep(0.005)
