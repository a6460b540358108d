"""The Parquet schemas of attribution shards, and the records turned into rows of them.

Rows are keyed by document and explained class, `target`; a failure's is null where it holds for all classes. Where the
margin is explained, `rival` is the other class at the input. Files of before lack both but for a document's target, and
have one class of each document.

L blocks, depths 0..L, T tokens of a document.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from calig.attribution.fusion import depth_weights
from calig.records import Attribution, Failure, Modality

TOKEN_COLUMNS = pa.schema(
    [
        ("doc_key", pa.string()),
        ("position", pa.int32()),
        ("token", pa.dictionary(pa.int32(), pa.string())),
        ("word_id", pa.int32()),
        ("char_start", pa.int32()),
        ("char_end", pa.int32()),
        ("is_special", pa.bool_()),
        ("segment", pa.int8()),
        ("target", pa.int32()),
    ]
)

IMAGE_TOKEN_COLUMNS = pa.schema(
    [
        *(TOKEN_COLUMNS.field(name) for name in ("doc_key", "position", "token", "is_special")),
        ("patch_row", pa.int16()),
        ("patch_column", pa.int16()),
        ("target", pa.int32()),
    ]
)

DOCUMENT_COLUMNS = pa.schema(
    [
        ("doc_key", pa.string()),
        ("failure", pa.string()),
        ("failure_detail", pa.string()),
        ("predicted", pa.int32()),
        ("target", pa.int32()),
        ("rival", pa.int32()),
        ("logits", pa.list_(pa.float32())),
        ("probability", pa.float32()),
        ("logit", pa.float32()),
        ("baseline_logit", pa.float32()),
        ("error_estimate", pa.list_(pa.float32())),
        ("completeness_error", pa.list_(pa.float32())),
        ("converged", pa.list_(pa.bool_())),
        ("nodes", pa.list_(pa.int32())),
        ("ig_norm", pa.list_(pa.float32())),
        ("context_norm", pa.list_(pa.float32())),
        ("depth_weight", pa.list_(pa.float32())),
        ("heads", pa.int32()),
        ("block_passes", pa.int64()),
        ("tokens", pa.int32()),
        ("truncated", pa.bool_()),
        ("seconds", pa.float32()),
    ]
)

IMAGE_DOCUMENT_COLUMNS = pa.schema(
    [
        *DOCUMENT_COLUMNS,
        ("grid_rows", pa.int16()),
        ("grid_columns", pa.int16()),
        ("thumbnail", pa.binary()),
    ]
)


def ig_columns(depths: int) -> list[str]:
    """Name the columns of layer-wise IG for `depths` = L+1 depths: ``ig_00`` … ``ig_LL``."""
    return [f"ig_{depth:02d}" for depth in range(depths)]


def context_columns(depths: int) -> list[str]:
    """Name the columns of attention gradients for `depths` = L+1 depths: ``ctx_01`` … ``ctx_LL``."""
    return [f"ctx_{block:02d}" for block in range(1, depths)]


def token_schema(depths: int, modality: Modality = "text") -> pa.Schema:
    """Return the schema of a tokens file of a model with `depths` = L+1 depths."""
    own = IMAGE_TOKEN_COLUMNS if modality == "image" else TOKEN_COLUMNS
    floats = [*ig_columns(depths), *context_columns(depths)]
    return pa.schema([*own, *(pa.field(name, pa.float32()) for name in floats)])


def document_schema(modality: Modality = "text") -> pa.Schema:
    """Return the schema of a documents file."""
    return IMAGE_DOCUMENT_COLUMNS if modality == "image" else DOCUMENT_COLUMNS


def token_table(attributions: Sequence[Attribution], modality: Modality = "text") -> pa.Table:
    """Lay out attributions, of one model and at least one, as rows of `token_schema`, a row per token.

    Raises
    ------
    ValueError
        If the attributions differ in their number of blocks, or one of an image has no patches.
    """
    depths = len(attributions[0].layer_ig)
    if any(len(a.layer_ig) != depths or len(a.context) != depths - 1 for a in attributions):
        raise ValueError("attributions of one shard must come from one model: their numbers of blocks differ")
    lengths = [len(a.tokens) for a in attributions]
    keys = pa.array([a.key for a in attributions], pa.string())
    columns: dict[str, object] = {
        "doc_key": keys.take(pa.array(np.repeat(np.arange(len(lengths)), lengths))),
        "target": np.repeat(np.array([a.target for a in attributions], np.int32), lengths),
        "position": np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        "token": pa.array(
            [token for a in attributions for token in a.tokens], pa.string()
        ).dictionary_encode(),
        "is_special": np.concatenate([a.is_special for a in attributions]),
        **(_patches(attributions) if modality == "image" else _words(attributions)),
        **dict(zip(ig_columns(depths), np.concatenate([a.layer_ig for a in attributions], 1), strict=True)),
        **dict(
            zip(context_columns(depths), np.concatenate([a.context for a in attributions], 1), strict=True)
        ),
    }
    schema = token_schema(depths, modality)
    return pa.Table.from_arrays(
        [pa.array(columns[field.name], field.type) for field in schema], schema=schema
    )


def document_table(items: Sequence[Attribution | Failure], modality: Modality = "text") -> pa.Table:
    """Lay out attributions and failures as rows of `document_schema`, a row each."""
    return pa.Table.from_pylist([_document_row(item) for item in items], schema=document_schema(modality))


def _document_row(item: Attribution | Failure) -> dict[str, object]:
    if isinstance(item, Failure):
        return {
            "doc_key": item.key,
            "failure": item.reason,
            "failure_detail": item.detail,
            "target": item.target,
        }
    return {
        "doc_key": item.key,
        "predicted": None if item.head == "regression" else item.predicted,
        "target": item.target,
        "rival": item.rival,
        "logits": item.logits.tolist(),
        "probability": _probability(item),
        "logit": item.logit,
        "baseline_logit": item.baseline_logit,
        "error_estimate": item.error_estimate.tolist(),
        "completeness_error": item.completeness_error.tolist(),
        "converged": item.converged.tolist(),
        "nodes": item.nodes.tolist(),
        "ig_norm": np.abs(item.layer_ig).sum(axis=1, dtype=np.float64).tolist(),
        "context_norm": item.context_norm.tolist(),
        "depth_weight": depth_weights(item.layer_ig, item.context, item.is_special).tolist(),
        "heads": item.heads,
        "block_passes": item.block_passes,
        "tokens": len(item.tokens),
        "truncated": bool(item.truncated),
        "seconds": item.seconds,
        **({} if item.grid is None else {"grid_rows": item.grid[0], "grid_columns": item.grid[1]}),
        "thumbnail": item.thumbnail,
    }


def _probability(item: Attribution) -> float | None:
    """Return the target's probability; None for a regression."""
    probabilities = item.probabilities
    return None if probabilities is None else float(probabilities[item.target])


def _words(attributions: Sequence[Attribution]) -> dict[str, object]:
    """Lay out which words the tokens of texts belong to; segments as bytes, null for special tokens."""
    spans = np.concatenate([a.char_spans for a in attributions])
    segments = np.concatenate([a.segments for a in attributions])
    return {
        "word_id": np.concatenate([a.word_ids for a in attributions]),
        "char_start": spans[:, 0],
        "char_end": spans[:, 1],
        "segment": pa.array(segments.astype(np.int8), mask=segments < 0),
    }


def _patches(attributions: Sequence[Attribution]) -> dict[str, object]:
    """Lay out the rows and columns of the patches of images, null for special tokens."""
    found = [a.patches for a in attributions if a.patches is not None and a.grid is not None]
    if len(found) < len(attributions):
        raise ValueError("attributions of a shard of images need their patches and grid")
    patches = np.concatenate(found).astype(np.int16)
    return {
        "patch_row": pa.array(patches[:, 0], mask=patches[:, 0] < 0),
        "patch_column": pa.array(patches[:, 1], mask=patches[:, 1] < 0),
    }
