"""The Ray of a run: one that is there is joined and never stopped, else a local one is started."""

import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
import ray.data

from audioflow.errors import InputError
from audioflow.recipe import RaySection

_CONNECT_S = 5.0
_QUIET = ("ray.data", "ray.train", "ray.tune", "ray")


def set_auth_mode() -> None:
    """Settle how this process authenticates to a Ray that it joins, unless the user has.

    A cluster started without a mode uses a token where the user has one, and none elsewhere; a
    client has to say the same to be let in.
    """
    token = Path("~/.ray/auth_token").expanduser()
    has_token = token.exists() or bool(os.environ.get("RAY_AUTH_TOKEN"))
    os.environ.setdefault("RAY_AUTH_MODE", "token" if has_token else "disabled")


def silence(address: str) -> str:
    """Why nothing listens at `host:port`; "" where something does. Ray itself tries for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if not host or not port.isdigit():
        return ""
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


class Session:
    """A lazy connection: `ensure` makes it, `close` ends only what was started here."""

    def __init__(self, section: RaySection) -> None:
        self._section = section
        self._started = False

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ensure(self) -> dict[str, float]:
        """Connect if need be; returns the cluster's resources."""
        if not ray.is_initialized():
            on_terminate = signal.getsignal(signal.SIGTERM)
            with quiet():
                self._connect()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_terminate)  # Ray installs its own
        _configure_data()
        return {name: float(value) for name, value in ray.cluster_resources().items()}

    def _connect(self) -> None:
        address = self._section.address
        # How often training looks after its workers; each report of an epoch waits for a look.
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        # Only this driver's own lines on the terminal; the workers' go to Ray's log folder as ever.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        options: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "configure_logging": True,
        }
        if address == "auto":
            set_auth_mode()
            with contextlib.suppress(ConnectionError):
                ray.init(address="auto", **options)
                return
        elif address != "local":
            set_auth_mode()
            try:
                if why := silence(address):
                    raise ConnectionError(why)
                ray.init(address=address, **options)
            except (ConnectionError, ValueError) as error:
                raise InputError(
                    f"ray.address is {address!r}, and no Ray answers there: {error}; "
                    "use auto to join a running one or start a local one"
                ) from error
            return
        # Bound to this machine's loopback address, so it needs no token, and leaves none behind.
        os.environ["RAY_AUTH_MODE"] = "disabled"
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local",
            num_cpus=self._section.num_cpus,
            include_dashboard=self._section.dashboard,
            **options,
        )
        self._started = True

    def close(self) -> None:
        """Stop the Ray that was started here; one that was joined is only left."""
        if self._started:
            ray.shutdown()
            self._started = False


def _configure_data() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.enable_fallback_to_arrow_object_ext_type = False
    context.target_max_block_size = 128 * 2**20
    context.raise_original_map_exception = True  # wrapped, it loses what it was on the way here
    # Retry limits have no named argument yet; pyproject.toml pins the Ray series.
    warnings.filterwarnings("ignore", message=".*ray_remote_args.*deprecated")
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    for handler in logging.getLogger("ray.data").handlers:
        if handler.name == "console":  # what it would say is raised, and stands in Ray's log folder
            handler.setLevel(logging.CRITICAL)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what Ray's C++ core writes while it starts off the terminal, unless the start fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        try:
            yield
        except BaseException:
            chatter.seek(0)
            os.write(kept, chatter.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
