"""The head of a cluster, without which Ray ends a driver after a minute, and says nothing."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray

from audioflow.engine.joining import silence
from audioflow.engine.run import Run

_LOOK_EVERY_S = 2.0
_TOLD_AFTER_S = 5.0
_OF_RAY, _RAYS_S = "RAY_gcs_rpc_server_reconnect_timeout_s", 60.0


class Head:
    """Whether the head answers, as one looks. Used by one thread.

    tell: is told once when it has not for some seconds. give_up: is told shortly before Ray ends
    this process. patience_s: for how long Ray itself waits.
    """

    def __init__(
        self,
        address: str,
        tell: Callable[[str], None],
        give_up: Callable[[str], None],
        patience_s: float,
    ) -> None:
        self._address = address
        self._tell = tell
        self._give_up = give_up
        self._patience_s = patience_s
        self._since: float | None = None
        self._told = False

    def look(self, why: str, now: float) -> None:
        """why: it does not answer; "" where it does. now: in seconds."""
        if not why:
            self._since, self._told = None, False
            return
        self._since = now if self._since is None else self._since
        silent_s = now - self._since
        if silent_s >= 0.8 * self._patience_s:
            self._give_up(
                f"the head of the cluster ({self._address}) has not answered for {silent_s:.0f} s: "
                f"{why}. What is committed stays; start the cluster again, and run the same "
                "command again to go on"
            )
        elif silent_s >= _TOLD_AFTER_S and not self._told:
            self._told = True
            self._tell(
                f"the head of the cluster ({self._address}) does not answer: {why}; without it "
                f"this command ends in {0.8 * self._patience_s - silent_s:.0f} s"
            )


@contextmanager
def watched_head(run: Run, job: str) -> Iterator[None]:
    """While it lasts, a head that does not answer is told, and ends the command with a reason; on
    a Ray that is connected."""
    address = str(ray.get_runtime_context().gcs_address)
    ended = threading.Event()

    def tell(text: str) -> None:
        run.tell(job, "note", text=text)

    patience_s = float(os.environ.get(_OF_RAY) or _RAYS_S)
    head = Head(address, tell, run.give_up, patience_s)

    def watch() -> None:
        while not ended.wait(_LOOK_EVERY_S):
            head.look(silence(address), time.monotonic())

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()
