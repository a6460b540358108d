"""What killed writers leave in a warehouse, and its deletion."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from pathlib import Path

from calig.corpus.ingest import ABANDONED_SECONDS, UNDER_WAY
from calig.files import PART_SUFFIX
from calig.listing import children, exists, files_below, matching
from calig.warehouse.database import SPILL
from calig.warehouse.layout import Warehouse
from calig.warehouse.shards import sweep


def sweep_warehouse(warehouse: Warehouse) -> list[Path]:
    """Delete temporary files and folders, runs' folders and Parquet files of shards that have no manifest.

    Where nobody is at work in the warehouse, all of them; else those of more than a day ago.

    Returns
    -------
    list of Path
        What was deleted.
    """
    with warehouse.at_rest() as resting:
        age = 0.0 if resting else ABANDONED_SECONDS
        limit = time.time() - age
        temporary = [
            *(path for path in files_below(warehouse.root) if fnmatchcase(path.name, f".*{PART_SUFFIX}*")),
            *matching(warehouse.root, f"{SPILL}*"),
            *matching(warehouse.corpora, f"{UNDER_WAY}*"),
            *(run for run in matching(warehouse.runs, "[!.]*") if not exists(run / "manifest.json")),
        ]
        deleted = [path for path in temporary if exists(path) and path.stat().st_mtime <= limit]
        for path in deleted:
            warehouse.files.discard(path)
        for folder in (*children(warehouse.attributions("")), *children(warehouse.evaluations)):
            deleted += sweep(folder, age)
    return deleted
