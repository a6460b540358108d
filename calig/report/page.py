"""What every page is made with: templates that escape, files of the package, and the Content-Security-Policy."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from calig.report import formats
from calig.report.heat import clip, visible

CELL_CHARACTERS = 60
DETAIL_CHARACTERS = 300
CONFIG_CHARACTERS = 20_000


def environment() -> Environment:
    """The templates, with all text escaped, control characters shown, and the formats of numbers as filters."""
    made = Environment(
        loader=FunctionLoader(resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    made.filters.update(
        integer=formats.integer,
        number=formats.number,
        signed=formats.signed,
        plain=formats.plain,
        percent=formats.percent,
        duration=formats.duration,
        short=lambda text: clip(str(text), CELL_CHARACTERS),
        detail=lambda text: clip(str(text), DETAIL_CHARACTERS),
    )
    made.globals.update(plural=formats.plural, alike=formats.alike, interval=formats.interval)
    return made


@cache
def resource(name: str) -> str:
    """The text of a file of the package."""
    return resources.files("calig.report").joinpath(name).read_text(encoding="utf-8")


def policy(style: str, script: str, pictures: bool) -> str:
    """The policy under which a page runs this script and style, and fetches nothing; `pictures` may be in it."""

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (
        f"default-src 'none'; script-src 'sha256-{digest(script)}'; style-src 'sha256-{digest(style)}'; "
        f"{'img-src data:; ' if pictures else ''}base-uri 'none'; form-action 'none'"
    )


def as_yaml(config: Mapping[str, Any]) -> str:
    """A configuration as YAML, cut if it is very long."""
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=100)
    return clip(text, CONFIG_CHARACTERS)


def _printable(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
