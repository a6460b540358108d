"""Schedules of the one-writer protocol with real processes and an S3 server: stopped, continued and killed at random.

`python -m tests.material.protocol_processes [--schedules 200]` plays them, and writes
tests/benchmarks/results/protocol.md. Programs and checks are those of `tests.material.protocol`: the server
takes down every write in the order in which it carried it out, and the checks go through that.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from calig.storage.catalog import Catalog
from calig.storage.lease import CURRENT, Current
from calig.storage.store import Store as AnyStore
from calig.storage.store import open_store
from tests.material.object_store import Store, serve
from tests.material.protocol import UNIT, Process, Worker, World, Writer

SECONDS = 1.5
BUCKET = "audits"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "protocol.md"


class Real:
    """The surroundings of a program that is a process of this machine."""

    def __init__(self, url: str, seed: int, tells: bool = False) -> None:
        self.seconds = SECONDS
        self.tells = tells
        self.rng = random.Random(seed)
        self._store = open_store(url)

    def store(self, process: Process) -> AnyStore:
        """The store of the schedule."""
        return self._store

    def start(self, process: Process, program: Callable[[], None]) -> None:
        """Start a thread."""
        threading.Thread(target=program, daemon=True).start()

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def clock(self, process: Process) -> float:
        """A clock that agrees with no other's."""
        return time.monotonic() + process.offset

    def lock(self) -> Any:
        """A lock between threads."""
        return threading.RLock()

    def acknowledge(self, note: str) -> None:
        """Tell the parent."""
        if self.tells:
            print("ack", note, flush=True)

    def check_lost(self, mine: Current) -> None:
        """Check that the lease was lost."""
        there = Current.from_bytes(self._store.read(CURRENT)[0])
        if (there.epoch, there.writer) == (mine.epoch, mine.writer):
            print("for-nothing", flush=True)


def serve_programs() -> None:
    """Run the programs that the parent asks for, one after another: a line each, with role, URL and seed."""
    ctypes.CDLL(None).prctl(
        1, signal.SIGKILL
    )  # PR_SET_PDEATHSIG: one that is stopped does not outlive the parent
    for line in sys.stdin:
        role, url, seed = line.split()
        rng = random.Random(int(seed))
        process = Process(f"{role}-{seed}", rng.uniform(-3600, 3600))
        surroundings = Real(url, int(seed), tells=True)
        Writer(surroundings, process, 3)() if role == "writer" else Worker(surroundings, process)()
        print("done", flush=True)


