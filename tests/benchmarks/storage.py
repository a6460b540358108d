"""obstore and s3fs for a mirror's work: files up and down, and a listing, against moto's S3 server.

    python -m tests.benchmarks.storage

The server is a process of its own, written in Python: its share of the wall-clock time is large and the same for both.
Each client is a fresh process with eight requests at once, as the mirror has; CPU and memory are the client's alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.material.object_store import serve

RESULTS = Path(__file__).parent / "results" / "storage.md"
URL = "s3://audits/storage"
AT_ONCE = 8
SIZES = {"100 of 1 MB": (100, 2**20), "10 of 64 MB": (10, 2**26)}
LISTED = 10_000


def _clients(name: str) -> tuple[Callable[..., Any], Callable[..., Any], Callable[[str], int]]:
    """Return how a client puts files, fetches them, and counts a prefix's objects."""
    if name == "obstore":
        from calig.storage.store import open_store

        store = open_store(URL)

        def many(call: Callable[..., Any], pairs: list[tuple[str, Path]]) -> None:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(lambda pair: call(*pair), pairs))

        return (
            lambda pairs: many(store.put, pairs),
            lambda pairs: many(store.download, pairs),
            lambda prefix: len(store.list(prefix)),
        )
    import fsspec

    files: Any = fsspec.filesystem("s3", default_block_size=8 * 2**20)
    base = URL.removeprefix("s3://")
    return (
        lambda pairs: files.put(
            [str(p) for _, p in pairs], [f"{base}/{n}" for n, _ in pairs], batch_size=AT_ONCE
        ),
        lambda pairs: files.get(
            [f"{base}/{n}" for n, _ in pairs], [str(p) for _, p in pairs], batch_size=AT_ONCE
        ),
        lambda prefix: len(files.find(f"{base}/{prefix}")),
    )


def measure(name: str, work: str) -> dict[str, float]:
    """Do one kind of work in this process, and say what it took."""
    with tempfile.TemporaryDirectory(prefix="calig-storage-") as folder:
        put, get, count = _clients(name)
        pairs = []
        if work in SIZES:
            number, size = SIZES[work]
            for n in range(number):
                path = Path(folder) / f"{n}"
                path.write_bytes(os.urandom(size))
                pairs.append((f"{name}/{work.replace(' ', '-')}/{n}", path))
        found: dict[str, float] = {}
        steps: dict[str, Callable[[], Any]] = {"list": lambda: count("listed/")}
        if pairs:
            steps = {"up": lambda: put(pairs), "down": lambda: get(pairs)}
        for step, call in steps.items():
            began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
            assert step != "list" or call() == LISTED
            if step != "list":
                call()
            after = resource.getrusage(resource.RUSAGE_SELF)
            found[f"{step}_seconds"] = time.perf_counter() - began
            found[f"{step}_cpu"] = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
        found["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return found


def main() -> None:
    """Measure both, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=2)
    parser.add_argument("--server", action="store_true")
    options = parser.parse_args()
    if options.server:
        with serve() as server:
            print(server.url, flush=True)
            sys.stdin.read()
        return
    if options.measure:
        print(json.dumps(measure(*options.measure)))
        return
    module = [sys.executable, "-m", "tests.benchmarks.storage"]
    with subprocess.Popen(
        [*module, "--server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        os.environ.update(
            keys | {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": server.stdout.readline().strip()}
        )
        import boto3

        boto3.resource("s3").Bucket("audits").create()
        asyncio.run(_fill())
        rows = []
        for work in (*SIZES, f"{LISTED:,} listed"):
            for name in ("s3fs", "obstore"):
                output = subprocess.run(
                    [*module, "--measure", name, work], capture_output=True, text=True, check=True
                )
                rows.append((work, name, json.loads(output.stdout)))
        server.kill()
    RESULTS.write_text(_table(rows))
    print(_table(rows))


async def _fill() -> None:
    """Put the objects that are listed."""
    import obstore

    from calig.storage.object_store import ObjectStore

    store = ObjectStore(URL)._store
    for first in range(0, LISTED, 100):
        names = [f"listed/{number % 100:02d}/{number:05d}" for number in range(first, first + 100)]
        await asyncio.gather(*(obstore.put_async(store, name, b"x") for name in names))


def _table(rows: list[tuple[str, str, dict[str, float]]]) -> str:
    lines = [
        "# obstore and s3fs",
        "",
        "Written by `python -m tests.benchmarks.storage`: eight requests at once against moto's server, another",
        "process of the same machine. Seconds of wall clock, and seconds of CPU and the most memory (resident,",
        "all of Python's imports included) of the client's process. Other processes kept the two cores of the machine",
        f"busy meanwhile (load {os.getloadavg()[0]:.0f}): CPU and memory can be compared, wall clock only roughly.",
        "",
        "| work | client | up s | up CPU | down s | down CPU | list s | list CPU | memory MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    keys = ("up_seconds", "up_cpu", "down_seconds", "down_cpu", "list_seconds", "list_cpu")
    for work, name, found in rows:
        cells = [f"{found[key]:.2f}" if key in found else "" for key in keys]
        lines.append(f"| {work} | {name} | {' | '.join(cells)} | {found['memory_mb']:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
