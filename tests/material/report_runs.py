"""A warehouse connection in memory with the tables and views of one run, filled with plausible numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

RUN = "20260301-070000-aaaa"
PRAISE = (
    "excellent moving funny brilliant charming wonderful delightful warm clever beautiful honest rich fresh"
)
BLAME = "dull tedious awful bland clumsy lifeless boring mess pointless flat tired worst stale not"
NEUTRAL = (
    "the a of film story it's with and that characters its in director performance scene is as but ending an"
)


@dataclass(frozen=True)
class Scene:
    """What to fabricate; `texts` are put before the generated documents."""

    documents: int = 64
    blocks: int = 6
    classes: tuple[str, ...] = ("negative", "positive")
    labelled: bool = True
    only_class: int | None = None
    failures: int = 2
    texts: tuple[str, ...] = ()
    words: bool = True
    length: tuple[int, int] = (9, 34)
    status: str = "complete"
    max_failure_share: float | None = 0.05


def connect(scene: Scene) -> duckdb.DuckDBPyConnection:
    rng = np.random.default_rng(7)
    con = duckdb.connect()
    documents, tokens = [], []
    for doc_id in range(scene.documents):
        failed = doc_id >= scene.documents - scene.failures
        target = scene.only_class if scene.only_class is not None else int(rng.integers(len(scene.classes)))
        given = scene.texts[doc_id] if doc_id < len(scene.texts) else None
        text = given if given is not None else _text(rng, scene, target)
        rows = [] if failed else _tokens(rng, scene, doc_id, text, target)
        tokens += rows
        documents.append(_document(rng, scene, doc_id, text, target, rows, failed))
    columns = list(_tokens(rng, scene, 0, "a", 0)[0])
    con.register("tokens_in", _table(tokens, columns))
    con.register("documents_in", _table(documents, list(documents[0])))
    con.execute("CREATE TABLE tokens AS FROM tokens_in; CREATE TABLE documents AS FROM documents_in")
    _views(con, scene)
    _aggregates(con, scene, rng)
    return con


def _table(rows: Sequence[dict[str, object]], columns: list[str]) -> pa.Table:
    return pa.table({name: [row[name] for row in rows] for name in columns})


def _lexicon(scene: Scene) -> list[list[str]]:
    if len(scene.classes) == 2:
        return [BLAME.split(), PRAISE.split()]
    return [[f"{name}{suffix}" for suffix in ("", "lib", "core", "kit")] for name in scene.classes]


def _text(rng: np.random.Generator, scene: Scene, target: int) -> str:
    lexicon, neutral = _lexicon(scene), NEUTRAL.split()
    words = []
    for _ in range(int(rng.integers(*scene.length))):
        draw = rng.random()
        if draw < 0.18:
            words.append(str(rng.choice(lexicon[target])))
        elif draw < 0.24:
            words.append(str(rng.choice(lexicon[int(rng.integers(len(lexicon)))])))
        else:
            words.append(str(rng.choice(neutral)))
    return (" ".join(words) + ".").capitalize()


def _tokens(
    rng: np.random.Generator, scene: Scene, doc_id: int, text: str, target: int
) -> list[dict[str, object]]:
    lexicon = _lexicon(scene)
    pieces: list[tuple[str, int, int, int]] = []
    cursor = 0
    for word_id, word in enumerate(text.split()):
        start = text.index(word, cursor)
        cursor = start + len(word)
        if len(word) > 7:
            pieces += [(word[:5], word_id, start, start + 5), ("##" + word[5:], word_id, start + 5, cursor)]
        else:
            pieces.append((word, word_id, start, cursor))
    marks = [("[CLS]", -1, 0, 0), *pieces, ("[SEP]", -1, 0, 0)]
    rows = []
    for position, (token, word_id, start, end) in enumerate(marks):
        word = text.split()[word_id].lower().strip(".") if word_id >= 0 else ""
        base = 0.02
        if word in lexicon[target]:
            base = 0.35 + 0.09 * (len(lexicon[target]) - lexicon[target].index(word)) / 2
        elif any(word in other for other in lexicon):
            base = -0.45
        depths = np.arange(scene.blocks + 1)
        if word_id < 0:
            ig = 2.5 * (depths / scene.blocks) ** 3 * (position == 0) + rng.normal(0, 0.05, scene.blocks + 1)
        else:
            noise = rng.normal(0, 0.28, scene.blocks + 1) * (1 - depths / scene.blocks) ** 1.5
            ig = (base + noise) * (1 - (depths / scene.blocks) ** 4)
        rows.append(
            {"run_id": RUN, "doc_id": doc_id, "doc_key": f"k{doc_id}", "position": position, "token": token,
             "word_id": word_id, "char_start": start, "char_end": end, "is_special": word_id < 0,
             "segment": None if word_id < 0 else 0}
            | {f"ig_{depth:02d}": float(value) for depth, value in enumerate(ig)}
            | {f"ctx_{block:02d}": float(ig[block - 1]) for block in range(1, scene.blocks + 1)}
            | {"logit_effect": float(ig[:-1].mean()), "score": float(ig[:-1].mean() / 2)}
        )  # fmt: skip
    return rows


def _document(
    rng: np.random.Generator,
    scene: Scene,
    doc_id: int,
    text: str,
    target: int,
    rows: list[dict[str, object]],
    failed: bool,
) -> dict[str, object]:
    label = (target + int(rng.random() < 0.15)) % len(scene.classes) if scene.labelled else None
    error = float(rng.uniform(1e-4, 9e-3)) if doc_id % 23 else 0.034
    found = {
        "run_id": RUN, "doc_id": doc_id, "source_id": f"dev-{doc_id:04d}", "doc_key": f"k{doc_id}",
        "text": text, "text_pair": None, "labels": None, "label_value": None, "predicted_labels": None,
        "label": None if label is None else scene.classes[label], "label_id": label,
        "failure": "empty" if failed else None,
    }  # fmt: skip
    explained = {
        "predicted": scene.classes[target], "predicted_id": target,
        "target": scene.classes[target], "target_id": target,
        "correct": None if label is None else label == target, "probability": float(rng.uniform(0.55, 0.999)),
        "logits": [0.0] * len(scene.classes), "logit": float(rng.uniform(1, 4)), "baseline_logit": 0.2,
        "error_estimate": error, "completeness_error": error / 3, "converged": error <= 0.01,
        "in_statistics": error <= 0.01,
        "nodes": 90, "block_passes": 164, "tokens": len(rows), "truncated": doc_id == 1, "seconds": 0.11,
        "settling_depth": None if doc_id % 13 == 5 else int(rng.integers(scene.blocks)),
    }  # fmt: skip
    return found | {key: None if failed else value for key, value in explained.items()}


def _views(con: duckdb.DuckDBPyConnection, scene: Scene) -> None:
    con.execute(
        """
        CREATE TEMP VIEW words AS
        SELECT t.run_id, t.doc_id, t.word_id,
            substr(any_value(d.text), min(char_start) + 1, max(char_end) - min(char_start)) AS text,
            lower(trim(substr(any_value(d.text), min(char_start) + 1, max(char_end) - min(char_start)), ' .'))
                AS word,
            min(char_start) AS char_start, max(char_end) AS char_end,
            sum(t.logit_effect) AS logit_effect, sum(t.score) AS score
        FROM tokens t JOIN documents d USING (run_id, doc_id)
        WHERE NOT is_special
        GROUP BY t.run_id, t.doc_id, t.word_id;
        CREATE TEMP VIEW word_tokens AS
        SELECT run_id, doc_id, position, word_id, segment, 1 AS characters, 1 AS token_characters, true AS main,
            min(char_start) OVER (PARTITION BY run_id, doc_id, word_id) AS char_start,
            max(char_end) OVER (PARTITION BY run_id, doc_id, word_id) AS char_end
        FROM tokens
        WHERE NOT is_special;
        CREATE TEMP VIEW patches AS
        SELECT run_id, doc_id, NULL::SMALLINT AS patch_row, NULL::SMALLINT AS patch_column, logit_effect
        FROM tokens WHERE false
        """
    )


def _aggregates(con: duckdb.DuckDBPyConnection, scene: Scene, rng: np.random.Generator) -> None:
    depths = scene.blocks + 1
    con.register(
        "classes_in", pa.table({"class": list(scene.classes), "class_id": range(len(scene.classes))})
    )
    minimum = 5 if scene.words else 10**9
    con.execute(
        f"""
        CREATE TABLE word_stats AS
        SELECT run_id, class, word, count(*) AS documents, sum(n)::BIGINT AS occurrences, avg(e) AS effect,
            avg(e) - 1.96 * stddev(e) / sqrt(count(*)) AS effect_low,
            avg(e) + 1.96 * stddev(e) / sqrt(count(*)) AS effect_high,
            avg(s) AS score, avg((e > 0)::INT) AS same_sign_share,
            arg_max(doc_id, e) AS example_for, arg_min(doc_id, e) AS example_against
        FROM (
            SELECT w.run_id, target AS class, word, doc_id,
                count(*) AS n, sum(logit_effect) AS e, sum(score) AS s
            FROM words w JOIN documents d USING (run_id, doc_id) GROUP BY ALL
        )
        GROUP BY run_id, class, word HAVING count(*) >= {minimum};
        CREATE TABLE settling AS SELECT run_id, doc_id, settling_depth FROM documents WHERE failure IS NULL;
        CREATE TABLE failures AS
        SELECT run_id, doc_id, source_id, doc_key, failure AS reason, 'the text is empty' AS detail
        FROM documents WHERE failure IS NOT NULL;
        CREATE TABLE class_stats AS
        SELECT '{RUN}' AS run_id, class, class_id, labelled, predicted, hits AS correct,
            hits / nullif(predicted, 0) AS precision, hits / nullif(labelled, 0) AS recall,
            mean_probability, mean_settling_depth
        FROM (
            SELECT c.class, c.class_id,
                count(*) FILTER (WHERE label_id = class_id) AS labelled,
                count(*) FILTER (WHERE predicted_id = class_id) AS predicted,
                count(*) FILTER (WHERE predicted_id = class_id AND correct) AS hits,
                avg(probability) FILTER (WHERE predicted_id = class_id) AS mean_probability,
                avg(settling_depth) FILTER (WHERE target_id = class_id) AS mean_settling_depth
            FROM classes_in AS c CROSS JOIN documents
            GROUP BY c.class, c.class_id
        )
        """
    )
    share = np.arange(depths) / scene.blocks
    layers, convergence = [], []
    for offset, name in enumerate(("*", *scene.classes)):
        shift = 0.04 * offset
        for depth in range(depths):
            x = float(share[depth])
            layers.append(
                {"run_id": RUN, "class": name, "depth": depth, "documents": scene.documents - scene.failures,
                 "cancellation": 1.1 + (2.4 + shift * 8) * (1 - x) ** 2,
                 "effective_tokens": 12 - 10 * x**2 + shift * 9,
                 "special_share": min(1.0, 0.08 + shift + 0.9 * x**3),
                 "rank_agreement": 0.35 + shift + 0.55 * x**0.7, "sign_agreement": 0.62 + shift + 0.3 * x,
                 "context_ratio": None if depth == 0 else 0.3 + 0.4 * x - shift}
            )  # fmt: skip
    for depth in range(depths):
        scale = float(10 ** (-2.2 - depth / 3))
        convergence.append(
            {"run_id": RUN, "depth": depth, "documents": scene.documents - scene.failures,
             "converged": scene.documents - scene.failures - (3 if depth == 0 else 0),
             "median_error_estimate": scale / 3, "worst_error_estimate": scale * 5,
             "median_completeness_error": scale / 9,
             "worst_completeness_error": scale, "mean_nodes": 18.0 - 2 * min(depth, 6),
             "max_nodes": 48 - 4 * min(depth, 9)}
        )  # fmt: skip
    con.register("layers_in", _table(layers, list(layers[0])))
    con.register("convergence_in", _table(convergence, list(convergence[0])))
    con.execute(
        "CREATE TABLE layer_stats AS FROM layers_in; CREATE TABLE completeness AS FROM convergence_in"
    )
    config: dict[str, object] = {
        "model": {"id": "acme/minilm-sst2", "revision": "4f1c2ab"},
        "corpus": {"path": "corpora/sst2-dev.parquet", "text": "text", "label": "label"},
        "method": {"tolerance": 0.01, "baseline": "pad", "fusion": "column", "weight": 0.5},
    }
    if scene.max_failure_share is not None:
        config["gates"] = {"max_failure_share": scene.max_failure_share}
    con.execute(
        f"""
        CREATE TABLE runs AS
        SELECT '{RUN}' AS run_id, 'sst2 nightly' AS name, $status AS status,
            TIMESTAMP '2026-03-01 07:00:00' AS started,
            TIMESTAMP '2026-03-01 07:04:31' AS finished, 'acme/minilm-sst2' AS model_id,
            '4f1c2ab77e0d' AS model_revision, 'sha256:9d2e' AS model_hash, 'single_label' AS head, 'text' AS modality,
            'corpora/sst2-dev.parquet' AS corpus_source,
            'c0ffee' AS corpus_key, NULL::BIGINT AS corpus_rows, 0 AS left_out, '' AS left_out_files,
            'a77b00' AS attribution_key, 'predicted' AS target, 'logit' AS output,
            'pad' AS baseline, CAST(0.01 AS DOUBLE) AS tolerance, 'column' AS fusion,
            CAST(0.5 AS DOUBLE) AS weight, {depths} AS depths,
            $classes AS classes, count(*) AS documents, count(*) FILTER (WHERE failure IS NULL) AS attributed,
            0 AS reused, count(failure) AS failures, count(*) FILTER (WHERE truncated) AS truncated,
            avg(correct::INT) AS accuracy, NULL::DOUBLE AS mean_absolute_error, NULL::DOUBLE AS correlation,
            CAST(0.99 AS DOUBLE) AS converged_share,
            max(completeness_error) AS worst_completeness_error,
            max(error_estimate) AS worst_error_estimate, sum(block_passes) AS block_passes,
            sum(seconds) AS attribution_seconds, $config AS config,
            '{{"torch": "2.13.0", "transformers": "5.23.0", "calig": "0.1.0"}}' AS versions,
            '{{"ingest": 1.9, "attribute": 204.2, "aggregate": 6.1}}' AS timings,
            NULL::VARCHAR[] AS notes, NULL::VARCHAR[] AS label_order, NULL::DOUBLE AS label_order_accuracy,
            count(*) FILTER (NOT in_statistics) AS unconverged
        FROM documents
        """,
        {"status": scene.status, "classes": list(scene.classes), "config": json.dumps(config)},
    )
