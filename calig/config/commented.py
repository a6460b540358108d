"""An audit's YAML with every option in it: those that are set, and all others as comments with their defaults.

It is made from the configuration's models, so that it has each option, its default and its description as they are.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from calig.config.schema import AuditConfig

_WIDTH = 110


def commented(values: Mapping[str, Any], notes: Mapping[str, str]) -> str:
    """Return the YAML.

    Parameters
    ----------
    values
        What is set: sections, each with its fields.
    notes
        By the dotted name of a field: what stands in a comment above it, beside its description.
    """
    return "\n".join(_lines(AuditConfig, values, notes, "", "")) + "\n"


def _lines(
    model: type[BaseModel], values: Mapping[str, Any], notes: Mapping[str, str], place: str, indent: str
) -> Iterator[str]:
    for name, info in model.model_fields.items():
        here = f"{place}{name}"
        if not place:
            yield ""
        for text in filter(None, (info.description, notes.get(here))):
            yield from _comment(text, indent)
        section = info.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            # a section without a value counts as not given, and its options can be set one by one
            yield f"{indent}{name}:"
            yield from _lines(section, values.get(name) or {}, notes, f"{here}.", f"{indent}  ")
        elif name in values:
            yield f"{indent}{name}: {written(values[name])}"
        else:
            yield f"{indent}# {name}:{_default(info)}"
            for inner in _inner(info.annotation):
                yield from _inside(inner, indent)


def _inside(model: type[BaseModel], indent: str) -> Iterator[str]:
    """The options of a section that may be left out as a whole, which needs its own name to be set as well."""
    for name, info in model.model_fields.items():
        described = f"  # {info.description}" if info.description else ""
        yield from textwrap.wrap(
            f"{indent}#   {name}:{_default(info)}{described}",
            _WIDTH,
            subsequent_indent=f"{indent}#       # ",
            break_on_hyphens=False,
        )


def _inner(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a field's value may be, beside something else."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in get_args(annotation):
        yield from _inner(argument)


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True) if not info.is_required() else None
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return "" if value is None or value == () or value == {} else f" {written(value)}"


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from textwrap.wrap(
            line,
            _WIDTH,
            initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}# ",
            break_on_hyphens=False,
        )


def written(value: Any) -> str:
    """Return a value as YAML on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**9)
    return text.removesuffix("\n...\n").strip()
