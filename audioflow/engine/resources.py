"""Whether the cluster can give what a job needs: asked before anything starts, and told at once.

Ray itself lets a task that no node can hold wait for ever.
"""

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from audioflow.engine.run import Run
from audioflow.errors import ClusterError
from audioflow.planning.machines import Machine, Machines, Need

AUTOSCALED_WAIT_S = 600.0
"""How long to wait for nodes that an autoscaler may start, where the recipe does not say."""

_LOOK_EVERY_S = 1.0
_OWN_TYPE = "node_"
_STATUS_KEY = "__autoscaling_status"
_OF_RAY_UP = "~/ray_bootstrap_config.yaml"
_ACCELERATOR = "accelerator_type:"
"""Ray adds such a resource to nodes on which it found a GPU by itself."""


def look() -> Machines:
    """The nodes of the Ray that is connected, and what an autoscaler may add."""
    nodes = tuple(
        Machine(
            {name: float(value) for name, value in node["Resources"].items()},
            dict(node.get("Labels") or {}),
            real_gpus=any(name.startswith(_ACCELERATOR) for name in node["Resources"]),
        )
        for node in ray.nodes()
        if node["Alive"]
    )
    grows = has_autoscaler()
    return Machines(nodes, grows, _kinds() if grows else ())


def has_autoscaler() -> bool:
    """Whether nodes are started as they are needed.

    A Ray without an autoscaler has a monitor that reports each node as a type of its own, named by
    its id.
    """
    from ray.experimental.internal_kv import _internal_kv_get

    with contextlib.suppress(ValueError, AttributeError):
        report = json.loads(_internal_kv_get(_STATUS_KEY) or b"{}").get("autoscaler_report") or {}
        types: dict[str, str] = report.get("node_type_mapping") or {}
        if types:
            return any(name != f"{_OWN_TYPE}{node}" for node, name in types.items())
    return _has_new_autoscaler()


def _has_new_autoscaler() -> bool:
    """The same of Ray's second autoscaler, that reports elsewhere."""
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    try:
        if not is_autoscaler_v2():
            return False
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
    except Exception:  # noqa: BLE001 - it is none of ours, and says in many ways that it is not there
        return False
    names = [node.ray_node_type_name for node in (*status.active_nodes, *status.idle_nodes)]
    return any(name and not name.startswith(_OWN_TYPE) for name in names)


def _kinds() -> tuple[Machine, ...]:
    """What kinds of nodes a cluster of `ray up` may start: known on its head alone."""
    path = Path(_OF_RAY_UP).expanduser()
    if not path.exists():
        return ()
    try:
        config: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, YAMLError):
        return ()
    head = config.get("head_node_type")
    return tuple(
        Machine(
            {key: float(value) for key, value in (kind.get("resources") or {}).items()},
            dict(kind.get("labels") or {}),
            int(kind.get("max_workers", 0)),
            real_gpus=bool((kind.get("resources") or {}).get("GPU")),
        )
        for name, kind in (config.get("available_node_types") or {}).items()
        if name != head and kind.get("max_workers", 0)
    )


def ready_for(run: Run, job: str, needs: Sequence[Need]) -> Machines:
    """The machines of the cluster, once they have room for all that has to be there at once.

    Raises `ClusterError` where they have not, and no node that could change it may come, or none
    has come for as long as the recipe waits.
    """
    run.session.ensure()
    machines = look()
    if not (lacking := machines.lack(needs)):
        return machines
    given = run.recipe.ray.wait_for_nodes_s
    wait_s = given if given is not None else AUTOSCALED_WAIT_S if machines.grows else 0.0
    if wait_s and not (machines.kinds and machines.hopeless(needs)):
        run.tell(job, "note", text=f"waiting for nodes, {wait_s:g} s at most: {lacking}")
        machines = _waited(needs, wait_s, asks=machines.grows)
        lacking = machines.lack(needs)
    if lacking:
        raise ClusterError(_message(machines, lacking, wait_s))
    return machines


def _waited(needs: Sequence[Need], wait_s: float, *, asks: bool) -> Machines:
    """The machines as soon as they have room, or when the time is over. asks: the autoscaler."""
    from ray.autoscaler.sdk import request_resources

    if asks:
        wanted = [need for need in needs for _ in range(need.count)]
        request_resources(
            bundles=[dict(need.resources) for need in wanted],
            bundle_label_selectors=[dict(need.labels) for need in wanted],
        )
    try:
        until = time.monotonic() + wait_s
        while (machines := look()).lack(needs) and time.monotonic() < until:
            time.sleep(_LOOK_EVERY_S)
        return machines
    finally:
        if asks:
            request_resources(bundles=[])  # from now on what is started asks for itself


def _message(machines: Machines, lacking: str, waited_s: float) -> str:
    if machines.kinds:
        kinds = "; ".join(
            f"up to {kind.most} with {Need('', '', kind.resources)}" for kind in machines.kinds
        )
        more = f", and its autoscaler may start {kinds}"
    else:
        more = f", and no other came within {waited_s:g} s" if waited_s else ""
    return (
        f"{lacking}. The cluster has {machines}{more}. Ask for less, or start nodes that have it"
        + ("" if waited_s else " (ray.wait_for_nodes_s says for how long to wait for them)")
    )
