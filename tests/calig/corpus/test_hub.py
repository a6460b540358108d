"""Ingest through the datasets library: local folders laid out like hub datasets, and the hub's answers."""

from collections.abc import Sequence
from pathlib import Path

import datasets
import huggingface_hub
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value

from calig.config import CorpusConfig
from calig.corpus import fingerprint, ingest
from calig.errors import InputError
from calig.files import Files
from tests.material.parts import source_rows

CLASSES = ["NEGATIVE", "POSITIVE"]


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "warehouse"


def save(folder: Path, names: Sequence[str] = ("pos", "neg")) -> Path:
    features = Features(
        {
            "text": Value("string"),
            "label": ClassLabel(names=list(names)),
            "id": Value("int64"),
            "image": Image(),
        }
    )
    (folder / "data").mkdir(parents=True)
    for split, count in (("train", 5), ("test", 3)):
        columns = {
            "text": [f"{split} {n}" for n in range(count)],
            "label": [-1, *(n % 2 for n in range(1, count))],
            "id": list(range(count)),
            "image": [None] * count,
        }
        Dataset.from_dict(columns, features=features).to_parquet(
            folder / "data" / f"{split}-00000-of-00001.parquet"
        )
    return folder


def take(root: Path, classes: list[str] = CLASSES, **fields: object) -> pa.Table:
    manifest = ingest(CorpusConfig(**fields), classes, Files(root))
    return source_rows(manifest, root)


def refused(root: Path, **fields: object) -> str:
    with pytest.raises(InputError) as caught:
        ingest(CorpusConfig(**fields), CLASSES, Files(root))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("limit", [None, 3])
def test_a_folder_in_hub_layout(tmp_path, root, limit):
    folder = save(tmp_path / "local")
    rows = take(root, dataset=str(folder), label="label", id="id", limit=limit)
    assert rows["text"].to_pylist() == [f"train {n}" for n in range(5)][:limit]
    assert rows["source_id"].to_pylist() == [str(n) for n in range(5)][:limit]
    assert rows.column_names == ["doc_id", "source_id", "doc_key", "text", "label"]


@pytest.mark.parametrize(
    ("names", "classes", "labels"),
    [
        (["pos", "neg"], ["neg", "pos"], [None, 0, 1]),
        (["positive", "negative"], CLASSES, [None, 0, 1]),
        (["pos", "neg"], CLASSES, [None, 1, 0]),
        (["pos", "neg"], ["LABEL_0", "LABEL_1"], [None, 1, 0]),
    ],
)
def test_class_names_decide_where_they_are_the_models(tmp_path, root, names, classes, labels):
    folder = save(tmp_path / "local", names)
    assert (
        take(root, classes, dataset=str(folder), split="test", label="label")["label"].to_pylist() == labels
    )


def test_the_manifest_names_dataset_and_split(tmp_path, root):
    folder = save(tmp_path / "local")
    manifest = ingest(CorpusConfig(dataset=str(folder), split="test"), CLASSES, Files(root))
    assert manifest.source == f"{folder} (test)"
    assert manifest.documents == 3
    assert manifest.columns == {"corpus_label": "int64", "id": "int64"}
    assert list(manifest.left_out) == ["image"]


@pytest.mark.parametrize(
    ("split", "texts"),
    [
        ("train[:40%]", ["train 0", "train 1"]),
        ("test+train[:1]", ["test 0", "test 1", "test 2", "train 0"]),
    ],
)
def test_slices_of_splits(tmp_path, root, split, texts):
    folder = save(tmp_path / "local")
    assert take(root, dataset=str(folder), split=split)["text"].to_pylist() == texts
    assert take(root, dataset=str(folder), split=split, limit=1)["text"].to_pylist() == texts[:1]


def test_a_folder_of_jsonl(tmp_path, root):
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"text": "a", "n": 1}\n{"text": "b", "n": 2}\n')
    assert take(root, dataset=str(folder))["n"].to_pylist() == [1, 2]


