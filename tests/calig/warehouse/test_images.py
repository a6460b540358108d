"""Runs of images: shards, views and tables, every number derived a second way, image by image, in plain Python."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calig.files import write_json
from calig.records import Attribution, Failure
from calig.warehouse.aggregate import aggregate, rebuild
from calig.warehouse.compact import compact
from calig.warehouse.layout import Warehouse
from calig.warehouse.query import open_run, query
from calig.warehouse.questions import question, questions
from calig.warehouse.shards import write_shard
from tests.material.derived_tables import interval
from tests.material.tiers import extended, few
from tests.material.warehouses import make_warehouse

CLASSES = ("cat", "dog", "fox")
DEPTHS = 4
GRIDS = ((4, 4), (2, 3))
LEAKED, PLANTED = 1, (0, 0)
"""Images explained as `LEAKED` speak from this patch."""
RUN = "pictures"
NAMES = (
    *("top left", "top", "top right", "left", "centre", "right"),
    *("bottom left", "bottom", "bottom right"),
)


def attribution(number: int) -> Attribution:
    rng = np.random.default_rng(number)
    grid = GRIDS[number % 5 == 4]
    target = number % 3
    places = [(-1, -1), *((row, column) for row in range(grid[0]) for column in range(grid[1]))]
    layer_ig = rng.normal(0, 0.1, (DEPTHS, len(places))).astype(np.float32)
    if target == LEAKED:
        layer_ig[:, places.index(PLANTED)] += 2
    if number == 3:
        layer_ig[:] = 0
    context = rng.normal(0, 0.1, (DEPTHS - 1, len(places))).astype(np.float32) * (number != 3)
    logits = rng.normal(0, 1, 3).astype(np.float32)
    return Attribution(
        key=hashlib.sha256(f"image {number}".encode()).hexdigest(),
        tokens=["[CLS]", *(f"{row},{column}" for row, column in places[1:])],
        word_ids=np.full(len(places), -1, np.int32),
        char_spans=np.zeros((len(places), 2), np.int32),
        segments=np.full(len(places), -1, np.int32),
        is_special=np.array([row < 0 for row, _ in places]),
        layer_ig=layer_ig,
        context=context,
        context_norm=np.abs(context).sum(axis=1),
        relevance=np.zeros((DEPTHS - 1, len(places)), np.float32),
        scores=np.zeros(len(places), np.float32),
        target=target,
        predicted=target,
        logits=logits,
        logit=float(logits[target]),
        baseline_logit=0.0,
        completeness_error=np.full(DEPTHS, 1e-4, np.float32),
        error_estimate=np.full(DEPTHS, 1e-3, np.float32),
        converged=np.ones(DEPTHS, bool),
        nodes=np.full(DEPTHS, 13, np.int32),
        block_passes=40,
        seconds=0.1,
        truncated=False,
        patches=np.array(places, np.int32),
        grid=grid,
        thumbnail=f"picture {number}".encode(),
    )


IMAGES = [attribution(number) for number in range(40)]
FAILED = Failure(hashlib.sha256(b"broken").hexdigest(), "undecodable", "not a readable image")


def make_images(root: Path, run_id: str = RUN) -> Warehouse:
    """An image run of `IMAGES` and one that failed."""
    warehouse = Warehouse.open(root)
    items: list[Attribution | Failure] = [*IMAGES, FAILED]
    for number in range(3):
        write_shard(warehouse.files, warehouse.attributions("images"), items[number::3], 1.0, "image")
    write_shard(
        warehouse.files, warehouse.attributions("images"), [Failure("0" * 64, "empty", "alone")], 1.0, "image"
    )
    count = len(items)
    shared = {
        "doc_id": pa.array(range(count), pa.int64()),
        "source_id": [f"{number}.png" for number in range(count)],
        "doc_key": [item.key for item in items],
    }
    label = pa.array([(number + (number % 7 == 0)) % 3 for number in range(count)], pa.int32())
    corpus = {
        **shared,
        "image": [f"/photos/{number}.png" for number in range(count)],
        "image_bytes": pa.array([None] * count, pa.binary()),
        "label": label,
        "category": ["photo"] * count,
    }
    warehouse.corpus("photos").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(corpus), warehouse.corpus("photos") / "part-00000.parquet")
    warehouse.run(run_id).mkdir(parents=True, exist_ok=True)
    run_ids = pa.array([run_id] * count)
    pq.write_table(
        pa.table({"run_id": run_ids, **shared, "label": label, "category": corpus["category"]}),
        warehouse.run(run_id) / "documents.parquet",
    )
    model = {"id": "m", "revision": None, "hash": "0" * 64, "classes": list(CLASSES), "modality": "image"}
    method = {
        "target": "predicted",
        "output": "logit",
        "baseline": "zero",
        "tolerance": 1e-2,
        "fusion": "column",
        "weight": 0.5,
    }
    write_json(
        warehouse.run(run_id) / "manifest.json",
        {
            **{"run_id": run_id, "name": "photos", "status": "complete", "depths": DEPTHS, "method": method},
            **{"started": datetime(2026, 5, 1, tzinfo=UTC).isoformat(), "finished": None, "model": model},
            **{
                "corpus": {"key": "photos", "source": "photos", "documents": count},
                "attribution_key": "images",
            },
            **{"attributed": count, "reused": 0, "config": {}, "versions": {}, "timings": {}},
        },
    )
    return warehouse


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    made = make_images(tmp_path_factory.mktemp("images") / "w")
    aggregate(made, RUN)
    return made


def ask(warehouse: Warehouse, sql: str, run: str = RUN) -> list[dict[str, Any]]:
    found = query(warehouse, sql, run)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def content(a: Attribution) -> list[int]:
    return [t for t, special in enumerate(a.is_special) if not special]


def effects(a: Attribution) -> np.ndarray[Any, Any]:
    return a.layer_ig[:-1].astype(np.float64).mean(axis=0)


def region(a: Attribution, token: int) -> str:
    assert a.patches is not None
    assert a.grid is not None
    thirds = []
    for place, count in zip(a.patches[token], a.grid, strict=True):
        centre = (place + 0.5) / count
        thirds.append(0 if centre < 1 / 3 - 1e-9 else 1 if centre < 2 / 3 - 1e-9 else 2)
    return NAMES[3 * thirds[0] + thirds[1]]


def at_border(a: Attribution, token: int) -> bool:
    assert a.patches is not None
    assert a.grid is not None
    return any(place in (0, count - 1) for place, count in zip(a.patches[token], a.grid, strict=True))


def test_patches_are_tokens_with_rows_and_columns(warehouse: Warehouse) -> None:
    rows = ask(warehouse, "FROM tokens ORDER BY doc_id, position")
    expected = [(number, t, a) for number, a in enumerate(IMAGES) for t in range(len(a.tokens))]
    assert len(rows) == len(expected)
    for row, (number, t, a) in zip(rows, expected, strict=True):
        assert a.patches is not None
        place = None if a.is_special[t] else tuple(a.patches[t].tolist())
        assert (row["doc_id"], row["position"], row["token"]) == (number, t, a.tokens[t])
        assert (row["patch_row"], row["patch_column"]) == (place or (None, None))
        assert row["is_special"] == (place is None)
        assert (row["word_id"], row["char_start"], row["segment"]) == (None, None, None)
        assert row["logit_effect"] == pytest.approx(effects(a)[t], abs=1e-7)
        assert [row[f"ig_{depth:02d}"] for depth in range(DEPTHS)] == a.layer_ig[:, t].tolist()


def test_patches_know_their_region_and_the_border(warehouse: Warehouse) -> None:
    rows = ask(warehouse, "FROM patches ORDER BY doc_id, position")
    expected = [(number, t, a) for number, a in enumerate(IMAGES) for t in content(a)]
    assert [(r["doc_id"], r["position"]) for r in rows] == [(number, t) for number, t, _ in expected]
    for row, (_, t, a) in zip(rows, expected, strict=True):
        assert row["region"] == region(a, t)
        assert row["border"] == at_border(a, t)


def test_documents_have_their_image_and_grid_and_no_text(warehouse: Warehouse) -> None:
    rows = ask(warehouse, "FROM documents ORDER BY doc_id")
    for number, row in enumerate(rows):
        assert (row["text"], row["text_pair"], row["image"]) == (None, None, f"/photos/{number}.png")
        grid = IMAGES[number].grid if number < len(IMAGES) else (None, None)
        assert (row["grid_rows"], row["grid_columns"]) == grid
    assert rows[-1]["failure"] == "undecodable"
    assert "thumbnail" not in rows[0]
    (failure,) = ask(warehouse, "FROM failures")
    assert (failure["reason"], failure["detail"]) == ("undecodable", "not a readable image")
    (run,) = ask(warehouse, "SELECT modality, documents, failures FROM runs")
    assert tuple(run.values()) == ("image", 41, 1)


def test_thumbnails_come_back(warehouse: Warehouse) -> None:
    with open_run(warehouse, RUN) as connection:
        rows = connection.execute("SELECT thumbnail FROM thumbnails ORDER BY doc_id").fetchall()
    assert [row[0] for row in rows] == [a.thumbnail for a in IMAGES]


def test_document_maps(warehouse: Warehouse) -> None:
    scores = defaultdict(list)
    for row in ask(warehouse, "SELECT doc_id, score FROM tokens ORDER BY doc_id, position"):
        scores[row["doc_id"]].append(row["score"])
    rows = {(row["doc_id"], row["depth"]): row for row in ask(warehouse, "FROM document_maps")}
    assert len(rows) == len(IMAGES) * DEPTHS
    for number, a in enumerate(IMAGES):
        assert a.patches is not None
        assert a.grid is not None
        for depth in (*range(DEPTHS - 1), None):
            values = np.array(scores[number]) if depth is None else a.layer_ig[depth].astype(np.float64)
            mass = {t: abs(float(values[t])) for t in content(a)}
            total = sum(mass.values())
            row = rows[number, depth]
            if not total:
                assert [row[k] for k in ("border_share", "border_lift", "centre_row", "centre_column")] == [
                    None
                ] * 4
                continue
            share = sum(m for t, m in mass.items() if at_border(a, t)) / total
            area = np.mean([at_border(a, t) for t in mass])
            assert row["border_share"] == pytest.approx(share)
            assert row["border_lift"] == pytest.approx(share / area)
            for axis, name in enumerate(("centre_row", "centre_column")):
                centre = sum(m * (a.patches[t][axis] + 0.5) / a.grid[axis] for t, m in mass.items()) / total
                assert row[name] == pytest.approx(centre)


def test_region_stats(warehouse: Warehouse) -> None:
    samples: dict[tuple[str, str], list[tuple[float, float | None, float]]] = defaultdict(list)
    for a in IMAGES:
        effect, patches = effects(a), content(a)
        total = sum(abs(effect[t]) for t in patches)
        for name in (*NAMES, "border"):
            inside = [t for t in patches if (at_border(a, t) if name == "border" else region(a, t) == name)]
            if inside:
                share = sum(abs(effect[t]) for t in inside) / total if total else None
                samples[CLASSES[a.target], name].append(
                    (sum(effect[t] for t in inside), share, len(inside) / len(patches))
                )
    rows = {(row["class"], row["region"]): row for row in ask(warehouse, "FROM region_stats")}
    assert rows.keys() == samples.keys()
    for key, found in samples.items():
        values = np.array([effect for effect, _, _ in found])
        shares = [share for _, share, _ in found if share is not None]
        row = rows[key]
        assert row["documents"] == len(found)
        assert row["effect"] == pytest.approx(values.mean(), abs=1e-7)
        assert (row["effect_low"], row["effect_high"]) == pytest.approx(interval(values.tolist()), abs=1e-6)
        assert row["share"] == pytest.approx(np.mean(shares))
        assert row["area"] == pytest.approx(np.mean([area for _, _, area in found]))
        assert row["lift"] == pytest.approx(row["share"] / row["area"])
        assert row["same_sign_share"] == pytest.approx(np.mean(np.sign(values) == np.sign(values.mean())))


@pytest.mark.parametrize("images", few([1, 2, 3], [2], "one image less or more"))
def test_one_image_or_two_have_regions_without_intervals(tmp_path: Path, images: int) -> None:
    warehouse = make_images(tmp_path)
    path = warehouse.run(RUN) / "documents.parquet"
    alike = [number for number, a in enumerate(IMAGES) if a.target == IMAGES[0].target]
    rows = pq.read_table(path)
    pq.write_table(rows.take(alike[:images]), path)
    aggregate(warehouse, RUN)
    found = ask(warehouse, "FROM region_stats")
    assert len(found) >= 9
    assert all((row["effect_low"] is None) == (row["documents"] < 3) for row in found)
    assert images < 3 or any(row["effect_low"] is not None for row in found)


def test_patch_stats_are_the_mean_map_of_a_class_by_grid(warehouse: Warehouse) -> None:
    rows = ask(warehouse, "FROM patch_stats")
    assert len(rows) == 3 * (16 + 6)
    for row in rows:
        grid = (row["grid_rows"], row["grid_columns"])
        alike = [a for a in IMAGES if CLASSES[a.target] == row["class"] and a.grid == grid]
        token = 1 + row["patch_row"] * grid[1] + row["patch_column"]
        assert row["documents"] == len(alike)
        assert row["effect"] == pytest.approx(np.mean([effects(a)[token] for a in alike]), abs=1e-7)
        totals = [sum(abs(effects(a)[t]) for t in content(a)) for a in alike]
        shares = [abs(effects(a)[token]) / total for a, total in zip(alike, totals, strict=True) if total]
        assert row["share"] == pytest.approx(np.mean(shares))


def test_a_planted_corner_comes_first(warehouse: Warehouse) -> None:
    first = ask(warehouse, question("border-share").sql)[0]
    assert (first["class"], first["region"]) == ("dog", "top left")
    assert first["lift"] > 2
    assert first["effect_low"] > 1


@extended("every question on three choices of runs")
def test_every_question_is_answered_of_images_of_texts_and_of_both(
    warehouse: Warehouse, tmp_path: Path
) -> None:
    both = make_images(tmp_path)
    texts = make_warehouse(tmp_path)
    for run in (RUN, texts):
        aggregate(both, run)
    for one in questions():
        for run in (RUN, texts, "all"):
            query(both, one.sql, run)
    (agreed,) = ask(both, f"SELECT count(*) AS rows FROM ({question('depth-agreement').sql})", texts)
    assert agreed["rows"] == 4 * 3 / 2
    modalities = ask(both, "SELECT run_id, modality FROM runs ORDER BY modality", "all")
    assert [row["modality"] for row in modalities] == ["image", "text"]


def test_depth_agreement(warehouse: Warehouse) -> None:
    rows = {(r["depth"], r["other"]): r for r in ask(warehouse, question("depth-agreement").sql)}
    for (depth, other), row in rows.items():
        found = [
            np.corrcoef(a.layer_ig[depth, 1:].astype(float), a.layer_ig[other, 1:].astype(float))[0, 1]
            for number, a in enumerate(IMAGES)
            if number != 3
        ]
        assert row["documents"] == len(found)
        assert row["agreement"] == pytest.approx(np.mean(found))
    assert len(rows) == DEPTHS * (DEPTHS - 1) / 2


def test_merged_and_rebuilt_it_is_the_same(tmp_path: Path) -> None:
    made = make_images(tmp_path)
    aggregate(made, RUN)
    tables = ("document_maps", "region_stats", "patch_stats", "layer_stats")
    before = {
        table: query(made, f"SELECT * FROM {table} ORDER BY ALL").rows
        for table in (*tables, "tokens", "thumbnails")
    }
    compact(made.files, made.attributions("images"), min_files=2)
    assert len(list(made.attributions("images").glob("documents-*.parquet"))) == 1
    made.database.unlink()
    rebuild(made)
    for table, rows in before.items():
        again = query(made, f"SELECT * FROM {table} ORDER BY ALL").rows
        assert len(again) == len(rows)
        for one, other in zip(again, rows, strict=True):
            assert list(one) == [pytest.approx(v, rel=1e-9) if isinstance(v, float) else v for v in other]
