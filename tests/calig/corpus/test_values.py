"""What a file says is what SQL shows: any type that pandas and pyarrow write, in any format, nested values and all."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import random
import string
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from calig.config import CorpusConfig
from calig.corpus import CorpusManifest, ingest
from calig.errors import InputError
from calig.files import Files
from calig.formats import stamp
from calig.records import DOCUMENT_VIEW
from tests.material.fuzz import examples
from tests.material.tiers import extended

CLASSES = ["negative", "positive"]


def taken(path: Path, **corpus: Any) -> CorpusManifest:
    return ingest(CorpusConfig(path=str(path), **corpus), CLASSES, Files(path.parent / "w"), audit="nightly")


def shown(path: Path, **corpus: Any) -> dict[str, list[Any]]:
    """Bring a file in and return its columns as SQL shows them."""
    manifest = taken(path, **corpus)
    files = [str(part) for part in manifest.parts(path.parent / "w")]
    with duckdb.connect() as connection:
        result = connection.execute("SELECT * FROM read_parquet(?) ORDER BY doc_id", [files])
        names = [column[0] for column in result.description]
        rows = result.fetchall()
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def written(path: Path, content: str) -> Path:
    path.write_text(content, "utf-8", newline="")
    return path


def jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    return written(path, "".join(json.dumps(row) + "\n" for row in rows))


# ---- CSV: as written


AS_WRITTEN = {
    "order_id": ["12345678901234567890", "12345678901234567891"],
    "version": ["3.1", "3.10"],
    "phone": ["+4930000001", "0049 30 000002"],
    "device": ["0x0F", "0x1F"],
    "sku": ["12E5", "1E10"],
    "surname": ["Nan", "Inf"],
    "zip": ["01067", "007"],
    "flag": ["true", "FALSE"],
    "day": ["2026-01-02", "02.01.2026"],
    "blank": [" ", "\t"],
    "word": ["null", "NA"],
}


def test_csv_columns_are_as_written(tmp_path: Path) -> None:
    columns = {"text": ["a", "b"], **AS_WRITTEN}
    lines = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    found = shown(written(tmp_path / "a.csv", "\n".join(lines)), id="order_id")
    assert {name: found[name] for name in AS_WRITTEN if name != "order_id"} == {
        name: values for name, values in AS_WRITTEN.items() if name != "order_id"
    }
    assert found["source_id"] == AS_WRITTEN["order_id"]


def test_an_empty_field_is_null_and_quotes_make_it_empty_text(tmp_path: Path) -> None:
    found = shown(written(tmp_path / "a.csv", 'text,x,y\n"",,""\na,"",\n'))
    assert found["text"] == ["", "a"]
    assert (found["x"], found["y"]) == ([None, ""], ["", None])


def test_line_ends_of_all_kinds_in_one_file(tmp_path: Path) -> None:
    found = shown(written(tmp_path / "a.csv", 'text,x\r\n"a\r\nb",1\nc,2\r\n\n"d\n""e""",3'))
    assert (found["text"], found["x"]) == (["a\r\nb", "c", 'd\n"e"'], ["1", "2", "3"])


# ---- corpus.types


TYPED = [
    ("integer", ["7", " -3", "2.0", "007", "9223372036854775807", ""], [7, -3, 2, 7, 2**63 - 1, None]),
    ("number", ["1", "0.1", "1e3", "-.5", "inf", ""], [1.0, 0.1, 1000.0, -0.5, math.inf, None]),
    ("boolean", ["true", "False", "1", "0", "TRUE", ""], [True, False, True, False, True, None]),
    ("date", ["2024-02-29", "0001-01-01", ""], [dt.date(2024, 2, 29), dt.date(1, 1, 1), None]),
    (
        "timestamp",
        ["2024-02-29", "2024-02-29 01:02", "2024-02-29T01:02:03.004Z", "2024-02-29T01:02:03+0530", ""],
        [
            dt.datetime(2024, 2, 29),
            dt.datetime(2024, 2, 29, 1, 2),
            dt.datetime(2024, 2, 29, 1, 2, 3, 4000),
            dt.datetime(2024, 2, 28, 19, 32, 3),
            None,
        ],
    ),
    ("text", ["3.10", "x", ""], ["3.10", "x", None]),
]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(("kind", "given", "meant"), TYPED, ids=[row[0] for row in TYPED])
def test_types_that_are_asked_for(
    kind: str, given: list[str], meant: list[Any], ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{ending}"
    table = pa.table({"text": ["t"] * len(given), "x": [value or None for value in given]})
    if ending == "parquet":
        pq.write_table(table, path)
    elif ending == "csv":
        pacsv.write_csv(table, path)
    else:
        jsonl(path, table.to_pylist())
    assert shown(path, types={"x": kind})["x"] == meant


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *(("integer", "1.5"), ("integer", "9223372036854775808"), ("integer", "1e3"), ("integer", "1_0")),
        *(("number", "x"), ("number", "12345678901234567890"), ("number", "1e999"), ("number", "1,5")),
        *(("boolean", "yes"), ("date", "2023-02-29"), ("date", "02.01.2026"), ("timestamp", "12:00")),
        ("timestamp", "2024-01-01T00:00:00.0000001"),
    ],
)
def test_a_value_that_does_not_fit_is_named(kind: str, value: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "text,x\n" + "t,\n" * 2500 + f't,"{value}"\n')
    with pytest.raises(InputError) as caught:
        taken(path, types={"x": kind})
    assert str(caught.value).startswith(
        f"{path}, row 2501: column 'x' is {value!r}, which does not fit corpus.types: {kind}: "
    )


