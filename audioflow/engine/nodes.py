"""Nodes that come and go while a job runs: which explains much of what else is told."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from audioflow.engine.head_watch import watched_head
from audioflow.engine.joining import silence
from audioflow.engine.node_names import names_of
from audioflow.engine.run import Run

LOOK_EVERY_S = 5.0

_SETTLE_S = 120.0
_ASK_AGAIN_S = 0.5


@dataclass
class Nodes:
    """The nodes of the cluster, as they were last seen. marks: when which of them came or went, as
    [seconds of Unix time, `joined` or `lost`, node]."""

    alive: dict[str, str] = field(default_factory=dict)
    marks: list[list[Any]] = field(default_factory=list)
    _seen: bool = False

    def look(self, nodes: list[Mapping[str, Any]], now: float) -> list[tuple[str, str, str]]:
        """What has changed: `joined` or `lost`, the name of the node, and its id.

        nodes: as Ray lists them; those that were there from the beginning have not joined.
        """
        names = names_of(nodes)
        ids = [str(node["NodeID"]) for node in nodes if node["Alive"]]
        there = {one: names[one] for one in ids}
        found = [("joined", there[one], one) for one in there if one not in self.alive]
        found += [
            ("lost", names.get(one, name), one)
            for one, name in self.alive.items()
            if one not in there
        ]
        if not self._seen:
            found = []
        self._seen, self.alive = True, there
        self.marks += [[round(now, 3), what, name] for what, name, _ in found]
        return found


@contextmanager
def watched_nodes(run: Run, job: str) -> Iterator[Nodes]:
    """While it lasts, nodes that join or are lost are told, and a head that does not answer; on a
    Ray that is connected."""
    nodes, ended = Nodes(), threading.Event()

    def watch() -> None:
        while True:
            try:
                changes = nodes.look(ray.nodes(), time.time())
            except RayError:  # the head is in trouble
                changes = []
            for what, name, number in changes:
                run.tell(job, "node", name, what=what, node_id=number, nodes=len(nodes.alive))
            if ended.wait(LOOK_EVERY_S):
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        with watched_head(run, job):
            yield nodes
    finally:
        ended.set()
        thread.join()


def settled_nodes() -> set[str]:
    """The ids of the nodes that are there, once Ray knows of those that are gone.

    It notices a node that was lost after 15 to 65 s (`cluster/README.md`), and gives it work until
    then.
    """
    until = time.monotonic() + _SETTLE_S
    while True:
        alive = [node for node in ray.nodes() if node["Alive"]]
        there = [node for node in alive if _answers(node)]
        if len(there) == len(alive) or time.monotonic() > until:
            return {str(node["NodeID"]) for node in there}
        time.sleep(_ASK_AGAIN_S)


def _answers(node: Mapping[str, Any]) -> bool:
    return not silence(f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}")
