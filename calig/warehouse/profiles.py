"""How evidence is shaped at every depth of a document: the rows of `document_depths`, from its tokens.

A document's numbers are sums over its tokens in their order, and so the same to the last bit whatever is read with it.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from calig.warehouse.columns import context_columns, ig_columns

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Levels = npt.NDArray[np.uint32]
MEASURES = (
    *("gross", "net", "cancellation", "effective_tokens", "special_share"),
    *("rank_agreement", "sign_agreement", "context_ratio"),
)
CHUNK = 2**15
"""Tokens measured together, about: what a core's cache holds."""
WORKERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Segments:
    """Rows of some documents, n of them, document by document.

    Attributes
    ----------
    document
        (n,) number of each row's document, rising.
    starts
        First row of each document that has rows.
    """

    document: Ints
    starts: Ints

    @classmethod
    def of(cls, document: Ints) -> Segments:
        """Find where documents start."""
        return cls(document, np.flatnonzero(np.diff(document, prepend=-1)))

    @property
    def present(self) -> Ints:
        """Numbers of the documents that have rows."""
        return self.document[self.starts]

    def sums(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Sums of values (n,) over each document that has rows, from the first row to the last."""
        if not len(self.starts):
            return values[:0]
        found: npt.NDArray[Any] = np.add.reduceat(values, self.starts)
        return found

    def mean_ranks(self, levels: Levels) -> Ints:
        """(n,) twice the rank of each level within its document, less the mean; equal levels share their mean rank."""
        keys = (self.document.astype(np.uint64) << np.uint64(32)) | levels
        order = np.argsort(keys)
        first = np.ones(len(order), bool)
        first[1:] = np.diff(keys[order]) != 0
        begins = np.flatnonzero(first)
        lengths = np.diff(begins, append=len(order))
        counts = np.diff(self.starts, append=len(order))
        own = np.repeat(2 * self.starts + counts - 1, counts)  # first row + last row of the document
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.repeat(2 * begins + lengths - 1, lengths)
        return ranks - own


def levels(values: npt.NDArray[np.float32]) -> Levels:
    """Turn numbers into integers of the same order; 0 and -0 are equal."""
    bits = (values + np.float32(0)).view(np.uint32)
    return np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))


def document_depths(tokens: pa.Table, depths: int) -> pa.Table:
    """Return the rows of `document_depths`, less the run, of some documents.

    Parameters
    ----------
    tokens
        A row per token, in any order: doc_id, position, is_special, score, and ``ig_00`` … ``ctx_LL``.
    depths
        L+1.

    Returns
    -------
    doc_id, depth, and `MEASURES`; what is undefined is null. `rank_agreement` is Spearman's
    correlation, equal values sharing their mean rank.
    """
    values = {name: tokens[name].to_numpy() for name in tokens.column_names}
    order = np.lexsort((values["position"], values["doc_id"]))
    starts = np.flatnonzero(np.diff(values["doc_id"][order], prepend=-1))
    ends = [*starts[np.flatnonzero(np.diff(starts // CHUNK))].tolist(), len(order)]
    chunks = [order[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True) if end > start]

    def measure(rows: npt.NDArray[np.intp]) -> pa.Table:
        return _measured({name: column[rows] for name, column in values.items()}, depths)

    with ThreadPoolExecutor(WORKERS) as pool:
        return pa.concat_tables(pool.map(measure, chunks or [order]))


def _measured(tokens: dict[str, npt.NDArray[Any]], depths: int) -> pa.Table:
    """The rows of some documents, whose tokens are given in order."""
    changes = np.diff(tokens["doc_id"], prepend=-1) != 0
    doc_ids, rows = tokens["doc_id"][changes], Segments.of(changes.cumsum() - 1)
    special = tokens["is_special"].astype(bool)
    content = Segments.of(rows.document[~special])
    score = tokens["score"][~special].astype(np.float64)
    signs = np.sign(score)
    ranks = content.mean_ranks(np.unique(score, return_inverse=True)[1].astype(np.uint32))
    spread = content.sums(ranks * ranks)
    found: dict[str, list[Doubles]] = {name: [] for name in MEASURES}
    for ig, ctx in zip(ig_columns(depths), [None, *context_columns(depths)], strict=True):
        for name, numbers in _shape(rows, tokens[ig].astype(np.float64), special).items():
            found[name].append(numbers)
        agreement = np.full((2, len(doc_ids)), np.nan)
        agreement[:, content.present] = _agreement(content, tokens[ig][~special], signs, ranks, spread)
        ratio = np.full(len(doc_ids), np.nan)
        if ctx is not None:
            context = tokens[ctx].astype(np.float64)
            ratio = _ratio(np.abs(rows.sums(context)), rows.sums(np.abs(context)))
        for name, numbers in zip(MEASURES[-3:], (*agreement, ratio), strict=True):
            found[name].append(numbers)
    columns: dict[str, pa.Array] = {
        "doc_id": pa.array(np.tile(doc_ids, depths), pa.int64()),
        "depth": pa.array(np.repeat(np.arange(depths, dtype=np.int32), len(doc_ids))),
    }
    for name, parts in found.items():
        numbers = np.concatenate(parts)
        columns[name] = pa.array(numbers, pa.float64(), mask=np.isnan(numbers))
    return pa.table(columns)


def _shape(rows: Segments, ig: Doubles, special: npt.NDArray[np.bool_]) -> dict[str, Doubles]:
    """How much evidence there is in each document, how much of it cancels, and over how many tokens it is spread."""
    sizes = np.abs(ig)
    gross, net = rows.sums(sizes), rows.sums(ig)
    logs = np.log(sizes, out=np.zeros_like(sizes), where=sizes > 0)
    surprise = -rows.sums(sizes * logs)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(gross > 0, np.exp(surprise / gross + np.log(gross)), np.nan)
    return {
        "gross": gross,
        "net": net,
        "cancellation": _ratio(gross, np.abs(net)),
        "effective_tokens": spread,
        "special_share": _ratio(rows.sums(np.where(special, sizes, 0.0)), gross),
    }


def _agreement(
    content: Segments, ig: npt.NDArray[np.float32], signs: Doubles, ranks: Ints, spread: Ints
) -> tuple[Doubles, Doubles]:
    """Agreement of the content's ig with its final scores: of ranks, and of signs."""
    own = content.mean_ranks(levels(ig))
    product = np.sqrt(content.sums(own * own).astype(np.float64) * spread)
    correlation = np.clip(_ratio(content.sums(own * ranks).astype(np.float64), product), -1, 1)
    same = content.sums((np.sign(ig) == signs).astype(np.int64))
    return correlation, same / np.diff(content.starts, append=len(ig))


def _ratio(above: Doubles, below: Doubles) -> Doubles:
    """NaN where there is nothing to divide by."""
    ratio: Doubles = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return ratio
