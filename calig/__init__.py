"""Corpus-scale, layer-wise explanation of transformer classifiers.

`from calig import Explainer`; everything heavy is imported only when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calig.attribution.explainer import Explainer as Explainer
    from calig.models.families import Family as Family
    from calig.models.families import declare_family as declare_family
    from calig.records import Attribution as Attribution

__all__ = ["Attribution", "Explainer", "Family", "declare_family"]

_HOMES = {
    "Attribution": "calig.records",
    "Explainer": "calig.attribution.explainer",
    "Family": "calig.models.families",
    "declare_family": "calig.models.families",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'calig' has no attribute {name!r}")
