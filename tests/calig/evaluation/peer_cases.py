"""Cases of the zoo's models for tests of peers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from calig.evaluation.subject import Case, Subject
from tests.material import zoo


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
    subject = Subject(zoo.explainer(name, dtype, **options), samples=samples, seed=seed)
    documents = zoo.documents(texts if name in zoo.TEXT_FAMILIES else zoo.pictures(3))
    cases = [case for case in subject.cases(documents) if isinstance(case, Case)]
    assert len(cases) == len(documents)
    return subject, cases
