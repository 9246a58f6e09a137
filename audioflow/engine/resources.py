"""Whether the cluster can give what a job needs: asked before anything starts, and told at once.

Ray itself lets a task that no node can hold wait for ever.
"""

import time
from collections.abc import Sequence
from contextlib import nullcontext

import ray

from audioflow.engine import autoscaler
from audioflow.engine.run import Run
from audioflow.errors import ClusterError
from audioflow.planning.machines import Machine, Machines, Need

AUTOSCALED_WAIT_S = 600.0
"""How long to wait for nodes that an autoscaler may start, where the recipe does not say."""

_LOOK_EVERY_S = 1.0
_REFUSED_S = 8.0
"""For so long the autoscaler has to say that it cannot start a node: it may be about to end one, in
whose place another can come."""

_KIND = "ray.io/node-group"
"""Ray's label for the kind of a node, where whoever started it has told Ray."""

_ACCELERATOR = "accelerator_type:"
"""Ray adds such a resource to nodes on which it found a GPU by itself."""


def look() -> Machines:
    """The nodes of the Ray that is connected, and what an autoscaler may add."""
    types = autoscaler.types()
    nodes = tuple(
        Machine(
            {name: float(value) for name, value in node["Resources"].items()},
            dict(node.get("Labels") or {}),
            real_gpus=any(name.startswith(_ACCELERATOR) for name in node["Resources"]),
            kind=types.get(node["NodeManagerAddress"]) or (node.get("Labels") or {}).get(_KIND, ""),
        )
        for node in ray.nodes()
        if node["Alive"]
    )
    grows = autoscaler.has_autoscaler()
    return Machines(nodes, grows, autoscaler.kinds() if grows else ())


def nodes_within_s(run: Run) -> float:
    """How long a node may take that an autoscaler starts."""
    given = run.recipe.ray.wait_for_nodes_s
    return AUTOSCALED_WAIT_S if given is None else given


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
    wait_s = nodes_within_s(run) if machines.grows else given or 0.0
    why = ""
    if wait_s and not (machines.kinds and machines.hopeless(needs)):
        run.tell(job, "note", text=f"waiting for nodes, {wait_s:g} s at most: {lacking}")
        wait = _Wait(run, job, needs, wait_s)
        machines, why = wait.over(machines), wait.why
        lacking = machines.lack(needs)
    if lacking:
        raise ClusterError(_message(machines, machines.hopeless(needs) or lacking, why))
    return machines


class _Wait:
    """Waiting for nodes. why: none came, once it is over."""

    def __init__(self, run: Run, job: str, needs: Sequence[Need], wait_s: float) -> None:
        self._run, self._job, self._needs, self._wait_s = run, job, needs, wait_s
        self._told: set[str] = set()
        self._refused_since: float | None = None
        self.why = f"no other came within {wait_s:g} s"

    def over(self, machines: Machines) -> Machines:
        """The machines as soon as they have room, or when it is of no use to wait any longer."""
        until = time.monotonic() + self._wait_s
        grows, kinds = machines.grows, machines.kinds
        with autoscaler.asked_for(self._needs, kinds) if grows else nullcontext():
            while machines.lack(self._needs) and time.monotonic() < until:
                time.sleep(_LOOK_EVERY_S)
                before, machines = len(machines.nodes), look()
                if len(machines.nodes) != before and (lacking := machines.lack(self._needs)):
                    self._tell(f"still waiting for nodes: {lacking}")
                if grows and self._is_refused(machines):
                    self.why = "its autoscaler says that it cannot start one that has it"
                    break
        return machines

    def _is_refused(self, machines: Machines) -> bool:
        for fault in autoscaler.faults():
            if fault not in self._told:
                self._told.add(fault)
                self._tell(f"a node could not be started: {fault}")
        missing = [need for need in self._needs if not machines.room(need)]
        now = time.monotonic()
        if not any(map(autoscaler.refuses, missing)):
            self._refused_since = None
            return False
        self._refused_since = self._refused_since or now
        return now - self._refused_since >= _REFUSED_S

    def _tell(self, text: str) -> None:
        self._run.tell(self._job, "note", text=text)


def _message(machines: Machines, lacking: str, why: str) -> str:
    """why: none came, where any was waited for."""
    more = f", and {why}" if why else ""
    if machines.kinds:
        kinds = "; ".join(
            f"up to {kind.most} {kind.kind} with {Need('', '', kind.resources, kind.labels)}"
            for kind in machines.kinds
        )
        more += f". Its autoscaler may start {kinds}"
    text = f"{lacking}. The cluster has {machines}{more}. Ask for less, or start nodes that have it"
    if why or machines.grows:
        return text
    return f"{text} (ray.wait_for_nodes_s says for how long to wait for them)"
