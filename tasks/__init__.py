"""Prefect tasks: one unit of work each, thin, named, retried; each calls a function of calig.

Prefect's own environment is prepared here, before it is first imported, and only where the user has not spoken.
"""

import os

os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