def test_types_of_parquet_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {"text": ["a", "b"], "n": [1.0, 2.5], "i": [1, 0], "none": pa.nulls(2), "l": [[1], None]}
    pq.write_table(pa.table(columns), path)
    types = {"i": "boolean", "none": "date", "l": "text", "n": "text"}
    found = shown(path, types=types)
    assert (found["i"], found["none"], found["l"], found["n"]) == (
        [True, False],
        [None, None],
        ["[1]", None],
        ["1", "2.5"],
    )
    with pytest.raises(
        InputError, match=r"row 2: column 'n' is '2\.5', which does not fit corpus\.types: integer"
    ):
        taken(path, types={"n": "integer"})


@pytest.mark.parametrize("field", ["types", "columns"])
def test_columns_that_are_not_there_are_named(field: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "text,x\na,1\n")
    given: Any = {"y": "integer"} if field == "types" else ["y"]
    with pytest.raises(InputError, match=rf"corpus\.{field}: .*a\.csv has no column 'y'; it has text, x"):
        taken(path, **{field: given})


@pytest.mark.parametrize(
    ("columns", "kept"), [(None, "abc"), (["a"], "a"), ({"without": ["a"]}, "bc"), ([], "")]
)
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_columns_kept_and_left_out(columns: Any, kept: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{ending}"
    table = pa.table({"text": ["t"], "a": ["1"], "b": ["2"], "c": ["3"]})
    if ending == "csv":
        pacsv.write_csv(table, path)
    elif ending == "jsonl":
        jsonl(path, table.to_pylist())
    else:
        pq.write_table(table, path)
    assert "".join(taken(path, columns=columns).columns) == kept


def test_roles_stay_whatever_columns_are_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "text,y,k,why,z\na,1,id-1,[],0\n")
    found = shown(path, label="y", id="k", rationale="why", columns=[])
    assert (found["label"], found["source_id"], found["why"]) == ([1], ["id-1"], ["[]"])
    assert "z" not in found


# ---- JSON Lines


@pytest.mark.parametrize(
    ("values", "meant"),
    [
        ([1, 2.5], [1.0, 2.5]),
        ([1, None], [1, None]),
        ([18446744073709551615, 1], ["18446744073709551615", "1"]),
        ([2**60 + 1, 0.5], [str(2**60 + 1), "0.5"]),
        ([{"score": 1}, {"score": "n/a"}], ['{"score":1}', '{"score":"n/a"}']),
        ([1, "x2"], ["1", '"x2"']),
        ([True, 1.0], ["true", "1.0"]),
        ([[1, 2], [2.5]], [[1.0, 2.0], [2.5]]),
        ([[], ["a"]], [[], ["a"]]),
        ([[], None], ["[]", None]),
        ([{}, {"a": 1}], [{"a": None}, {"a": 1}]),
        ([{"a": None}, None], ['{"a":null}', None]),
        ([{"a": [{"b": 1}]}, {"c": True}], [{"a": [{"b": 1}], "c": None}, {"a": None, "c": True}]),
        (["x", "y"], ["x", "y"]),
    ],
)
def test_the_type_of_json_holds_all_its_values(values: list[Any], meant: list[Any], tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "t", "x": value} for value in values])
    assert shown(path)["x"] == meant


