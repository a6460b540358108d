"""Prefect tasks: one unit of work each, thin, named, retried; each calls a function of calig.

Prefect's own environment is prepared here, before it is first imported, and only where the user has not spoken.
"""

import os
import sys

from calig.environment import prefect_home

os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

if "prefect" not in sys.modules and (note := prefect_home()):
    print(f"note: {note}", file=sys.stderr)
