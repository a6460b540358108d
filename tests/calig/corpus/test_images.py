"""Corpora of images: files and columns of them come out as references, bytes and keys; nothing is decoded."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from calig.config import CorpusConfig
from calig.corpus import CorpusManifest, files, fingerprint, hub, images, ingest, order, parts
from calig.corpus.paths import Found
from calig.corpus.source import Source
from calig.errors import DocumentError, InputError
from calig.files import Files
from calig.models.pictures import picture_of
from calig.records import Document, image_key, missing_image_key, outside_image_key
from tests.material.parts import source_rows

CLASSES = ["cat", "dog"]
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
OWN = ["doc_id", "source_id", "doc_key", "image", "image_bytes", "label"]
SHARED = Path(os.environ.get("CALIG_SHARED", "../shared")).resolve()


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "warehouse"


def png(grey: int, size: int = 3) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (size, size), grey).save(stream, "PNG")
    return stream.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def pets(folder: Path) -> list[Path]:
    """Four images in two folders, in the order in which they are read."""
    return [
        put(folder / kind / f"{n}.png", png(10 * i + n)) for i, kind in enumerate(CLASSES) for n in (1, 2)
    ]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def bring(
    root: Path, path: Path | str | None = None, classes: list[str] = CLASSES, **fields: Any
) -> CorpusManifest:
    corpus = CorpusConfig(path=None if path is None else str(path), **fields)
    return ingest(corpus, classes, Files(root), modality="image")


def take(root: Path, path: Path | str | None = None, classes: list[str] = CLASSES, **fields: Any) -> Any:
    """The columns of the parts, as lists."""
    manifest = bring(root, path, classes, **fields)
    return source_rows(manifest, root).to_pydict()


def refused(root: Path, path: Path | str | None = None, modality: Any = "image", **fields: Any) -> str:
    corpus = CorpusConfig(path=None if path is None else str(path), **fields)
    with pytest.raises(InputError) as caught:
        ingest(corpus, CLASSES, Files(root), modality=modality)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def embedded(*pairs: tuple[bytes | None, str | None] | None) -> pa.Array:
    """A column as `datasets` writes it."""
    rows = [None if pair is None else {"bytes": pair[0], "path": pair[1]} for pair in pairs]
    return pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


# ---- files


def test_a_folder_of_folders(tmp_path: Path, root: Path) -> None:
    found = pets(tmp_path / "pets")
    rows = take(root, tmp_path / "pets", label="label")
    assert list(rows) == OWN
    assert rows["doc_id"] == [0, 1, 2, 3]
    assert rows["source_id"] == ["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"]
    assert rows["image"] == [str(path) for path in found]
    assert rows["image_bytes"] == [None] * 4
    assert rows["label"] == [0, 0, 1, 1]
    assert rows["doc_key"] == [sha(path.read_bytes()) for path in found]


def test_types_of_the_parts(tmp_path: Path, root: Path) -> None:
    pets(tmp_path / "pets")
    (part,) = bring(root, tmp_path / "pets").parts(root)
    kinds = [pa.int64(), pa.string(), pa.string(), pa.string(), pa.binary(), pa.int32()]
    assert pq.read_schema(part).types[:6] == kinds


def test_without_a_label_column_folders_are_an_extra(tmp_path: Path, root: Path) -> None:
    pets(tmp_path / "pets")
    manifest = bring(root, tmp_path / "pets")
    assert manifest.columns == {"corpus_label": "string"}
    assert not manifest.labelled
    rows = take(root, tmp_path / "pets")
    assert rows["corpus_label"] == ["cat", "cat", "dog", "dog"]
    assert rows["label"] == [None] * 4


def test_a_folder_that_is_no_class(tmp_path: Path, root: Path) -> None:
    put(tmp_path / "pets" / "newt" / "1.png", png(1))
    manifest = bring(root, tmp_path / "pets", label="label")
    assert not manifest.labelled
    assert "is not a class of the model (cat, dog), and no label therefore: 'newt' (1)" in manifest.notes[0]


def test_the_key_is_of_the_files_bytes_alone(tmp_path: Path, root: Path) -> None:
    found = pets(tmp_path / "pets")
    corpus = CorpusConfig(path=str(tmp_path / "pets"), label="label")
    manifest = ingest(corpus, CLASSES, Files(root), one_class=True, modality="image")
    keys = source_rows(manifest, root)["doc_key"].to_pylist()
    assert keys == [sha(path.read_bytes()) for path in found]
    assert keys == [image_key(path.read_bytes()) for path in found]
    assert manifest.key == bring(root, tmp_path / "pets", label="label").key


def test_endings_hidden_files_and_what_is_no_image(tmp_path: Path, root: Path) -> None:
    kept = [
        "a.PNG",
        "b.jpg",
        "c.JPEG",
        "d.gif",
        "e.bmp",
        "f.webp",
        "g.tif",
        "h.Tiff",
        "p.jfif",
        "q.JPE",
        "r.ppm",
    ]
    left = [".i.png", "_j.png", ".hidden/k.png", "_l/m.png", "notes.txt", "png", "n.png.txt", "o.png/p.txt"]
    for name in kept + left:
        put(tmp_path / "all" / name, name.encode())
    rows = take(root, tmp_path / "all")
    assert rows["source_id"] == kept
    assert rows["doc_key"] == [sha(name.encode()) for name in kept]


def test_files_that_are_no_images_are_rows(tmp_path: Path, root: Path) -> None:
    put(tmp_path / "a" / "empty.png", b"")
    put(tmp_path / "a" / "text.png", b"hello")
    rows = take(root, tmp_path / "a")
    assert rows["doc_key"] == [sha(b""), sha(b"hello")]
    assert rows["image_bytes"] == [None, None]


def test_one_file_and_globs(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pets(tmp_path / "pets")
    assert take(root, tmp_path / "pets" / "cat" / "1.png", label="label")["source_id"] == ["1.png"]
    globbed = take(root, tmp_path / "pets" / "*" / "1.png", label="label")
    assert globbed["source_id"] == ["cat/1.png", "dog/1.png"]
    assert globbed["label"] == [0, 1]
    assert take(root, tmp_path / "pets" / "**" / "[12].png")["source_id"][3] == "dog/2.png"
    assert take(root, tmp_path / "pets" / "dog" / ".." / "c*" / "*.png")["source_id"] == [
        "cat/1.png",
        "cat/2.png",
    ]
    monkeypatch.chdir(tmp_path / "pets" / "dog")
    for given in (".", "*.png", "../dog"):
        rows = take(root, given, label="label")
        assert rows["source_id"] == ["1.png", "2.png"]
        assert all(Path(image).is_absolute() and Path(image).is_file() for image in rows["image"])
    assert take(root, "*.png", label="label")["label"] == [1, 1]


def test_links(tmp_path: Path, root: Path) -> None:
    """A link has its own name; one to nothing is an image that is missing, as is one to itself."""
    folder = tmp_path / "linked"
    real = put(folder / "store" / "x", png(1))
    (folder / "a.png").symlink_to(real)
    (folder / "b.png").symlink_to(folder / "nowhere")
    (folder / "c.png").symlink_to(folder / "c.png")
    (folder / "d.csv").symlink_to(folder / "nowhere")
    (folder / "e.png").symlink_to(folder / "store")
    rows = take(root, folder)
    assert rows["source_id"] == ["a.png", "b.png", "c.png"]
    assert rows["image"] == [str(folder / name) for name in rows["source_id"]]
    missing = [sha(b"missing:" + str(folder / name).encode()) for name in ("b.png", "c.png")]
    assert rows["doc_key"] == [sha(png(1)), *missing]
    assert missing == [missing_image_key(str(folder / name)) for name in ("b.png", "c.png")]
    assert take(root, folder / "[ab].png")["source_id"] == ["a.png", "b.png"]
    assert "no such file" in refused(root, folder / "b.png")


def test_a_file_that_goes_between_listing_and_reading_is_missing(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pets(tmp_path / "pets")
    real = images.open_images

    def gone(given: str, listed: Found) -> Source:
        found[1].unlink()
        return real(given, listed)

    monkeypatch.setattr("calig.corpus.files.open_images", gone)
    assert take(root, tmp_path / "pets")["doc_key"][1] == missing_image_key(str(found[1]))


def test_an_image_that_may_not_be_read(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = pets(tmp_path / "pets")
    real = Path.open

    def deny(path: Path, *args: Any, **options: Any) -> Any:
        if path == found[2]:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "open", deny)
    assert f"{found[2]} is not readable: permission denied" in refused(root, tmp_path / "pets")


def test_passing_errors_pass(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pets(tmp_path / "pets")

    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(images.hashlib, "file_digest", fail)
    with pytest.raises(OSError, match="Input/output error"):
        bring(root, tmp_path / "pets")


def test_a_name_that_is_not_utf8(tmp_path: Path, root: Path) -> None:
    (tmp_path / "a").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "a") + b"/caf\xe9.png")).write_bytes(png(1))
    message = refused(root, tmp_path / "a")
    assert "caf\\xe9.png" in message
    assert "name is not UTF-8: rename it" in message


def test_the_limit_leaves_what_follows_unread(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pets(tmp_path / "pets")
    read: list[Path] = []
    real = Path.open

    def watch(path: Path, *args: Any, **options: Any) -> Any:
        read.append(path)
        return real(path, *args, **options)

    monkeypatch.setattr(Path, "open", watch)
    assert take(root, tmp_path / "pets", limit=3)["doc_id"] == [0, 1, 2]
    assert [path for path in read if path.suffix == ".png"] == found[:3]


def test_batches_of_files(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = pets(tmp_path / "pets")
    whole = bring(root, tmp_path / "pets")
    monkeypatch.setattr(images, "BATCH_FILES", 3)
    seen: list[int] = []
    corpus = CorpusConfig(path=str(tmp_path / "pets"))
    assert ingest(corpus, CLASSES, Files(root), progress=seen.append, modality="image").key == whole.key
    assert seen == [3, len(found)]


# ---- images or tables


def test_the_modality_chooses_where_there_are_both(tmp_path: Path, root: Path) -> None:
    folder = tmp_path / "both"
    put(folder / "a.png", png(1))
    (folder / "b.csv").write_text("text,image\nhello,a.png\n")
    for given in (folder, folder / "*"):
        assert take(root, given)["source_id"] == ["a.png"]
        texts = ingest(CorpusConfig(path=str(given)), CLASSES, Files(root))
        assert pq.read_table(texts.parts(root)[0])["text"].to_pylist() == ["hello"]
    (folder / "a.png").unlink()
    assert take(root, folder)["doc_key"] == [missing_image_key(str(folder / "a.png"))]


@pytest.mark.parametrize("given", ["cat", "cat/1.png", "cat/*.png", "**/*.png"])
def test_images_are_not_for_models_of_text(tmp_path: Path, root: Path, given: str) -> None:
    pets(tmp_path)
    message = refused(root, tmp_path / given, "text")
    assert "1.png is an image, and the model reads text: choose a model of images" in message


def test_second_texts_are_not_for_models_of_images(tmp_path: Path, root: Path) -> None:
    pets(tmp_path)
    assert "corpus.text_pair" in refused(root, tmp_path / "cat", text_pair="b")


def test_a_folder_without_either(tmp_path: Path, root: Path) -> None:
    put(tmp_path / "a" / "notes.txt", b"")
    assert "has no .png, .apng, .jpg" in refused(root, tmp_path / "a")
    assert "has no .parquet, .csv" in refused(root, tmp_path / "a", "text")
    assert "is .txt; known are .png, .apng" in refused(root, tmp_path / "a" / "notes.txt")
    assert "is .txt; known are .parquet" in refused(root, tmp_path / "a" / "notes.txt", "text")


# ---- columns


def test_a_column_as_datasets_writes_it(tmp_path: Path, root: Path) -> None:
    put(tmp_path / "near.png", png(3))
    far = put(tmp_path / "elsewhere" / "far.png", png(4))
    column = embedded(
        (png(1), "x/one.png"), (png(2), None), (None, "near.png"), (None, str(far)), None, (None, None)
    )
    rows = take(root, parquet(tmp_path / "a.parquet", image=column, text=list("abcdef"), stars=range(6)))
    assert list(rows) == [*OWN, "corpus_text", "stars"]
    near = str(tmp_path / "near.png")
    assert rows["image"] == ["x/one.png", "a.parquet#2", near, str(far), "a.parquet#5", "a.parquet#6"]
    assert rows["image_bytes"] == [png(1), png(2), None, None, b"", b""]
    assert rows["doc_key"] == [sha(data) for data in (png(1), png(2), png(3), png(4), b"", b"")]
    assert rows["source_id"] == list("012345")
    assert rows["corpus_text"] == list("abcdef")


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_a_column_of_bytes(tmp_path: Path, root: Path, kind: pa.DataType) -> None:
    source = parquet(tmp_path / "a.parquet", picture=pa.array([png(1), None, b""], kind), image=[1, 2, 3])
    rows = take(root, source, image="picture")
    assert rows["image"] == ["a.parquet#1", "a.parquet#2", "a.parquet#3"]
    assert rows["image_bytes"] == [png(1), b"", b""]
    assert rows["corpus_image"] == [1, 2, 3]


@pytest.mark.parametrize("fields", [["bytes"], ["path", "bytes"], ["bytes", "path", "width"]])
def test_structs_with_fewer_more_or_other_fields(tmp_path: Path, root: Path, fields: list[str]) -> None:
    kinds = {"bytes": pa.large_binary(), "path": pa.large_string(), "width": pa.int16()}
    row = {"bytes": png(1), "path": "one.png", "width": 3}
    kind = pa.struct([(name, kinds[name]) for name in fields])
    rows = take(root, parquet(tmp_path / "a.parquet", image=pa.array([{n: row[n] for n in fields}], kind)))
    assert rows["image"] == ["one.png" if "path" in fields else "a.parquet#1"]
    assert rows["image_bytes"] == [png(1)]


def test_files_whose_structs_are_in_another_order_are_one_corpus(tmp_path: Path, root: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    parquet(folder / "1.parquet", image=embedded((png(1), "one.png")))
    turned = pa.struct([("path", pa.string()), ("bytes", pa.binary())])
    parquet(folder / "2.parquet", image=pa.array([{"bytes": png(2), "path": "two.png"}], turned))
    rows = take(root, folder)
    assert rows["image"] == ["one.png", "two.png"]
    assert rows["image_bytes"] == [png(1), png(2)]


def listing(folder: Path, ending: str, names: list[str | None]) -> Path:
    path = folder / f"list.{ending}"
    if ending == "parquet":
        return parquet(path, image=pa.array(names, pa.string()))
    if ending == "dictionary.parquet":
        return parquet(path, image=pa.array(names, pa.string()).dictionary_encode())
    if ending == "csv":
        path.write_text("image,n\n" + "".join(f"{name or ''},1\n" for name in names))
    else:
        path.write_text("".join(json.dumps({"image": name}) + "\n" for name in names))
    return path


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "dictionary.parquet"])
def test_columns_of_paths_start_at_the_file_that_names_them(
    tmp_path: Path, root: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    found = pets(folder)
    names = [str(found[3]), "cat/1.png", "dog/../cat/2.png", None, "dog/none.png", "cat", "cat/1.png/x"]
    listing(folder, ending, names)
    monkeypatch.chdir(tmp_path)
    rows = take(root, f"data/list.{ending}")
    places = [str(folder / name) for name in names if name is not None]
    places.insert(3, f"list.{ending}#4")
    assert rows["image"] == places
    there = [sha(found[i].read_bytes()) for i in (3, 0, 1)]
    missing = [sha(b"missing:" + place.encode()) for place in places[4:]]
    assert rows["doc_key"] == [*there, sha(b""), *missing]
    assert rows["image_bytes"] == [None, None, None, b"", None, None, None]


def test_objects_with_a_path_in_json(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "a.jsonl"
    put(tmp_path / "x.png", png(1))
    path.write_text(
        '{"image": {"bytes": null, "path": "x.png"}}\n{"image": {"path": "x.png"}}\n{"image": null}\n'
    )
    assert take(root, path)["doc_key"] == [sha(png(1))] * 2 + [sha(b"")]


@pytest.mark.parametrize("names", [["7", "08"], ["2024-01-02"], ["true"]])
def test_names_in_csv_that_look_like_something_else(tmp_path: Path, root: Path, names: list[str]) -> None:
    for name in names:
        put(tmp_path / name, png(int(name[-1], 36)))
    rows = take(root, listing(tmp_path, "csv", [*names]))
    assert rows["image"] == [str(tmp_path / name) for name in names]
    assert rows["doc_key"] == [sha((tmp_path / name).read_bytes()) for name in names]


@pytest.mark.parametrize("name", ["nul\0.png", "x" * 5000, "pipe"])
def test_paths_that_cannot_be_files_are_missing(tmp_path: Path, root: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    rows = take(root, listing(tmp_path, "jsonl", [name]))
    assert rows["doc_key"] == [missing_image_key(str(tmp_path / name))]
    assert fingerprint(CorpusConfig(path=str(tmp_path / "list.jsonl")), "image")


@pytest.mark.parametrize(
    "url", ["https://a.b/c.png", "s3://b/c.png", "file:///c.png", "data:image/png;base64," + "A" * 999]
)
def test_images_on_the_net(tmp_path: Path, root: Path, url: str) -> None:
    source = listing(tmp_path, "jsonl", [None, url])
    message = refused(root, source)
    assert message.startswith(f"{source}, row 2: image '{url[:40]}"[:60])
    assert message.endswith("is not local: download the images first")
    assert len(message) < 400
    assert fingerprint(CorpusConfig(path=str(source)), "image")


def test_an_image_that_may_not_be_read_is_named(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = put(tmp_path / "x.png", png(1))
    source = listing(tmp_path, "csv", ["x.png"])
    real = Path.stat

    def deny(path: Path, **options: Any) -> Any:
        if path == secret:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", deny)
    assert f"{secret} is not readable" in refused(root, source)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1]),
        pa.array([[1]]),
        pa.array([{"width": 1}]),
        pa.array([{"bytes": "text"}]),
        pa.array([{"bytes": b"", "path": 1}]),
    ],
)
def test_columns_that_hold_no_images(tmp_path: Path, root: Path, column: pa.Array) -> None:
    message = refused(root, parquet(tmp_path / "a.parquet", image=column))
    assert "column 'image' is " in message
    assert ", not images: choose another corpus.image" in message


def test_a_missing_column(tmp_path: Path, root: Path) -> None:
    source = parquet(tmp_path / "a.parquet", picture=[png(1)])
    assert refused(root, source) == f"{source} has no column 'image' for corpus.image; it has picture"
    assert len(fingerprint(CorpusConfig(path=str(source)), "image")) == 32


def test_columns_of_nothing(tmp_path: Path, root: Path) -> None:
    for source in (listing(tmp_path, "csv", [None]), listing(tmp_path, "jsonl", [None])):
        assert take(root, source)["image_bytes"] == [b""]


def test_labels_of_a_table(tmp_path: Path, root: Path) -> None:
    source = parquet(tmp_path / "a.parquet", image=[png(1), png(2), png(3)], kind=["Dog", "cat", None])
    assert take(root, source, label="kind")["label"] == [1, 0, None]
    multi = parquet(tmp_path / "b.parquet", image=[png(1)], kind=[["dog", "cat"]])
    manifest = ingest(
        CorpusConfig(path=str(multi), label="kind"),
        CLASSES,
        Files(root),
        head="multi_label",
        modality="image",
    )
    assert pq.read_table(manifest.parts(root)[0])["label"].to_pylist() == [[0, 1]]


# ---- memory


def test_batches_are_bounded_by_bytes(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty images of 100 kB where a batch has room for three, and a row group for six."""
    monkeypatch.setattr(files, "BATCH_BYTES", 310_000)
    monkeypatch.setattr(parts, "GROUP_BYTES", 550_000)
    monkeypatch.setattr(parts, "PART_BYTES", 1_200_000)
    data = [os.urandom(100_000) for _ in range(20)]
    column = embedded(*((one, None) for one in data))
    pq.write_table(pa.table({"image": column}), tmp_path / "a.parquet", row_group_size=7)
    seen: list[int] = []
    corpus = CorpusConfig(path=str(tmp_path / "a.parquet"))
    manifest = ingest(corpus, CLASSES, Files(root), progress=seen.append, modality="image")
    assert max(b - a for a, b in zip([0, *seen], seen, strict=False)) == 3
    groups = [pq.ParquetFile(part).metadata for part in manifest.parts(root)]
    assert [group.num_rows for group in groups] == [12, 8]
    assert [groups[0].row_group(i).num_rows for i in range(groups[0].num_row_groups)] == [6, 6]
    assert source_rows(manifest, root)["image_bytes"].to_pylist() == data


