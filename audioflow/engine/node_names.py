"""What nodes are called: by their host; where several have the same one, so that they differ."""

import socket
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from audioflow.errors import StorageError


def names_of(nodes: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The name of each node by its id: its host, where several have that with its address, and
    where that is the same too with the begin of its id.

    nodes: as Ray lists them, those that are gone too.
    """
    hosts: dict[str, str] = {}
    addresses: dict[str, str] = {}
    for node in nodes:
        one = str(node["NodeID"])
        hosts[one] = str(node.get("NodeManagerHostname") or one)
        addresses[one] = f"{hosts[one]} ({node.get('NodeManagerAddress')})"
    of_host, of_address = Counter(hosts.values()), Counter(addresses.values())

    def name(one: str) -> str:
        if of_host[hosts[one]] == 1:
            return hosts[one]
        return addresses[one] if of_address[addresses[one]] == 1 else f"{hosts[one]} ({one[:8]})"

    return {one: name(one) for one in hosts}


@contextmanager
def on_this_node() -> Iterator[None]:
    """What cannot be written, while it lasts, is told with the node on which that was."""
    try:
        yield
    except StorageError as error:
        raise StorageError(f"on node {this_node()}: {error}") from error


def this_node() -> str:
    """The name of the node that this process is on, as it was when it was asked for first."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return socket.gethostname()
    return _name_of(ray.get_runtime_context().get_node_id())


@cache
def _name_of(node_id: str) -> str:
    import ray
    from ray.exceptions import RayError

    try:
        nodes = ray.nodes()
    except RayError:  # the head is in trouble; a name is no reason to fail
        nodes = []
    return names_of(nodes).get(node_id) or socket.gethostname()
