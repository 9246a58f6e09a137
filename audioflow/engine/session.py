"""The Ray of a run: one that is there is joined and never stopped, else a local one is started."""

import contextlib
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from audioflow.engine.joining import NoRayError, joined, set_auth_mode
from audioflow.errors import ClusterError, InputError
from audioflow.recipe import RaySection

START_S = 120.0
"""How long a local Ray may take to start."""

_LOOK_EVERY_S = 0.5

_STACKS = "RAY_DISABLE_FAILURE_SIGNAL_HANDLER"
"""Else a driver that somebody stops prints a stack of Ray's core."""

_TOLD_BY_US = "|".join(
    [
        "has been marked dead because the detector",
        "Raylet is terminated",
        "There are infinite retries remaining",
    ]
)
"""Of nodes and workers that are lost Ray prints these on the driver, whatever `log_to_driver` is,
the second with a hundred lines of its core behind it."""

_QUIET = ("ray.data", "ray.train", "ray.tune", "ray")


class Session:
    """A lazy connection: `ensure` makes it, `close` ends only what was started here.

    Starting a Ray takes seconds in which this process has little to do: who knows that one will be
    needed says so by `begin`, and does something else meanwhile.
    """

    def __init__(self, section: RaySection) -> None:
        # All are read by `import ray`.
        if section.address == "local":  # bound to this machine's loopback address: it needs no
            os.environ["RAY_AUTH_MODE"] = "disabled"  # token, and leaves none behind
        else:
            set_auth_mode()
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", _TOLD_BY_US)
        self._without_stacks = _STACKS not in os.environ
        os.environ.setdefault(_STACKS, "1")
        self._section = section
        self._started = False
        self._beginning: threading.Thread | None = None
        self._connected = threading.Event()
        self._closed = threading.Event()
        self._fault: BaseException | None = None

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def started(self) -> bool:
        """Whether the Ray was started here, and ends with the session."""
        return self._started

    def begin(self) -> None:
        """Start to connect, in a thread of its own; what goes wrong is raised by `ensure`."""
        import ray  # here, since two threads that import at once take longer than one

        if self._beginning is None and not ray.is_initialized():
            self._beginning = threading.Thread(target=self._keep_connected, daemon=True)
            self._beginning.start()

    def _keep_connected(self) -> None:
        """Connect, and stay until the session is closed: Linux ends Ray's processes together with
        the thread that started them."""
        try:
            with quiet():
                self._connect()
        except BaseException as error:  # noqa: BLE001 - it is raised where the connection is needed
            self._fault = error
        finally:
            self._connected.set()
        self._closed.wait()

    def ensure(self) -> dict[str, float]:
        """Connect if need be; returns the cluster's resources."""
        import ray

        if self._beginning:
            self._connected.wait()
        if self._fault is not None:
            raise self._fault
        if not ray.is_initialized():
            on_terminate = signal.getsignal(signal.SIGTERM)
            with quiet():
                self._connect()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_terminate)  # Ray installs its own
        return {name: float(value) for name, value in ray.cluster_resources().items()}

    def _connect(self) -> None:
        import ray

        address = self._section.address
        if self._without_stacks:  # what is for this process alone: crashes of workers have theirs
            os.environ.pop(_STACKS, None)
        # How often training looks after its workers; each report of an epoch waits for a look.
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        # Only this driver's own lines on the terminal; the workers' go to Ray's log folder as ever.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        options: dict[str, Any] = {
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "configure_logging": True,
        }
        try:
            if address != "local" and joined(address, **options):
                return
        except NoRayError as error:
            raise InputError(
                f"ray.address is {address!r}, and {error}; ray.address=local starts one here"
            ) from error
        os.environ["RAY_AUTH_MODE"] = "disabled"  # as above, for the processes that are started
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_preload_python_modules", "audioflow.engine.preload")
        # Else the workers wait for all that Ray starts beside them, such as its dashboard.
        os.environ.setdefault("RAY_worker_niceness", "0")
        with patient(START_S):
            ray.init(
                address="local",
                num_cpus=self._section.num_cpus,
                include_dashboard=self._section.dashboard,
                **options,
            )
        self._started = True

    def close(self) -> None:
        """Stop the Ray that was started here; one that was joined is only left."""
        if self._beginning:
            self._connected.wait()
        if self._started:
            import ray

            ray.shutdown()
            self._started = False
        self._closed.set()
        self._beginning = None


@contextlib.contextmanager
def patient(seconds: float) -> Iterator[None]:
    """Wait so long for a Ray that is started meanwhile; by itself it gives up after 30 s, however
    busy the machine is. Raises `ClusterError` where that is not enough."""
    from ray._private import services

    looked = services.get_node

    def get_node(*arguments: Any, **named: Any) -> Any:
        until = time.monotonic() + seconds
        while True:
            try:
                return looked(*arguments, **named)
            except RuntimeError:
                if time.monotonic() >= until:
                    raise
                time.sleep(_LOOK_EVERY_S)

    services.get_node = get_node
    try:
        yield
    except Exception as error:  # Ray raises just that
        if type(error) is not Exception or "startup" not in str(error):
            raise
        raise ClusterError(
            f"Ray did not start on this machine within {seconds:g} s: too much else runs on it, or "
            "it lacks memory; try again, or start Ray by `ray start --head` and join it by "
            "ray.address=auto"
        ) from error
    finally:
        services.get_node = looked


def configure_data() -> None:
    """Set up Ray Data for this process; before its first use."""
    import ray.data

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


_RAYS_OWN = re.compile(rb"\[[\d-]+ [\d:,]+ [A-Z] \d+ \d+\] ")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what Ray's C++ core writes while it starts off the terminal, unless the start fails.

    What others write to standard error meanwhile comes at the end.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        failed = False
        try:
            yield
        except BaseException:
            failed = True
            raise
        finally:
            os.dup2(kept, 2)
            chatter.seek(0)
            for line in chatter:
                if failed or not _RAYS_OWN.match(line):
                    os.write(kept, line)
            os.close(kept)
