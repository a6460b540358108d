"""Kill audits, thousands of ways, and look at what is left: `python -m tests.crash --kills 200`.

A small audit, with two workers and an earlier run to be compared with, is run in a process of its own, which is killed
(SIGKILL)

- where a stage begins and where it ends, each of them;
- just before or just after one of the steps that change its warehouse (a rename, a sync, a deletion, a new folder);
- at a random moment of the audit, and of the stages after attribution, most of whose work is DuckDB's.

Then the audit is run again. What must hold:

- the second run ends well, and its tables are those of an audit that nobody disturbed;
- the killed run is failed where it was running, else complete, with the same tables: the doctor finds nothing to mend;
- every shard that was finished stays as it is, and the second run computes the other documents alone;
- no temporary file is left after `calig doctor --fix`;
- of audits that brought a Prefect server of their own, no process is left.

Of audits whose workers are processes, one worker is killed, as it starts or at its work: the audit itself goes on, and
ends as one that nobody disturbed.

Processes are forked from one that has imported everything and done nothing, so that a kill costs a second or two.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import math
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCUMENTS, EARLIER, SHARD, WORKERS = 24, 8, 4, 2
STEPS = ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir")
"""Functions of `os` that all changes of a warehouse go through but the writing of new, temporary files."""
AFTERWARDS = ("aggregate_run", "make_tables", "compare_runs", "check_gates", "write_report", "complete_run")
STAGES = (
    *("describe_model", "bring_in", "learn_schedule", "start_run", "missing_shards", "attribute_shard"),
    *AFTERWARDS,
)
"""The stages, in order, by the functions that Prefect's tasks call."""
IMPORTED = (
    *("flows.audit", "calig.attribution.explainer", "calig.models.loading", "calig.report.build"),
    *(
        "calig.report.trend",
        "calig.warehouse.query",
        "calig.doctor",
        "transformers.models.bert.modeling_bert",
    ),
)
LEFTOVERS = (".*.part*", ".ingest-*", ".spill-*", "*.tmp", ".*.trash*")
PATIENCE = 240.0


@dataclass(frozen=True, slots=True)
class Kill:
    """When the process dies.

    At the `step`-th of the steps that change the warehouse, before or after it; or where the `number`-th `stage` of its
    name begins, or ends (`after`); or so many `seconds` after it began, or where no stage is named, after the start.
    """

    step: int | None = None
    after: bool = False
    stage: str | None = None
    number: int = 1
    seconds: float | None = None

    @property
    def kind(self) -> str:
        """What it is counted as."""
        if self.step is not None:
            return "a step"
        return "a stage's bound" if self.seconds is None else "a random moment"

    def __str__(self) -> str:
        side = "after" if self.after else "before"
        if self.step is not None:
            return f"{side} step {self.step}"
        where = "" if self.stage is None else f"{self.stage} {self.number}"
        return (
            f"{side} {where}" if self.seconds is None else f"{self.seconds:.2f} s into {where or 'the audit'}"
        )


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


class Scene:
    """Where an audit is, known to the process that forked it too, also after its death."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 64)

    @property
    def stage(self) -> str:
        """The stage under way, or the last that began."""
        return self._shared[:].rstrip(b"\0").decode() or "start"

    @stage.setter
    def stage(self, name: str) -> None:
        self._shared[:] = name.encode().ljust(len(self._shared), b"\0")


def die() -> None:
    """Die, as if by kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


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
                die()
            try:
                return function(argument, *others, **options)
            finally:
                if dies:
                    die()

        return call

    for name in STEPS:
        setattr(os, name, counted(name, getattr(os, name)))
    return done


def watch_stages(scene: Scene, at: Kill) -> Counter[str]:
    """Count the stages from here on, tell `scene` of them, and die where `at` says."""
    from calig import stages
    from calig.comparing import stages as comparing

    begun: Counter[str] = Counter()
    guard = threading.Lock()

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            with guard:
                begun[name] += 1
                meant = at.stage == name and at.number == begun[name]
            scene.stage = name
            if meant and at.seconds is not None:
                threading.Timer(at.seconds, die).start()
            elif meant and not at.after:
                die()
            found = function(*arguments, **options)
            if meant and at.seconds is None:
                die()
            return found

        return call

    for name in STAGES:
        module = comparing if name == "compare_runs" else stages
        setattr(module, name, watched(name, getattr(module, name)))
    return begun


