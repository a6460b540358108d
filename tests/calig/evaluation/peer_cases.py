"""Cases of the zoos' models for tests of peers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from calig.evaluation.subject import Case, Subject
from calig.records import Document
from tests.material import image_zoo, zoo


def explained(
    name: str,
    texts: Iterable[str] = zoo.TEXTS,
    *,
    samples: int = 64,
    seed: int = 0,
    dtype: str = "float64",
    **options: Any,
) -> tuple[Subject, list[Case]]:
    """A family's model with its cases: of texts, or of three pictures."""
    images = name in image_zoo.FAMILIES
    make = image_zoo.explainer if images else zoo.explainer
    subject = Subject(make(name, dtype, **options), samples=samples, seed=seed)
    documents = (
        [Document(f"picture {i}", image=picture) for i, picture in enumerate(image_zoo.pictures(3))]
        if images
        else [Document(text, text) for text in texts]
    )
    cases = [case for case in subject.cases(documents) if isinstance(case, Case)]
    assert len(cases) == len(documents)
    return subject, cases
