"""Nodes for Ray's autoscaler that are processes of this machine: a provider of nodes, as a cloud is
one, with addresses and folders of their own."""

import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    STATUS_UP_TO_DATE,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
    TAG_RAY_NODE_STATUS,
    TAG_RAY_USER_NODE_TYPE,
)

from tests.conftest import free_port

HEAD, HEAD_KIND = "head", "head"
_OPTIONS = {"CPU": "--num-cpus", "GPU": "--num-gpus", "memory": "--memory"}


@dataclass
class _Node:
    """One of them; the head has neither process nor folder here."""

    tags: dict[str, str]
    address: str
    folder: Path | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)


class Provider(NodeProvider):  # type: ignore[misc]
    """Starts nodes by `ray start`, in the process group of the autoscaler; none of a kind whose
    `node_config` has `refused`, a reason.

    Settings: `gcs_address`; `network`, the first two numbers of addresses; `start_s`, how long a
    node takes before Ray starts on it; `log`, a file.
    """

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._numbers = itertools.count(2)
        tags = {TAG_RAY_NODE_KIND: NODE_KIND_HEAD, TAG_RAY_USER_NODE_TYPE: HEAD_KIND}
        tags |= {TAG_RAY_NODE_NAME: HEAD, TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE}
        self._nodes = {HEAD: _Node(tags, f"{provider_config['network']}.0.1")}
        self._lock = threading.RLock()

    def non_terminated_nodes(self, tag_filters: Mapping[str, str]) -> list[str]:
        with self._lock:
            for name, node in list(self._nodes.items()):
                if node.process and node.process.poll() is not None:
                    self._remove(name)
            return [
                name
                for name, node in self._nodes.items()
                if all(node.tags.get(key) == value for key, value in tag_filters.items())
            ]

    def is_running(self, node_id: str) -> bool:
        return node_id in self._nodes

    def is_terminated(self, node_id: str) -> bool:
        return node_id not in self._nodes

    def node_tags(self, node_id: str) -> dict[str, str]:
        return self._nodes[node_id].tags

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        self._nodes[node_id].tags.update(tags)

    def internal_ip(self, node_id: str) -> str:
        return self._nodes[node_id].address

    external_ip = internal_ip

    def create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],
        tags: dict[str, str],
        count: int,
        resources: Mapping[str, float],
        labels: Mapping[str, str],
    ) -> None:
        if refused := node_config.get("refused"):
            raise NodeLaunchException("QuotaExceeded", refused, sys.exc_info())
        for _ in range(count):
            with self._lock:
                number = next(self._numbers)
                name = f"node-{number}"
                folder = Path(self.provider_config["log"]).parent / name  # goes with the head's
                address = f"{self.provider_config['network']}.0.{number}"
                process = self._start(name, folder, address, tags, resources, labels)
                kept = dict(tags) | {TAG_RAY_NODE_STATUS: STATUS_UP_TO_DATE}
                self._nodes[name] = _Node(kept, address, folder, process)

    def _start(
        self,
        name: str,
        folder: Path,
        address: str,
        tags: Mapping[str, str],
        resources: Mapping[str, float],
        labels: Mapping[str, str],
    ) -> subprocess.Popen[bytes]:
        settings = self.provider_config
        has = {"CPU": 0, "GPU": 0} | dict(resources)
        command = [
            *(Path(sys.executable).parent / "ray", "start", "--block", "--disable-usage-stats"),
            *(f"--address={settings['gcs_address']}", f"--node-ip-address={address}"),
            *(f"--temp-dir={folder}", f"--dashboard-agent-listen-port={free_port()}"),
            *(f"{_OPTIONS[key]}={value}" for key, value in has.items()),
            f"--object-store-memory={150 * 2**20}",
            *([f"--labels={','.join(f'{k}={v}' for k, v in labels.items())}"] if labels else []),
        ]
        own = {"RAY_CLOUD_INSTANCE_ID": name, "RAY_NODE_TYPE_NAME": tags[TAG_RAY_USER_NODE_TYPE]}
        start = ["sh", "-c", f'sleep {settings["start_s"]}; exec "$0" "$@"']
        with Path(settings["log"]).open("ab") as log:
            log.write(f"{time.time():.1f} start {name} {own['RAY_NODE_TYPE_NAME']}\n".encode())
            log.flush()
            return subprocess.Popen(
                [*start, *command],
                env={**os.environ, **own},
                stdout=log,
                stderr=log,
            )

    def terminate_node(self, node_id: str) -> None:
        with self._lock:
            node = self._nodes.get(node_id)
            if node and node.process:
                node.process.terminate()
                node.process.wait()
                with Path(self.provider_config["log"]).open("a") as log:
                    log.write(f"{time.time():.1f} end {node_id}\n")
                self._remove(node_id)

    def _remove(self, name: str) -> None:
        node = self._nodes.pop(name)
        if node.folder:
            shutil.rmtree(node.folder, ignore_errors=True)

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        return cluster_config
