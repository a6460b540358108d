"""A warehouse connection in memory with one run on images: real pictures, plausible relevance, a planted corner."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tests.material import report_runs as synthetic
from tests.material.report_runs import RUN

datasets = pytest.importorskip(
    "sklearn.datasets", reason="scikit-learn, whose pictures are used, is not installed"
)

PLANTED = "7"
CLASSES = {"digits": tuple("0123456789"), "photos": ("flower", "temple")}


@dataclass(frozen=True)
class ImageScene:
    """What to fabricate: digits with a mark in the corner of every 7, or crops of two photographs.

    `grids` are given to the images in turn; `thumbnails` without which images have none.
    """

    pictures: str = "digits"
    documents: int = 300
    blocks: int = 6
    grids: tuple[tuple[int, int], ...] = ((8, 8),)
    specials: tuple[str, ...] = ("[CLS]",)
    failures: int = 2
    thumbnails: bool = True

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names."""
        return CLASSES[self.pictures]


def connect(scene: ImageScene) -> duckdb.DuckDBPyConnection:
    rng = np.random.default_rng(11)
    texts = synthetic.Scene(scene.documents, scene.blocks, scene.classes, failures=scene.failures)
    documents, tokens, thumbnails = [], [], []
    for doc_id, (pixels, target) in zip(range(scene.documents), _pictures(scene, rng), strict=False):
        failed = doc_id >= scene.documents - scene.failures
        grid = scene.grids[doc_id % len(scene.grids)]
        rows = [] if failed else _tokens(rng, scene, doc_id, pixels, target, grid)
        tokens += rows
        row = synthetic._document(rng, texts, doc_id, "", target, rows, failed)
        row |= {
            "text": None,
            "truncated": None if failed else False,
            "source_id": f"test/{doc_id:05d}.png",
            "image": f"/data/test/{doc_id:05d}.png",
        }
        documents.append(
            row | {"grid_rows": None if failed else grid[0], "grid_columns": None if failed else grid[1]}
        )
        if scene.thumbnails and not failed:
            thumbnails.append({"run_id": RUN, "doc_id": doc_id, "thumbnail": _file(pixels)})
    con = duckdb.connect()
    con.register("tokens_in", synthetic._table(tokens, list(tokens[0])))
    con.register("documents_in", synthetic._table(documents, list(documents[0])))
    con.execute("CREATE TABLE tokens AS FROM tokens_in; CREATE TABLE documents AS FROM documents_in")
    con.register(
        "thumbnails_in",
        pa.table(
            {
                "run_id": pa.array([row["run_id"] for row in thumbnails], pa.string()),
                "doc_id": pa.array([row["doc_id"] for row in thumbnails], pa.int64()),
                "thumbnail": pa.array([row["thumbnail"] for row in thumbnails], pa.binary()),
            }
        ),
    )
    con.execute("CREATE TABLE thumbnails AS FROM thumbnails_in")
    con.execute(
        "CREATE TABLE words "
        "(run_id VARCHAR, doc_id BIGINT, word_id INT, word VARCHAR, logit_effect DOUBLE, score DOUBLE)"
    )
    con.execute(
        "CREATE TABLE word_tokens (run_id VARCHAR, doc_id BIGINT, position INT, word_id INT, char_start INT, "
        "char_end INT, characters INT, token_characters INT)"
    )
    con.execute(PATCHES)
    synthetic._aggregates(con, texts, rng)
    con.execute("UPDATE runs SET modality = 'image'")
    con.execute(
        "UPDATE runs SET name = 'digits nightly', model_id = 'acme/vit-digits', corpus_source = 'corpora/digits', "
        "baseline = 'zero'"
    )
    con.execute("UPDATE failures SET reason = 'unreadable image', detail = 'image file is truncated'")
    con.execute(AGGREGATES)
    for depth in [*range(scene.blocks), None]:
        value = "score" if depth is None else f"ig_{depth:02d}"
        con.execute(MAPS.format(depth="NULL" if depth is None else depth, value=value))
    return con


