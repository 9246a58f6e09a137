"""Ray's autoscaler, where there is one: what kinds of nodes it may start, and what it is asked for.

Ray has two of them, which report in different places, and neither tells its kinds. They stand in
the file that its process on the head was started with; on Kubernetes in no file at all.
"""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from audioflow.planning.machines import Machine, Need

_OWN_TYPE = "node_"
_STATUS_KEY = "__autoscaling_status"
_PROCESS = "monitor.py"
_MANY = 1_000_000
_NO_REASON = "Ray's monitor.log on the head says why"
_CONFIG, _LOGS = "--autoscaling-config=", "--logs-dir="


def has_autoscaler() -> bool:
    """Whether nodes are started as they are needed.

    A Ray without an autoscaler has a monitor that reports each node as a type of its own, named by
    its id.
    """
    if found := types():
        return any(name != f"{_OWN_TYPE}{node}" for node, name in found.items())
    if (status := _second_status()) is None:
        return False
    names = [node.ray_node_type_name for node in status.cluster_resource_state.node_states]
    return any(name and not name.startswith(_OWN_TYPE) for name in names)


def types() -> dict[str, str]:
    """The kind of every node by its address, as Ray's first autoscaler reports it."""
    return _first_report().get("node_type_mapping") or {}


def kinds() -> tuple[Machine, ...]:
    """What kinds of nodes it may start; empty where that is not known on this machine."""
    path = _config_file(ray.get_runtime_context().get_session_name())
    if path is None:
        return ()
    try:
        return kinds_in(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")))
    except (OSError, YAMLError):
        return ()


def kinds_in(config: Mapping[str, Any]) -> tuple[Machine, ...]:
    """The kinds of nodes in a configuration of a cluster."""
    most = int(config.get("max_workers") or 0)  # of all together, and of each that says nothing
    found = []
    for name, kind in (config.get("available_node_types") or {}).items():
        count = min(int(kind.get("max_workers", most)), most or _MANY)
        if name != config.get("head_node_type") and count > 0:
            given = sorted((kind.get("resources") or {}).items())
            resources = {key: float(value) for key, value in given}
            labels = {key: str(value) for key, value in (kind.get("labels") or {}).items()}
            gpus = bool(resources.get("GPU"))
            found.append(Machine(resources, labels, count, real_gpus=gpus, kind=name))
    return tuple(found)


@functools.cache
def _config_file(session: str) -> Path | None:
    """The file that the autoscaler of a session of Ray was started with, if it runs here."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is somebody else's
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if not any(word.endswith(_PROCESS) for word in words):
                continue
            given = {
                key: word[len(key) :]
                for word in words
                for key in (_CONFIG, _LOGS)
                if word.startswith(key)
            }
            if session in given.get(_LOGS, "") and given.get(_CONFIG):
                return (folder / "cwd").resolve() / Path(given[_CONFIG]).expanduser()
    return None


@contextmanager
def asked_for(needs: Sequence[Need], kinds: Sequence[Machine]) -> Iterator[None]:
    """While it lasts, the autoscaler is asked for all this.

    As placement groups, which Ray forgets with the driver, however that ends: what is asked for by
    `request_resources` stays for ever, keeps nodes alive, and takes the place of what others asked.
    """
    from ray.util import placement_group, remove_placement_group

    looks_at_labels = _second_status() is not None
    groups = []
    try:
        for need in needs:
            takes = need.resources if looks_at_labels else _whole(need, kinds)
            bundle = {name: value for name, value in takes.items() if value}
            groups += [
                placement_group([bundle], bundle_label_selector=[dict(need.labels)])
                for _ in range(need.count if bundle else 0)
            ]
        yield
    finally:
        for group in groups:
            remove_placement_group(group)


def _whole(need: Need, kinds: Sequence[Machine]) -> Mapping[str, float]:
    """What is needed, or a whole node of the kind that has its labels: Ray's first autoscaler does
    not look at them, and would start any node that is large enough, or none."""
    fit = [kind for kind in kinds if need.labels and kind.gives(need)]
    return fit[0].resources if fit else need.resources


def refuses(need: Need) -> bool:
    """Whether the autoscaler says that it cannot start a node for this, as far as it is known.

    Ray's first one never says so.
    """
    if (status := _second_status()) is None or status.autoscaling_state.failed_instance_requests:
        return False  # what could not be started may be there later
    wanted = _shape(need.resources)
    return any(
        _shape(asked.resources_bundle) == wanted
        for gang in status.autoscaling_state.infeasible_gang_resource_requests
        for selector in gang.bundle_selectors
        for asked in selector.resource_requests
    )


def _shape(resources: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in resources.items() if value}


def faults() -> list[str]:
    """Why nodes could not be started of late, by kind."""
    if (status := _second_status()) is not None:
        failed = status.autoscaling_state.failed_instance_requests
        return [f"{one.ray_node_type_name}: {one.reason or _NO_REASON}" for one in failed]
    summary = _first_report().get("node_availability_summary") or {}
    return [
        f"{kind}: {why.get('description') or why.get('category')}"
        for kind, record in (summary.get("node_availabilities") or {}).items()
        if (why := record.get("unavailable_node_information"))
    ]


def _first_report() -> dict[str, Any]:
    """What Ray's first autoscaler reports."""
    from ray.experimental.internal_kv import _internal_kv_get

    with suppress(ValueError, AttributeError):
        return json.loads(_internal_kv_get(_STATUS_KEY) or b"{}").get("autoscaler_report") or {}
    return {}


def _second_status() -> Any:
    """What Ray's second autoscaler reports; None where there is none."""
    from ray.autoscaler.v2.utils import is_autoscaler_v2
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply
    from ray.experimental.internal_kv import internal_kv_get_gcs_client

    try:
        if not is_autoscaler_v2():
            return None
        status = internal_kv_get_gcs_client().get_cluster_status(timeout_s=10)
        return GetClusterStatusReply.FromString(status)
    except Exception:  # noqa: BLE001 - it is none of ours, and says in many ways that it is not there
        return None
