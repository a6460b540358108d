"""Run tests of a copy of the project, again and again: imports others' packages once, and forks a process per run.

It is run as a file, so that no package of the project is imported here. A line of standard input is a request in JSON,
a line of standard output its answer. Of a run, the answer says how it ended:

- `passed`, `failed` (by `test`), `import` (a file of tests could not be imported), `crash` (the process died);
- `hang`: one test took longer than its patience; `limit`: the run took longer than its limit;
- `broken`: the run could not be prepared.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import runpy
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

IMPORTED = (
    *(
        "torch",
        "transformers",
        "transformers.models.bert.modeling_bert",
        "duckdb",
        "pyarrow.parquet",
        "datasets",
    ),
    *("hypothesis", "scipy.stats", "pydantic", "typer", "rich.console", "jinja2", "yaml", "fsspec"),
    *("prefect", "prefect.testing.utilities", "sklearn", "captum.attr", "PIL.Image"),
)
"""Not Ray: the project asks whether it has been imported."""
TOKEN = "CALIG_MUTANTS_RUN"


class Chosen:
    """A plugin of pytest: keeps the asked tests, in the asked order, and writes down what happens to them."""

    def __init__(self, ids: Sequence[str], events: Path) -> None:
        self.places = {id: place for place, id in enumerate(ids)}
        self.events = events

    def tell(self, event: str, **more: Any) -> None:
        """Append an event, for the process that watches."""
        with self.events.open("a") as file:
            file.write(json.dumps({"event": event, **more}) + "\n")

    @pytest.hookimpl(trylast=True)  # after pytest has ordered them by their fixtures
    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        kept = [item for item in items if item.nodeid in self.places]
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in self.places])
        items[:] = sorted(kept, key=lambda item: self.places[item.nodeid])
        self.tell("collected", count=len(items))

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.tell("broken", text=str(report.longrepr)[-300:])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.tell("start", test=nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            lines = str(report.longrepr).strip().splitlines()
            text = next((line for line in lines if line.startswith("E ")), lines[-1] if lines else "")
            self.tell("failed", test=report.nodeid, text=text[2:].strip()[:200])

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.tell("end", test=nodeid)


def prepare(copy: Path) -> None:
    """Import others' packages, with the environment that the project gives them first."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    runpy.run_path(str(copy / "tasks" / "__init__.py"))  # it sets Prefect's variables and imports nothing
    for name in IMPORTED:
        try:
            importlib.import_module(name)
        except ImportError:
            continue


def child(request: dict[str, Any]) -> int:
    """Run the tests in this process."""
    copy = Path(request["copy"])
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(copy)
    os.environ |= {"PYTHONPATH": str(copy), TOKEN: request["token"]}
    sys.path.insert(0, str(copy))
    importlib.invalidate_caches()
    for name in ("calig", "tasks", "flows"):
        found = importlib.util.find_spec(name)
        if name in sys.modules or found is None or not str(found.origin).startswith(str(copy)):
            raise SystemExit(f"{name} would not be imported from the copy")
    shutil.rmtree(copy / ".hypothesis", ignore_errors=True)  # examples that another mutant failed at
    files = sorted({id.split("::")[0] for id in request["ids"]})
    options = [
        "-x",
        "-n0",
        "--dist",
        "no",
        "--tier",
        "all",
        "-p",
        "no:cacheprovider",
        "--hypothesis-seed=1",
        "--tb=short",
    ]
    options += ["--rootdir", str(copy), "--basetemp", request["temporary"]]
    return int(pytest.main([*options, *files], plugins=[Chosen(request["ids"], Path(request["events"]))]))


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Fork, watch, and end all that the run has started."""
    events = Path(request["events"])
    events.write_text("")
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = child(request)
        except BaseException as error:  # the answer is the exit code; the log says why
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    ended, status = watch(pid, request, events, start)
    for kill, target in ((os.killpg, pid), (os.kill, pid)):
        try:
            kill(target, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if status is None:
        os.waitpid(pid, 0)
    sweep(request["token"])
    answer = {"end": ended, "seconds": round(time.monotonic() - start, 2), **told(events)}
    if status is not None:
        answer["end"] = verdict(status, answer)
    return answer


def watch(pid: int, request: dict[str, Any], events: Path, start: float) -> tuple[str, int | None]:
    """Wait for the end of a run, or for one of its limits; give its status if it has ended."""
    size, current, since = 0, None, start
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return "", status
        now = time.monotonic()
        if events.stat().st_size != size:
            size = events.stat().st_size
            latest = told(events)["current"]
            if latest != current:
                current, since = latest, now
        patience = request["patience"][current] if current else request["limit"]
        if now - since > patience and current:
            return "hang", None
        if now - start > request["limit"]:
            return "limit", None
        time.sleep(0.05)


def told(events: Path) -> dict[str, Any]:
    """What the events say: the failed test, the one at work, how many ended."""
    found: dict[str, Any] = {"current": None, "test": None, "text": "", "done": [], "collected": None}
    for line in events.read_text().splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:  # it is being written
            continue
        if event["event"] == "start":
            found["current"] = event["test"]
        elif event["event"] == "end":
            found["current"] = None
            found["done"].append(event["test"])
        elif event["event"] == "failed" and found["test"] is None:
            found["test"], found["text"] = event["test"], event["text"]
        elif event["event"] == "broken":
            found["text"] = event["text"]
        elif event["event"] == "collected":
            found["collected"] = event["count"]
    return found


def verdict(status: int, answer: dict[str, Any]) -> str:
    """How a run ended that came to an end by itself."""
    code = os.waitstatus_to_exitcode(status)
    if code in (0, 5):  # all passed; none were there
        return "passed"
    if answer["test"]:
        return "failed"
    if code < 0 or answer["current"]:
        return "crash"
    return "broken" if code == 70 else "import"


def sweep(token: str) -> None:
    """Kill what a run started in sessions of its own; its environment tells."""
    mark = f"{TOKEN}={token}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            continue


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    prepare(Path(sys.argv[1]))
    answers.write(json.dumps({"end": "ready"}) + "\n")
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(run(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
