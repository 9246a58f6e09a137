"""The driver's watch over a pipeline: ends it where no clip was finished for too long."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import ray

from audioflow.engine.embed_pulse import BoardRef
from audioflow.engine.pulse import Busy
from audioflow.errors import StalledError

_LOOK_EVERY_S = 1.0
_ANSWER_S = 5.0
_SHOWN = 3
_STORE_EVERY_S = 10.0

START_S = 120.0
"""So long the first workers may take to begin, where the recipe allows less: they load what they
need, on some machines over the network, and no clip can be at fault."""


class StallWatch:
    """When a clip was last finished, by what comes out and by what the workers tell.

    `waiting` is how many rows of Ray Data's wait for an actor, where it has the say.
    """

    def __init__(self, limit_s: float, board: BoardRef, needs: str) -> None:
        """board: where workers tell what they are at; it is put up when it is asked for the first
        time. needs: what the pipeline needs of the cluster, for the message."""
        self._limit_s = limit_s
        self._board = board
        self._actor: Any | None = None
        self._needs = needs
        self._last = self._looked = time.monotonic()
        self._finished = 0
        self._begun = False
        self.waiting = 0

    def moved(self) -> None:
        """Say that something came out, or that a worker has begun."""
        self._last = time.monotonic()
        self._begun = True

    def held(self) -> None:
        """Say that nothing can come out, since a node is being started for it."""
        self._last = time.monotonic()

    def check(self) -> None:
        """Raise `StalledError` where nothing was finished for longer than the limit."""
        now = time.monotonic()
        wait_s = max(_LOOK_EVERY_S, min(10.0, self._limit_s / 10))
        if now - self._last < wait_s or now - self._looked < wait_s:
            return
        self._looked = now
        finished, busy = self._ask()
        if finished > self._finished or (busy and not self._begun):
            self._finished = finished
            self.moved()
        if now - self._last >= self._allowed_s:
            raise StalledError(self._message(busy))

    @property
    def _allowed_s(self) -> float:
        return self._limit_s if self._begun else max(self._limit_s, START_S)

    def _ask(self) -> tuple[int, list[Busy]]:
        """Clips finished by those who told, and who is at work."""
        try:
            self._actor = self._actor or self._board.put_up()
            answers = [self._actor.finished.remote(), self._actor.busy.remote()]
            finished, busy = ray.get(answers, timeout=_ANSWER_S)
        except ray.exceptions.RayError:  # its node may be the one that was lost
            return self._finished, []
        return finished, busy

    def _message(self, busy: list[Busy]) -> str:
        what = "; ".join(map(str, busy[:_SHOWN]))
        if len(busy) > _SHOWN:
            what += f"; and {len(busy) - _SHOWN} more"
        if not busy:
            have = self._free()
            what = f"no worker is at work: {self._needs}, and {have} are free on the cluster"
        return (
            f"no clip was finished for {self._allowed_s:g} s (embed.stall_timeout_s): {what}. "
            "What is committed stays, run the same command again to go on"
        )

    def _free(self) -> str:
        """What nobody has of the cluster."""
        free = ray.available_resources()
        return ", ".join(f"{free.get(name, 0):g} {name}" for name in ("CPU", "GPU"))

    def callback(self, store_bytes: Callable[[], int]) -> type[Any]:
        """A class for Ray Data, which makes one of each execution and calls it at every step.

        store_bytes: what may wait in the object store, by the nodes that there are by then.
        """
        from ray.data._internal.execution.execution_callback import ExecutionCallback
        from ray.data._internal.execution.operators.actor_pool_map_operator import (
            ActorPoolMapOperator,
        )

        watch = self
        store = _Store(store_bytes)

        class Check(ExecutionCallback):
            def on_execution_step(self, executor: Any) -> None:
                watch.waiting = sum(
                    state.total_enqueued_input_blocks()
                    for operator, state in executor._topology.items()
                    if isinstance(operator, ActorPoolMapOperator)
                )
                store.follow(executor)
                watch.check()

        return Check


class _Store:
    """Lets the limit of an execution follow the nodes that come and go."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._looked = time.monotonic()

    def follow(self, executor: Any) -> None:
        """Look at the nodes now and then."""
        if time.monotonic() - self._looked < _STORE_EVERY_S:
            return
        self._looked = time.monotonic()
        with contextlib.suppress(ray.exceptions.RayError):
            limits = ray.data.ExecutionResources.for_limits(object_store_memory=self._limit())
            executor._options.resource_limits = limits
