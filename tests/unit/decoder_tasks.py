"""What the tests of the decoder child make it do; it imports them by name."""

import os
import signal
import time


def hang() -> None:
    time.sleep(3600)


def hang_deaf() -> None:
    """Hang without listening to a polite request to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave() -> None:
    os._exit(7)


def take_memory(size: int) -> int:
    return len(bytearray(size))


def answer_with(size: int) -> bytes:
    return bytes(size)


def fail() -> None:
    raise ZeroDivisionError("a bug of the decoder")


def fail_like_a_closed_pipe() -> None:
    raise EOFError("of the task itself")


class NotInTheChild:
    """Travels there, and cannot be made there."""

    def __reduce__(self):
        return int, ("no number",)


class Unpicklable(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def fail_without_return() -> None:
    raise Unpicklable(1, 2)


def limits() -> tuple[int, int, bool]:
    import resource

    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return (
        resource.getrlimit(resource.RLIMIT_CORE)[0],
        resource.getrlimit(resource.RLIMIT_DATA)[0],
        ignored,
    )
