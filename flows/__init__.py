"""Prefect flows: the order of tasks. `flows.audit.audit` runs them all; each also runs alone.

The tasks come first: they prepare Prefect's environment, which it reads when it is first imported.
"""

import tasks  # noqa: F401
