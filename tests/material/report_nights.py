"""Tables of an audit's nights, put in by hand: positives fade, a word leaks the label, the model is retrained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from calig.comparison.counts import THINGS, distinct
from calig.files import write_json
from calig.warehouse.aggregate import aggregate
from calig.warehouse.database import create_tables
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_run
from calig.warehouse.shards import write_shard
from tests.material.warehouses import make_items, make_texts, make_warehouse

NAME = "reviews"
CLASSES = ("negative", "positive")
LEAK = "zq7"
DEPTHS = 7
DRIFT_FROM, LEAK_FROM, RETRAINED = 4, 12, 20
WORDS = {
    "negative": ("awful", "dull", "boring", "tedious", "mess", "flat", "stale", "not"),
    "positive": ("superb", "moving", "charming", "fresh", "warm", "clever", "honest", "a"),
}
MEASURES = (
    *("cancellation", "effective_tokens", "special_share"),
    *("rank_agreement", "sign_agreement", "context_ratio"),
)
START = datetime(2026, 3, 1, 2, 0, 3)
Row = dict[str, Any]


def run_id(night: int) -> str:
    return f"{START + timedelta(days=night):%Y%m%d-%H%M%S}-{NAME}"


@dataclass(frozen=True)
class Story:
    """How many nights, and what is in them; `words` more words per class, all of which change at the retraining."""

    nights: int = 30
    documents: int = 400
    words: int = 0
    name: str = NAME
    leak: str = LEAK
    tags: Mapping[str, int] | None = None


def make(root: Path, story: Story = Story()) -> Warehouse:
    """A warehouse with calig.duckdb, tags and the runs' manifests, and no Parquet files."""
    warehouse = Warehouse.open(root)
    rows: dict[str, list[Row]] = {}
    for night in range(story.nights):
        for table, own in _night(story, night).items():
            rows.setdefault(table, []).extend(own)
    write(warehouse, rows)
    for row in rows["runs"]:
        write_json(warehouse.run(row["run_id"]) / "manifest.json", _manifest(row))
    for tag, night in (story.tags if story.tags is not None else {"baseline": 0}).items():
        write_json(warehouse.tags / tag, {"run_id": run_id(night)})
    return warehouse


def _manifest(row: Row) -> dict[str, Any]:
    """The manifest of a run, of its row in the table."""
    model = {"classes": row["classes"], **{key: row[f"model_{key}"] for key in ("id", "revision", "hash")}}
    corpus = {key: row[f"corpus_{key}"] for key in ("key", "source")}
    method = {key: row[key] for key in ("target", "output", "baseline", "tolerance", "fusion", "weight")}
    times = {key: row[key].isoformat() for key in ("started", "finished")}
    same = ("run_id", "name", "status", "attribution_key", "depths", "attributed", "reused")
    held = {"model": model, "corpus": corpus, "method": method}
    parsed = {key: json.loads(row[key]) for key in ("config", "versions", "timings")}
    return {**{key: row[key] for key in same}, **times, **held, **parsed}


def write(warehouse: Warehouse, rows: Mapping[str, Sequence[Row]]) -> None:
    """Put rows into the tables of calig.duckdb, which is made if need be."""
    fresh = not warehouse.database.exists()
    with duckdb.connect(str(warehouse.database)) as connection:
        if fresh:
            create_tables(connection)
        for table, own in rows.items():
            if own:
                names = list(own[0])
                connection.register("new", pa.table({name: [row[name] for row in own] for name in names}))
                connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM new")
                connection.unregister("new")


def positives(night: int) -> float:
    """The share of positives: 50 % until the drift starts, then 3 points fewer a night, to 20 %."""
    return max(0.2, 0.5 - 0.03 * max(0, night - DRIFT_FROM))


