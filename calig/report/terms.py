"""What the page calls things: a model of classes has logits for and against them, a regression a value."""

from __future__ import annotations

from dataclasses import dataclass

from calig.records import Head


@dataclass(frozen=True, slots=True)
class Terms:
    """Words of the page: for what is explained, the unit of relevance, and its two signs."""

    one: str
    many: str
    unit: str
    supports: str
    opposes: str
    key: tuple[str, str]
    signs: str
    explained: str
    completeness: str
    quality: str


_CLASSES = Terms(
    one="class",
    many="classes",
    unit="logits",
    supports="For",
    opposes="Against",
    key=("for the class", "against it"),
    signs="Blue words speak for the explained class, orange ones against.",
    explained="explained as this class",
    completeness="In logits",
    quality="Accuracy",
)
_OUTPUTS = Terms(
    one="output",
    many="outputs",
    unit="units",
    supports="Raises",
    opposes="Lowers",
    key=("raises the output", "lowers it"),
    signs="Blue words raise the explained output, orange ones lower it.",
    explained="explained by this output",
    completeness="In units of the output",
    quality="Mean absolute error",
)


def terms(head: Head) -> Terms:
    """The words for a model with this head."""
    return _OUTPUTS if head == "regression" else _CLASSES
