"""Whether a cluster has room for the replicas of a server; asked before Ray Serve is."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from audioflow.engine.resources import look, ready_for
from audioflow.engine.run import Run
from audioflow.engine.serve_place import Place
from audioflow.engine.serve_system import Served
from audioflow.errors import ClusterError
from audioflow.event_text import text_of
from audioflow.planning.machines import Need
from audioflow.recipe import ManifestSection, Recipe

_CPUS = 0.5
"""Of a replica that has no GPU."""


def scorer_needs(served: Served) -> dict[str, float]:
    """What one replica asks Ray for; its backbones share it."""
    gpus = max(spec.num_gpus for spec in served.specs.values())
    return {"num_gpus": gpus, "num_cpus": 0 if gpus else _CPUS}


def needs_of(served: Served, place: Place) -> list[Need]:
    """What has to be there at once; the keys are the options of `audioflow serve`."""
    asked = scorer_needs(served)
    keys = [
        *(["--num-gpus"] if asked["num_gpus"] else []),
        *(["--replicas"] if place.replicas > 1 or not asked["num_gpus"] else []),
    ]
    resources = {"GPU": asked["num_gpus"], "CPU": asked["num_cpus"]}
    return [Need(" and ".join(keys), "a replica", resources, count=place.replicas)]


def room_for(
    served: Served, place: Place, tell: Callable[[str], None], stopped: threading.Event
) -> bool:
    """Whether there is room, after waiting for the nodes that an autoscaler starts; False where
    the wait was stopped.

    Raises `ClusterError` where there is none.
    """
    needs, machines = needs_of(served, place), look()
    lacking = machines.lack(needs)
    if lacking and not machines.grows:
        raise ClusterError(
            f"{lacking}. The cluster has {machines}. Ask for less, or start nodes that have it"
        )
    # It is asked as by a job; which Ray it is, is all of the recipe that is looked at.
    nothing = ManifestSection(reader="folder")
    recipe = Recipe(run_dir=served.run.url, ray=place.ray, manifest=nothing)
    run = Run(recipe, lambda event: tell(text_of(event)))
    try:
        with _at_once(stopped):
            ready_for(run, "serve", needs)
    except KeyboardInterrupt:
        return False
    return True


@contextmanager
def _at_once(stopped: threading.Event) -> Iterator[None]:
    """While it lasts, a signal to stop ends what is done here, rather than be looked at later."""

    def stop(number: int, frame: Any) -> None:
        stopped.set()
        raise KeyboardInterrupt

    if stopped.is_set():
        raise KeyboardInterrupt
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