@pytest.mark.parametrize("limit", [None, 1])
def test_a_split_that_is_not_there(tmp_path, root, limit):
    folder = save(tmp_path / "local")
    message = refused(root, dataset=str(folder), split="dev", limit=limit)
    assert message == f"corpus.split 'dev' is not in {str(folder)!r}, which has train, test: choose one"


def test_a_slice_of_a_split_that_is_not_there(tmp_path, root):
    assert "which has train, test" in refused(root, dataset=str(save(tmp_path / "local")), split="dev[:2]")


def test_a_configuration_that_is_not_there(tmp_path, root):
    message = refused(root, dataset=str(save(tmp_path / "local")), config="en")
    assert "'en' not found" in message
    assert "default" in message


def test_a_missing_column(tmp_path, root):
    message = refused(root, dataset=str(save(tmp_path / "local")), text="body")
    assert "has no column 'body' for corpus.text; it has text, label, id, image" in message


def test_damaged_files(tmp_path, root):
    folder = save(tmp_path / "local")
    for path in (folder / "data").iterdir():
        path.write_bytes(path.read_bytes()[:-30])
    assert str(folder) in refused(root, dataset=str(folder))


def test_malformed_files(tmp_path, root):
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"text": "a"}\n{"text": ')
    assert "cannot be read" in refused(root, dataset=str(folder))


def test_an_empty_folder(tmp_path, root):
    (tmp_path / "local").mkdir()
    assert "doesn't contain any data files" in refused(root, dataset=str(tmp_path / "local"))


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "a/b/c", "~/no-such-folder"])
def test_a_folder_that_is_not_there(root, name):
    assert (
        refused(root, dataset=name) == f"corpus.dataset {name!r}: no such folder; for files use corpus.path"
    )


def test_an_impossible_id(root):
    assert "no such dataset on the hub" in refused(root, dataset="bad id!!")


@pytest.mark.usefixtures("offline")
def test_no_way_to_the_hub(root):
    message = refused(root, dataset="an-organisation/a-dataset")
    assert "no way to the hub" in message
    assert "connect, or download the dataset" in message


def test_a_dataset_the_hub_does_not_have(root, monkeypatch):
    def load(*_: object, **__: object) -> None:
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", load)
    message = refused(root, dataset="a/b")
    assert "corpus.dataset 'a/b': no such dataset on the hub" in message
    assert "hf auth login" in message


def test_hub_arguments_are_passed_on(tmp_path, root, monkeypatch):
    folder = save(tmp_path / "local")
    real, calls = datasets.load_dataset, []

    def load(path: str, **arguments: object) -> object:
        calls.append((path, arguments))
        return real(str(folder), split="test", streaming=bool(arguments.get("streaming")))

    monkeypatch.setattr(datasets, "load_dataset", load)
    fields = {"dataset": "org/name", "config": "en", "revision": "abc", "split": "test"}
    manifest = ingest(CorpusConfig(**fields), CLASSES, Files(root))
    ingest(CorpusConfig(**fields, limit=2), CLASSES, Files(root))
    wanted = {"name": "en", "revision": "abc", "split": "test"}
    assert calls == [("org/name", wanted), ("org/name", {**wanted, "streaming": True})]
    assert manifest.source == "org/name (en, test, abc)"


def test_the_fingerprint_follows_the_commit(monkeypatch):
    class Api:
        sha = "one"

        def dataset_info(self, name: str, revision: str | None, timeout: float) -> "Api":
            assert (name, revision) == ("org/name", "main")
            return self

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    corpus = CorpusConfig(dataset="org/name", revision="main")
    first = fingerprint(corpus)
    assert fingerprint(corpus) == first
    Api.sha = "two"
    assert fingerprint(corpus) != first


@pytest.mark.usefixtures("offline")
def test_offline_nobody_knows_whether_a_dataset_is_the_same():
    assert fingerprint(CorpusConfig(dataset="org/one")) is None


def test_the_fingerprint_follows_a_local_folder(tmp_path):
    corpus = CorpusConfig(dataset=str(save(tmp_path / "local")))
    first = fingerprint(corpus)
    (tmp_path / "local" / "README.md").write_text("configs")
    assert fingerprint(corpus) != first