def _night(story: Story, night: int) -> dict[str, list[Row]]:
    rng = np.random.default_rng([11, night])
    own, share = run_id(night), positives(night)
    retrained, leaking = night >= RETRAINED, night >= LEAK_FROM
    documents, failures = story.documents, int(rng.integers(0, 4))
    accuracy = float(0.91 + rng.normal(0, 0.006) - 0.02 * retrained)
    explained = documents - failures
    predicted = round(explained * share)
    run = {
        "run_id": own, "name": story.name, "status": "complete", "started": START + timedelta(days=night),
        "finished": START + timedelta(days=night, minutes=4), "model_id": "acme/minilm-reviews",
        "model_revision": None, "model_hash": "b" * 64 if retrained else "a" * 64, "head": "single_label",
        "modality": "text", "corpus_source": f"s3://reviews/dt={START + timedelta(days=night):%Y-%m-%d}",
        "corpus_key": f"corpus-{night}", "attribution_key": f"attribution-{int(retrained)}", "target": "predicted",
        "output": "logit", "baseline": "pad", "tolerance": 0.01, "fusion": "agreement", "weight": 0.5,
        "depths": DEPTHS, "classes": list(CLASSES), "documents": documents,
        "attributed": explained if night in (0, RETRAINED) else round(explained * 0.8),
        "reused": 0 if night in (0, RETRAINED) else explained - round(explained * 0.8),
        "failures": failures, "truncated": 2, "accuracy": accuracy, "converged_share": 0.998,
        "worst_completeness_error": 0.004, "worst_error_estimate": 0.009, "block_passes": 60_000,
        "attribution_seconds": 50.0,
        "config": json.dumps({"compare": {"min_effect": 0.1, "min_share": 0.02, "min_size": 0.2, "min_documents": 5}}),
        "versions": "{}", "timings": json.dumps({"ingest": 2.0, "attribute": 40.0 + night % 5, "aggregate": 3.0}),
    }  # fmt: skip
    classes = [
        {"run_id": own, "class": name, "class_id": index, "labelled": count, "predicted": count, "correct": count}
        for index, (name, count) in enumerate(
            zip(CLASSES, (explained - predicted, predicted), strict=True)
        )
    ]  # fmt: skip
    layers = [
        {"run_id": own, "class": label, "depth": depth, "documents": explained}
        | {measure: measured(measure, depth, retrained) for measure in MEASURES}
        for label in ("*", *CLASSES)
        for depth in range(DEPTHS)
    ]
    part = 0.031 if leaking else 0.0
    watched = [
        {"run_id": own, "list": listed, "term": term, "class": label, "documents": count, "occurrences": count,
         "document_share": count / explained, "share": of * (1.0 if label == "*" else 0.5), "effect": effect,
         "effect_low": None if effect is None else effect - 0.2,
         "effect_high": None if effect is None else effect + 0.2}
        for listed, term, count, of, effect in (
            ("leaks", "*", 11 * leaking, part, 2.1 if leaking else None),
            ("leaks", story.leak, 11 * leaking, part, 2.1 if leaking else None),
            ("identity", "*", 26, 0.012, 0.05), ("identity", "woman", 14, 0.007, 0.08),
            ("identity", "man", 12, 0.005, 0.01),
        )
        for label in ("*", *CLASSES)
    ]  # fmt: skip
    rows = {"runs": [run], "class_stats": classes, "layer_stats": layers, "watched": watched, "gates": []}
    fails = part > 0.02
    rows["gates"] = [
        _gate(own, "max_failure_share", "error", True, failures / documents, 0.05, None, "few failed"),
        _gate(own, "min_accuracy", "warn", accuracy > 0.9, accuracy, 0.9, None, "accuracy of labelled documents"),
        _gate(own, "max_watched_share: leaks", "error", not fails, part, 0.02, None, f"{story.leak} has {part:.1%}"),
        _gate(own, "drift", "error", None if night == 0 else night not in (LEAK_FROM, RETRAINED), None, None, None,
              "no earlier run" if night == 0 else "words, layers, outcomes"),
    ]  # fmt: skip
    for requested, other in (("previous", night - 1), ("baseline", 0)):
        if 0 <= other < night:
            for table, found in compared(story, night, other, requested).items():
                rows.setdefault(table, []).extend(found)
    return rows


