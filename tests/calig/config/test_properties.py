"""Whatever a configuration says, it is an audit or one clear line; and an audit comes back as it was written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from calig.config import AuditConfig, load_config, parse_config
from calig.errors import InputError
from tests.calig.config.test_loading import corpora, methods
from tests.material.fuzz import examples

relaxed = examples(200, suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.binary(max_size=5)),
    *(st.dates(), st.datetimes()),
    st.sampled_from(
        ["auto", "${HOME}", "${", "{{ today }}", "{{", "s3://", "~nobody/x", "\0", "a\nb", "1e400"]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | scalars, inner, max_size=3),
    max_leaves=6,
)


def _fields(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, info in model.model_fields.items():
        yield (*prefix, name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _fields(info.annotation, (*prefix, name))


FIELDS = list(_fields(AuditConfig))


def _valid() -> dict[str, Any]:
    return {"name": "a", "model": {"id": "m"}, "corpus": {"path": "c.csv"}}


def _put(data: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    *sections, last = place
    for section in sections:
        if not isinstance(data.get(section), dict):
            data[section] = {}
        data = data[section]
    data[last] = value


def _answered(read: Callable[..., AuditConfig], *arguments: Any) -> AuditConfig | None:
    """The audit, or None where it was refused in one clear line; nothing else is raised."""
    try:
        return read(*arguments)
    except InputError as error:
        message = str(error)
    assert message.strip()
    assert len(message.splitlines()) == 1, message
    assert len(message) < 1500, message
    return None


@relaxed
@given(
    st.lists(st.tuples(st.sampled_from(FIELDS) | st.lists(texts, min_size=1).map(tuple), values), max_size=3)
)
@example([(("gates",), {"x": 1})])
@example([(("watch",), {"a": ["b"], "": []})])
@example([(("runtime", "workers"), 10**400)])
def test_any_mapping_is_an_audit_or_one_line(changes: list[tuple[tuple[str, ...], Any]]) -> None:
    data = _valid()
    for place, value in changes:
        _put(data, place, value)
    found = _answered(parse_config, data)
    assert found is None or parse_config(json.loads(found.model_dump_json())) == found


@relaxed
@given(data=st.dictionaries(texts | scalars, values, max_size=4), field=st.sampled_from(FIELDS), value=values)
def test_any_yaml_file_is_an_audit_or_one_line(
    tmp_path: Path, data: dict[Any, Any], field: tuple[str, ...], value: Any
) -> None:
    path = tmp_path / "a.yaml"
    content = _valid() | data
    _put(content, field, value)
    path.write_text(yaml.safe_dump(content, allow_unicode=True))
    _answered(load_config, path)


@relaxed
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.binary(max_size=60))
@example("model: &a [*a]\n")
@example("a: !!python/object/apply:os.system ['true']\n")
@example("? [a, b]\n: 1\n")
@example("a: 1_0:99\n")
def test_any_file_is_an_audit_or_one_line(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    _answered(load_config, path)


@relaxed
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=3))
@example(["corpus.limit=[[["])
@example(["model={id: x, id: y}"])
def test_any_override_is_an_audit_or_one_line(tmp_path: Path, overrides: list[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(_valid()))
    _answered(load_config, path, overrides)


@relaxed
@given(corpora, methods, st.integers(1, 64), st.sampled_from(["threads", "processes", "auto"]))
def test_an_audit_comes_back_from_yaml_as_it_was(
    tmp_path: Path, corpus: dict[str, Any], method: dict[str, Any], workers: int, engine: str
) -> None:
    runtime = {"workers": workers, "engine": engine}
    config = parse_config({**_valid(), "corpus": corpus, "method": method, "runtime": runtime})
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), allow_unicode=True))
    assert load_config(path) == config