def test_numbers_keep_the_digits_that_the_file_has_where_they_are_text(tmp_path: Path) -> None:
    rows = ["3.10", '"3.1b"', "1e400", "0.1000000000000000055511151231257827", "NaN", "[1.50, -0.0]"]
    path = written(tmp_path / "a.jsonl", "".join(f'{{"text": "t", "x": {row}}}\n' for row in rows))
    assert shown(path)["x"] == [*rows[:4], '"NaN"', "[1.50,-0.0]"]
    path = written(
        tmp_path / "b.jsonl", '{"text": "t", "id": 1.10}\n{"text": "t", "id": "x"}\n{"text": "t", "id": 1e2}'
    )
    assert shown(path, id="id")["source_id"] == ["1.10", "x", "1e2"]


def test_types_are_those_of_the_audits_first_run(tmp_path: Path) -> None:
    first = jsonl(tmp_path / "a.jsonl", [{"text": "t", "n": 1, "o": {"a": 1}, "m": [1, "x"], "later": None}])
    assert taken(first).notes == [
        "columns left out, since SQL has no such values, or there is none yet: 'later' (null)"
    ]
    rows = [
        {"text": "t", "n": 2.0, "o": {"a": 2, "b": None}, "m": 3, "later": True},
        {"text": "u", "n": "many", "o": {"a": 1, "b": 2}, "later": False},
        {"text": "v", "n": 2.5, "o": {"a": True}},
    ]
    second = jsonl(tmp_path / "b.jsonl", rows)
    found = shown(second)
    assert found["n"] == [2, None, None]
    assert found["o"] == [{"a": 2}, None, None]
    assert found["m"] == ["3", None, None]
    assert found["later"] == [True, False, None]
    assert taken(second).notes == [
        "column 'n': 2 values do not fit int64, its type since the audit's first run, and are null: first "
        f'{second}, row 2: "many"; set corpus.types: {{n: text}} to keep all values',
        "column 'o': 2 values do not fit struct<a: int64>, its type since the audit's first run, and are null: first "
        f'{second}, row 2: {{"a":1,"b":2}}; set corpus.types: {{o: text}} to keep all values',
    ]
    assert shown(second, types={"n": "text", "o": "text"})["n"] == ["2.0", "many", "2.5"]
    absent = shown(jsonl(tmp_path / "c.jsonl", [{"text": "t"}]))
    assert [absent[name] for name in ("n", "o", "m", "later")] == [[None]] * 4
    kept = json.loads((tmp_path / "w" / "types" / "nightly.json").read_text())
    columns = {"n": "int64", "o": {"object": {"a": "int64"}}, "m": "json", "later": "bool"}
    assert kept == {"columns": columns, **stamp()}