def _gate(
    own: str, gate: str, severity: str, passed: bool | None, value: float | None, limit: float | None,
    reference: str | None, detail: str,
) -> Row:  # fmt: skip
    return {"run_id": own, "gate": gate, "severity": severity, "passed": passed, "value": value, "limit": limit,
            "reference_id": reference, "detail": detail}  # fmt: skip


def measured(measure: str, depth: int, retrained: bool) -> float | None:
    """A value of the layer profile, which moves a little with the retraining."""
    x, shift = depth / (DEPTHS - 1), 0.12 * retrained
    return {
        "cancellation": 1.1 + (2.4 + 4 * shift) * (1 - x) ** 2,
        "effective_tokens": 12 - 10 * x**2,
        "special_share": min(1.0, 0.08 + shift + 0.8 * x**3),
        "rank_agreement": 0.35 + 0.55 * x**0.7 - shift * (1 - x),
        "sign_agreement": 0.62 + 0.3 * x,
        "context_ratio": None if depth == 0 else 0.3 + 0.4 * x,
    }[measure]


def compared(story: Story, night: int, other: int, requested: str) -> dict[str, list[Row]]:
    """The rows of a comparison of a night with an earlier one."""
    key = {"run_id": run_id(night), "reference_id": run_id(other)}
    leaked = other < LEAK_FROM <= night
    trained = other < RETRAINED <= night
    drifted = positives(other) - positives(night)
    words = _words(story, leaked, trained)
    layers = _layers(other >= RETRAINED, night >= RETRAINED)
    outcomes = _outcomes(night, other, drifted)
    documents = _documents(story) if trained else []
    tables = {
        name: {column: [row[column] for row in rows] for column in ("changed", *THINGS[name])}
        for name, rows in (("words", words), ("layers", layers), ("outcomes", outcomes))
    }
    changed = [distinct(table, name, table["changed"]) for name, table in tables.items()]
    a, b = positives(other), positives(night)
    psi = (b - a) * np.log(b / a) + (a - b) * np.log((1 - b) / (1 - a))
    said = []
    if leaked:
        said.append(f"“{story.leak}” is new in positive")
    if trained:
        said.append("the model was retrained and weighs its words otherwise")
    if changed[2]:
        said.append(f"positive is predicted {drifted:.0%} less often")
    row = {
        "requested": requested, "compared": START + timedelta(days=night, minutes=5), "same_model": not trained,
        "same_corpus": False, "documents_a": 397, "documents_b": 398, "paired": len(documents),
        "explained_again": 2 if documents else 0, "left_out": 0, "alpha": 0.025, "changed": any(changed),
        "words_changed": changed[0], "layers_changed": changed[1], "outcomes_changed": changed[2],
        "words_tested": 2 * len(words), "layers_tested": len(layers), "outcomes_tested": len(outcomes),
        "accuracy_a": 0.912, "accuracy_b": 0.897, "flips": sum(d["flipped"] for d in documents) if documents else None,
        "flip_share": sum(d["flipped"] for d in documents) / len(documents) if documents else None,
        "class_psi": float(psi), "class_js": float(psi) / 6, "confidence_psi": 0.03, "confidence_js": 0.004,
        "layer_psi": 0.4 if trained else 0.02,
        "tests_paired": trained, "text_changed": 0, "only_a": 397 - len(documents), "only_b": 398 - len(documents),
        "words_untested": 7, "layers_untested": 0, "outcomes_untested": 0,
        "verdict": "; ".join(said) if said else "no change found; too few documents to test 7 words",
    }  # fmt: skip
    return {
        "comparisons": [key | row],
        "comparison_words": [key | one for one in words],
        "comparison_layers": [key | one for one in layers],
        "comparison_outcomes": [key | one for one in outcomes],
        "comparison_documents": [key | one for one in documents],
    }


