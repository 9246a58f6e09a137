"""`audioflow serve`: a system behind HTTP, on Ray Serve.

One front takes bodies in and decodes them; scorers, each with the networks loaded, score the clips
of many requests in batches. A Ray, or a Serve, that was found running is joined and left running.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from audioflow.engine.serve_asked import FRONT, SCORER
from audioflow.engine.serve_place import Place, ServeError, need_serve, quiet, serve_started
from audioflow.engine.serve_system import Served
from audioflow.engine.session import Session
from audioflow.errors import InputError
from audioflow.serving.limits import Limits
from audioflow.tables import package_versions

_LOOK_EVERY_S = 0.25
_PATIENCE_S = 30.0
_FAILED = ("DEPLOY_FAILED", "UNHEALTHY")


Tell = Callable[[str], None]


def serve(
    served: Served,
    limits: Limits,
    place: Place,
    tell: Tell,
    stopped: threading.Event,
    log_every_s: float = 30.0,
) -> None:
    """Serve until `stopped` is set; raises `ServeError` where that does not come about.

    tell: takes lines for a person.
    """
    need_serve()
    with Session(place.ray) as session:
        there = session.ensure()
        _refuse_lack(served, place, there, own=session.started)
        with serve_started(place, own=session.started), _deployed(served, limits, place):
            tell(f"loading {served.about.system} ({', '.join(served.about.backbones)})")
            if _wait(place, stopped, tell):
                tell(f"ready at {place.url}  POST /invocations, GET /ping, GET /info")
                _look_after(place, tell, stopped, log_every_s)
                tell("stopping; requests in hand are finished first")
                _drain(place, limits.timeout_s)


def _refuse_lack(served: Served, place: Place, there: dict[str, float], *, own: bool) -> None:
    """Raise `InputError` where a Ray that was started for this can never place the scorers."""
    gpus = place.replicas * _gpus(served)
    if own and gpus > there.get("GPU", 0.0):
        raise InputError(
            f"{place.replicas} replicas ask for {gpus:g} GPUs, this machine has "
            f"{there.get('GPU', 0.0):g}; lower --num-gpus or --replicas"
        )


def _gpus(served: Served) -> float:
    """Of one scorer, whose backbones share them."""
    return max(spec.num_gpus for spec in served.specs.values())


@contextmanager
def _deployed(served: Served, limits: Limits, place: Place) -> Iterator[None]:
    """The application, deployed but not yet ready; it is removed in the end."""
    from ray import serve

    from audioflow.engine.serve_front import FrontReplica, FrontTask
    from audioflow.engine.serve_scorer import ScorerReplica

    gpus = _gpus(served)
    scorer = serve.deployment(ScorerReplica).options(
        name=SCORER,
        num_replicas=place.replicas,
        max_ongoing_requests=2 * limits.max_batch,
        ray_actor_options={"num_gpus": gpus, "num_cpus": 0 if gpus else 0.5},
        graceful_shutdown_timeout_s=limits.timeout_s,
    )
    front = serve.deployment(FrontReplica).options(
        name=FRONT,
        num_replicas=1,
        max_ongoing_requests=100_000,  # it refuses by itself, in its own words
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=limits.timeout_s,
    )
    task = FrontTask(served.about, served.wanted, limits, package_versions())
    app = front.bind(task, scorer.bind(served, limits))
    target = serve.RunTarget(app, place.name, place.route_prefix, quiet())
    serve.run_many([target], wait_for_applications_running=False)
    try:
        yield
    finally:
        serve.delete(place.name)


def _wait(place: Place, stopped: threading.Event, tell: Tell) -> bool:
    """Wait until all is loaded; whether it is, and nobody has stopped it meanwhile."""
    told = time.monotonic()
    while not stopped.is_set():
        app = _app(place)
        if app.status == "RUNNING":
            return True
        if app.status in _FAILED:
            raise ServeError(f"the server could not start: {_why(app)}")
        if time.monotonic() - told > _PATIENCE_S:
            told = time.monotonic()
            states = {name: dict(one.replica_states) for name, one in app.deployments.items()}
            tell(f"still loading: {states}; are there CPUs and GPUs free for the replicas?")
        stopped.wait(_LOOK_EVERY_S)
    return False


def _app(place: Place) -> Any:
    from ray import serve

    app = serve.status().applications.get(place.name)
    if app is None:
        raise ServeError(f"the application {place.name!r} was removed by someone else")
    return app


def _why(app: Any) -> str:
    """The last words of what was said about a deployment that failed."""
    told = [one.message for one in app.deployments.values() if one.message] or [app.message]
    lines = [line.strip() for line in told[0].splitlines() if line.strip()]
    return lines[-1] if lines else "Ray Serve does not say why"


def _drain(place: Place, timeout_s: float) -> None:
    """Wait until no request is in hand; new ones are refused from now on."""
    from ray import serve
    from ray.exceptions import RayError

    front = serve.get_deployment_handle(FRONT, place.name)
    with contextlib.suppress(RayError, TimeoutError):  # it ends all the same
        front.drain.remote().result(timeout_s=timeout_s)


def _look_after(place: Place, tell: Tell, stopped: threading.Event, log_every_s: float) -> None:
    """Tell, now and then, what was done, until the server is stopped."""
    from ray import serve
    from ray.exceptions import RayError

    front = serve.get_deployment_handle(FRONT, place.name)
    since = time.monotonic()
    while not stopped.wait(log_every_s):
        now = time.monotonic()
        try:
            line = front.lately.remote().result(timeout_s=log_every_s).line(now - since)
        except (RayError, TimeoutError):
            line = f"the front gives no answer; the application is {_app(place).status}"
        since = now
        if line:
            tell(line)