def _pictures(scene: ImageScene, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, int]]:
    """Pictures as (height, width, 3) bytes with what the model says they are."""
    if scene.pictures == "digits":
        digits = datasets.load_digits()
        for pixels, label in zip(digits.images, digits.target, strict=True):
            grey = np.kron(pixels / 16 * 255, np.ones((4, 4)))
            if str(label) == PLANTED:
                grey[:4, :4] = 235
            yield np.repeat(grey[..., None], 3, axis=2).astype(np.uint8), int(label)
    photos = [datasets.load_sample_image(name) for name in ("flower.jpg", "china.jpg")]
    boxes = [(150, 90, 420, 330), (0, 60, 400, 330)]
    while True:
        target = int(rng.integers(2))
        left, top, right, bottom = boxes[target]
        size = int(rng.integers(130, 220))
        x, y = (
            int(rng.integers(left, max(left + 1, right - size // 2))),
            int(rng.integers(top, max(top + 1, bottom - size))),
        )
        crop = Image.fromarray(photos[target]).crop((x, y, x + size, y + size)).resize((128, 128))
        yield np.asarray(crop), target


def _file(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    tiny = pixels.shape[0] < 64
    Image.fromarray(pixels).save(buffer, format="PNG" if tiny else "JPEG", quality=82)
    return buffer.getvalue()


def _tokens(
    rng: np.random.Generator,
    scene: ImageScene,
    doc_id: int,
    pixels: np.ndarray,
    target: int,
    grid: tuple[int, int],
) -> list[dict[str, object]]:
    """Strokes or saturated colour speak for the class, the ground a little against it; deeper is clearer."""
    rows, columns = grid
    small = (
        np.asarray(Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BOX), dtype=float) / 255
    )
    value = small.max(axis=2) if scene.pictures == "digits" else small.max(axis=2) - small.min(axis=2)
    final = (value - value.mean()) / (value.std() + 1e-6) * 3 / np.sqrt(rows * columns)
    final = np.where(final > 0, final, 0.3 * final)
    if scene.pictures == "digits" and scene.classes[target] == PLANTED:
        final[0, 0] = 3.4
    final *= rng.uniform(0.6, 1.2)
    blurred = np.asarray(Image.fromarray(final.astype(np.float32)).resize((3, 3)).resize((columns, rows)))
    x = np.linspace(0, 1, scene.blocks + 1)[:, None, None]
    noise = rng.normal(0, 0.5 * np.median(np.abs(final)), (scene.blocks + 1, rows, columns))
    fields = (final * (0.35 + 0.65 * x) + blurred * (1 - x) + noise * (1 - x)) * (1 - x**5)
    made = []
    for position in range(len(scene.specials) + rows * columns):
        place = position - len(scene.specials)
        if place < 0:
            ig = 3.0 * x.ravel() ** 4 * (position == 0) + rng.normal(0, 0.04, scene.blocks + 1)
            row = {
                "token": scene.specials[position],
                "is_special": True,
                "patch_row": None,
                "patch_column": None,
            }
        else:
            r, c = divmod(place, columns)
            ig = fields[:, r, c]
            row = {"token": f"{r},{c}", "is_special": False, "patch_row": r, "patch_column": c}
        made.append(
            {"run_id": RUN, "doc_id": doc_id, "doc_key": f"k{doc_id}", "position": position} | row
            | {f"ig_{depth:02d}": float(found) for depth, found in enumerate(ig)}
            | {"logit_effect": float(ig[:-1].mean()), "score": float(ig[1:-1].mean() / 2)}
        )  # fmt: skip
    return made


PATCHES = """
CREATE TEMP VIEW patches AS
SELECT t.run_id, t.doc_id, position, patch_row, patch_column, logit_effect, score,
    CASE
        WHEN across = 1 AND down = 1 THEN 'centre'
        ELSE concat_ws(' ',
            CASE down WHEN 0 THEN 'top' WHEN 2 THEN 'bottom' END,
            CASE across WHEN 0 THEN 'left' WHEN 2 THEN 'right' END)
    END AS region,
    patch_row IN (0, grid_rows - 1) OR patch_column IN (0, grid_columns - 1) AS border
FROM (
    SELECT *,
        floor((patch_row + 0.5) / grid_rows * 3)::INT AS down,
        floor((patch_column + 0.5) / grid_columns * 3)::INT AS across
    FROM tokens JOIN (SELECT doc_id, grid_rows, grid_columns FROM documents) USING (doc_id)
    WHERE NOT is_special
) AS t
"""
AGGREGATES = f"""
CREATE TABLE region_stats AS
WITH placed AS (
    SELECT doc_id, region, logit_effect FROM patches
    UNION ALL SELECT doc_id, 'border', logit_effect FROM patches WHERE border
),
totals AS (SELECT doc_id, nullif(sum(abs(logit_effect)), 0) AS gross, count(*) AS n FROM patches GROUP BY doc_id),
each AS (
    SELECT doc_id, region, sum(logit_effect) AS effect, sum(abs(logit_effect)) / any_value(gross) AS share,
        count(*) / any_value(n) AS area
    FROM placed JOIN totals USING (doc_id) GROUP BY doc_id, region
)
SELECT '{RUN}' AS run_id, target AS class, region, count(*) AS documents, avg(effect) AS effect,
    avg(effect) - 1.96 * stddev(effect) / sqrt(count(*)) AS effect_low,
    avg(effect) + 1.96 * stddev(effect) / sqrt(count(*)) AS effect_high,
    avg(share) AS share, avg(area) AS area, avg(share) / avg(area) AS lift, avg((effect > 0)::INT) AS same_sign_share
FROM each JOIN documents USING (doc_id)
GROUP BY target, region;
CREATE TABLE patch_stats AS
SELECT '{RUN}' AS run_id, target AS class, grid_rows, grid_columns, patch_row, patch_column, count(*) AS documents,
    avg(logit_effect) AS effect, avg(abs(logit_effect) / gross) AS share
FROM patches
JOIN documents USING (run_id, doc_id)
JOIN (SELECT doc_id, nullif(sum(abs(logit_effect)), 0) AS gross FROM patches GROUP BY doc_id) USING (doc_id)
GROUP BY target, grid_rows, grid_columns, patch_row, patch_column;
CREATE TABLE document_maps (
    run_id VARCHAR, doc_id BIGINT, depth INTEGER, border_share DOUBLE, border_lift DOUBLE, centre_row DOUBLE,
    centre_column DOUBLE
);
"""
MAPS = """
INSERT INTO document_maps
SELECT p.run_id, p.doc_id, {depth},
    sum(abs({value})) FILTER (WHERE border) / nullif(sum(abs({value})), 0),
    sum(abs({value})) FILTER (WHERE border) / nullif(sum(abs({value})), 0)
        / (count(*) FILTER (WHERE border) / count(*)),
    sum(abs({value}) * (p.patch_row + 0.5) / grid_rows) / nullif(sum(abs({value})), 0),
    sum(abs({value}) * (p.patch_column + 0.5) / grid_columns) / nullif(sum(abs({value})), 0)
FROM (SELECT * EXCLUDE (score) FROM patches) AS p
JOIN (SELECT doc_id, grid_rows, grid_columns FROM documents) USING (doc_id)
JOIN (SELECT doc_id, position, COLUMNS('^(ig_|score)') FROM tokens) USING (doc_id, position)
GROUP BY p.run_id, p.doc_id
"""
