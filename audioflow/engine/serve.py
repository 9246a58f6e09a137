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
from audioflow.engine.serve_room import room_for, scorer_needs
from audioflow.engine.serve_system import Served
from audioflow.engine.session import Session
from audioflow.serving.limits import Limits
from audioflow.tables import package_versions

_LOOK_EVERY_S = 0.25
_PATIENCE_S = 30.0
_LEAVE_S = 8.0
"""How long replicas may take to leave before they are killed. No request is cut short by it, since
those in hand are done by then."""
_GONE_S = 45.0
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
        session.ensure()
        if not room_for(served, place, tell, stopped):
            return
        with serve_started(place, own=session.started), _deployed(served, limits, place, tell):
            tell(f"loading {served.about.system} ({', '.join(served.about.backbones)})")
            if _wait(place, stopped, tell):
                tell(f"ready at {place.url}  POST /invocations, GET /ping, GET /info")
                _look_after(place, tell, stopped, log_every_s)
                tell("stopping; requests in hand are finished first")
                _drain(place, limits.timeout_s)


@contextmanager
def _deployed(served: Served, limits: Limits, place: Place, tell: Tell) -> Iterator[None]:
    """The application, deployed but not yet ready; it is removed in the end."""
    from ray import serve

    from audioflow.engine.serve_front import FrontReplica, FrontTask
    from audioflow.engine.serve_scorer import ScorerReplica

    scorer = serve.deployment(ScorerReplica).options(
        name=SCORER,
        num_replicas=place.replicas,
        max_ongoing_requests=2 * limits.max_batch,
        ray_actor_options=scorer_needs(served),
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
    try:
        serve.run_many([target], wait_for_applications_running=False)
        yield
    finally:
        _remove(place, tell)


def _remove(place: Place, tell: Tell) -> None:
    """Remove the application, and wait until it is gone."""
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    began, killed = time.monotonic(), False
    with contextlib.suppress(RayError, RayServeException):  # then Ray itself is gone
        serve.delete(place.name, _blocking=False)
        while place.name in serve.status().applications:
            took_s = time.monotonic() - began
            if took_s > _LEAVE_S and not killed:
                _kill_replicas(place)
                killed = True
            if took_s > _GONE_S:
                tell(f"the application {place.name!r} is not gone yet; Ray Serve removes it")
                return
            time.sleep(_LOOK_EVERY_S)


def _kill_replicas(place: Place) -> None:
    """End those that still load, or wait for room, and so do not hear that they are to leave."""
    import ray

    for actor in ray.util.list_named_actors(all_namespaces=True):
        if actor["name"].startswith(f"SERVE_REPLICA::{place.name}#"):
            with contextlib.suppress(ValueError):  # it has just left
                ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))


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