def test_row_groups_are_not_held_whole(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row group of 60 MB goes through in a fraction of that."""
    monkeypatch.setattr(files, "BATCH_BYTES", 2**20)
    monkeypatch.setattr(parts, "GROUP_BYTES", 2**20)
    monkeypatch.setattr(order, "MEMORY", 2**20)
    table = pa.table({"image": embedded(*((os.urandom(2**20), None) for _ in range(60)))})
    pq.write_table(table, tmp_path / "a.parquet", write_batch_size=1)
    del table
    before, held = pa.total_allocated_bytes(), [0]
    corpus = CorpusConfig(path=str(tmp_path / "a.parquet"))
    ingest(
        corpus,
        CLASSES,
        Files(root),
        progress=lambda _: held.append(pa.total_allocated_bytes() - before),
        modality="image",
    )
    assert len(held) == 61
    assert max(held) < 20 * 2**20


def test_columns_that_are_not_read_do_not_count(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BATCH_BYTES", 200_000)
    source = parquet(
        tmp_path / "a.parquet", image=embedded(*[(os.urandom(50_000), None)] * 20), text=["x"] * 20
    )
    seen: list[int] = []
    ingest(CorpusConfig(path=str(source)), CLASSES, Files(root), progress=seen.append)
    assert seen == [20]


# ---- the corpus's key


def key(root: Path, column: pa.Array, tmp_path: Path) -> str:
    return bring(root, parquet(tmp_path / "a.parquet", image=column)).key


def test_what_decides_the_key(tmp_path: Path, root: Path) -> None:
    """The images, their references, and whether the parts hold them; not the table's storage."""
    file = put(tmp_path / "one.png", png(1))
    keys = [
        key(root, column, tmp_path)
        for column in (
            embedded((png(1), str(file))),
            embedded((png(2), str(file))),
            embedded((png(1), "one.png")),
            embedded((None, str(file))),
            embedded((None, str(tmp_path / "two.png"))),
        )
    ]
    assert len(set(keys)) == 5
    assert key(root, embedded((None, str(file))), tmp_path) == keys[3]
    assert key(root, pa.array(["one.png"]), tmp_path) == keys[3]
    many = embedded(*((png(n), f"{n}") for n in range(9)))
    whole = key(root, many, tmp_path)
    pq.write_table(pa.table({"image": many}), tmp_path / "b.parquet", row_group_size=2)
    assert bring(root, tmp_path / "b.parquet").key == whole


# ---- fingerprint


def state(path: Path, **fields: Any) -> str:
    return fingerprint(CorpusConfig(path=str(path), **fields), "image")


def test_the_fingerprint_follows_image_files(tmp_path: Path) -> None:
    found = pets(tmp_path / "pets")
    nowhere = put(tmp_path / "pets" / ".store" / "x", b"").with_name("nowhere")
    seen = [state(tmp_path / "pets")]
    assert state(tmp_path / "pets") == seen[0]
    put(found[0], png(9) + b"x")
    seen.append(state(tmp_path / "pets"))
    found[1].unlink()
    seen.append(state(tmp_path / "pets"))
    found[1].symlink_to(nowhere)
    seen.append(state(tmp_path / "pets"))
    nowhere.write_bytes(png(5))
    seen.append(state(tmp_path / "pets"))
    (tmp_path / "pets" / "notes.csv").write_text("text\na\n")
    seen.append(state(tmp_path / "pets"))  # it is left out, and the run says so
    seen.append(fingerprint(CorpusConfig(path=str(tmp_path / "pets"))))
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_the_fingerprint_follows_images_that_a_table_names(tmp_path: Path, ending: str) -> None:
    found = pets(tmp_path)
    source = listing(tmp_path, ending, ["cat/1.png", None, "none.png", "cat/2.png"])
    seen = [state(source)]
    assert state(source) == seen[0]
    put(found[0], png(9) + b"x")
    seen.append(state(source))
    put(tmp_path / "none.png", png(1))
    seen.append(state(source))
    assert len(set(seen)) == len(seen)
    before = state(source, limit=3)
    found[1].unlink()
    assert state(source, limit=3) == before
    assert state(source) != seen[-1]


def test_the_fingerprint_leaves_the_bytes_in_a_table_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = put(tmp_path / "x.png", png(1))
    source = parquet(tmp_path / "a.parquet", image=embedded((png(2), None), (None, "x.png")))
    asked: list[list[str]] = []
    real = pq.ParquetFile.iter_batches

    def watch(self: Any, *, columns: list[str], **options: Any) -> Iterator[Any]:
        asked.append(columns)
        yield from real(self, columns=columns, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watch)
    before = state(source)
    assert asked == [["image.path"]]
    put(file, png(1) + b"x")
    assert state(source) != before


def test_the_fingerprint_holds_the_image_column_and_the_modality(tmp_path: Path) -> None:
    source = parquet(tmp_path / "a.parquet", image=[png(1)], text=["a"])
    corpora = [CorpusConfig(path=str(source)), CorpusConfig(path=str(source), image="picture")]
    seen = {fingerprint(corpus, modality) for corpus in corpora for modality in ("text", "image")}
    assert len(seen) == 4


# ---- datasets


@pytest.mark.parametrize("fields", [{}, {"split": "train[:100%]"}], ids=["streamed", "cached"])
def test_a_folder_of_images_through_datasets(tmp_path: Path, root: Path, fields: dict[str, str]) -> None:
    """Its classes are the folders' names in their order; the model's order is another."""
    found = pets(tmp_path / "pets" / "train")
    rows = take(root, classes=CLASSES[::-1], dataset=str(tmp_path / "pets"), label="label", **fields)
    by_name = {
        path: (key, label)
        for path, key, label in zip(rows["image"], rows["doc_key"], rows["label"], strict=True)
    }
    assert by_name == {str(path): (sha(path.read_bytes()), 1 - i // 2) for i, path in enumerate(found)}
    assert rows["image_bytes"] == [None] * 4


def save(folder: Path, images: list[Any]) -> Path:
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["dog", "cat"])}
    )
    folder.mkdir()
    table = datasets.Dataset.from_dict(
        {"image": images, "label": [0, 1, -1][: len(images)]}, features=features
    )
    table.to_parquet(str(folder / "train.parquet"))
    return folder


