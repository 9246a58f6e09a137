"""The watcher of spot machines on a real Ray that has no dashboard.

A worker of AWS does not reach the head's dashboard either, which listens on the head alone.
"""

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.conftest import ROOT
from tests.e2e.conftest import Cluster, Machine, Place, joining, running, wait_until
from tests.spot_metadata import metadata

NODES = """
import sys
from ray._raylet import GcsClient
from ray.core.generated.common_pb2 import NodeDeathInfo
from ray.core.generated.gcs_pb2 import GcsNodeInfo
for name, node in GcsClient(address=sys.argv[1]).get_all_node_info(timeout=30).items():
    state = GcsNodeInfo.GcsNodeState.Name(node.state)
    print(name.hex(), state, NodeDeathInfo.Reason.Name(node.death_info.reason))
"""


def test_ray_is_told_that_ec2_takes_a_machine_and_the_node_leaves(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with (
        running(place, cpus=0, gpus=0, dashboard=False) as cluster,
        joining(cluster) as nodes,
        metadata() as (notices, at),
    ):
        stays, goes = nodes.add(), nodes.add()
        with watching(cluster, goes, at) as watch:
            time.sleep(1)
            assert watch.poll() is None, "nothing is announced yet"
            end = datetime.now(UTC) + timedelta(seconds=60)
            notices.notice = {"action": "terminate", "time": f"{end:%Y-%m-%dT%H:%M:%SZ}"}
            _, errors = watch.communicate(timeout=120)
        assert watch.returncode == 0, errors
        told = re.search(r"told Ray to take nothing new on node ([0-9a-f]{56}): terminate", errors)
        assert told, errors
        drained = f"{told[1]} DEAD AUTOSCALER_DRAIN_PREEMPTED"
        wait_until(lambda: drained in nodes_of(cluster), stays.process, 90)  # it had no work
        assert sum(" ALIVE " in line for line in nodes_of(cluster)) == 2
        assert stays.process.poll() is None
    assert goes.process.poll() is not None


@contextlib.contextmanager
def watching(cluster: Cluster, machine: Machine, at: str) -> Iterator[subprocess.Popen[str]]:
    script = ROOT / "cluster" / "spot_watch.py"
    where = ["--address", cluster.address, "--ip", machine.ip, "--metadata", at, "--every", "0.2"]
    process = subprocess.Popen(
        [sys.executable, script, *where],
        env=cluster.place.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def nodes_of(cluster: Cluster) -> list[str]:
    """Of every node: its id, its state and why it has ended."""
    return subprocess.check_output(
        [sys.executable, "-c", NODES, cluster.address], env=cluster.place.environment(), text=True
    ).splitlines()
