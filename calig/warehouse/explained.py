"""Which class of each document a run shows: `runs/<run id>/explained.parquet`, a row per document.

Stored rows are keyed by document and explained class, and runs that ask for different classes share them. What a run
shows of a document follows from the rule that its audit asks by, the document's label, and the rows there are: where
no row is of the class that is asked for, it is a failure's row, which names none. The file is written once, when all
is attributed, so that rows of later runs change nothing; runs that lack it, being unfinished or of before there were
such files, are read as the rule has it now.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import pyarrow as pa

from calig.records import Head

FILE = "explained.parquet"
SCHEMA = pa.schema([("doc_id", pa.int64()), ("target", pa.int32())])

Asked: TypeAlias = Literal["predicted", "runner-up", "label"] | int
"""The class that an audit asks for: the same index for all documents, or one that depends on the document."""

_OTHERS = "list_transform(logits, lambda logit, i: if(i = predicted + 1, '-infinity'::FLOAT, logit))"
_SHOWS = {
    "predicted": "target = predicted",
    "runner-up": f"target = list_position({_OTHERS}, list_max({_OTHERS})) - 1",  # of equals the first, as is explained
}
"""Whether a row, which holds all logits, is of the class that a rule means for its document."""


def asked_for(target: str | int, head: Head, classes: Sequence[str]) -> Asked:
    """Read what a configuration's `method.target`, which was found to fit the model, asks for."""
    if isinstance(target, int):
        return target
    if head == "regression" and target == "predicted":
        return 0
    match target:
        case "predicted" | "runner-up" | "label":
            return target
    return list(classes).index(target)


def shows(asked: Asked) -> str | None:
    """Return the condition, in SQL, on an explanation's row to be what is asked for; None where no row can tell."""
    return None if isinstance(asked, int) else _SHOWS.get(asked)


def own_class(asked: Asked, head: Head) -> str:
    """Return the class that is asked for of a document with the column `label`, in SQL; null where rows have to tell.

    Of several labels there is one, as ingest has seen to.
    """
    if isinstance(asked, int):
        return f"{asked}::INTEGER"
    if asked == "label":
        return "label[1]" if head == "multi_label" else "label"
    return "NULL::INTEGER"


def explained_query(asked: Asked, head: Head, documents: str, rows: str) -> str:
    """Return the SELECT of doc_id and target: the class that a run shows of each document, null where none is there.

    Parameters
    ----------
    asked, head
        What the run asks for, and its model's outputs.
    documents, rows
        In SQL, as they stand after FROM: the run's documents, and the rows of its attributions.
    """
    told = shows(asked)
    if told is None:
        own = f"SELECT doc_id, doc_key, {own_class(asked, head)} AS own FROM {documents}"
        there = f"SELECT DISTINCT doc_key, target FROM {rows} WHERE target IS NOT NULL"
        found = f"FROM ({own}) AS d LEFT JOIN ({there}) AS r ON r.doc_key = d.doc_key AND r.target = d.own"
    else:
        there = f"SELECT doc_key, min(target) AS target FROM {rows} WHERE failure IS NULL AND {told} GROUP BY doc_key"
        found = f"FROM {documents} AS d LEFT JOIN ({there}) AS r ON r.doc_key = d.doc_key"
    return f"SELECT d.doc_id, r.target::INTEGER AS target {found}"
