"""Is CA-LIG faithful, plausible, sane, and against whom? The tables of the studies, as Markdown.

    for study in sst2 movies toxic hausa cifar10; do
        calig evaluate infra/audits/evidence-$study.yaml --warehouse warehouse
    done
    python -m tests.benchmarks.evidence --warehouse warehouse

Every method × metric with its 95 % interval over documents, from the table `evaluation_stats`; where a study was run
several times, the latest. A mark says how a method's paired difference to CA-LIG lies: ▲ better, ▼ worse, nothing where
the interval holds 0.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import Any

from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_tables
from calig.warehouse.statistics import LOWER_IS_BETTER

RESULTS = Path(__file__).parent / "results"
METRICS = (
    *("comprehensiveness", "sufficiency", "log_ratio", "comprehensiveness_eraser", "sufficiency_eraser"),
    *("auc_positive", "auc_negative", "token_f1", "auprc", "iou_f1"),
    *("context_sensitivity", "context_agreement", "context_control"),
    *("randomisation", "sensitivity_max", "determinism", "batch_invariance"),
)
TINY = ("determinism", "batch_invariance")
"""Metrics of which only the order of magnitude says something."""
Row = dict[str, Any]


def main() -> None:
    """Read, print, and write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--warehouse", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS / "evidence.md")
    asked = parser.parse_args()
    with closing(open_tables(Warehouse.open(asked.warehouse, create=False))) as connection:

        def fetch(sql: str) -> list[Row]:
            result = connection.execute(sql)
            names = [column[0] for column in result.description or ()]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

        studies = fetch(
            "SELECT * FROM evaluations WHERE name LIKE 'evidence-%' AND status = 'complete' "
            "QUALIFY row_number() OVER (PARTITION BY name ORDER BY started DESC) = 1 ORDER BY name"
        )
        lines = ["# The evidence: CA-LIG and its peers", "", *INTRODUCTION]
        for study in studies:
            own = f"evaluation_id = '{study['evaluation_id']}'"
            stats = fetch(f"SELECT * FROM evaluation_stats WHERE {own} AND share IS NULL")
            methods = fetch(f"SELECT * FROM evaluation_methods WHERE {own}")
            lines += section(study, stats, methods)
    text = "\n".join(lines) + "\n"
    asked.out.write_text(text)
    print(text)


INTRODUCTION = (
    "`python -m tests.benchmarks.evidence --warehouse warehouse`, after `calig evaluate "
    "infra/audits/evidence-….yaml --warehouse warehouse` for each study. Mean [95 % interval over documents]; ↓: lower "
    "is better; ▲ and ▼: better and worse than CA-LIG by the interval of the paired difference. Passes are forward and "
    "backward passes of the whole model for a document, seconds are of one thread of a shared CPU.",
)


def section(study: Row, stats: list[Row], methods: list[Row]) -> list[str]:
    """One study's tables."""
    by_key = {(row["metric"], row["removal"], row["method"]): row for row in stats}
    columns = sorted({key[:2] for key in by_key if key[0] in METRICS}, key=_place)
    first = columns[0]
    better = 1 if first[0] in LOWER_IS_BETTER else -1

    def rank(method: Row) -> float:
        row = by_key.get((*first, method["method"]))
        return float("inf") if row is None or row["mean"] is None else better * float(row["mean"])

    shown = sorted((m for m in methods if m["refusal"] is None), key=rank)
    lines = [
        "",
        f"## {study['name'].removeprefix('evidence-')}",
        "",
        f"{study['documents']} documents of {Path(study['corpus_source']).stem} ({study['failures']} failures), "
        f"{Path(study['model_id']).name}, tolerance {study['tolerance']:g}, fusion {study['fusion']}, "
        f"λ {study['weight']:g}, baseline {study['baseline']}.",
        "",
    ]
    for part in (columns[i : i + 4] for i in range(0, len(columns), 4)):
        heads = [
            f"{metric.replace('_', ' ')}{'' if removal is None else ', ' + removal}"
            f"{' ↓' if metric in LOWER_IS_BETTER else ''}"
            for metric, removal in part
        ]
        lines += [
            f"| method | {' | '.join(heads)} | passes | seconds |",
            "|---|" + "---|" * (len(part) + 2),
        ]
        for method in shown:
            cells = [_cell(by_key.get((*column, method["method"]))) for column in part]
            if any(cells):
                cost = f"{method['passes']:.1f} | {method['seconds']:.2f}"
                lines.append(f"| {method['title']} | {' | '.join(cells)} | {cost} |")
        lines.append("")
    return [*lines, *(f"{m['title']}: {m['refusal']}." for m in methods if m["refusal"] is not None)]


def _place(column: tuple[str, str | None]) -> tuple[int, str]:
    images = ("auc_positive", "auc_negative")
    return METRICS.index(column[0]) - (20 if column[0] in images else 0), column[1] or ""


def _cell(row: Row | None) -> str:
    if row is None or row["mean"] is None:
        return ""
    if row["metric"] in TINY:
        return f"{row['mean']:.0e}" if row["mean"] else "0"
    mark = ""
    if row["method"] != "ca-lig" and row["difference_low"] is not None:
        sign = -1 if row["metric"] in LOWER_IS_BETTER else 1
        low, high = sorted((sign * row["difference_low"], sign * row["difference_high"]))
        mark = " ▲" if low > 0 else " ▼" if high < 0 else ""
    return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]{mark}"


if __name__ == "__main__":
    main()
