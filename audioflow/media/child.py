"""Decoding in a long-lived child process: a crash or a hang costs one recording, never the caller.

The child is forked from a clean server process that has the decoders loaded, so a replacement for a
child that died is there in a fraction of a second. One caller uses one child, one call at a time.
The child ends when its parent does, even when that is killed while the child is busy.
"""

import multiprocessing
import os
import pickle
import resource
import signal
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from audioflow.errors import MediaError
from audioflow.media.decode import ClipMedia, Wanted, decode_recording
from audioflow.media.spans import Span

_START_LIMIT_S = 120.0
_END_LIMIT_S = 5.0
_CLOSED = (EOFError, BrokenPipeError, ConnectionResetError)


@dataclass(frozen=True)
class _Running:
    """A child, the pipe to it, and a pipe whose only use is that the child sees it close."""

    process: BaseProcess
    pipe: Connection
    lifeline: Connection


class DecoderChild:
    """A decoder in a process of its own.

    timeout_s: seconds one clip may take. memory_gb: data the child may hold; a recording that needs
    more fails as `out_of_memory`.
    """

    def __init__(self, timeout_s: float, memory_gb: float) -> None:
        self.timeout_s = timeout_s
        self.memory_gb = memory_gb
        self._running: _Running | None = None

    def decode(self, path: str, spans: Sequence[Span], wanted: Wanted) -> list[ClipMedia]:
        """As `decode_recording`; a hang or a crash comes back as failures of all its clips."""
        limit_s = self.timeout_s * max(1, len(spans))
        return self._call(limit_s, len(spans), wanted, decode_recording, path, spans, wanted)

    def _call(self, limit_s: float, count: int, wanted: Wanted, task: Any, *args: Any) -> Any:
        try:
            return self._run(limit_s, task, args)
        except MediaError as error:
            failure = error
        except MemoryError:
            why = f"decoding needs more than {self.memory_gb:g} GB (embed.decode_memory_gb)"
            failure = MediaError("out_of_memory", why)
        sound = failure if wanted.sample_rates_hz else None
        return [ClipMedia(sound, dict.fromkeys(wanted.samplings, failure)) for _ in range(count)]

    def _run(self, limit_s: float, task: Any, args: tuple[Any, ...]) -> Any:
        """What `task(*args)` gives in the child; `MediaError` where that dies or hangs."""
        pipe = self._hand_over(task, args)
        try:
            if not pipe.poll(limit_s):
                why = f"decoding took longer than {limit_s:g} s (embed.decode_timeout_s per clip)"
                raise MediaError("timeout", f"{why} and was ended")
            returned, value = pipe.recv()
        except _CLOSED:
            raise MediaError("crashed", f"the decoder died of {self._bury()}") from None
        except BaseException:  # whatever it was, the child may still be at it
            self.close()
            raise
        if returned:
            return value
        if isinstance(value, MemoryError):
            self.close()  # what is left of its memory may be in small pieces
        raise value

    def _hand_over(self, task: Any, args: tuple[Any, ...]) -> Connection:
        """Give the child a task; a child that died since the last one is replaced by another."""
        died_of = ""
        for _ in range(2):
            self.warm()
            assert self._running
            try:
                self._running.pipe.send((task, args))
                self._hear()
            except _CLOSED:
                died_of = self._bury()
            else:
                return self._running.pipe
        raise RuntimeError(f"the decoder child died of {died_of} before it took a task")

    def warm(self) -> None:
        """Start the child, if it does not run, and wait until it answers."""
        if self._running:
            return
        self._running = _start(self.memory_gb)
        try:
            self._hear()
        except _CLOSED:
            died_of = self._bury()
            why = f"the decoder child could not start, it died of {died_of}; see stderr"
            raise RuntimeError(why) from None

    def _hear(self) -> None:
        """Wait for the child's word that it is ready, or that it took a task."""
        assert self._running
        try:
            if not self._running.pipe.poll(_START_LIMIT_S):
                raise RuntimeError(f"the decoder child gave no sign for {_START_LIMIT_S:g} s")
            self._running.pipe.recv()
        except _CLOSED:
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the child; a later call starts another."""
        if self._running:
            self._running.process.kill()
            self._bury()

    def _bury(self) -> str:
        """Forget a child that is dead or dying; what it died of."""
        assert self._running
        running, self._running = self._running, None
        running.process.join(_END_LIMIT_S)
        running.pipe.close()
        running.lifeline.close()
        exit_code = running.process.exitcode or 0
        if exit_code == -signal.SIGKILL:
            return "signal SIGKILL (the system may have run out of memory)"
        names = {number.value: number.name for number in signal.Signals}
        return (
            f"signal {names.get(-exit_code, -exit_code)}"
            if exit_code < 0
            else f"exit code {exit_code}"
        )


def _start(memory_gb: float) -> _Running:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["audioflow.media.decode", "decord"])
    pipe, child_pipe = context.Pipe()
    child_lifeline, lifeline = context.Pipe(duplex=False)
    process = context.Process(
        target=_serve, args=(child_pipe, child_lifeline, memory_gb), daemon=True
    )
    process.start()
    child_pipe.close()
    child_lifeline.close()
    return _Running(process, pipe, lifeline)


def _serve(pipe: Connection, lifeline: Connection, memory_gb: float) -> None:
    """The child: do one task after the other until the parent is gone."""
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    _prepare(memory_gb)
    pipe.send(None)
    while True:
        try:
            task = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send(None)
        pipe.send_bytes(_answer(task))


def _end_with_parent(lifeline: Connection) -> None:
    """End at once when the parent is gone, whatever the decoder is doing."""
    try:
        lifeline.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)


def _prepare(memory_gb: float) -> None:
    """Set the child's limits; it must neither dump core nor write the decoders' chatter."""
    size = int(memory_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import av.logging
    import decord

    av.logging.set_level(av.logging.PANIC)
    decord.logging.set_level(decord.logging.QUIET)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - decord names every file it cannot open
        os.dup2(nowhere.fileno(), 2)


def _answer(pickled: bytes) -> bytes:
    """Pickled: whether the task returned, and what it returned or raised."""
    try:
        task, args = pickle.loads(pickled)  # noqa: S301 - from the parent
        return pickle.dumps((True, task(*args)), protocol=pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        return pickle.dumps((False, MemoryError()))
    except BaseException as error:  # noqa: BLE001 - it is raised again in the parent
        text = "".join(traceback.format_exception(error))
        error.add_note(f"in the decoder child:\n{text}")
        try:
            data = pickle.dumps((False, error))
            pickle.loads(data)  # noqa: S301 - our own; some exceptions do not come back
        except Exception:  # noqa: BLE001 - of whatever kind
            return pickle.dumps((False, RuntimeError(text)))
        return data
