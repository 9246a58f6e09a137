"""Plain functions as tasks of Ray: a bounded number at a time, results as they come."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import ray

from audioflow.engine.lost import RETRIES, in_our_words
from audioflow.engine.resources import look
from audioflow.errors import StalledError
from audioflow.planning.machines import Need

_WAITING = 2
"""Tasks handed out beyond those that run, so that no worker waits for the driver."""


@dataclass(frozen=True)
class OnRay:
    """`Each` as tasks of Ray, each with a CPU and `memory_bytes`.

    Raises what a function raised on purpose as it was, `StalledError` where no task ends for
    `stall_timeout_s`, and `LostWorkersError` where workers are lost more often than they are
    replaced.
    """

    memory_bytes: int
    stall_timeout_s: float

    def __call__(
        self, function: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]
    ) -> Iterator[tuple[Any, Any]]:
        """As `Each`."""
        takes = self.need("").resources
        remote = ray.remote(
            num_cpus=takes["CPU"],
            memory=int(takes["memory"]),
            max_retries=RETRIES,
            scheduling_strategy="SPREAD",
        )(function)
        start = partial(remote.remote, ray.put(shared))
        with in_our_words():
            yield from self._dealt(start, iter(items))

    def need(self, key: str) -> Need:
        """What a task takes of the cluster as it is. key: of the recipe, for messages."""
        need = Need(key, "a task", {"CPU": min(1.0, _cpus() or 1.0)})
        memory = min(self.memory_bytes, look().roomiest(need) / 2)
        return replace(need, resources={**need.resources, "memory": memory})

    def _dealt(self, start: Callable[[Any], Any], todo: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
        running: dict[Any, Any] = {}
        try:
            for item in todo:
                running[start(item)] = item
                if len(running) >= int(_cpus()) + _WAITING:  # nodes may have joined
                    yield from self._ended(running)
            while running:
                yield from self._ended(running)
        finally:
            for ref in running:
                ray.cancel(ref)

    def _ended(self, running: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
        refs, _ = ray.wait(list(running), timeout=self.stall_timeout_s)
        if not refs:
            raise StalledError(
                f"none of {len(running)} tasks ended for {self.stall_timeout_s:g} s; "
                f"{ray.available_resources().get('CPU', 0.0):g} CPU are free on the cluster. What "
                "is committed stays, run the same command again to go on"
            )
        for ref in refs:
            result = ray.get(ref)
            yield running.pop(ref), result


def _cpus() -> float:
    """The CPUs of the cluster as it is."""
    return float(ray.cluster_resources().get("CPU", 0.0))
