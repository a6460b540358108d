"""How much hypothesis tries: as much as a test says, or many times that, in `make test-long`."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings

FACTOR = int(os.environ.get("CALIG_FUZZ", "1"))


def examples(count: int, **options: Any) -> settings:
    """Have hypothesis try so many examples, or `CALIG_FUZZ` times as many, without a deadline for each."""
    return settings(max_examples=count * FACTOR, deadline=None, **options)
