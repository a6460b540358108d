"""Kill audits, thousands of ways, and look at what is left: `make crash`, or `python -m tests.crash --kills 200`.

A small audit is run in a process of its own, which is killed (SIGKILL) just before or just after one of the steps that
change its warehouse (a rename, a sync, a deletion, a new folder, counted from its start: every stage ends in some), or
at a random moment. Then the audit is run again, and `calig doctor --fix` after it. What must hold:

- the second run ends well, and its tables are those of an audit that nobody disturbed;
- every shard that was finished stays as it is, and the second run computes the other documents alone;
- no temporary file is left;
- of audits that brought a Prefect server of their own, no process is left.

Processes are forked from one that has imported everything and done nothing, so that a kill costs a second or two.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCUMENTS, SHARD = 48, 8
STEPS = ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir")
"""Functions of `os` that all changes of a warehouse go through but the writing of new, temporary files."""
LEFTOVERS = (".*.part*", ".ingest-*", ".spill-*", "*.tmp", ".*.trash*")
PATIENCE = 240.0


@dataclass(frozen=True, slots=True)
class Kill:
    """When the process dies: at its `step`-th step (None: at no step), before or after it; or after `seconds`."""

    step: int | None = None
    after: bool = False
    seconds: float | None = None


class BrokenPromiseError(AssertionError):
    """Something was lost, done twice, or left behind."""


def forked(work: Callable[[], Any], seconds: float = PATIENCE) -> tuple[int, Any]:
    """Run `work` in a child process, killed after so many seconds; return how it ended (a status of `os.waitpid`), and
    what `work` returned.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            answer = json.dumps(work())
            os.write(writing, answer.encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    timer = threading.Timer(seconds, os.kill, (child, signal.SIGKILL))
    timer.start()
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    timer.cancel()
    return status, json.loads(answer) if answer else None


def count_steps(root: Path, at: Kill) -> list[str]:
    """Count the steps under `root` from here on, in this process, and die at the one that `at` names."""
    done: list[str] = []
    guard = threading.Lock()

    def place(argument: Any) -> str:
        if isinstance(argument, int):
            return str(Path(f"/proc/self/fd/{argument}").readlink())
        return os.fspath(argument)

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(argument: Any, *others: Any, **options: Any) -> Any:
            if "dir_fd" not in options and not place(argument).startswith(str(root)):
                return function(argument, *others, **options)
            with guard:
                done.append(f"{name} {Path(place(argument)).name}")
                dies = at.step == len(done)
            if dies and not at.after:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(argument, *others, **options)
            finally:
                if dies:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in STEPS:
        setattr(os, name, counted(name, getattr(os, name)))
    return done


@dataclass(frozen=True, slots=True)
class Crashes:
    """The audit that is killed: where its files lie, and what it leaves undisturbed."""

    home: Path
    model: Path
    corpus: Path

    @classmethod
    def prepared(cls, home: Path) -> Crashes:
        """Write model and corpus."""
        from tests.flows.material import make_rows, save_model, write_parquet

        def write() -> None:
            save_model(home / "model")
            write_parquet(home / "corpus.parquet", make_rows(DOCUMENTS, seed=5))

        status, _ = forked(write)
        assert status == 0
        return cls(home, home / "model", home / "corpus.parquet")

    def config(self, warehouse: Path) -> dict[str, Any]:
        """The audit, as plain JSON."""
        from tests.flows.material import audit_dict

        return audit_dict(
            self.model,
            self.corpus,
            warehouse,
            runtime={"shard_documents": SHARD, "threads": 1},
            watch={"people": ["cast", "story"]},
            gates={"min_converged_share": 0.5},
        )

    def audit(self, warehouse: Path, at: Kill = Kill()) -> tuple[int, dict[str, Any] | None]:
        """Run the audit in a child process, to be killed as `at` says; return its status, and run id and steps."""
        from calig.config import parse_config

        config = self.config(warehouse)

        def run() -> dict[str, Any]:
            steps = count_steps(warehouse, at)
            from flows.audit import audit

            return {"run_id": audit(parse_config(config)).run_id, "steps": steps}

        return forked(run, PATIENCE if at.seconds is None else at.seconds)

    def tables(self, warehouse: Path, run_id: str) -> Any:
        """All tables of a run, as JSON."""
        from tests.flows.material import tables

        status, found = forked(lambda: json.loads(json.dumps(tables(warehouse, run_id), default=str)))
        assert status == 0
        return found

    def survive(self, at: Kill, name: str, undisturbed: Any) -> str:
        """Kill an audit, run it again, and check what must hold; say how far the first one came."""
        from tests.flows.material import run_manifest, shard_times

        warehouse = self.home / name
        status, _ = self.audit(warehouse, at)
        died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not died and status != 0:
            raise BrokenPromiseError(f"{at}: the first audit failed by itself")
        before = shard_times(warehouse)
        ids = {path.name for path in (warehouse / "runs").glob("*")}
        status, answer = self.audit(warehouse)
        if status != 0 or answer is None:
            raise BrokenPromiseError(f"{at}: the second audit failed")
        after = shard_times(warehouse)
        if {shard: after.get(shard) for shard in before} != before:
            raise BrokenPromiseError(f"{at}: a finished shard was written again")
        manifest = run_manifest(warehouse, answer["run_id"])
        expected = DOCUMENTS - SHARD * len(before)
        if (manifest["attributed"], manifest["reused"]) != (expected, DOCUMENTS - expected):
            raise BrokenPromiseError(f"{at}: {manifest['attributed']} computed again, not {expected}")
        self.mended(warehouse, at)
        for table, rows in self.tables(warehouse, answer["run_id"]).items():
            if problem := difference(rows, undisturbed[table]):
                raise BrokenPromiseError(f"{at}: in {table}, {problem} as undisturbed")
        if not died:
            return "not reached"
        return f"{len(before)} of {DOCUMENTS // SHARD} shards, {'a' if ids else 'no'} run"

    def mended(self, warehouse: Path, at: Kill) -> None:
        """Run the doctor, and look for what is left behind."""

        def mend() -> list[str]:
            from calig.doctor import examine

            list(examine(warehouse, fix=True))
            return sorted(str(p.relative_to(warehouse)) for g in LEFTOVERS for p in warehouse.rglob(g))

        status, left = forked(mend)
        if status != 0 or left:
            raise BrokenPromiseError(f"{at}: left behind: {left}")


def difference(rows: list[Any], wanted: list[Any]) -> str | None:
    """What two tables differ in, beyond the order in which DuckDB's threads add numbers up."""
    if len(rows) != len(wanted):
        return f"there are {len(rows)} rows, not {len(wanted)}"
    for here, there in zip(rows, wanted, strict=True):
        for a, b in zip(here, there, strict=True):
            close = (
                isinstance(a, float)
                and isinstance(b, float)
                and math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-15)
            )
            if a != b and not close:
                return f"{a} of {here} is not {b}"
    return None