@pytest.mark.parametrize(
    "fields", [{}, {"split": "train[:100%]"}, {"limit": 9}], ids=["streamed", "cached", "limit"]
)
def test_images_in_a_dataset(tmp_path: Path, root: Path, fields: dict[str, Any]) -> None:
    folder = save(
        tmp_path / "set", [{"bytes": b"no image", "path": "x/one.png"}, {"bytes": png(2), "path": None}, None]
    )
    rows = take(root, dataset=str(folder), label="label", **fields)
    assert list(rows) == OWN
    assert rows["image_bytes"] == [b"no image", png(2), b""]
    assert rows["doc_key"] == [sha(b"no image"), sha(png(2)), sha(b"")]
    assert rows["image"][0] == "x/one.png"
    assert rows["image"][1:] == [f"set (train{'[:100%]' if 'split' in fields else ''})#{n}" for n in (2, 3)]
    assert rows["label"] == [1, 0, None]


def test_datasets_are_read_in_small_batches(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "IMAGE_ROWS", 2)
    folder = save(tmp_path / "set", [{"bytes": png(n), "path": None} for n in range(3)])
    seen: list[int] = []
    ingest(CorpusConfig(dataset=str(folder)), CLASSES, Files(root), progress=seen.append, modality="image")
    assert seen == [2, 3]


