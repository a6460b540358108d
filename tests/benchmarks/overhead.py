"""What it costs to run shards, whatever is in them.

    python -m tests.benchmarks.overhead                          1,000 shards of a trivial model, through the flow
    python -m tests.benchmarks.overhead --simulate 1000000       a million shards in which nothing is done, no Prefect

The first audits 1,000 documents in shards of one, with a random model of three blocks of 16 dimensions at four nodes a
depth, against a Prefect server of its own, by each engine. The seconds are those of the flow's stage `attribute`. The
same shards are attributed by plain calls, one after the other, in the same run: what the flow takes longer is overhead.
The second takes the same way (shards of documents laid out one by one, a few ahead of the workers, handed to an engine,
taken in as they come), but for Prefect's task run, with workers that do nothing. Both look at the memory of the parent.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from calig import stages
from calig.engines import Engine, Progress, open_engine
from calig.warehouse.missing import Shards
from tests.material.audits import begin
from tests.material.tiny import audit_config, make_rows, run_manifest, save_model, write_parquet

RESULTS = Path(__file__).parent / "results" / "overhead.md"
SHARDS = 1000
LIMIT_MS = 50
DOCUMENTS = 10
"""Documents of a simulated shard."""


@dataclass(slots=True)
class Memory:
    """Resident memory of this process, in MiB, at a hundredth of the shards, a tenth and all; its CPU seconds."""

    total: int
    taken: dict[int, float] = field(default_factory=dict)
    processor: float = 0.0

    def watch(self, items: Iterator[Any]) -> Iterator[Any]:
        """Pass items on, and look at the memory on the way."""
        start = time.process_time()
        for number, item in enumerate(items, start=1):
            if number in (self.total // 100, self.total // 10, self.total):
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                self.taken[number] = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
            yield item
        self.processor = time.process_time() - start


def nothing(doc_ids: Sequence[int], progress: Progress) -> int:
    """A worker's work that costs nothing."""
    progress(len(doc_ids))
    return len(doc_ids)


def simulate(count: int, engine: str, workers: int) -> dict[str, Any]:
    """Run so many shards, but for Prefect and the work."""
    from flows.shards import side_by_side
    from tests.benchmarks.overhead import nothing as work  # by its name, where this module is __main__

    shards = Shards(np.arange(count * DOCUMENTS), DOCUMENTS)
    done = 0

    def progress(documents: int) -> None:
        nonlocal done
        done += documents

    def call(engine: Engine, doc_ids: Sequence[int]) -> int:
        return engine.run(work, doc_ids, progress=progress)

    config = audit_config(
        Path("none"), Path("none.csv"), Path("none"), runtime={"engine": engine, "workers": workers}
    )
    memory = Memory(count)
    with open_engine(config) as opened:
        for _ in range(workers):  # so that they are there
            opened.run(work, [], progress=progress)
        start = time.perf_counter()
        parameters = ({"engine": opened, "doc_ids": doc_ids} for doc_ids in shards)
        documents = sum(memory.watch(side_by_side(call, parameters, opened)))
        seconds = time.perf_counter() - start
    assert documents == count * DOCUMENTS
    return {
        "engine": engine,
        "workers": workers,
        "shards": count,
        "seconds": seconds,
        "processor": memory.processor,
        "memory": memory.taken,
    }


@contextmanager
def prefect_server(home: Path) -> Iterator[None]:
    """A Prefect server for the time being."""
    os.environ |= {"PREFECT_HOME": str(home), "PREFECT_LOGGING_LEVEL": "WARNING", "TQDM_DISABLE": "1"}
    from prefect.testing.utilities import prefect_test_harness

    import tasks  # noqa: F401 - sets Prefect's environment before its first import

    with prefect_test_harness(server_startup_timeout=120):
        yield


