"""What the tests of the decoder child make it do; it imports them by name.

Every task yields what the child is to send.
"""

import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from audioflow.media.child_side import serve
from audioflow.media.parts import End
from audioflow.media.pyav import PyAV
from tests.decoders import Segfaulting, many


class Message:
    """Something to send: the child asks of it only how large it is."""

    def __init__(self, value: object, nbytes: int = 0) -> None:
        self.value = value
        self.nbytes = nbytes


def pid() -> Iterator[Message]:
    yield Message(os.getpid())


def hang() -> Iterator[Message]:
    time.sleep(3600)
    yield Message(None)


def hang_deaf() -> Iterator[Message]:
    """Hang without listening to a polite request to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    yield from hang()


def segfault() -> Iterator[Message]:
    os.kill(os.getpid(), signal.SIGSEGV)
    yield Message(None)


def leave() -> Iterator[Message]:
    os._exit(7)
    yield Message(None)


def take_memory(size: int) -> Iterator[Message]:
    yield Message(len(bytearray(size)))


def answer_with(size: int) -> Iterator[Message]:
    yield Message(bytes(size), size)


def count_to(end: int, nbytes: int) -> Iterator[Message]:
    """Numbers, each as large as it says."""
    for number in range(end):
        yield Message(number, nbytes)


def pause_between(seconds: float, count: int) -> Iterator[Message]:
    """A full message every now and then."""
    for number in range(count):
        time.sleep(seconds)
        yield Message(number, 2**24)


def fail() -> Iterator[Message]:
    raise ZeroDivisionError("a bug of the decoder")
    yield Message(None)


def fail_like_a_closed_pipe() -> Iterator[Message]:
    raise EOFError("of the task itself")
    yield Message(None)


class NotInTheChild:
    """Travels there, and cannot be made there."""

    def __reduce__(self):
        return int, ("no number",)


class Unpicklable(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def fail_without_return() -> Iterator[Message]:
    raise Unpicklable(1, 2)
    yield Message(None)


def limits() -> Iterator[Message]:
    import resource

    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    core = resource.getrlimit(resource.RLIMIT_CORE)[0]
    yield Message((core, resource.getrlimit(resource.RLIMIT_DATA)[0], ignored))


class Forgetful(Segfaulting):
    """Ends nothing but the first clip."""

    def decode(self, path, spans, wanted):
        for part in super().decode(path, spans, wanted):
            if part.clip == 0 or not isinstance(part, End):
                yield part


def kill_if_told(mark: Path) -> None:
    """End as the system ends who takes too much memory, as often as the mark says."""
    left = int(mark.read_text()) if mark.exists() else 0
    if left:
        mark.write_text(str(left - 1))
        os.kill(os.getpid(), signal.SIGKILL)


class Killed(PyAV):
    """Is killed as often as `<file>.kills` says: after the first clip, where there are several."""

    def decode(self, path, spans, wanted):
        kills = Path(f"{path}.kills")
        if len(spans) == 1:
            kill_if_told(kills)
        for part in super().decode(path, spans, wanted):
            if isinstance(part, End) and part.clip == 1:
                yield from many(part.clip)
                kill_if_told(kills)
            yield part


def serve_if_not_killed(
    mark: str, tasks: Connection, results: Connection, lifeline: Connection, memory_gb: float
) -> None:
    """What runs in a child, killed before it is ready as often as the mark says."""
    kill_if_told(Path(mark))
    serve(tasks, results, lifeline, memory_gb)


def take_no_task(
    tasks: Connection, results: Connection, lifeline: Connection, memory_gb: float
) -> None:
    """Be ready, and be killed."""
    results.send(None)
    os.kill(os.getpid(), signal.SIGKILL)