@dataclass(frozen=True, slots=True)
class Crashes:
    """The audit that is killed: where its files lie, and what it leaves undisturbed."""

    home: Path
    model: Path
    corpus: Path
    earlier: Path
    """A warehouse with one run, on other documents."""

    @classmethod
    def prepared(cls, home: Path) -> Crashes:
        """Write model, corpus and the run to compare with."""
        from tests.material.tiny import make_rows, save_model, write_parquet

        def write() -> None:
            save_model(home / "model")
            rows = make_rows(DOCUMENTS + EARLIER, seed=5)
            write_parquet(home / "corpus.parquet", rows[:DOCUMENTS])
            write_parquet(home / "earlier.parquet", rows[DOCUMENTS:])

        def run_earlier() -> None:
            from calig.config import parse_config
            from flows.audit import audit

            found = crashes.config(crashes.earlier)
            found["corpus"] |= {"path": str(home / "earlier.parquet")}
            audit(parse_config(found))
            shutil.rmtree(crashes.earlier / "schedules")  # so that each audit learns its own

        crashes = cls(home, home / "model", home / "corpus.parquet", home / "earlier")
        for work in (write, run_earlier):
            status, _ = forked(work)
            assert status == 0
        return crashes

    def config(self, warehouse: Path, engine: str = "threads") -> dict[str, Any]:
        """The audit, as plain JSON."""
        from tests.material.tiny import audit_dict

        earlier = [run.name for run in (self.earlier / "runs").glob("[!.]*")]
        found = audit_dict(
            self.model,
            self.corpus,
            warehouse,
            method={"tolerance": 0.1},
            runtime={"shard_documents": SHARD, "threads": 1, "workers": WORKERS, "engine": engine},
            watch={"people": ["cast", "story"]},
            gates={"min_converged_share": 0.5},
        )
        return found | {"compare_to": earlier}

    def audit(
        self, warehouse: Path, at: Kill = Kill(), scene: Scene | None = None
    ) -> tuple[int, dict[str, Any] | None]:
        """Run the audit in a child process, to be killed as `at` says; return its status, and run id and steps."""
        from calig.config import parse_config

        config = self.config(warehouse)
        scene = scene or Scene()

        def run() -> dict[str, Any]:
            steps = count_steps(warehouse, at)
            begun = watch_stages(scene, at)
            from flows.audit import audit

            return {"run_id": audit(parse_config(config)).run_id, "steps": steps, "stages": begun}

        limit = at.seconds if at.seconds is not None and at.stage is None else PATIENCE
        return forked(run, limit)

    def fresh(self, name: str) -> Path:
        """A warehouse of its own, with the earlier run in it."""
        return shutil.copytree(self.earlier, self.home / name)

    def tables(self, warehouse: Path, run_id: str) -> Any:
        """All tables of a run, as JSON."""
        from tests.material.tiny import tables

        status, found = forked(lambda: json.loads(json.dumps(tables(warehouse, run_id), default=str)))
        assert status == 0
        return found

    def survive(self, at: Kill, name: str, undisturbed: Any) -> tuple[str, str]:
        """Kill an audit, run it again, and check what must hold; say in which stage the first died, and how far it was.

        The stage is "not reached" where it came to its end.
        """
        from tests.material.tiny import run_manifest, shard_times

        warehouse = self.fresh(name)
        shutil.rmtree(self.home / "prefect" / "storage", ignore_errors=True)  # of tasks' results
        earlier, runs = len(shard_times(warehouse)), len([*(warehouse / "runs").glob("*")])
        scene = Scene()
        status, _ = self.audit(warehouse, at, scene)
        died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not died and status != 0:
            raise BrokenPromiseError(f"{at}: the first audit failed by itself")
        before = shard_times(warehouse)
        run = "a run" if len([*(warehouse / "runs").glob("*")]) > runs else "no run"
        status, answer = self.audit(warehouse)
        if status != 0 or answer is None:
            raise BrokenPromiseError(f"{at}: the second audit failed")
        after = shard_times(warehouse)
        if {shard: after.get(shard) for shard in before} != before:
            raise BrokenPromiseError(f"{at}: a finished shard was written again")
        manifest = run_manifest(warehouse, answer["run_id"])
        done = len(before) - earlier
        expected = DOCUMENTS - SHARD * done
        if (manifest["attributed"], manifest["reused"]) != (expected, DOCUMENTS - expected):
            raise BrokenPromiseError(f"{at}: {manifest['attributed']} computed again, not {expected}")
        self.settled(warehouse, undisturbed, at)
        self.mended(warehouse, at)
        self.compare(warehouse, answer["run_id"], undisturbed, at)
        return scene.stage if died else "not reached", f"{done} of {DOCUMENTS // SHARD} shards, {run}"

    def lose_a_worker(self, seconds: float, name: str, undisturbed: Any) -> str:
        """Kill a worker process so many seconds after it was started, and check that the audit makes up for it."""
        from calig.config import parse_config
        from tests.material.tiny import run_manifest, shard_times

        warehouse = self.fresh(name)
        earlier = len(shard_times(warehouse))
        config = self.config(warehouse, "processes")

        def run() -> dict[str, Any]:
            from flows.audit import audit

            lost: list[int] = []
            threading.Thread(target=kill_a_worker, args=(seconds, lost), daemon=True).start()
            return {"run_id": audit(parse_config(config)).run_id, "lost": lost, "left": children()}

        status, answer = forked(run)
        where = f"a worker killed after {seconds:.2f} s"
        if status != 0 or answer is None or answer["left"]:
            raise BrokenPromiseError(f"{where}: the audit failed, or left workers behind")
        manifest, shards = run_manifest(warehouse, answer["run_id"]), len(shard_times(warehouse)) - earlier
        if (manifest["attributed"], shards) != (DOCUMENTS, DOCUMENTS // SHARD):
            raise BrokenPromiseError(f"{where}: {manifest['attributed']} documents in {shards} shards")
        self.mended(warehouse, where)
        self.compare(warehouse, answer["run_id"], undisturbed, where)
        return "killed" if answer["lost"] else "ended before"

    def settled(self, warehouse: Path, undisturbed: Any, where: object) -> None:
        """Check that no run is under way, that complete ones have all their tables, and that the doctor has no work."""
        from tests.material.tiny import run_manifest

        def look() -> list[str]:
            from calig.doctor import examine

            found = list(examine(warehouse))
            first = next(place for place, one in enumerate(found) if one.subject == "warehouse")
            return [f"{one.subject}: {one.text}" for one in found[first + 1 :] if one.healthy is not True]

        status, problems = forked(look)
        if status != 0 or problems:
            raise BrokenPromiseError(f"{where}: the doctor has work: {problems}")
        earlier = {path.name for path in (self.earlier / "runs").glob("[!.]*")}
        for path in (warehouse / "runs").glob("*/manifest.json"):
            run_id = path.parent.name
            state = run_manifest(warehouse, run_id)["status"]
            if state not in ("complete", "failed"):
                raise BrokenPromiseError(f"{where}: run {run_id} is {state}")
            if state == "complete" and run_id not in earlier:
                self.same(warehouse, run_id, undisturbed, where)

    def compare(self, warehouse: Path, run_id: str, undisturbed: Any, where: object) -> None:
        """Check that a run's tables are those of the run that nobody disturbed."""
        self.same(warehouse, run_id, undisturbed, where)
        shutil.rmtree(warehouse)

    def same(self, warehouse: Path, run_id: str, undisturbed: Any, where: object) -> None:
        """Check that a run's tables are those of the run that nobody disturbed."""
        for table, rows in self.tables(warehouse, run_id).items():
            if problem := difference(rows, undisturbed[table]):
                raise BrokenPromiseError(f"{where}: in {table} of {run_id}, {problem} as undisturbed")

    def mended(self, warehouse: Path, where: object) -> None:
        """Run the doctor, and look for what is left behind."""

        def mend() -> list[str]:
            from calig.doctor import examine

            list(examine(warehouse, fix=True))
            return sorted(str(p.relative_to(warehouse)) for g in LEFTOVERS for p in warehouse.rglob(g))

        status, left = forked(mend)
        if status != 0 or left:
            raise BrokenPromiseError(f"{where}: left behind: {left}")


def children() -> list[int]:
    """Worker processes of this process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"calig.engines.child" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def kill_a_worker(seconds: float, lost: list[int]) -> None:
    """Wait for a worker to be started, and so many seconds more; kill it, and say so."""
    while not (found := children()):
        time.sleep(0.02)
    time.sleep(seconds)
    if found[0] in children():
        os.kill(found[0], signal.SIGKILL)
        lost.append(found[0])


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


def plan(kills: int, steps: int, stages: dict[str, int], seconds: float, seed: int) -> list[Kill]:
    """Choose kills: first every bound of every stage; half of the others at steps, evenly over all of them.

    The rest at random moments: in turn of the whole audit, and of one of the stages after attribution.
    """
    rng = random.Random(seed)
    bounds = [
        Kill(stage=stage, number=number, after=after)
        for stage in STAGES
        for number in range(1, stages[stage] + 1)
        for after in (False, True)
    ]
    every = [Kill(step, after) for step in range(1, steps + 1) for after in (False, True)]
    first = _some(bounds, kills // 2 if kills < 2 * len(bounds) else len(bounds), rng)
    found = _some(every, min((kills - len(first) + 1) // 2, len(every)), rng)
    for number in range(kills - len(first) - len(found)):
        if number % 2:
            found.append(
                Kill(stage=AFTERWARDS[number // 2 % len(AFTERWARDS)], seconds=rng.uniform(0, seconds / 8))
            )
        else:
            found.append(Kill(seconds=rng.uniform(0, seconds)))
    rng.shuffle(found)  # so that a matrix that is stopped has some of all
    return [*first, *found]


def _some(kills: Sequence[Kill], count: int, rng: random.Random) -> list[Kill]:
    return [kills[place] for place in sorted(rng.sample(range(len(kills)), count))]


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
    parser.add_argument("--workers", type=int, default=10, help="kills of worker processes")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    broken: list[str] = []
    kinds: Counter[str] = Counter()
    died: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="calig-crash-") as folder:
        home = Path(folder)
        os.environ |= {"PREFECT_HOME": str(home / "prefect"), "PREFECT_LOGGING_TO_API_ENABLED": "false"}
        os.environ |= {"PREFECT_LOGGING_LEVEL": "ERROR", "TQDM_DISABLE": "1"}
        with server(home):
            for module in IMPORTED:  # here, so that children find them imported
                importlib.import_module(module)

            crashes = Crashes.prepared(home)
            start = time.perf_counter()
            warehouse = crashes.fresh("undisturbed")
            shutil.rmtree(home / "prefect" / "storage")
            status, answer = crashes.audit(warehouse)
            seconds = time.perf_counter() - start
            assert status == 0
            assert answer is not None
            undisturbed = crashes.tables(warehouse, answer["run_id"])
            steps = len(answer["steps"])
            print(f"undisturbed: {steps} steps, {seconds:.1f} s, {answer['stages']}", flush=True)
            chosen = plan(asked.kills, steps, answer["stages"], seconds, asked.seed)
            for number, at in enumerate(chosen, start=1):
                try:
                    stage, how = crashes.survive(at, f"w{number}", undisturbed)
                except BrokenPromiseError as error:
                    stage, how = "broken", f"BROKEN: {error}"
                    broken.append(str(error))
                kinds[at.kind] += 1
                died[stage] += 1
                print(f"{number} {at}: {stage}, {how}", flush=True)
            for number in range(1, asked.workers + 1):
                try:
                    how = crashes.lose_a_worker(rng.uniform(0, seconds), f"lost-{number}", undisturbed)
                except BrokenPromiseError as error:
                    how = f"BROKEN: {error}"
                    broken.append(str(error))
                kinds[f"a worker: {how}"] += 1
                print(f"worker {number}: {how}", flush=True)
        del os.environ["PREFECT_API_URL"]
        for number in range(1, asked.own_servers + 1):
            try:
                how = kill_with_own_server(crashes, number, rng.uniform(5, 45))
            except BrokenPromiseError as error:
                how = f"BROKEN: {error}"
                broken.append(str(error))
            kinds[f"own server: {how}"] += 1
            print(f"own server {number}: {how}", flush=True)
    summary = {
        "kills": asked.kills + asked.workers + asked.own_servers,
        "broken": broken,
        "kinds": kinds,
        "died_in": died,
    }
    print(json.dumps(summary))
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