def from_the_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    real = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda path, **rest: real(str(folder), split="train"))


def test_files_of_the_hub_are_kept_in_the_corpus(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought = datasets.config.HF_DATASETS_CACHE / "pets"
    found = pets(brought / "train")
    from_the_hub(monkeypatch, brought)
    rows = take(root, dataset="org/pets", label="label")
    held = dict(zip(rows["image"], rows["image_bytes"], strict=True))
    assert held == {str(path): path.read_bytes() for path in found}


def test_images_in_an_archive_are_kept_in_the_corpus(tmp_path: Path, root: Path) -> None:
    found = pets(tmp_path / "pets")
    folder = tmp_path / "set"
    archive = shutil.make_archive(str(folder / ".pets"), "zip", tmp_path / "pets")
    inside = [f"zip://{path.relative_to(tmp_path / 'pets')}::{archive}" for path in found]
    features = datasets.Features({"image": datasets.Image()})
    table = datasets.Dataset.from_dict(
        {"image": [{"bytes": None, "path": p} for p in inside]}, features=features
    )
    pq.write_table(table.data.table, folder / "train.parquet")
    rows = take(root, dataset=str(folder))
    assert rows["image"] == inside
    assert rows["image_bytes"] == [path.read_bytes() for path in found]


def test_a_dataset_that_names_files_it_does_not_bring(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    put(folder / "x.png", png(1))
    parquet(folder / "train.parquet", picture=["x.png"])
    assert take(root, dataset=str(folder), image="picture")["image"] == [str(folder / "x.png")]
    from_the_hub(monkeypatch, folder)
    message = refused(root, dataset="org/set", image="picture")
    assert "row 1: image 'x.png' is only the name of a file: download the dataset" in message


def test_a_url_in_a_dataset_is_not_fetched(tmp_path: Path, root: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    features = datasets.Features({"image": datasets.Image()})
    urls = [{"bytes": None, "path": "https://localhost:1/x.png"}]
    pq.write_table(
        datasets.Dataset.from_dict({"image": urls}, features=features).data.table, folder / "train.parquet"
    )
    assert "is not local: download the images first" in refused(root, dataset=str(folder))


# ---- files that the corpus has no business with


def outside(path: Path) -> str:
    return outside_image_key(str(path))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file beside the corpus's folder."""
    return put(tmp_path / "secret.png", png(99))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_paths_in_a_table_do_not_leave_the_corpus_s_folder(
    tmp_path: Path, root: Path, secret: Path, ending: str
) -> None:
    """Neither by dots, nor by being absolute, nor through links to files or folders, nor by a common beginning."""
    folder = tmp_path / "data"
    inside = put(folder / "in.png", png(1))
    put(tmp_path / "data-2" / "x.png", png(2))
    (folder / "link.png").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path)
    (folder / "round").symlink_to(folder)
    names = [
        *("../secret.png", str(secret), "link.png", "up/secret.png", "../none.png", "/dev/zero"),
        *("../data-2/x.png", "in.png", str(inside), "round/in.png", "up/data/in.png"),
    ]
    keys = take(root, listing(folder, ending, list(names)))["doc_key"]
    assert keys == [*(outside(folder / name) for name in names[:7]), *[sha(png(1))] * 4]


def test_a_table_beside_its_images_and_one_above_both(tmp_path: Path, root: Path) -> None:
    """The folder is that which corpus.path begins with."""
    picture = put(tmp_path / "data" / "images" / "1.png", png(1))
    table = listing(put(tmp_path / "data" / "lists" / "x", b"").parent, "csv", ["../images/1.png"])
    assert take(root, table)["doc_key"] == [outside(table.parent / "../images/1.png")]
    assert take(root, tmp_path / "data" / "*" / "list.csv")["doc_key"] == [sha(picture.read_bytes())]


def test_image_files_that_are_links_out_of_the_folder(tmp_path: Path, root: Path, secret: Path) -> None:
    folder = tmp_path / "linked"
    put(folder / "a.png", png(1))
    (folder / "b.png").symlink_to(secret)
    (folder / "c.png").symlink_to(tmp_path / "none.png")
    there = [outside(folder / name) for name in ("b.png", "c.png")]
    assert take(root, folder)["doc_key"] == [sha(png(1)), *there]
    assert take(root, folder / "[bc].png")["doc_key"] == there
    assert take(root, folder / "b.png")["doc_key"] == [sha(png(99))], "asked for by name"


def test_the_hub_s_cache_is_one_folder(tmp_path: Path, root: Path) -> None:
    cache = tmp_path / "datasets--a--b"
    blob = put(cache / "blobs" / "0123", png(1))
    (cache / "snapshots" / "main").mkdir(parents=True)
    (cache / "snapshots" / "main" / "a.png").symlink_to(blob)
    assert take(root, cache / "snapshots" / "main")["doc_key"] == [sha(png(1))]


@pytest.mark.parametrize("given", ["tables", "tables/*.csv"])
def test_tables_that_are_links_out_of_the_folder(tmp_path: Path, root: Path, given: str) -> None:
    real = put(tmp_path / "private.csv", b"text\nhidden\n")
    (tmp_path / "tables").mkdir()
    link = tmp_path / "tables" / "a.csv"
    link.symlink_to(real)
    message = refused(root, tmp_path / given, "text")
    assert f"corpus.path: {link} is a link that leads out of {link.parent}: put the file itself" in message
    asked = CorpusConfig(path=str(link))
    assert ingest(asked, CLASSES, Files(root)).documents == 1, "asked for by name"


def test_a_dataset_s_folder_with_links_out_of_it(tmp_path: Path, root: Path, secret: Path) -> None:
    folder = tmp_path / "set"
    parquet(put(folder / "x.png", png(1)).parent / "train.parquet", picture=["x.png", "../secret.png"])
    keys = take(root, dataset=str(folder), image="picture")["doc_key"]
    assert keys == [sha(png(1)), outside(folder / "../secret.png")]
    (folder / "y.png").symlink_to(secret)
    assert f"corpus.dataset: {folder / 'y.png'} is a link" in refused(root, dataset=str(folder))


def test_metadata_of_a_folder_of_images(tmp_path: Path, root: Path, secret: Path) -> None:
    """`datasets` itself looks for the names among the folder's files."""
    folder = tmp_path / "pets"
    pets(folder / "train")
    put(folder / "train" / "metadata.csv", b"file_name,label\ncat/1.png,0\n../../secret.png,1\n")
    assert "secret.png" in refused(root, dataset=str(folder))


def test_a_dataset_of_the_hub_reads_no_file_of_this_machine(
    tmp_path: Path, root: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = shutil.make_archive(str(tmp_path / "private"), "zip", tmp_path, "secret.png")
    for number, path in enumerate((str(secret), f"zip://secret.png::{archive}")):
        with monkeypatch.context() as patch:
            from_the_hub(patch, save(tmp_path / f"set-{number}", [{"bytes": None, "path": path}]))
            assert "download" in refused(root, dataset="org/set")


# ---- and back


def test_readers_find_what_the_parts_refer_to(tmp_path: Path, root: Path) -> None:
    """Each row gives its image, whether the parts hold it or a file does, or one reason why there is none."""
    put(tmp_path / "file.png", png(2))
    put(tmp_path / "text.png", b"hello")
    os.mkfifo(tmp_path / "pipe")
    names = ("file.png", "text.png", "gone.png", "pipe", "nul\0.png", "/dev/zero", "../a.png")
    named = [(None, name) for name in names]
    rows = take(root, parquet(tmp_path / "a.parquet", image=embedded((png(1), "x.png"), None, *named)))
    found: list[object] = []
    for key, image, data in zip(rows["doc_key"], rows["image"], rows["image_bytes"], strict=True):
        try:
            found.append(
                picture_of(Document(key, image=Path(image) if data is None else data)).getpixel((0, 0))
            )
        except DocumentError as error:
            found.append(error.reason)
    assert found == [(1, 1, 1), "empty", (2, 2, 2), "undecodable", *["no-file"] * 3, *["outside"] * 2]


# ---- the real ones


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real corpora and models: set CALIG_SHARED")
def test_a_real_corpus(root: Path) -> None:
    path = SHARED / "corpora" / "cifar10-test.parquet"
    original = pq.read_table(path).to_pylist()
    rows = take(root, path, CIFAR10, label="label")
    assert len(original) == len(rows["doc_id"]) == 1000
    assert rows["doc_key"] == [sha(row["image"]["bytes"]) for row in original]
    assert rows["image_bytes"] == [row["image"]["bytes"] for row in original]
    assert rows["image"] == [row["image"]["path"] for row in original]
    assert rows["label"] == [row["label"] for row in original]
    assert [CIFAR10[label] for label in rows["label"]] == [Path(path).parent.name for path in rows["image"]]
