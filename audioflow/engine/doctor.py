"""What `audioflow doctor` says of Ray: the one that is running, if one is. None is started."""

import logging
import os
import signal
import threading
from dataclasses import dataclass, field
from typing import Any

import ray

from audioflow.engine.joining import NoRayError, joined
from audioflow.engine.session import quiet

_NODE = "node:"


@dataclass(frozen=True)
class RayNode:
    """One machine of a cluster. resources: CPU, GPU, memory and so on, in Ray's names."""

    address: str
    resources: dict[str, float]
    is_head: bool


@dataclass(frozen=True)
class RayState:
    """running: whether one answers. problem: why not, where one should. total, available: of all
    nodes together, in Ray's names; memory and object_store_memory in bytes."""

    version: str
    running: bool
    address: str = ""
    nodes: tuple[RayNode, ...] = ()
    total: dict[str, float] = field(default_factory=dict)
    available: dict[str, float] = field(default_factory=dict)
    problem: str = ""


def ray_state(address: str = "auto") -> RayState:
    """Join a running Ray, look, and leave it as it was.

    address: as in a recipe. With `auto` it is no problem that none runs, unless RAY_ADDRESS names
    one.
    """
    if ray.is_initialized():
        return _looked_at()
    if address == "local":
        return RayState(ray.__version__, running=False)
    problem = _join(address)
    if problem is not None:
        return RayState(ray.__version__, running=False, problem=problem)
    try:
        return _looked_at()
    finally:
        ray.shutdown()  # ends the connection: what was joined runs on


def _join(address: str) -> str | None:
    """None once connected; else what is wrong ("" where nothing is, only none runs)."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        with quiet():
            return None if joined(address, configure_logging=True, **options) else ""
    except NoRayError as error:
        return str(error)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)  # Ray installs its own


def _looked_at() -> RayState:
    nodes = tuple(
        RayNode(
            str(node["NodeManagerAddress"]),
            _resources(node["Resources"]),
            f"{_NODE}__internal_head__" in node["Resources"],
        )
        for node in ray.nodes()
        if node["Alive"]
    )
    return RayState(
        ray.__version__,
        running=True,
        address=str(ray.get_runtime_context().gcs_address),
        nodes=nodes,
        total=_resources(ray.cluster_resources()),
        available=_resources(ray.available_resources()),
    )


def _resources(found: dict[str, float]) -> dict[str, float]:
    """Without those that only name a node."""
    return {name: float(each) for name, each in found.items() if not name.startswith(_NODE)}
