"""What files cost: manifests written and listed, and a shard's documents read from a large corpus.

    python -m tests.benchmarks.metadata

Shards whose Parquet files are empty, on a local disk; a corpus of short texts, as ingest writes it; nothing explained.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from calig.config.schema import CorpusConfig
from calig.corpus import CorpusManifest, ingest
from calig.corpus.reading import read_rows
from calig.files import Files, sha256_file
from calig.warehouse.missing import missing_documents
from calig.warehouse.shards import completed, write_tables

RESULTS = Path(__file__).parent / "results" / "metadata.md"
LARGE = 2**29
"""Bytes of the file that is hashed."""

SHARD = 600
"""Documents of a shard that is read."""


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=1_000)
    parser.add_argument("--documents", type=int, nargs=2, default=[100_000, 1_000_000])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="calig-metadata-") as folder:
        rows = [*_shards(Path(folder) / "shards", asked.shards), _hashed(Path(folder) / "large")]
        for documents in asked.documents:
            rows += _corpus(Path(folder) / str(documents), documents)
    lines = [
        "# What files cost",
        "",
        "`python -m tests.benchmarks.metadata`: on a local disk, one process, one of two shared cores.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {what} | {found} |" for what, found in rows),
    ]
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _shards(folder: Path, count: int) -> list[tuple[str, str]]:
    """Write and list so many shards."""
    tables = {"documents": pa.table({"doc_key": pa.array([], pa.string())})}
    tables["tokens"] = tables["documents"]

    def write() -> None:
        for number in range(count):
            write_tables(
                Files(folder),
                folder,
                f"{number:016x}",
                tables,
                documents=0,
                failures=0,
                tokens=0,
                seconds=0.0,
            )

    written = _timed(write)
    listed = _timed(lambda: completed(Files(folder), folder, check=False))
    hashed = _timed(lambda: completed(Files(folder), folder))
    return [
        (
            f"shards written (2 Parquet files and a manifest, synced), of {count:,}",
            f"{count / written:.0f} per second",
        ),
        ("manifests read, and sizes of files looked at", f"{count / listed:,.0f} shards per second"),
        ("the same, and files hashed", f"{count / hashed:,.0f} shards per second"),
    ]


def _hashed(path: Path) -> tuple[str, str]:
    """Hash a large file, as is done with every file of a shard before it is counted as done."""
    path.write_bytes(bytes(LARGE))
    return "a file hashed", f"{LARGE / _timed(lambda: sha256_file(path)) / 1e9:.2f} GB per second"


def _corpus(folder: Path, documents: int) -> list[tuple[str, str]]:
    """Bring in a corpus, and read one shard's documents from its middle."""
    source = folder / "source.parquet"
    folder.mkdir()
    texts = [
        f"document {number} of a corpus whose texts are all short, and all different"
        for number in range(documents)
    ]
    pq.write_table(pa.table({"text": texts}), source)
    manifests: list[CorpusManifest] = []
    config = CorpusConfig(path=str(source))
    brought = _timed(lambda: manifests.append(ingest(config, ("no", "yes"), Files(folder))))
    middle = missing_documents(manifests[0].parts(folder), [])[documents // 2 :][:SHARD].tolist()
    columns = ["doc_key", "text"]
    read = min(_timed(lambda: read_rows(manifests[0], Files(folder), columns, middle)) for _ in range(3))
    return [
        (f"{documents:,} texts brought in", f"{documents / brought:,.0f} per second"),
        (f"{SHARD} documents read from {documents:,}", f"{1000 * read:.0f} ms"),
    ]


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
