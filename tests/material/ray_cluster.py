"""A Ray cluster of several nodes on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported


STORE_BYTES = 80 * 2**20


def add_node(cluster: Any, cpus: int) -> None:
    """Start one more node, with so many CPUs as Ray counts them."""
    cluster.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES)


@contextmanager
def nodes(count: int, cpus: int) -> Iterator[Any]:
    """Start so many nodes, each with so many CPUs as Ray counts them; nobody is connected yet."""
    import ray
    from ray.cluster_utils import Cluster

    options = {"num_cpus": cpus, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    try:
        for _ in range(count - 1):
            add_node(cluster, cpus)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