def audit(root: Path, engine: str, workers: int, shards: int) -> dict[str, Any]:
    """Audit so many documents in shards of one, and say what it took."""
    import flows.shards
    from flows.audit import audit as run

    memory = Memory(shards)
    before: Callable[..., Iterator[Any]] = flows.shards.side_by_side
    flows.shards.side_by_side = lambda *arguments: memory.watch(before(*arguments))  # type: ignore[assignment]
    try:
        warehouse = root / f"{engine}-{workers}"
        runtime = {"engine": engine, "workers": workers, "threads": 1, "shard_documents": 1}
        config = audit_config(
            root / "model", root / "corpus.parquet", warehouse, runtime=runtime, method={"steps": 4}
        )
        run_id = run(config).run_id
    finally:
        flows.shards.side_by_side = before
    manifest = run_manifest(warehouse, run_id)
    assert manifest["attributed"] == shards
    return {
        "engine": engine,
        "workers": workers,
        "shards": shards,
        "seconds": manifest["timings"]["attribute"],
        "processor": memory.processor,
        "memory": memory.taken,
    }


def plain(root: Path, shards: int) -> dict[str, Any]:
    """Attribute the same shards by calls of the stage alone, in this process."""
    runtime = {"threads": 1, "shard_documents": 1}
    config = audit_config(
        root / "model", root / "corpus.parquet", root / "plain", runtime=runtime, method={"steps": 4}
    )
    run = begin(config)
    memory = Memory(shards)
    start = time.perf_counter()
    for doc_ids in memory.watch(iter(stages.missing_shards(run))):
        stages.attribute_shard(run, doc_ids)
    seconds = time.perf_counter() - start
    return {
        "engine": "calls alone",
        "workers": 1,
        "shards": shards,
        "seconds": seconds,
        "processor": memory.processor,
        "memory": memory.taken,
    }


def table(found: Sequence[dict[str, Any]]) -> list[str]:
    """Lay the figures out."""
    shards = found[0]["shards"]
    head = ["", "workers", "ms per shard", "shards/s", "CPU ms of the parent"]
    lines = [*head, *(f"MiB at {number:,}" for number in found[0]["memory"])]
    rows = [f"| {' | '.join(lines)} |", "|---" * len(lines) + "|"]
    for one in found:
        seconds = one["seconds"]
        cells = [
            one["engine"],
            str(one["workers"]),
            f"{1000 * seconds / shards:.3g}",
            f"{shards / seconds:,.0f}",
        ]
        cells += [
            f"{1000 * one['processor'] / shards:.3g}",
            *(f"{mib:.0f}" for mib in one["memory"].values()),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def note(heading: str, lines: Sequence[str]) -> None:
    """Put a section in its place in the file of results."""
    parts = RESULTS.read_text().split("\n## ") if RESULTS.exists() else ["# What shards cost\n"]
    others = [part.rstrip() + "\n" for part in parts[1:] if not part.startswith(heading)]
    RESULTS.write_text("\n## ".join([parts[0], *others, "\n".join([heading, "", *lines]) + "\n"]))
    print("\n".join(lines))


def main() -> None:
    """Measure, print, and write the figures down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulate", type=int, metavar="SHARDS")
    parser.add_argument("--shards", type=int, default=SHARDS)
    parser.add_argument("--engines", nargs="+", default=["threads", "processes"])
    asked = parser.parse_args()
    if asked.simulate:
        simulated = [simulate(asked.simulate, engine, 2) for engine in asked.engines]
        command = f"`python -m tests.benchmarks.overhead --simulate {asked.simulate}`: no Prefect, no work."
        note("Simulated", [command, "", *table(simulated)])
        return
    with tempfile.TemporaryDirectory(prefix="calig-overhead-") as folder:
        root = Path(folder)
        save_model(root / "model")
        write_parquet(root / "corpus.parquet", make_rows(asked.shards))
        found = [plain(root, asked.shards)]
        with prefect_server(root / "prefect"):
            for engine in asked.engines:
                found.append(audit(root, engine, 1 if engine == "threads" else 2, asked.shards))
                print(json.dumps(found[-1]), flush=True)
    command = (
        f"`python -m tests.benchmarks.overhead`: {asked.shards:,} shards of one document, a Prefect task run each; "
        f"{LIMIT_MS} ms per shard at most are wanted. Server, parent and workers share {os.cpu_count()} CPU cores, "
        f"whose load average over 15 minutes was {os.getloadavg()[2]:.1f}."
    )
    note("Through the flow", [command, "", *table(found)])


if __name__ == "__main__":
    main()