def _words(story: Story, leaked: bool, trained: bool) -> list[Row]:
    rng = np.random.default_rng(5)
    found = []
    for label in CLASSES:
        names = [*WORDS[label], *(f"word{number:04d}" for number in range(story.words))]
        for place, word in enumerate(names):
            effect = float(1.2 - 0.1 * place) if place < 8 else float(rng.normal(0, 0.2))
            factor = (1.6, 0.4, -0.5)[place % 3] if trained and (place < 5 or place >= 8) else 1.0
            after = effect * factor + float(rng.normal(0, 0.01))
            change = {1.6: "stronger", 0.4: "weaker", -0.5: "reversed"}.get(factor)
            found.append(_word(label, word, 0.08, 0.08, effect, after, change))
    if leaked:
        found.append(_word("positive", story.leak, 0.0, 0.05, None, 2.1, "new"))
    return found


def _word(
    label: str, word: str, share_a: float, share_b: float, a: float | None, b: float, change: str | None
) -> Row:
    difference = None if a is None else b - a
    return {
        "class": label, "word": word, "documents_a": round(200 * share_a), "documents_b": round(200 * share_b),
        "share_a": share_a, "share_b": share_b, "share_p": 1e-6 if change == "new" else 0.9,
        "share_q": 1e-4 if change == "new" else 0.95, "effect_a": a, "effect_b": b, "difference": difference,
        "low": None if difference is None else difference - 0.15,
        "high": None if difference is None else difference + 0.15, "p": None if a is None else 1e-5 if change else 0.5,
        "q": None if a is None else 1e-4 if change else 0.8, "sign_flip": change == "reversed", "flips": 0,
        "change": change, "changed": change is not None,
    }  # fmt: skip


def _layers(before: bool, after: bool) -> list[Row]:
    found = []
    for label in ("*", *CLASSES):
        for measure in MEASURES:
            for depth in range(DEPTHS):
                a, b = measured(measure, depth, before), measured(measure, depth, after)
                difference = None if a is None or b is None else b - a
                moved = difference is not None and abs(difference) > 0.05
                found.append(
                    {"class": label, "depth": depth, "measure": measure, "documents_a": 397, "documents_b": 398,
                     "a": a, "b": b, "difference": difference, "low": None if difference is None else difference - 0.02,
                     "high": None if difference is None else difference + 0.02, "size": 0.9 if moved else 0.0,
                     "psi": 0.4 if moved else 0.01, "js": 0.05 if moved else 0.001, "p": 1e-5 if moved else 0.6,
                     "q": 1e-4 if moved else 0.9, "changed": moved}
                )  # fmt: skip
    return found


def _outcomes(night: int, other: int, drifted: float) -> list[Row]:
    a, b = positives(other), positives(night)
    far = drifted > 0.1
    rows = [("accuracy", "*", 0.912, 0.897, False)]
    rows += [("predicted share", "negative", 1 - a, 1 - b, far), ("predicted share", "positive", a, b, far)]
    return [
        {"measure": measure, "class": label, "documents_a": 397, "documents_b": 398, "a": x, "b": y,
         "difference": y - x,
         "low": y - x - 0.04, "high": y - x + 0.04, "p": 1e-4 if moved else 0.5, "q": 1e-3 if moved else 0.6,
         "changed": moved}
        for measure, label, x, y, moved in rows
    ]  # fmt: skip


def _documents(story: Story) -> list[Row]:
    return [
        {"doc_key": f"{number:064x}", "doc_id_a": number, "doc_id_b": number, "target": CLASSES[number % 2],
         "predicted_a": CLASSES[number % 2], "predicted_b": CLASSES[(number + (number < 9)) % 2],
         "flipped": number < 9, "probability_a": 0.9, "probability_b": 0.3 if number < 9 else 0.85, "logit_a": 2.0,
         "logit_b": -0.8 if number < 9 else 1.9, "rank_agreement": 0.6, "sign_flips": 0.2,
         "jensen_shannon": 0.1 + number / 1000, "word": WORDS[CLASSES[number % 2]][number % 8],
         "word_change": -1.0 - number / 100}
        for number in range(90)
    ]  # fmt: skip


