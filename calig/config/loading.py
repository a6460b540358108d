"""Read an audit's YAML, with one clear line for every mistake in it.

The order is: the file, then the overrides, then the environment. So an override may use `${VAR}`, and a
variable in a value that an override replaces need not be set. Relative paths stay relative to the current
directory, not to the file's, so that one file serves any working directory.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from calig.config.schema import AuditConfig
from calig.errors import InputError

_VARIABLE = re.compile(
    r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<broken>\$\{[^}]*\}?)"
)


def load_config(
    path: str | Path, overrides: Sequence[str] = (), warehouse: str | Path | None = None
) -> AuditConfig:
    """Read an audit's YAML file.

    Parameters
    ----------
    path
        The YAML file. A field left empty counts as not given.
    overrides
        Assignments such as `corpus.limit=100`, the value read as YAML; applied in order.
    warehouse
        Replaces the file's `warehouse`.

    Raises
    ------
    InputError
        On anything wrong in the file, the overrides or the environment.
    """
    data = _read(path, overrides)
    if warehouse is not None:
        data["warehouse"] = str(warehouse)
    return parse_config(_expanded(data))


def load_template(path: str | Path, overrides: Sequence[str] = ()) -> AuditConfig:
    """Read an audit's YAML file and keep `${VAR}` as it is written, for `expand_config` where the work is done.

    It is expanded in the name, and in values that are no free text (numbers, choices): those hold no secrets.

    Raises
    ------
    InputError
        On what `load_config` refuses: variables have to be set here too.
    """
    data = _read(path, overrides)
    parse_config(_expanded(data))
    data["name"] = _expand(data["name"], "name")
    try:
        return AuditConfig.model_validate(data)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            _expand_at(data, item["loc"])
        return parse_config(data)


def expand_config(config: AuditConfig) -> AuditConfig:
    """Replace `${VAR}` in a configuration that holds it still; one that does not is returned as it is.

    Raises
    ------
    InputError
        A variable is not set here.
    """
    if "${" not in config.model_dump_json():
        return config
    return parse_config(_expanded(config.model_dump(mode="json", exclude_unset=True)))


def _read(path: str | Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Read the file and the overrides, without the fields left empty, and with a name."""
    path = Path(path)
    data = _read_mapping(path)
    for override in overrides:
        _apply(data, override)
    if data.get("name") is None:
        data["name"] = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem)
    return {key: value for key, value in data.items() if value is not None}


