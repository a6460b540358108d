"""What a label means: by the model and the configuration alone, whatever the format and the other labels."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from calig.config import CorpusConfig
from calig.corpus import CorpusManifest, ingest
from calig.corpus.labels import LabelMap
from calig.errors import InputError
from calig.files import Files
from tests.material.fuzz import examples
from tests.material.parts import source_rows
from tests.material.tiers import extended

CLASSES = ["negative", "positive"]
STARS = ["1", "2", "3"]


@pytest.mark.parametrize(
    ("value", "index"),
    [
        *((0, 0), (1, 1), (1.0, 1), (True, 1), (False, 0), (Decimal("1.00"), 1)),
        *(("positive", 1), ("  POSITIVE ", 1), ("LABEL_1", 1), ("label_0", 0)),
        *(("1", 1), ("1.0", 1), ("+1", 1), ("1e0", 1), ("True", 1), ("false", 0)),
        *((None, None), ("", None), (" ", None), (math.nan, None), ("NaN", None)),
    ],
)
def test_labels_as_people_write_them(value: object, index: int | None) -> None:
    assert LabelMap(CLASSES).index(value) == index


@pytest.mark.parametrize(
    "value", [2, -1, 0.5, math.inf, "neutral", "LABEL_2", "2", "-1", "1_0", "١", "1e99", "yes", [1]]
)
def test_labels_that_match_nothing(value: object) -> None:
    with pytest.raises(LookupError):
        LabelMap(CLASSES).index(value)


def test_names_that_differ_by_case_only_are_told_apart() -> None:
    labels = LabelMap(["a", "A"])
    assert (labels.index("a"), labels.index("A")) == (0, 1)


@pytest.mark.parametrize(
    ("classes", "reading", "pairs"),
    [
        (STARS, "names", [(1, 0), ("3.0", 2), (True, 0), ("LABEL_1", 1)]),
        (STARS, "indices", [(1, 1), ("2.0", 2), (False, 0), ("LABEL_1", 1)]),
        (STARS, {"1": "3", "2": "LABEL_1", "3": None}, [(1, 2), ("1.0", 2), (True, 2), (2.0, 1), (3, None)]),
        (["b", "a"], {"0": "a", "1": "b"}, [(0, 1), (False, 1), ("1", 0)]),
        (["b", "a"], {"True": "a", "False": 0}, [(True, 1), ("true", 1), (1.0, 1), (0, 0)]),
        (["b", "a"], {"good": 1, "BAD": "b", "-1": None}, [("Good", 1), ("bad", 0), (-1.0, None)]),
        (["True", "False"], None, [(True, 0), ("true", 0), ("False", 1)]),
        (["0", "1"], None, [(0, 0), ("1.0", 1), (True, 1)]),
        (["LABEL_1", "LABEL_0"], None, [("LABEL_1", 0), (1, 1)]),
    ],
)
def test_readings(classes: list[str], reading: Any, pairs: list[tuple[object, int | None]]) -> None:
    labels = LabelMap(classes, None, reading)
    assert not labels.ambiguous
    assert [(value, labels.index(value)) for value, _ in pairs] == pairs


@pytest.mark.parametrize(
    ("reading", "value"), [("names", 0), ("names", "4"), ("indices", "x"), ("indices", 3), ({"1": 0}, 2)]
)
def test_a_reading_says_all(reading: Any, value: object) -> None:
    with pytest.raises(LookupError):
        LabelMap(["1", "2", "x"] if reading == "indices" else ["1", "2", "LABEL_9"], None, reading).index(
            value
        )


@pytest.mark.parametrize(
    ("classes", "reading", "says"),
    [
        (
            CLASSES,
            {"a": "neutral"},
            "'a' is mapped to 'neutral', which is not a class of the model; it has 0: 'negative'",
        ),
        (CLASSES, {"a": 2}, "'a' is mapped to 2, which is not a class"),
        (
            STARS,
            {"a": 1},
            "'a' is mapped to 1, which can be a class's name or its index: write \"1\", with quotes",
        ),
        (["a", "a"], {"x": "a"}, "label 'a' is the name of the classes 0 and 1 alike"),
        (CLASSES, {"1": 0, "1.0": 1}, "is there twice"),
    ],
)
def test_a_mapping_to_nothing(classes: list[str], reading: Any, says: str) -> None:
    with pytest.raises(InputError, match=r"^corpus\.labels: ") as caught:
        LabelMap(classes, None, reading)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "indices"),
    [
        (["Positive", "Negative"], [1, 0]),
        (["neg", "pos"], [0, 1]),  # not the model's: its numbers are indices
        (["negative", "neutral", "positive"], [0, "no class", 1]),
    ],
)
def test_declared_names_decide_where_they_are_the_models(declared: list[str], indices: list[Any]) -> None:
    labels = LabelMap(CLASSES, declared)
    for number, index in enumerate(indices):
        if index == "no class":
            with pytest.raises(LookupError):
                labels.index(number)
        else:
            assert labels.index(float(number)) == index
    assert (labels.note is not None) == (declared == ["neg", "pos"])
    if labels.note is None:
        assert labels.index(-1) is None


def test_declared_names_come_before_numbers_that_are_names() -> None:
    labels = LabelMap(STARS, ["3", "2", "1"])
    assert not labels.ambiguous
    assert [labels.index(number) for number in (0, 1, 2)] == [2, 1, 0]


# ---- through files


def frame(path: Path, table: Any) -> Path:
    """Write a table as pandas (a frame) or pyarrow (a table) does, in the format of the path's name."""
    if isinstance(table, pd.DataFrame):
        if path.suffix == ".parquet":
            table.to_parquet(path)
        elif path.suffix == ".csv":
            table.to_csv(path, index=False)
        else:
            table.to_json(path, orient="records", lines=True)
    elif path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".csv":
        decoded = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in table.columns]
        pacsv.write_csv(pa.table(decoded, names=table.column_names), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    return path


def taken(path: Path, classes: list[str], **corpus: Any) -> CorpusManifest:
    return ingest(CorpusConfig(path=str(path), label="label", **corpus), classes, Files(path.parent / "w"))


def labels_in(path: Path, classes: list[str], **corpus: Any) -> list[int | None]:
    manifest = taken(path, classes, **corpus)
    found: list[int | None] = source_rows(manifest, path.parent / "w")["label"].to_pylist()
    return found


ENDINGS = ["parquet", "csv", "jsonl"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("values", [[1, 2, 3], ["good", "2", None], [None, None, None]])
def test_class_names_that_are_numbers_are_refused_whatever_the_values(
    ending: str, values: list[Any], tmp_path: Path
) -> None:
    table = pa.table({"text": ["a", "b", "c"], "label": pa.array(values)})
    path = frame(tmp_path / f"a.{ending}", table)
    with pytest.raises(InputError) as caught:
        taken(path, STARS)
    said = str(caught.value)
    assert said.startswith(
        "corpus.labels: the model's classes are called by numbers (0: '1', 1: '2', 2: '3'), so a label may be a "
    )
    assert said.endswith("set corpus.labels: names or corpus.labels: indices")
    assert "\n" not in said
    if values == [1, 2, 3]:
        assert "row 1, label '1': by name class 0, called '1', by index class 1, called '2'" in said
        assert "row 3, label '3': by name class 2, called '3', by index no class" in said
        assert labels_in(path, STARS, labels="names") == [0, 1, 2]
        assert labels_in(path, STARS, labels="indices") == [1, 2, None]
    assert not list((tmp_path / "w" / "corpora").glob("*/manifest.json")) or values == [1, 2, 3]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_name_of_two_classes_is_refused(ending: str, tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"], "label": ["x", "same"]})
    path = frame(tmp_path / f"a.{ending}", table)
    with pytest.raises(
        InputError, match=r"row 2: label 'same' is the name of the classes 0 and 2 alike: set"
    ):
        taken(path, ["same", "x", "same"])
    assert labels_in(path, ["same", "x", "same"], labels={"x": 1, "same": 2}) == [1, 2]


def test_classes_that_datasets_declares_in_parquet(tmp_path: Path) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["3", "1", "2"])}
    )
    made = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 2]}, features=features)
    made.to_parquet(str(tmp_path / "a.parquet"))
    assert labels_in(tmp_path / "a.parquet", STARS) == [2, 0, 1]
    frame(tmp_path / "b.parquet", pa.table({"text": ["d"], "label": [0]}))
    with pytest.raises(
        InputError, match=r"b.parquet: column 'label' is declared with the classes none, but with 3, 1"
    ):
        taken(tmp_path / "*.parquet", STARS)


