"""Room that was lost with a node: another may come and have it, but no job waits for ever."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray

from audioflow.engine.autoscaler import has_autoscaler
from audioflow.engine.resources import AUTOSCALED_WAIT_S, look
from audioflow.engine.run import Run
from audioflow.errors import LostWorkersError
from audioflow.planning.machines import Need

LOST_WAIT_S = 120.0
"""How long to wait where the recipe does not say, and nodes are not started as they are needed:
whoever runs the cluster may start a node again."""

_LOOK_EVERY_S = 5.0


class Room:
    """Whether any node is left for what a job waits for. Used by one thread."""

    def __init__(
        self, needs: Sequence[Need], wait_for_nodes_s: float | None, tell: Callable[[str], None]
    ) -> None:
        """needs: all that has to be there at once. wait_for_nodes_s: as the recipe says. tell: is
        told once that nodes are waited for."""
        self._needs = needs
        self._given_s = wait_for_nodes_s
        self._tell = tell
        self._told = False
        self._had = self._looked = time.monotonic()

    def check(self) -> None:
        """Raise `LostWorkersError` where no node has had room for too long."""
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY_S:
            return
        self._looked = now
        if not (lacking := look().lack(self._needs)):
            self._had, self._told = now, False
            return
        wait_s = self._wait_s()
        if now - self._had >= wait_s:
            raise LostWorkersError(
                f"nodes were lost, and for {wait_s:g} s none was left with room: {lacking}. What "
                "is committed stays, run the same command again to go on"
            )
        if not self._told:
            self._told = True
            self._tell(
                f"nodes were lost, and none that is left has room: {lacking}. Waiting for others, "
                f"{wait_s:g} s at most"
            )

    def wait(self) -> None:
        """Wait until there is room; raises as `check`."""
        while look().lack(self._needs):
            self.check()
            time.sleep(1.0)

    def get(self, refs: Sequence[Any]) -> list[Any]:
        """The results of tasks that need this room; raises as `check`, and what a task raised."""
        waiting = list(refs)
        while waiting:
            _, waiting = ray.wait(waiting, timeout=_LOOK_EVERY_S)
            self.check()
        return ray.get(list(refs))

    def _wait_s(self) -> float:
        if self._given_s is not None:
            return self._given_s
        return AUTOSCALED_WAIT_S if has_autoscaler() else LOST_WAIT_S


def room_of(run: Run, job: str, needs: Sequence[Need], name: str = "") -> Room:
    """What a job of a run needs; it tells where it waits. name: of the table."""

    def tell(text: str) -> None:
        run.tell(job, "note", name, text=text)

    return Room(needs, run.recipe.ray.wait_for_nodes_s, tell)
