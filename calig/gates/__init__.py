"""Gates: the conditions that a run is held to, checked against its tables, in words for who reads them.

A gate that cannot be checked (no labels, no run to compare with yet) neither holds nor fails.
"""

from calig.gates.check import check_configured, check_run, enforce

__all__ = ["check_configured", "check_run", "enforce"]
