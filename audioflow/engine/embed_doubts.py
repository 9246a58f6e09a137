"""Items that a node could not read, as long as that may be the node's fault and not theirs: another
node tries them before anything is committed."""

from collections import Counter, deque
from collections.abc import Callable, Set

from audioflow.engine.embed_work import Done, Doubt, Trial

MOST_NODES = 3
"""So many nodes at most try an item, where none of them is known to read anything."""

_TELL_AFTER = 3


class Doubts:
    """The items in doubt, by their number, and what is known of the nodes, by their id.

    nodes: always those of the workers that are there. hoped: whether more of them are to be
    expected soon.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        """tell: is told once of each node that reads nothing."""
        self._tell = tell
        self._doubts: dict[int, Doubt] = {}
        self._tried: dict[int, frozenset[str]] = {}
        self._waiting: dict[frozenset[str], deque[int]] = {}
        self._reads: set[str] = set()
        self._in_a_row: Counter[str] = Counter()
        self._told: set[str] = set()

    def __len__(self) -> int:
        """Items that wait for another node."""
        return sum(map(len, self._waiting.values()))

    def __contains__(self, number: int) -> bool:
        return number in self._doubts

    def put_back(self, number: int) -> None:
        """Let an item wait, of which a worker was lost that tried it for another node."""
        self._waiting.setdefault(self._tried[number], deque()).appendleft(number)

    def take(self, node: str, nodes: Set[str], *, hoped: bool) -> int | None:
        """An item for a worker on this node; None where all are for others.

        Nodes that read what they are given come first. What was tried here comes back only where
        no other node is there.
        """
        for tried, numbers in self._waiting.items():
            elsewhere = nodes - tried
            if node in tried or not node:
                if elsewhere or hoped:
                    continue
            elif node not in self._reads and elsewhere & self._reads:
                continue
            number = numbers.popleft()
            if not numbers:
                del self._waiting[tried]
            return number
        return None

    def trial(self, number: int, node: str, nodes: Set[str], *, hoped: bool) -> Trial:
        """What a worker on this node is told of an item."""
        doubt = self._doubts.get(number)
        tried = self._tried.get(number, frozenset()) | {node}
        final = len(tried) >= MOST_NODES or (doubt is not None and node in self._reads)
        others = bool(nodes - tried) or hoped
        return Trial(bool(node) and others and not final, doubt)

    def hear(self, number: int, node: str, done: Done) -> bool:
        """Learn from what a worker on this node made of an item. Gives whether that is all; if not,
        the item waits for another node."""
        if done.reads is not None:
            self._learn(node, done)
        if done.doubt is None:
            self._doubts.pop(number, None)
            self._tried.pop(number, None)
            return True
        self._doubts[number] = done.doubt
        tried = self._tried[number] = self._tried.get(number, frozenset()) | {node}
        self._waiting.setdefault(tried, deque()).append(number)
        return False

    def _learn(self, node: str, done: Done) -> None:
        if done.reads:
            self._reads.add(node)
            self._in_a_row[node] = 0
            return
        self._reads.discard(node)
        self._in_a_row[node] += 1
        doubt = done.doubt
        if doubt and self._in_a_row[node] >= _TELL_AFTER and node not in self._told:
            self._told.add(node)
            self._tell(
                f"node {doubt.node} reads nothing: {self._in_a_row[node]} shards in a row failed "
                f"there as {doubt.error!r}, and other nodes try them, as all that it cannot read "
                f"({doubt.reason})"
            )
