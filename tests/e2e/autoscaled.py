"""A cluster whose nodes are started by Ray's own autoscaler, the first or the second one."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.conftest import ROOT, free_port
from tests.e2e.conftest import BIN, Cluster, Place, end_group, wait_for
from tests.e2e.node_provider import HEAD, HEAD_KIND, Provider

Version = Literal["v1", "v2"]
IDLE_S = 15.0
"""So long a node may have nothing to do before it is ended."""


def kind(most: int, labels: Mapping[str, str] | None = None, **resources: float) -> dict[str, Any]:
    """A kind of node, of which there may be so many. Its memory is small, as it is only said to be
    there: all nodes are on one machine."""
    has = {"memory": 2 * 10**9} | resources
    return {"resources": has, "labels": labels or {}, "max_workers": most, "node_config": {}}


@dataclass(frozen=True)
class Autoscaled(Cluster):
    """log: of the provider of nodes."""

    log: Path

    def nodes(self, what: Literal["start", "end"]) -> list[str]:
        """The kinds of the nodes that were started, or the names of those that were ended."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = [line.split() for line in lines]
        return [words[-1] for words in found if words[1:2] == [what]]

    def lose(self) -> int:
        """End the nodes that are there, without a word to the autoscaler; how many there were."""
        found = 0
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended
                words = (path / "cmdline").read_bytes().split(b"\0")
                if b"start" in words and f"--address={self.address}".encode() in words:
                    os.kill(int(path.name), signal.SIGTERM)
                    found += 1
        return found


@contextlib.contextmanager
def autoscaling(
    place: Place, version: Version, kinds: Mapping[str, Any], start_s: float = 1.0
) -> Iterator[Autoscaled]:
    """The cluster while it is needed. Its head has no CPU for work; a node takes `start_s` before
    Ray starts on it."""
    folder = Path(tempfile.mkdtemp(prefix="af-"))
    port, dashboard = free_port(), free_port()
    network = f"127.{os.getpid() % 250 + 1}"
    address, log = f"{network}.0.1:{port}", folder / "nodes.log"
    provider = {"gcs_address": address, "network": network, "start_s": start_s, "log": str(log)}
    config = folder / "autoscaling.json"
    config.write_text(json.dumps(_config(kinds, provider)))
    command = [
        *(BIN / "ray", "start", "--head", "--block", "--num-cpus=0", "--num-gpus=0"),
        *("--disable-usage-stats", f"--object-store-memory={150 * 2**20}"),
        *(f"--port={port}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}"),
        *(f"--node-ip-address={network}.0.1", f"--autoscaling-config={config}"),
        f"--dashboard-agent-listen-port={free_port()}",
    ]
    second = {"RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": HEAD}
    second |= {"RAY_NODE_TYPE_NAME": HEAD_KIND}
    environment = place.environment(
        PYTHONPATH=str(ROOT),
        AUTOSCALER_UPDATE_INTERVAL_S="1",
        RAY_memory_monitor_refresh_ms="0",  # the machine's memory is none of these nodes' alone
        **(second if version == "v2" else {}),
    )
    with (folder / "start.log").open("w") as out:
        process = subprocess.Popen(
            command, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    url = f"http://127.0.0.1:{dashboard}"
    try:
        wait_for(f"{url}/api/jobs/", process)
        yield Autoscaled(place, url, address, process.pid, log)
    finally:
        end_group(process)  # of which the nodes are, too
        shutil.rmtree(folder, ignore_errors=True)


def _config(kinds: Mapping[str, Any], provider: Mapping[str, Any]) -> dict[str, Any]:
    """As `ray up` leaves it on the head."""
    module = f"{Provider.__module__}.{Provider.__qualname__}"
    without = ("disable_node_updaters", "disable_launch_config_check", "foreground_node_launch")
    lists = (
        "cluster_synced_files rsync_exclude rsync_filter initialization_commands setup_commands "
        "head_setup_commands worker_setup_commands head_start_ray_commands "
        "worker_start_ray_commands"
    )
    head = {HEAD_KIND: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}}
    return {
        "cluster_name": "tests",
        "max_workers": sum(one["max_workers"] for one in kinds.values()),
        "upscaling_speed": 99.0,
        "idle_timeout_minutes": IDLE_S / 60,
        "provider": {
            "type": "external",
            "module": module,
            **provider,
            **dict.fromkeys(without, True),
        },
        "available_node_types": {**kinds, **head},
        "head_node_type": HEAD_KIND,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in lists.split()},
    }
