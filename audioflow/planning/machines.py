"""What the machines of a cluster can give at once, and what of a job's needs they lack.

Resources are in Ray's names and units: `CPU`, `GPU`, `memory` in bytes, and those of the user's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor

_GB = 2**30
_LITTLE = 1e-6
_MANY = 1_000_000

Resources = Mapping[str, float]
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Machine:
    """What one node gives, and the labels on it. most: so many there may be, where it is a kind
    that an autoscaler starts. real_gpus: whether Ray itself found a GPU there. kind: the name of
    the kind, where there is one."""

    resources: Resources
    labels: Labels = field(default_factory=dict)
    most: int = 1
    real_gpus: bool = False
    kind: str = ""

    def gives(self, need: "Need") -> bool:
        """Whether one of what is needed fits on a node like this that has nothing else to do."""
        return self.has(need.labels) and all(
            self.resources.get(name, 0.0) >= amount - _LITTLE
            for name, amount in need.resources.items()
        )

    def has(self, labels: Labels) -> bool:
        """Whether these labels are on it."""
        return all(self.labels.get(name) == value for name, value in labels.items())

    def room(self, need: "Need") -> int:
        """How many of what is needed fit side by side on a node that has nothing else to do."""
        return _put(need, self, dict(self.resources), _MANY)


@dataclass(frozen=True)
class Need:
    """What a task or an actor of a job takes, and how many of them have to be there at once.

    key: of the recipe, which the message names. what: in words.
    """

    key: str
    what: str
    resources: Resources
    labels: Labels = field(default_factory=dict)
    count: int = 1

    def __str__(self) -> str:
        parts = [amount(name, value) for name, value in self.resources.items() if value > _LITTLE]
        parts += [f"label {name}={value}" for name, value in self.labels.items()]
        return ", ".join(parts) or "nothing"


@dataclass(frozen=True)
class Machines:
    """The nodes of a cluster as they are. grows: whether an autoscaler may start more; kinds: of
    which, where that is known."""

    nodes: tuple[Machine, ...]
    grows: bool = False
    kinds: tuple[Machine, ...] = ()

    def total(self, name: str) -> float:
        """What all nodes together have of a resource."""
        return sum(node.resources.get(name, 0.0) for node in self.nodes)

    @property
    def real_gpus(self) -> float:
        """GPUs of nodes on which Ray itself found them, and those that may still come."""
        there = sum(node.resources.get("GPU", 0.0) for node in self.nodes if node.real_gpus)
        return max(there, sum(kind.most * kind.resources.get("GPU", 0.0) for kind in self.kinds))

    @property
    def gpus(self) -> float:
        """GPUs that there are or may come, whoever said so."""
        coming = sum(kind.most * kind.resources.get("GPU", 0.0) for kind in self.kinds)
        return max(self.total("GPU"), coming)

    def labelled(self, labels: Labels) -> bool:
        """Whether a node with these labels is there or may come."""
        return any(one.has(labels) for one in (*self.nodes, *self.kinds))

    def room(self, need: Need) -> int:
        """How many of what is needed fit on the nodes that are there."""
        return sum(node.room(need) for node in self.nodes)

    def fit(self, need: Need) -> list[Machine]:
        """The nodes on which one of what is needed fits; where there is none, such kinds of nodes
        as may come."""
        there = [node for node in self.nodes if node.gives(need)]
        return there or [kind for kind in self.kinds if kind.gives(need)]

    def roomiest(self, need: Need) -> float:
        """The memory (bytes) of the one of `fit` that has most; 0 where there is none. What else
        the cluster has is of no use to who needs this."""
        return max((one.resources.get("memory", 0.0) for one in self.fit(need)), default=0.0)

    def most_room(self, need: Need) -> int | None:
        """How many may fit once all nodes have come; None where nobody knows."""
        if not self.grows:
            return self.room(need)
        if not self.kinds:
            return None
        others = sum(node.room(need) for node in self._others)
        return max(
            self.room(need), others + sum(kind.most * kind.room(need) for kind in self.kinds)
        )

    def lack(self, needs: Sequence[Need]) -> str:
        """What the nodes that are there lack; "" where all that is needed fits at once."""
        return _lack(needs, self.nodes)

    def hopeless(self, needs: Sequence[Need]) -> str:
        """What will be lacking even when all nodes have come; "" where that is not known."""
        if not self.grows:
            return self.lack(needs)
        if not self.kinds:
            return ""
        enough = sum(need.count for need in needs)  # more of a kind are of no use
        coming = [kind for kind in self.kinds for _ in range(min(kind.most, enough))]
        return self.lack(needs) and _lack(needs, (*self._others, *coming))

    @property
    def _others(self) -> list[Machine]:
        """Nodes that are of none of the kinds: the head, and what was started by hand."""
        kinds = {kind.kind for kind in self.kinds}
        return [node for node in self.nodes if node.kind not in kinds]

    def __str__(self) -> str:
        count = len(self.nodes)
        names = ("CPU", "GPU", "memory")
        told = ", ".join(amount(name, self.total(name)) for name in names)
        text = f"{count} {'node' if count == 1 else 'nodes'} with {told} in all"
        if count > 1:
            most = {n: max(node.resources.get(n, 0.0) for node in self.nodes) for n in names}
            text += f", at most {', '.join(amount(name, most[name]) for name in names)} on one"
        return text


def amount(name: str, value: float) -> str:
    """A resource as people say it."""
    if name == "memory":
        return f"{value / _GB:.1f} GB of memory"
    return f"{value:g} {name}"


def _lack(needs: Sequence[Need], nodes: Sequence[Machine]) -> str:
    for need in needs:
        if not any(node.gives(need) for node in nodes):
            return f"{need.key}: {need.what} needs {need}, and no node has that"
    left = [dict(node.resources) for node in nodes]
    # The largest first, so that what is small fills the rest.
    for need in sorted(needs, key=_size, reverse=True):
        missing = need.count
        for node, rest in zip(nodes, left, strict=True):
            missing -= _put(need, node, rest, missing)
        if missing and need.count == 1:
            return (
                f"{need.key}: {need.what} needs {need}, and there is no room for it beside all "
                "else that has to be there"
            )
        if missing:
            return (
                f"{need.key}: {need.count} times {need.what} have to be there at once, each needs "
                f"{need}, and there is room for {need.count - missing}"
                + (" beside all else that has to be there" if len(needs) > 1 else "")
            )
    return ""


def _put(need: Need, node: Machine, rest: dict[str, float], most: int) -> int:
    """Place as many as fit, and no more than `most`, on what is left of a node; how many."""
    if not node.has(need.labels):
        return 0
    rooms = [
        rest.get(name, 0.0) / value for name, value in need.resources.items() if value > _LITTLE
    ]
    count = min(most, floor(min(rooms, default=float(most)) + _LITTLE))
    for name, value in need.resources.items():
        rest[name] = rest.get(name, 0.0) - count * value
    return count


def _size(need: Need) -> tuple[float, float, float]:
    found = need.resources
    return found.get("GPU", 0.0), found.get("memory", 0.0), found.get("CPU", 0.0)
