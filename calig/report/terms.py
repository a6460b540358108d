"""What the page calls things: classes or outputs, words of texts or patches of images."""

from __future__ import annotations

from dataclasses import dataclass, replace

from calig.records import Head, Modality


@dataclass(frozen=True, slots=True)
class Terms:
    """Words of the page: for what is explained, the unit of relevance, its two signs, and what carries it."""

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
    document: str = "document"
    item: str = "word"
    items: str = "words"
    vector: str = "word vector"
    effective: str = "Effective tokens"
    carriers: str = "tokens"
    evidence: str = "Words"


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


def terms(head: Head, modality: Modality = "text") -> Terms:
    """The words for a model with this head that reads texts or images."""
    found = _OUTPUTS if head == "regression" else _CLASSES
    if modality == "text":
        return found
    return replace(
        found,
        signs=found.signs.replace("words", "patches").replace("orange ones", "orange striped ones"),
        document="image",
        item="patch",
        items="patches",
        vector="patch vector",
        effective="Effective patches",
        carriers="patches or special tokens",
        evidence="Regions",
    )
