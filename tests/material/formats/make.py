"""Write a warehouse as this version writes it: `python -m tests.material.formats.make [NAME]`, once, before a release.

It makes `<NAME, or version>.tar.xz` beside this file, and never overwrites one: a format that was written stays as it
was. A name is for a format between two releases.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import calig
from tests.material.formats import HERE

SETTINGS = {"method": {"tolerance": 0.05}, "runtime": {"device": "cpu", "threads": 1, "shard_documents": 12}}
NIGHTS = ("2026-11-01", "2026-11-02")
LONG = 60
"""Words of a text that is longer than the model takes."""


def main() -> None:
    """Write the archive of this version."""
    name = sys.argv[1] if len(sys.argv) > 1 else version("calig")
    target = HERE / f"{name}.tar.xz"
    if target.exists():
        sys.exit(f"{target} is there: a format that was written stays as it was")
    with tempfile.TemporaryDirectory(
        ignore_cleanup_errors=True
    ) as given:  # a Prefect server may end after its audit
        folder = Path(given)
        write_inputs(folder)
        for night in NIGHTS:
            run(folder, "audit", "texts.yaml", "--set", f"date={night}")
            if night == NIGHTS[0]:
                run(folder, "tag", "latest", "accepted", "--warehouse", "warehouse")
        run(folder, "audit", "labelled.yaml", "--set", f"date={NIGHTS[0]}")
        run(folder, "audit", "images.yaml")
        run(folder, "evaluate", "texts.yaml", "--set", f"date={NIGHTS[0]}")
        interrupt(folder)
        (folder / "warehouse" / "calig.log").unlink(missing_ok=True)
        shutil.rmtree(folder / "prefect", ignore_errors=True)
        for page in folder.glob("warehouse/**/*.html"):  # which are made from the rest
            page.unlink()
        assert_movable(folder)
        with tarfile.open(target, "w:xz", preset=9) as archive:
            for part in sorted(folder.glob("[!p]*")):
                archive.add(part, part.name, filter=anonymous)
    print(f"{target}: {target.stat().st_size / 1024:.0f} kB")


def write_inputs(folder: Path) -> None:
    """Write the models, the corpora, and the audits that name them by relative paths."""
    from tests.material import zoo
    from tests.material.tiny import make_rows, save_model

    save_model(folder / "models" / "texts")
    zoo.save("vit", folder / "models" / "images")
    audits = folder / "audits"
    audits.mkdir()
    for number, night in enumerate(NIGHTS):
        write_reviews(folder / "corpora" / "reviews" / f"{night}.csv", make_rows(36, number), number)
    write_reviews(folder / "corpora" / "interrupted.csv", make_rows(120, 7), 7)
    for number, picture in enumerate(zoo.pictures(9, side=40)):
        path = folder / "corpora" / "photos" / zoo.images.CLASSES[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    text: dict[str, Any] = {"model": {"id": "models/texts"}, "warehouse": "warehouse", **SETTINGS}
    columns = {"label": "label", "id": "review"}
    write(
        audits / "texts.yaml",
        text
        | {
            "name": "texts",
            "corpus": {"path": "corpora/reviews/{{ today }}.csv", **columns},
            "compare_to": "previous",
            "watch": {"praise": ["good", "great"]},
            "gates": {"min_accuracy": 0.2},
            "evaluation": {"methods": ["ca-lig", "random"], "documents": 12, "metrics": ["faithfulness"]},
        },
    )
    labelled = text["method"] | {"target": "label"}
    write(
        audits / "labelled.yaml",
        text
        | {
            "name": "labelled",
            "corpus": {"path": "corpora/reviews/{{ today }}.csv", **columns},
            "method": labelled,
        },
    )
    write(
        audits / "interrupted.yaml",
        text | {"name": "interrupted", "corpus": {"path": "corpora/interrupted.csv", **columns}},
    )
    write(
        audits / "images.yaml",
        text
        | {
            "name": "images",
            "model": {"id": "models/images"},
            "corpus": {"path": "corpora/photos", "label": "label"},
        },
    )


def write_reviews(path: Path, rows: list[dict[str, object]], seed: int) -> None:
    """Write a CSV with a name, a label and extra columns of every kind that CSV has been read as."""
    import csv

    rng = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["review", "text", "label", "stars", "price", "version", "day", "known", "logit", "code"]
        )
        for number, row in enumerate(rows):
            text = "" if number == 3 else f"don't {row['text']}"
            text = " ".join([text] * LONG) if number == 5 else text
            own = (number % 5 + 1, rng.random() * 9, "3.10", "2026-11-01", number % 2 == 0, number / 4)
            writer.writerow([f"r-{seed}-{number:03d}", text, row["label"], *own, f"{number:04d}"])


def write(path: Path, audit: dict[str, object]) -> None:
    """Write an audit: JSON is YAML."""
    path.write_text(json.dumps(audit, indent=2) + "\n")


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a command, with a Prefect home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    python = os.pathsep.join([str(Path(calig.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return {**kept, "PREFECT_HOME": str(folder / "prefect"), "OMP_NUM_THREADS": "1", "PYTHONPATH": python}


def command(name: str, *arguments: str) -> list[str]:
    """Return a command line of calig; a YAML file is one of `audits/`."""
    paths = [f"audits/{one}" if one.endswith(".yaml") else one for one in arguments]
    return [sys.executable, "-m", "calig", name, *paths]


def run(folder: Path, name: str, *arguments: str) -> None:
    """Run a command that must end well."""
    subprocess.run(command(name, *arguments), cwd=folder, env=environment(folder), check=True)


def interrupt(folder: Path) -> None:
    """Start an audit of ten shards and kill it when two are there."""
    before = shards(folder)
    process = subprocess.Popen(
        command("audit", "interrupted.yaml"), cwd=folder, env=environment(folder), start_new_session=True
    )
    while shards(folder) < before + 2:
        if process.poll() is not None:
            sys.exit("the audit ended before it was killed: give it more documents")
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def shards(folder: Path) -> int:
    """Return how many shards are complete."""
    return len(list((folder / "warehouse" / "attributions").glob("*/manifest-*.json")))


def assert_movable(folder: Path) -> None:
    """Stop if a file of the warehouse names the folder that it was written in."""
    name = str(folder).encode()
    naming = [path for path in folder.rglob("*") if path.is_file() and name in path.read_bytes()]
    if naming:
        print("these name the folder they were written in:", *naming, sep="\n    ")


def anonymous(item: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave the user's name out."""
    item.uid = item.gid = 0
    item.uname = item.gname = ""
    return item


if __name__ == "__main__":
    main()