def _expanded(data: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {key: _expand(value, str(key)) for key, value in data.items()}
    except RecursionError as error:
        raise InputError("the configuration refers to itself: remove the alias that does") from error


def _expand_at(data: Any, place: Sequence[int | str]) -> None:
    """Expand the text that lies on the way to a place in `data`, if there is one."""
    for key in place:
        try:
            value = data[key]
        except (KeyError, IndexError, TypeError):
            return
        if isinstance(value, str):
            data[key] = _expand(value, str(key))
            return
        data = value


def parse_config(data: Mapping[str, object]) -> AuditConfig:
    """Validate a mapping (from YAML, JSON or a form); an InputError names the first wrong field."""
    try:
        return AuditConfig.model_validate(dict(data))
    except ValidationError as error:
        raise InputError(_first_problem(error)) from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's safe subset, which refuses a key given twice in place of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.value != "<<":
                line = key.start_mark.line + 1
                raise yaml.constructor.ConstructorError(
                    None, None, f"line {line}: the key {key.value!r} is there twice: keep one", key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.MarkedYAMLError as error:
        problem = error.problem or "not YAML"
        mark = error.problem_mark
        where = f"line {mark.line + 1}: " if mark is not None and not problem.startswith("line ") else ""
        raise InputError(f"{origin} is not valid YAML: {where}{problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{origin} is not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise InputError(f"{origin} is nested too deep to be a configuration") from error


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file: give the path of an audit's YAML file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    data = _parse_yaml(text, str(path))
    if not isinstance(data, dict):
        kind = "empty" if data is None else f"a {type(data).__name__}"
        raise InputError(f"{path} is {kind}, not a mapping: it needs fields such as model: and corpus:")
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    """Set the field that `override` names, making the sections on the way."""
    dotted, equals, value = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise InputError(f"--set {override}: write it as section.field=value, for example corpus.limit=100")
    here = data
    for depth, key in enumerate(keys[:-1], start=1):
        if here.get(key) is None:
            here[key] = {}
        if not isinstance(here[key], dict):
            raise InputError(f"--set {override}: {'.'.join(keys[:depth])} is a value, not a section")
        here[key] = here = dict(here[key])
    here[keys[-1]] = _parse_yaml(value, f"the value of --set {override}")


def _expand(value: Any, field: str) -> Any:
    """Replace `${VAR}` and `${VAR:-default}` in every string of `value`; keys stay as they are."""
    if isinstance(value, dict):
        return {key: _expand(item, f"{field}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, f"{field}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if match["broken"]:
            raise InputError(f"{field} has {match['broken']!r}: write ${{NAME}} or ${{NAME:-default}}")
        name, default = match["name"], match["default"]
        found = os.environ.get(name)
        if default is not None:
            return found or default
        if found is None:
            raise InputError(f"{field} uses ${{{name}}}, which is not set: export {name}=…")
        return found

    return _VARIABLE.sub(replace, value)


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields of `model`, sections included."""
    for name, info in model.model_fields.items():
        yield prefix + name
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _fields(info.annotation, f"{prefix}{name}.")


def _first_problem(error: ValidationError) -> str:
    """Return one line on the first wrong field, unknown fields first: they explain what seems missing."""
    known = list(_fields(AuditConfig))
    problems: dict[str, str] = {}
    for item in sorted(error.errors(include_url=False), key=lambda item: item["type"] != "extra_forbidden"):
        field = ".".join(str(part) for part in item["loc"] if part != "[key]") or "the configuration"
        if field.startswith("gates.") and item["type"] not in ("missing", "extra_forbidden"):
            field = field.removesuffix(".limit")  # which may not have been written
        value = repr(item.get("input"))
        value = value if len(value) <= 80 else value[:77] + "…"
        if item["type"] in ("extra_forbidden", "invalid_key"):
            line = f"{field} is not a known field: {_suggestion(field, known)}"
        elif item["type"] == "missing":
            line = f"{field} is missing: add it to the configuration"
        elif item["type"] == "value_error":
            reason = str(item["ctx"]["error"])
            line = (
                reason
                if reason.startswith(("corpus", "evaluation.", "gates.", "runtime."))
                else f"{field} is {value}, but {reason}"
            )
        elif item["type"] == "string_type" and isinstance(item.get("input"), int | float):
            line = f"{field} is {value}, but should be text: put it in quotes"
        elif item["type"] in ("model_type", "model_attributes_type"):
            line = f"{field} is {value}, but should be a section with fields of its own"
        elif item["type"] == "string_too_short":
            line = f"{field} is empty: give it a value or remove it"
        else:
            line = f"{field} is {value}, but {item['msg'].replace('Input ', '').replace('String ', '')}"
            if item["type"] == "string_pattern_mismatch":
                line = f"{field} is {value}, which it cannot be: {_description(field)}"
        problems.setdefault(field, line)
    first, *others = problems.values()
    return first + (f" (and {len(others)} more)" if others else "")


def _suggestion(field: str, known: Sequence[str]) -> str:
    section, _, last = field.rpartition(".")
    while not (siblings := [name for name in known if name.rpartition(".")[0] == section]):
        section = section.rpartition(".")[0]  # the nearest section that there is
    near = [name for name in known if name.rpartition(".")[2] == last]
    if not near:
        names = {name.rpartition(".")[2]: name for name in siblings}
        near = [names[name] for name in difflib.get_close_matches(last, names, n=1)]
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known ones are {', '.join(siblings)}"


def _description(field: str) -> str:
    """What the field is, as its model says; of an item of a list or mapping: what names are made of."""
    model: type[BaseModel] = AuditConfig
    *sections, last = field.split(".")
    for section in sections:
        info = model.model_fields.get(section)
        if info is None or not (isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)):
            return "letters, digits, - _ and dots"
        model = info.annotation
    return model.model_fields[last].description or ""
