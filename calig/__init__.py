"""Corpus-scale, layer-wise explanation of transformer classifiers.

`from calig import Explainer`; everything heavy is imported only when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calig.attribution.explainer import Explainer as Explainer
    from calig.records import Attribution as Attribution

__all__ = ["Attribution", "Explainer"]


def __getattr__(name: str) -> Any:
    if name == "Explainer":
        from calig.attribution.explainer import Explainer

        return Explainer
    if name == "Attribution":
        from calig.records import Attribution

        return Attribution
    raise AttributeError(f"module 'calig' has no attribute {name!r}")
