"""What it costs to bring a corpus in, sorted by a hash of its documents' keys, and to read a shard of it.

    python -m tests.benchmarks.corpus_order [--rows 1000000 10000000] [--earlier CHECKOUT]

Short texts, half of one class and then half of the other. `--earlier` is a checkout of another version, which is
measured on the same files: one that does not sort says what sorting costs. Each measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

RESULTS = Path(__file__).parent / "results" / "corpus_order.md"
CHUNK = 100_000
SHARD = 600
"""Documents of a shard that is read."""


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--earlier", type=Path)
    parser.add_argument("--measure", type=Path)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(_measure(asked.measure)))
        return
    versions = {"now": Path(__file__).parents[2]}
    if asked.earlier:
        versions = {"earlier": asked.earlier.resolve(), **versions}
    lines = [
        "# The order of a corpus",
        "",
        f"`python -m tests.benchmarks.corpus_order --rows {' '.join(map(str, asked.rows))}"
        f"{' --earlier CHECKOUT' if asked.earlier else ''}`: short texts, a local disk, one of two cores shared with "
        "much else, so that CPU time says more than the clock. Disk is the most that the corpus's folder held; a shard "
        f"is {SHARD} documents from the middle of what is missing, the fastest of 5 readings.",
        "",
        "| rows | | clock, s | CPU, s | peak memory, MB | source, MB | disk, MB | parts, MB | "
        "missing, CPU s | shard, CPU ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory(prefix="calig-order-") as folder:
        for rows in asked.rows:
            source = _write(Path(folder) / "source.parquet", rows)
            for name, checkout in versions.items():
                found = _in_process(checkout, source)
                numbers = " | ".join(f"{value:.{1 if value < 100 else 0}f}" for value in found)
                lines.append(f"| {rows:,} | {name} | {numbers} |")
                print(lines[-1], flush=True)
            RESULTS.write_text("\n".join(lines) + "\n")


def _write(path: Path, rows: int) -> Path:
    """Write a source, some rows at a time."""
    schema = pa.schema([("text", pa.string()), ("label", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, CHUNK):
            numbers = range(first, min(rows, first + CHUNK))
            texts = [
                f"document {n} of a corpus whose texts are all short, and all different" for n in numbers
            ]
            writer.write_table(
                pa.table({"text": texts, "label": [2 * n // rows for n in numbers]}, schema=schema)
            )
    return path


def _in_process(checkout: Path, source: Path) -> list[float]:
    """Measure a version in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-P", str(Path(__file__).resolve()), "--measure", str(source)],
        env={**os.environ, "PYTHONPATH": str(checkout)}, cwd=checkout, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(source: Path) -> list[float]:
    """Bring a corpus in, find what is missing, and read a shard of it: numbers of the table's columns."""
    from calig.config.schema import CorpusConfig
    from calig.corpus import ingest
    from calig.corpus.reading import read_rows
    from calig.files import Files
    from calig.warehouse.missing import missing_documents

    with tempfile.TemporaryDirectory(prefix="calig-order-", dir=source.parent) as name:
        root = Path(name)
        files, disk = Files(root), _Disk(root)
        start, used = time.perf_counter(), time.process_time()
        manifest = ingest(CorpusConfig(path=str(source), label="label"), ("no", "yes"), files)
        clock, cpu = time.perf_counter() - start, time.process_time() - used
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        most = disk.stop()
        parts = manifest.parts(root)
        start = time.process_time()
        missing = missing_documents(parts, [])
        found = time.process_time() - start
        shard = np.asarray(missing)[len(missing) // 2 :][:SHARD].tolist()
        read = min(_timed(lambda: read_rows(manifest, files, ["doc_key", "text"], shard)) for _ in range(5))
        held = sum(part.stat().st_size for part in parts)
        return [
            clock, cpu, peak, source.stat().st_size / 1e6, most / 1e6, held / 1e6, found, 1000 * read,
        ]  # fmt: skip


class _Disk:
    """Watch how much a folder holds."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.most = folder, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Return the most bytes that it held at a time."""
        self._stop.set()
        self._thread.join()
        return self.most

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            held = 0
            for path in self.folder.rglob("*"):
                with suppress(FileNotFoundError):  # gone since
                    held += path.stat().st_size if path.is_file() else 0
            self.most = max(self.most, held)


def _timed(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    main()
