"""What a worker could read of a shard, and what it leaves to another node."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audioflow.engine.embed_todo import ACCESS
from audioflow.engine.embed_work import Embedded
from audioflow.media.packing import ClipEnd

_ABSENT = "not_found"


@dataclass(frozen=True)
class Reading:
    """How the clips of a shard ended that a worker has tried.

    doubtful: positions of those whose end may be the node's fault, with the error and the reason of
    the first. reads: whether there are others; None where none was tried.
    """

    doubtful: Sequence[int]
    error: str = ""
    reason: str = ""
    reads: bool | None = None

    @classmethod
    def of(cls, found: Iterable[Embedded]) -> "Reading":
        """What came of the clips for all backbones.

        A file that is not there is no wonder; where none is, their folder may be missing here.
        """
        ends: dict[int, ClipEnd] = {}
        for one in found:
            for at, end in one.ends.items():
                if end.error in ACCESS or at not in ends:
                    ends[at] = end
        if not ends:
            return cls(())
        doubtful = sorted(at for at, end in ends.items() if end.error in ACCESS)
        if all(end.error in ACCESS | {_ABSENT} for end in ends.values()):
            doubtful = sorted(ends)
        if not doubtful:
            return cls((), reads=True)
        first = ends[doubtful[0]]
        reads = len(doubtful) < len(ends)
        return cls(doubtful, first.error or "", first.reason or "", reads)