def make_pair(root: Path) -> Warehouse:
    """A warehouse whose two runs `run-a` and `run-b` hold one corpus and its tokens, with a comparison of b with a."""
    warehouse = Warehouse.open(root)
    for own, seed, day in (("run-a", 0, 1), ("run-b", 1, 2)):
        make_warehouse(
            root, documents=60, depths=5, seed=0, run_id=own, started=datetime(2026, 3, day, 2, tzinfo=UTC)
        )
        if seed:  # the same corpus, explained otherwise
            manifest = json.loads((warehouse.run(own) / "manifest.json").read_text())
            manifest["attribution_key"] = "attribution-other"
            manifest["model"]["hash"] = "b" * 64
            write_json(warehouse.run(own) / "manifest.json", manifest)
            write_shard(
                warehouse.files,
                warehouse.attributions("attribution-other"),
                make_items(make_texts(60, 0), 5, seed),
                1.5,
            )
        aggregate(warehouse, own)
    with duckdb.connect(str(warehouse.database)) as connection:
        layers = connection.execute(
            "SELECT class, depth, documents, special_share FROM layer_stats WHERE run_id = 'run-a'"
        ).fetchall()
    with closing(open_run(warehouse, "run-b")) as connection:
        documents = connection.execute(
            "SELECT doc_key, doc_id, target, probability, logit FROM documents WHERE failure IS NULL ORDER BY doc_id"
        ).fetchall()
    key = {"run_id": "run-b", "reference_id": "run-a"}
    found = compared(Story(), RETRAINED, 0, "previous")
    [row] = found["comparisons"]
    row |= key | {"same_corpus": True, "paired": len(documents), "flips": 4, "flip_share": 4 / len(documents)}
    rows: dict[str, list[Row]] = {
        "comparisons": [row],
        "comparison_words": [one | key for one in found["comparison_words"]],
        "comparison_outcomes": [one | key for one in found["comparison_outcomes"]],
        "comparison_layers": [
            {"class": label, "depth": depth, "measure": "special_share", "documents_a": count, "documents_b": count,
             "a": value, "b": value + 0.1, "difference": 0.1, "low": 0.08, "high": 0.12, "size": 0.5, "psi": 0.3,
             "p": 1e-4, "q": 1e-3, "changed": depth > 2} | key
            for label, depth, count, value in layers
        ],
        "comparison_documents": [
            {"doc_key": doc_key, "doc_id_a": doc_id, "doc_id_b": doc_id, "target": target, "predicted_a": target,
             "predicted_b": "neutral" if place < 4 else target, "flipped": place < 4, "probability_a": 0.9,
             "probability_b": probability, "logit_a": 1.0, "logit_b": logit, "rank_agreement": 0.7, "sign_flips": 0.1,
             "jensen_shannon": 0.2 - place / 1000, "word": "awful", "word_change": -0.9 + place / 100} | key
            for place, (doc_key, doc_id, target, probability, logit) in enumerate(documents)
        ],
        "gates": [
            _gate("run-b", "max_failure_share", "error", True, 3 / 60, 0.06, None, "3 of 60 documents failed"),
            _gate("run-b", "min_accuracy", "error", False, 0.61, 0.8, None, "accuracy 0.61 is below 0.8"),
            _gate("run-b", "max_flip_share", "warn", False, 0.07, 0.05, "run-a", "4 of 57 predictions flipped"),
            _gate("run-b", "max_class_psi", "error", None, None, 0.25, "run-a", "no classes in common"),
        ],
        "watched": [
            {"run_id": own, "list": "leaks", "term": term, "class": label, "documents": 12, "occurrences": 13,
             "document_share": 0.2, "share": share, "effect": effect, "effect_low": effect - 0.1,
             "effect_high": effect + 0.1}
            for own, share, effect in (("run-a", 0.10, 0.5), ("run-b", 0.16, 0.8))
            for term in ("*", "<b>superb</b>")
            for label in ("*", "positive")
        ],
    }  # fmt: skip
    write(warehouse, rows)
    return warehouse