def test_a_reading_without_labels(tmp_path: Path) -> None:
    path = frame(tmp_path / "a.csv", pa.table({"text": ["a"]}))
    with pytest.raises(InputError, match=r"corpus\.labels: there is no label column; set corpus"):
        ingest(CorpusConfig(path=str(path), labels="names"), CLASSES, Files(tmp_path / "w"))


WRITTEN = {
    "int": lambda labels: pd.array(labels, "Int64"),
    "float": lambda labels: [math.nan if label is None else float(label) for label in labels],
    "text": lambda labels: [None if label is None else str(label) for label in labels],
    "float text": lambda labels: [None if label is None else f"{label}.0" for label in labels],
    "bool": lambda labels: [None if label is None else bool(label) for label in labels],
    "bool text": lambda labels: [None if label is None else str(bool(label)) for label in labels],
    "categorical": lambda labels: pd.Categorical(labels),
    "names": lambda labels: [None if label is None else CLASSES[label] for label in labels],
    "categorical names": lambda labels: pd.Categorical([None if i is None else CLASSES[i] for i in labels]),
    "generic": lambda labels: [None if label is None else f"LABEL_{label}" for label in labels],
}


def check_all_writers(labels: list[int | None], how: str, ending: str, by: str, folder: Path) -> None:
    table: Any = pd.DataFrame(
        {"text": [f"text {n}" for n in range(len(labels))], "label": WRITTEN[how](labels)}
    )
    if by == "pyarrow":
        table = pa.Table.from_pandas(table, preserve_index=False)
    path = frame(folder / f"a.{ending}", table)
    assert labels_in(path, CLASSES) == labels, (how, ending, by)