class Machine:
    """A process for one program after another, started again when it was killed."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[str] | None = None

    def begin(self, role: str, url: str, seed: int) -> list[str]:
        """Start a program; return the list to which it says what was acknowledged."""
        if self.child is None or self.child.poll() is not None:
            command = [sys.executable, "-m", "tests.material.protocol_processes", "--serve"]
            self.child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
        self.said: list[str] = []
        assert self.child.stdin is not None
        self.child.stdin.write(f"{role} {url} {seed}\n")
        self.child.stdin.flush()
        self.reader = threading.Thread(target=self._read, args=(self.child, self.said), daemon=True)
        self.reader.start()
        return self.said

    def _read(self, child: subprocess.Popen[str], said: list[str]) -> None:
        assert child.stdout is not None
        while line := child.stdout.readline().strip():
            said.append(line)
            if line == "done":
                return

    @property
    def busy(self) -> bool:
        """Whether the program goes on."""
        return self.reader.is_alive()

    def signal(self, number: int) -> None:
        """Stop, continue or kill the process."""
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(number)

    def end(self) -> None:
        """End the process."""
        if self.child is not None:
            self.signal(signal.SIGCONT)
            self.child.kill()
            self.child.wait()


def play(seed: int, machines: list[Machine], server: Store) -> World:
    """Play one schedule on five processes, and check it."""
    name = f"schedule-{seed}-{secrets.token_hex(4)}"
    url = f"s3://{BUCKET}/{name}"
    rng = random.Random(seed)
    said = [
        machine.begin("writer" if number < 3 else "worker", url, 10 * seed + number)
        for number, machine in enumerate(machines)
    ]
    continued: dict[Machine, float] = {}
    killed = 0
    until = time.monotonic() + 300  # on a machine that is busy with other things
    while any(machine.busy for machine in machines):
        assert time.monotonic() < until, f"schedule {seed}: stuck"
        time.sleep(rng.random() * 0.1)
        now = time.monotonic()
        for machine, then in list(continued.items()):
            if now >= then:
                machine.signal(signal.SIGCONT)
                del continued[machine]
        machine = rng.choice(machines)
        drawn = rng.random()
        if machine.busy and machine not in continued and drawn < 0.2:
            machine.signal(signal.SIGSTOP)
            continued[machine] = now + rng.choice((0.3, 1.2, 3.0)) * SECONDS
        elif machine.busy and drawn < 0.215 and killed < 2:
            machine.signal(signal.SIGCONT)
            continued.pop(machine, None)
            machine.signal(signal.SIGKILL)
            killed += 1
    for machine in continued:
        machine.signal(signal.SIGCONT)
    last = Writer(Real(url, seed), Process("last", 0.0), 1)
    lease, catalog = last.lease(), Catalog(last.store, lambda file: file.startswith(UNIT))
    lease.take(wait=20 * SECONDS)
    last._gather(lease, catalog)
    last._note(lease, catalog)
    lease.release()
    world = replay(name, server)
    lines = [line for one in said for line in one]
    assert "for-nothing" not in lines, f"schedule {seed}: a lease was given up for nothing"
    lost = {line.removeprefix("ack ") for line in lines if line.startswith("ack ")} - set(world.noted)
    assert not lost, f"schedule {seed}: lost updates: {lost}"
    return world


def replay(name: str, server: Store) -> World:
    """Go through what the server has carried out for one schedule, with the checks of the model."""
    world = World(0, seconds=SECONDS)
    prefix = f"/{BUCKET}/{name}/"
    for when, method, path, body in list(server.log or ()):
        world.now = when
        path = unquote(path)
        if method == "PUT" and path.startswith(prefix):
            world.objects[path.removeprefix(prefix)] = body
            if path == f"{prefix}{CURRENT}":
                world.changed()
        elif method != "PUT":
            keys = re.findall(r"<Key>(.*?)</Key>", body.decode()) or [path.removeprefix(f"/{BUCKET}/")]
            for key in (key.removeprefix(f"{name}/") for key in keys if key.startswith(f"{name}/")):
                assert key not in world.in_force, f"deleted while it is in force: {key}"
                world.objects.pop(key, None)
    return world


def play_all(seeds: range, server: Store, at_once: int) -> tuple[int, int, int]:
    """Play schedules, so many at once; return takes from a holder that was stopped or killed, notes, writes."""
    server.log = []
    groups = [[Machine() for _ in range(5)] for _ in range(at_once)]
    free = list(groups)
    takeovers = notes = writes = 0

    def one(seed: int) -> World:
        machines = free.pop()
        try:
            return play(seed, machines, server)
        finally:
            free.append(machines)

    try:
        with ThreadPoolExecutor(at_once) as pool:
            for world in pool.map(one, seeds):
                takeovers += world.takeovers
                notes += len(world.noted)
                writes += len(world.history)
    finally:
        for machines in groups:
            for machine in machines:
                machine.end()
    return takeovers, notes, writes


def main() -> None:
    """Play schedules on a server of this process, and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=3)
    options = parser.parse_args()
    if options.serve:
        serve_programs()
        return
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    os.environ.update(keys | {"AWS_DEFAULT_REGION": "us-east-1"})
    with serve() as server:
        import boto3

        os.environ["AWS_ENDPOINT_URL"] = server.url
        boto3.resource("s3").Bucket(BUCKET).create()
        began = time.monotonic()
        takeovers, notes, writes = play_all(range(options.schedules), server, options.at_once)
        minutes = (time.monotonic() - began) / 60
    text = (
        f"# The one-writer protocol with real processes\n\n"
        f"Written by `python -m tests.material.protocol_processes`: {options.schedules} schedules of three writers and "
        f"two workers against moto's S3 server, stopped, continued and killed at random, {minutes:.1f} minutes. Leases "
        f"taken from a holder that was stopped or killed: {takeovers}. Notes in force: {notes}. Writes of `CURRENT`: "
        f"{writes}. All that must hold did.\n"
    )
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
