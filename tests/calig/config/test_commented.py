"""The YAML with every option: nothing is lacking in it, and what stands in comments is the default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from calig.config import load_config
from calig.config.commented import commented
from calig.config.schema import AuditConfig

VALUES = {"name": "x", "model": {"id": "m: #1"}, "corpus": {"path": "a 'b'.csv", "types": {"n é": "integer"}}}


def _names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _names(info.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _options(text: str) -> Iterator[tuple[str, str, bool]]:
    """Dotted name, value, and whether it is set, of each line that is an option, deep ones left out."""
    section = ""
    known = set(_names(AuditConfig))
    for line in text.splitlines():
        if found := re.fullmatch(r"(  )?(# )?(\w+):(.*)", line):
            indent, comment, name, value = found.groups()
            if not indent and not comment and not value:
                section = name
            dotted = f"{section}.{name}" if indent else name
            if dotted in known:
                yield dotted, value.strip(), not comment


def test_every_option_is_there_once() -> None:
    options = list(_options(commented(VALUES, {})))
    assert sorted(name for name, _, _ in options) == sorted(_names(AuditConfig))
    assert {name for name, _, given in options if given} == {
        "name",
        "model.id",
        "corpus.path",
        "corpus.types",
    }


def test_what_is_set_is_read_back_and_the_comments_are_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(commented(VALUES, {"corpus.path": "a note: two\nlines"}), "utf-8")
    config = load_config(path)
    expected = AuditConfig.model_validate(VALUES)
    assert config == expected
    data: dict[str, Any] = {}
    for dotted, value, _ in _options(path.read_text("utf-8")):
        section, _, name = dotted.rpartition(".")
        if value:
            (data.setdefault(section, {}) if section else data)[name] = yaml.safe_load(value)
    assert AuditConfig.model_validate(data) == expected


@pytest.mark.parametrize("name", ["corpus.sample.by", "gates.slow_drift.since", "gates.sql.severity"])
def test_options_of_sections_that_may_be_absent_are_named(name: str) -> None:
    text = commented(VALUES, {})
    _, section, option = name.split(".")
    after = text.partition(f"# {section}:")[2]
    assert re.search(rf"^  #   {option}:", after, re.MULTILINE)


def test_lines_are_not_long() -> None:
    assert max(map(len, commented(VALUES, {}).splitlines())) <= 120
