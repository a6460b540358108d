"""Gates: the conditions that a run is held to, checked against its tables, in words for who reads them.

A gate that could test nothing (no labels, too few documents, no run to compare with yet) neither holds nor fails: it is
not checked, and `gates.unchecked` says what becomes of the run.
"""

from calig.gates.check import check_configured, check_run, enforce

__all__ = ["check_configured", "check_run", "enforce"]
