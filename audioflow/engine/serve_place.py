"""Where a server listens, and the Ray Serve that listens there: its own, or one that runs."""

import importlib
import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TextIO

from audioflow.errors import AudioflowError, InputError
from audioflow.recipe import RaySection


@dataclass(frozen=True)
class Place:
    """Where a server listens, on which Ray, as which application; replicas: of the scorers."""

    host: str = "127.0.0.1"
    port: int = 8080
    route_prefix: str = "/"
    name: str = "audioflow"
    replicas: int = 1
    ray: RaySection = field(default_factory=lambda: RaySection(dashboard=False))

    def __post_init__(self) -> None:
        prefix = self.route_prefix
        if (
            not prefix.startswith("/")
            or (len(prefix) > 1 and prefix.endswith("/"))
            or "{" in prefix
        ):
            raise InputError(
                f"--route-prefix {prefix!r} is no begin of a path; give such as / or /sounds"
            )

    @property
    def url(self) -> str:
        """Where requests go."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{self.route_prefix.rstrip('/')}"


class ServeError(AudioflowError):
    """A server could not be started, or did not go on."""


def need_serve() -> None:
    """Raise `InputError`, which says how to install it, where Ray Serve is not there."""
    try:
        importlib.import_module("ray.serve")
    except ImportError as error:
        raise InputError(
            f"Ray Serve is not installed ({error}): install it with `pip install "
            "'audioflow[serve]'`"
        ) from error


def _refuse_taken(place: Place) -> None:
    """Raise `ServeError` where another program listens at the address already, or none may."""
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((place.host, place.port))
    except OSError as error:
        raise ServeError(
            f"nothing can listen at --host {place.host} --port {place.port}: "
            f"{error.strerror or error}; take another one"
        ) from error


@contextmanager
def serve_started(place: Place, *, own: bool) -> Iterator[None]:
    """Ray Serve at this address; one that was there stays, else it ends with the server.

    own: the Ray ends right after, and Serve with it.
    """
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    running = _running_at()
    if running is None:
        _refuse_taken(place)
        options = {"host": place.host, "port": place.port}
        try:
            serve.start("HeadOnly", options, logging_config=quiet())
            yield
        finally:
            if not own:
                _end(place)
        return
    if running != (place.host, place.port):
        host, port = running
        raise InputError(
            f"Ray Serve runs already in this Ray, and listens at {host}:{port}: give --host {host} "
            f"--port {port}, or another Ray (--address)"
        )
    routes = _routes()
    if place.name in routes.values():
        raise InputError(
            f"an application {place.name!r} is served there already; give another --name and "
            "--route-prefix, or, where it was left by a server that was killed, `serve shutdown`"
        )
    if place.route_prefix in routes:
        raise InputError(
            f"--route-prefix {place.route_prefix} is that of the application "
            f"{routes[place.route_prefix]!r} already; give another one, as /sounds"
        )
    yield


def _end(place: Place) -> None:
    """End the Ray Serve that was started here, unless others have come to use it."""
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    with suppress(RayError, RayServeException):  # then Ray itself is gone
        if set(serve.status().applications) <= {place.name}:
            sys.stdout = _Without(sys.stdout, "ServeController")
            sys.stderr = _Without(sys.stderr, "ServeController")  # that it is killed
            serve.shutdown()


class _Without:
    """A stream without the lines that have a word; Ray writes some late, from its own threads."""

    def __init__(self, stream: TextIO, word: str) -> None:
        self._stream, self._word, self._left_out = stream, word, False

    def write(self, text: str) -> int:
        rest = self._left_out and text == "\n"
        self._left_out = self._word in text and not text.endswith("\n")
        return len(text) if rest or self._word in text else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _running_at() -> tuple[str, int] | None:
    """Where a Ray Serve that runs in this Ray listens; None where there is none."""
    from ray.serve.context import _get_global_client
    from ray.serve.exceptions import RayServeException

    try:
        client: Any = _get_global_client()
    except RayServeException:
        return None
    return str(client.http_config.host), int(client.http_config.port)


def _routes() -> dict[str, str]:
    """What Ray Serve serves already: route prefix -> application."""
    from ray.serve.context import _get_global_client

    client: Any = _get_global_client()
    apps = client.get_serve_details()["applications"]
    return {app["route_prefix"] or "": name for name, app in apps.items()}


def quiet() -> dict[str, Any]:
    """No line for every request: what a person wants to know is told by the front."""
    return {"enable_access_log": False, "log_level": "WARNING"}