def plan(kills: int, steps: int, seconds: float, seed: int) -> list[Kill]:
    """Two of three kills at steps, evenly over all of them, before and after in turn; the others at random moments."""
    rng = random.Random(seed)
    at_steps = round(kills * 2 / 3)
    every = [Kill(step, after) for step in range(1, steps + 1) for after in (False, True)]
    chosen = every if at_steps >= len(every) else sorted(rng.sample(range(len(every)), at_steps))
    found = [item if isinstance(item, Kill) else every[item] for item in chosen]
    return [*found, *(Kill(seconds=rng.uniform(0, seconds)) for _ in range(kills - len(found)))]


@contextmanager
def server(home: Path) -> Iterator[None]:
    """A Prefect server for all audits, which outlives them; the one of PREFECT_API_URL, if that is set."""
    if os.environ.get("PREFECT_API_URL"):
        yield
        return
    port = random.randrange(20_000, 60_000)
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/api"
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=5):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        os.environ["PREFECT_API_URL"] = url
        yield
    finally:
        process.terminate()
        process.wait()


def kill_with_own_server(crashes: Crashes, number: int, seconds: float) -> str:
    """Kill the command line's audit, which brings its own Prefect server, and see that nothing of it lives on."""
    import yaml

    warehouse = crashes.home / f"own-{number}"
    config = crashes.home / f"own-{number}.yaml"
    config.write_text(yaml.safe_dump(crashes.config(warehouse)))
    home = crashes.home / f"prefect-{number}"
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "calig", "audit", str(config)],
        env={**inherited, "PREFECT_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    ended = process.poll() is not None
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while left := processes_of(home):
        if time.monotonic() > deadline:
            raise BrokenPromiseError(f"killed after {seconds:.1f} s: processes {left} live on")
        time.sleep(0.2)
    return "ended before" if ended else "killed"


def processes_of(home: Path) -> list[int]:
    """Processes with this Prefect home in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"PREFECT_HOME={home}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def main() -> None:
    """Kill, run again, check; print a line per kill and a summary as JSON; exit with 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument(
        "--own-servers", type=int, default=10, help="kills of audits with a server of their own"
    )
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    broken: list[str] = []
    reached: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="calig-crash-") as folder:
        home = Path(folder)
        os.environ |= {"PREFECT_HOME": str(home / "prefect"), "PREFECT_LOGGING_TO_API_ENABLED": "false"}
        os.environ |= {"PREFECT_LOGGING_LEVEL": "ERROR", "TQDM_DISABLE": "1"}
        with server(home):
            import transformers  # noqa: F401

            import flows.audit  # noqa: F401 - here, so that children find it imported

            crashes = Crashes.prepared(home)
            start = time.perf_counter()
            status, answer = crashes.audit(home / "undisturbed")
            seconds = time.perf_counter() - start
            assert status == 0
            assert answer is not None
            undisturbed = crashes.tables(home / "undisturbed", answer["run_id"])
            print(f"undisturbed: {len(answer['steps'])} steps, {seconds:.1f} s", flush=True)
            for number, at in enumerate(plan(asked.kills, len(answer["steps"]), seconds, asked.seed)):
                try:
                    how = crashes.survive(at, f"w{number}", undisturbed)
                except BrokenPromiseError as error:
                    how = f"BROKEN: {error}"
                    broken.append(str(error))
                reached[how] += 1
                print(f"{number + 1} {at}: {how}", flush=True)
        del os.environ["PREFECT_API_URL"]
        for number in range(asked.own_servers):
            try:
                how = kill_with_own_server(crashes, number, rng.uniform(5, 45))
            except BrokenPromiseError as error:
                how = f"BROKEN: {error}"
                broken.append(str(error))
            reached[f"own server: {how}"] += 1
            print(f"own server {number + 1}: {how}", flush=True)
    print(json.dumps({"kills": asked.kills + asked.own_servers, "broken": broken, "reached": reached}))
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