def test_a_parquet_column_without_values_has_the_type_of_the_night_before(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for values in ([["x"], None], [None, None]):
        pd.DataFrame({"text": ["a", "b"], "x": values}).to_parquet(path)
        part = taken(path).parts(tmp_path / "w")[0]
        assert duckdb.sql(f"SELECT typeof(x) FROM '{part}'").fetchall() == [("VARCHAR[]",)] * 2


def test_misfits_beyond_the_limit_are_not_counted(tmp_path: Path) -> None:
    taken(jsonl(tmp_path / "a.jsonl", [{"text": "t", "n": 1}]))
    path = jsonl(tmp_path / "b.jsonl", [{"text": "t", "n": 1}] * 3 + [{"text": "t", "n": "x"}] * 3)
    assert "1 value does not fit int64" in taken(path, limit=4).notes[0]


@pytest.mark.parametrize("damage", ["{", "[]", '{"columns": {"n": "colour"}}'])
def test_damaged_types_are_named(damage: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"text": "t", "n": 1}])
    taken(path)
    written(tmp_path / "w" / "types" / "nightly.json", damage)
    with pytest.raises(InputError, match=r"nightly\.json is damaged: delete it"):
        taken(path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"text": "a", "n": {"x": 1, "x": 2}}', "line 1: has the key 'x' twice in one object: keep one"),
        ('{"text": "a", "n": ' + "[" * 3000 + "]" * 3000 + "}", "nested too deep"),
    ],
)
def test_json_that_cannot_be_kept(line: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^.*$") as caught:
        taken(written(tmp_path / "a.jsonl", line + "\n"))
    assert says in str(caught.value)


# ---- names


def test_the_columns_of_the_view_are_those_that_are_reserved(tmp_path: Path) -> None:
    from calig.warehouse.aggregate import aggregate
    from calig.warehouse.layout import Warehouse
    from calig.warehouse.query import query
    from tests.material.warehouses import make_warehouse

    run_id = make_warehouse(tmp_path)
    aggregate(Warehouse.open(tmp_path), run_id)
    columns = query(Warehouse.open(tmp_path), "SELECT * FROM documents LIMIT 1").columns
    assert columns == [*DOCUMENT_VIEW, "category"]


def test_every_column_of_the_view_may_be_one_of_the_corpus(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    names = [name for name in DOCUMENT_VIEW if name != "text"]
    pq.write_table(pa.table({"text": ["a"], **{name: [name] for name in names}, "Image_Bytes": ["x"]}), path)
    found = shown(path)
    assert [found[f"corpus_{name}"] for name in names] == [[name] for name in names]
    assert found["corpus_Image_Bytes"] == ["x"]


# ---- any table


Column = Callable[[random.Random, int], tuple[Any, list[Any]]]
"""Makes a column of so many rows: what is written, and what SQL shows of it."""
LETTERS = string.ascii_letters + "äß漢😀\"',;\t \\"


def _value(rng: random.Random, make: Callable[[], Any], nulls: float = 0.2) -> Any:
    return None if rng.random() < nulls else make()


def _text(rng: random.Random) -> str:
    odd = [
        "",
        "1",
        "1.0",
        "NaN",
        "null",
        "true",
        "007",
        "1e5",
        "a\nb",
        "a\r\nb",
        '"',
        "x,y",
        " ",
        "2024-01-01",
    ]
    return rng.choice(odd) if rng.random() < 0.3 else "".join(rng.choices(LETTERS, k=rng.randint(1, 8)))


def _typed(
    kind: pa.DataType, make: Callable[[random.Random], Any], shown_as: Callable[[Any], Any] | None = None
) -> Column:
    def column(rng: random.Random, rows: int) -> tuple[Any, list[Any]]:
        values = [_value(rng, lambda: make(rng)) for _ in range(rows)]
        meant = [None if v is None else (shown_as(v) if shown_as else v) for v in values]
        return pa.array(values, kind), meant

    return column


def _int(bits: int, signed: bool = True) -> Callable[[random.Random], int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return lambda rng: rng.choice([low, high, 0, rng.randint(low, high)])


def _float(rng: random.Random) -> float:
    return rng.choice([0.1, -2.5, 1e300, 5e-324, 1 / 3, float(rng.randint(-(2**53), 2**53)), math.inf])


def _moment(rng: random.Random) -> dt.datetime:
    return dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=rng.randint(-(10**15), 10**15))


def _day(rng: random.Random) -> dt.date:
    return dt.date.fromordinal(rng.randint(1, 3_000_000))


def _utc(moment: dt.datetime) -> dt.datetime:
    return moment.replace(tzinfo=dt.UTC)


PARQUET: dict[str, Column] = {
    **{f"int{n}": _typed(getattr(pa, f"int{n}")(), _int(n)) for n in (8, 16, 32, 64)},
    **{f"uint{n}": _typed(getattr(pa, f"uint{n}")(), _int(n, False)) for n in (8, 16, 32, 64)},
    "double": _typed(pa.float64(), _float),
    "float": _typed(pa.float32(), lambda rng: float(np.float32(rng.random()))),
    "half": _typed(pa.float16(), lambda rng: rng.choice([0.5, -2.0, 1024.0])),
    "bool": _typed(pa.bool_(), lambda rng: rng.random() < 0.5),
    "string": _typed(pa.string(), _text),
    "large string": _typed(pa.large_string(), _text),
    "date32": _typed(pa.date32(), _day),
    "date64": _typed(pa.date64(), _day),
    **{
        f"timestamp {unit}": _typed(pa.timestamp(unit), lambda rng: _moment(rng).replace(microsecond=0))
        for unit in ("s", "ms", "us", "ns")
    },
    "timestamp us exact": _typed(pa.timestamp("us"), _moment),
    "zoned": _typed(pa.timestamp("us", "UTC"), lambda rng: _utc(_moment(rng))),
    "time": _typed(pa.time64("us"), lambda rng: _moment(rng).time()),
    "decimal": _typed(pa.decimal128(20, 2), lambda rng: Decimal(rng.randint(-(10**18), 10**18)).scaleb(-2)),
    "list": _typed(pa.list_(pa.int64()), lambda rng: [rng.randint(-5, 5) for _ in range(rng.randint(0, 3))]),
    "fixed list": _typed(pa.list_(pa.float64(), 2), lambda rng: [0.5, float(rng.randint(0, 9))]),
    "struct": _typed(
        pa.struct({"a": pa.int64(), "b": pa.list_(pa.string())}), lambda rng: {"a": 1, "b": [_text(rng)]}
    ),
    "list of structs": _typed(pa.list_(pa.struct({"a": pa.date32()})), lambda rng: [{"a": _day(rng)}]),
}


def _dictionary(rng: random.Random, rows: int) -> tuple[Any, list[Any]]:
    array, meant = PARQUET["string"](rng, rows)
    return array.dictionary_encode(), meant


PARQUET["dictionary"] = _dictionary

PANDAS: dict[str, Callable[[random.Random, int], tuple[Any, list[Any]]]] = {}


def _pandas(
    make: Callable[[random.Random], Any], wrap: Callable[[list[Any]], Any], nulls: float = 0.2
) -> Column:
    def column(rng: random.Random, rows: int) -> tuple[Any, list[Any]]:
        values = [_value(rng, lambda: make(rng), nulls) for _ in range(rows)]
        return wrap(values), values

    return column


PANDAS |= {
    "int64": _pandas(_int(64), lambda v: np.array(v, "int64"), 0),
    "uint8": _pandas(_int(8, False), lambda v: np.array(v, "uint8"), 0),
    "nullable": _pandas(_int(64), lambda v: pd.array(v, "Int64")),
    "float64": _pandas(_float, lambda v: np.array(v, "float64"), 0),
    "boolean": _pandas(lambda rng: rng.random() < 0.5, lambda v: pd.array(v, "boolean")),
    "bool object": _pandas(lambda rng: rng.random() < 0.5, lambda v: np.array(v, object), 0),
    "object": _pandas(_text, lambda v: np.array([*v, None], object)[:-1]),
    "string": _pandas(_text, lambda v: pd.array(v, "string")),
    "category": _pandas(_text, lambda v: pd.Categorical(v)),
    "datetime": _pandas(_moment, lambda v: pd.array(v, "datetime64[us]")),
    "zoned": _pandas(lambda rng: _utc(_moment(rng)), lambda v: pd.array(v, "datetime64[us, UTC]")),
    "dates": _pandas(_day, lambda v: np.array(v, object), 0),
}


def in_csv(value: Any) -> str | None:
    """What pyarrow writes for a value in CSV, derived from what it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else value if isinstance(value, str) else str(value)


JSON_VALUES: dict[str, Callable[[random.Random], Any]] = {
    "whole": _int(64),
    "number": lambda rng: rng.choice([0.1, 2.5, -1e300, rng.randint(-9, 9)]),
    "truth": lambda rng: rng.random() < 0.5,
    "words": _text,
    "list": lambda rng: [rng.randint(0, 9)],
    "object": lambda rng: {"a": _text(rng), "b": [rng.random() < 0.5]},
    "mixed": lambda rng: rng.choice([1, "x", 2.5, True, [1, "y"], {"z": None}, 2**64]),
    "mixed inside": lambda rng: {"score": rng.choice([1, "n/a", None])},
}


def make_parquet(rng: random.Random, path: Path, rows: int) -> dict[str, list[Any]]:
    makers = PANDAS if (pandas := rng.random() < 0.4) else PARQUET
    chosen = rng.sample(sorted(makers), min(5, len(makers)))
    columns = {name: makers[name](rng, rows) for name in chosen}
    data = {"text": [f"t{n}" for n in range(rows)], **{name: column for name, (column, _) in columns.items()}}
    pd.DataFrame(data).to_parquet(path) if pandas else pq.write_table(pa.table(data), path)
    meant = {name: values for name, (_, values) in columns.items()}
    if all(value is None for value in meant.get("object", [1])):
        meant.pop("object", None)  # a column of nulls has no type, and is left out
    return meant


def make_csv(rng: random.Random, path: Path, rows: int) -> dict[str, list[Any]]:
    numbers = {"i": _int(64), "d": _day, "b": lambda rng: rng.random() < 0.5}
    plain = {
        name: [_value(rng, lambda make=make: make(rng)) for _ in range(rows)]
        for name, make in numbers.items()
    }
    plain["s"] = [_value(rng, lambda: _text(rng)) for _ in range(rows)]
    data = {"text": [f"t{n}" for n in range(rows)], **plain}
    if rng.random() < 0.5:
        kinds = {"i": pa.int64(), "d": pa.date32(), "b": pa.bool_(), "s": pa.string()}
        pacsv.write_csv(pa.table({n: pa.array(v, kinds.get(n)) for n, v in data.items()}), path)
        return {name: [in_csv(value) for value in values] for name, values in plain.items()}
    pd.DataFrame({name: np.array([*values, None], object)[:-1] for name, values in data.items()}).to_csv(
        path, index=False
    )
    # pandas writes an empty text as it writes nothing at all, and booleans as Python does
    return {
        name: [None if value in (None, "") else str(value) for value in values]
        for name, values in plain.items()
    }


def make_jsonl(rng: random.Random, path: Path, rows: int) -> dict[str, list[Any]]:
    chosen = rng.sample(sorted(JSON_VALUES), 4)
    plain = {
        name: [_value(rng, lambda name=name: JSON_VALUES[name](rng)) for _ in range(rows)] for name in chosen
    }
    jsonl(path, [{"text": "t", **{name: plain[name][n] for name in chosen}} for n in range(rows)])
    return plain


def equal(found: Any, meant: Any) -> bool:
    if isinstance(found, str) and not isinstance(meant, str) and meant is not None:
        return equal(json.loads(found), meant)  # JSON text
    if isinstance(found, str) and isinstance(meant, str) and found != meant and found.startswith('"'):
        return bool(json.loads(found) == meant)
    if isinstance(found, dict) and isinstance(meant, dict):
        return all(equal(found.get(name), meant.get(name)) for name in {*found, *meant})
    if isinstance(found, list | tuple) and isinstance(meant, list):
        return len(found) == len(meant) and all(map(equal, found, meant))
    if isinstance(found, dt.datetime) and isinstance(meant, dt.datetime) and found.tzinfo:
        return found == meant
    return bool(found == meant) and isinstance(found, bool) == isinstance(meant, bool)


MAKERS = {"parquet": make_parquet, "csv": make_csv, "jsonl": make_jsonl}


def check_any_table(seed: int, folder: Path) -> None:
    """Write a table of a format and ids, partly in a folder of partitions; the columns are what was written."""
    rng = random.Random(seed)
    ending = rng.choice(sorted(MAKERS))
    rows = rng.randint(1, 6)
    part = rng.choice(["01", "3.10", "2024-01-01", "a%20b", "-7", "true"])
    place = folder / f"{seed}" / f"part={part}"
    place.mkdir(parents=True)
    meant = MAKERS[ending](rng, place / f"a.{ending}", rows)
    fields = {"id": rng.choice(["i", "text"])} if ending == "csv" else {}
    corpus = CorpusConfig(path=str(folder / f"{seed}"), **fields)
    manifest = ingest(corpus, CLASSES, Files(folder / "w"), audit=f"a{seed}")
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        files = [str(one) for one in manifest.parts(folder / "w")]
        result = connection.execute("SELECT * FROM read_parquet(?) ORDER BY doc_id", [files])
        names = [column[0] for column in result.description]
        found = dict(zip(names, map(list, zip(*result.fetchall(), strict=True)), strict=True))
    assert found["part"] == [part.replace("%20", " ")] * rows
    if fields.get("id") == "i":
        ids = meant.pop("i")
        assert found["source_id"] == [one or str(n) for n, one in enumerate(ids)]
    for name, values in meant.items():
        if ending == "jsonl" and all(value is None for value in values):
            assert name in manifest.left_out
            continue
        assert len(found[name]) == len(values)
        for one, other in zip(found[name], values, strict=True):
            assert equal(one, other), (seed, ending, name, found[name], values)


@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(10_000, 10**9))
def test_any_table(seed: int, tmp_path: Path) -> None:
    if not (tmp_path / f"{seed}").exists():
        check_any_table(seed, tmp_path)


@extended("2,000 tables")
@pytest.mark.parametrize("first", range(0, 2000, 500))
def test_two_thousand_tables(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + 500):
        check_any_table(seed, tmp_path)


def test_bytes_maps_and_durations_are_left_out_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.parquet"
    columns = {
        "text": ["a"],
        "raw": [base64.b64decode("AA==")],
        "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        "wait": pa.array([1], pa.duration("s")),
    }
    pq.write_table(pa.table(columns), path)
    [note] = taken(path).notes
    assert note == (
        "columns left out, since SQL has no such values, or there is none yet: 'raw' (binary), 'map' (map<string, "
        "int64 ('map')>), 'wait' (duration[s])"
    )
    assert note in caplog.text
