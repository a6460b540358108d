"""Files of a warehouse on a store that workers write without its lease: shards, and the parts of corpora.

A worker's shard counts once its unit's list names it (`calig.storage.catalog`, `calig.warehouse.gathering`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from calig.storage.catalog import Ref, Shard
from calig.warehouse.shards import ShardManifest

SHARDED = ("attributions", "evaluations")
_SHARD = re.compile(
    r"(?:attributions|evaluations)/[^/]+/(manifest|tokens|documents|values|scores)-([^/]+)\.\w+"
)


def unit_of(file: str) -> str:
    """Return what a file changes together with: its run, corpus, attribution key or evaluation, else its top folder."""
    parts = file.split("/")
    keyed = parts[0] in ("runs", "corpora", "attributions", "evaluations") and len(parts) > 2
    return "/".join(parts[:2]) if keyed else parts[0]


def shard_of(file: str) -> str | None:
    """Return the shard that a file belongs to; None for other files."""
    found = _SHARD.fullmatch(file)
    return found[2] if found else None


def is_shared(file: str) -> bool:
    """Whether a file is written without the lease: a shard's, or a corpus's."""
    return file.startswith("corpora/") or shard_of(file) is not None


def is_manifest(file: str) -> bool:
    """Whether a file is the manifest of a shard."""
    found = _SHARD.fullmatch(file)
    return found is not None and found[1] == "manifest"


def shard_from(unit: str, manifest: ShardManifest, own: Ref, found: Mapping[str, Ref]) -> Shard | None:
    """Return the shard of a manifest whose object is `own`, of the files `found`; None if one is missing."""
    files = [f"{unit}/{file}" for file in manifest.files]
    if any(file not in found for file in files):
        return None
    refs = {f"{unit}/manifest-{manifest.shard}.json": own, **{file: found[file] for file in files}}
    return Shard(manifest.shard, refs, manifest.replaces)