@pytest.mark.parametrize("how", sorted(WRITTEN))
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("by", ["pandas", "pyarrow"])
def test_the_same_labels_by_any_writer(how: str, ending: str, by: str, tmp_path: Path) -> None:
    check_all_writers([1, 0, None, 1], how, ending, by, tmp_path)


RULES = st.fixed_dictionaries(
    {
        "labels": st.lists(st.sampled_from([0, 1, None]), min_size=1, max_size=6),
        "how": st.sampled_from(sorted(WRITTEN)),
        "ending": st.sampled_from(ENDINGS),
        "by": st.sampled_from(["pandas", "pyarrow"]),
    }
)


@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=RULES)
def test_any_table_of_labels(table: dict[str, Any], tmp_path: Path) -> None:
    check_all_writers(folder=tmp_path, **table)


@extended("2,000 tables")
@examples(2000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(table=RULES, names=st.permutations([*"abcd", "0", "1", "2", "1.0", "True", "x y"]), data=st.data())
def test_any_table_of_labels_and_any_classes(
    table: dict[str, Any], names: list[str], data: st.DataObject, tmp_path: Path
) -> None:
    """The same labels are the same classes, or are refused, in every format; and are read one by one alike."""
    check_all_writers(folder=tmp_path, **table)
    classes = names[: data.draw(st.integers(2, 6))]
    reading = data.draw(st.sampled_from([None, "names", "indices"]))
    values = data.draw(st.lists(st.sampled_from([*names, "LABEL_1", "7", None]), min_size=1, max_size=5))
    found = []
    for ending in ENDINGS:
        path = frame(tmp_path / f"b.{ending}", pa.table({"text": ["t"] * len(values), "label": values}))
        try:
            found.append(labels_in(path, classes, labels=reading))
        except InputError as error:
            found.append([str(error).replace(ending, "")])
    assert found[0] == found[1] == found[2]


def test_a_name_that_two_classes_have_got_their_indices_is_refused_as_well() -> None:
    """Where the names of a model's classes are alike, their indices are added before labels are read."""
    labels = LabelMap(["neutral (0)", "neutral (1)", "good"])
    assert [labels.index("neutral (1)"), labels.index("Good"), labels.index(0)] == [1, 2, 0]
    with pytest.raises(InputError, match="row 5: label 'Neutral' is the name of the classes 0 and 1 alike"):
        labels.rows(["Neutral"], "a.csv", 5)
    alone = LabelMap(["grade (0)", "good"])
    with pytest.raises(LookupError):
        alone.index("grade")
