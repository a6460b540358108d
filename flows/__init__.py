"""Prefect flows: the order of tasks. `flows.audit.audit` runs them all; each also runs alone."""
