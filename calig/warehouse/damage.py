"""What to do about a damaged record of one run where others are asked for: it is named, and passed over."""

from __future__ import annotations

import logging

from calig.errors import InputError

logger = logging.getLogger(__name__)
_named: set[str] = set()


def pass_over(error: InputError) -> None:
    """Name what is damaged in the log, once in a process."""
    if str(error) not in _named:
        _named.add(str(error))
        logger.warning("passed over: %s", error)
