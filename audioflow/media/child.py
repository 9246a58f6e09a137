"""Decoding in a long-lived child process: a crash or a hang costs one recording, never the caller.

The child is forked from a clean server process that has the decoders loaded, so a replacement for a
child that died is there in a fraction of a second. One caller uses one child, one recording at a
time. The child ends when its parent does, even when that is killed while the child is busy.

A child that is killed from outside says nothing of its recording, which is tried again: SIGKILL is
what a system sends that runs out of memory. The limits set here end otherwise, in `out_of_memory`
where the child sees that it has reached its own, and in `timeout` before it is killed.
"""

import contextlib
import fcntl
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from audioflow.errors import LostWorkersError, MediaError
from audioflow.media.child_side import LAST, RAISED, decode, serve
from audioflow.media.parts import End, Part, Source, Wanted
from audioflow.media.spans import Span
from audioflow.retries import Retrying

_START_LIMIT_S = 120.0
_END_LIMIT_S = 5.0
_PIPE_BYTES = 2**20
"""Room for what most recordings give, so that the child need not wait for its parent to read."""
_CLOSED = (EOFError, ConnectionError)
_STARTS = Retrying(attempts=6, first_wait_s=0.5, most_wait_s=8.0)
"""How often a child is started where each is killed before it has taken a task."""
_KILLED = Retrying(attempts=3, first_wait_s=1.0, most_wait_s=4.0)
"""How often a recording is begun whose child is killed from outside."""
_SERVER_IS_GONE = 255
"""What `multiprocessing` gives for a child whose forkserver was killed: its own end is unknown."""


@dataclass(frozen=True)
class _Running:
    """A child, the pipes to and from it, and one whose only use is that the child sees it close."""

    process: BaseProcess
    tasks: Connection
    results: Connection
    lifeline: Connection


@dataclass(frozen=True)
class _Death:
    """What a child died of. from_outside: it was killed, or its forkserver was, who would know."""

    text: str
    from_outside: bool


_NO_START = _Death("what killed its forkserver", from_outside=True)


class DecoderChild:
    """A decoder in a process of its own.

    timeout_s: seconds that may pass between two messages, per clip of the recording. memory_gb:
    data the child may hold; a recording that needs more fails as `out_of_memory`.
    """

    def __init__(self, timeout_s: float, memory_gb: float) -> None:
        self.timeout_s = timeout_s
        self.memory_gb = memory_gb
        self._running: _Running | None = None

    def decode(self, path: str, spans: Sequence[Span], wanted: Wanted) -> Iterator[list[Part]]:
        """What the decoder gives of the local file `path`, a few megabytes at a time.

        For each clip (position in `spans`) and source: parts in order, then one `End`. A hang or a
        crash is the end of all that have not ended. A caller that takes no more ends the child.

        Raises `LostWorkersError` where no child lives long enough to begin.
        """
        left = {(clip, source): None for clip in range(len(spans)) for source in wanted.sources}
        limit_s = self.timeout_s * max(1, len(spans))
        try:
            for parts in self._outliving(limit_s, (path, spans, wanted)):
                for part in parts:
                    if isinstance(part, End):
                        left.pop((part.clip, part.source), None)
                yield parts
            failure = MediaError("internal", "the decoder said nothing of this clip")
        except MediaError as error:
            failure = error
        except MemoryError:
            why = f"decoding needs more than {self.memory_gb:g} GB (embed.decode_memory_gb)"
            failure = MediaError("out_of_memory", why)
        if left:
            yield [End(clip, source, error=failure) for clip, source in left]

    def _outliving(self, limit_s: float, recording: tuple[Any, ...]) -> Iterator[list[Part]]:
        """The parts of a recording, each once, though children are killed from outside.

        A new child begins at the beginning. What was given before it gives in the same order, and
        it is left out; of a message with nothing else, an empty list tells that all goes on.
        """
        given: Counter[tuple[int, Source]] = Counter()
        for attempt in range(1, _KILLED.attempts + 1):
            again = given.copy()
            try:
                for parts in self._run(limit_s, decode, recording):
                    fresh = [part for part in parts if not _taken(part, again)]
                    given.update((part.clip, part.source) for part in fresh)
                    yield fresh
            except MediaError as error:
                if error.error != "killed" or attempt == _KILLED.attempts:
                    error.attempts += attempt - 1
                    raise
            else:
                return
            time.sleep(_KILLED.wait_s(attempt))

    def _run(self, limit_s: float, task: Any, args: tuple[Any, ...]) -> Iterator[list[Any]]:
        """What `task(*args)` yields in the child; `MediaError` where that dies or hangs."""
        pipe = self._hand_over(task, args)
        kind: str | None = None
        try:
            while kind not in (LAST, RAISED):
                if not pipe.poll(limit_s):
                    why = (
                        f"decoding took longer than {limit_s:g} s (embed.decode_timeout_s per clip)"
                    )
                    raise MediaError("timeout", f"{why} and was ended")
                kind, value = pipe.recv()
                if kind != RAISED:
                    yield value
        except _CLOSED:
            death = self._bury()
            error = "killed" if death.from_outside else "crashed"
            raise MediaError(error, f"the decoder died of {death.text}") from None
        except BaseException:  # whatever it was, the child may still be at it
            if kind != LAST:
                self.close()
            raise
        if kind == RAISED:
            if isinstance(value, MemoryError):
                self.close()  # what is left of its memory may be in small pieces
            raise value

    def _hand_over(self, task: Any, args: tuple[Any, ...]) -> Connection:
        """Give the child a task; a child that died since the last one is replaced by another."""
        for attempt in range(1, _STARTS.attempts + 1):
            self.warm()
            assert self._running
            try:
                self._running.tasks.send((task, args))
                self._hear()
            except _CLOSED:
                death = self._bury()
            else:
                return self._running.results
            if attempt > 1 and not death.from_outside:
                raise RuntimeError(f"the decoder child died of {death.text} before it took a task")
            if 1 < attempt < _STARTS.attempts:
                time.sleep(_STARTS.wait_s(attempt - 1))
        raise _lost(death, "took a task")

    def warm(self) -> None:
        """Start the child, if it does not run, and wait until it answers.

        Raises `LostWorkersError` where one after the other is killed before it does.
        """
        if self._running:
            return
        for attempt in range(1, _STARTS.attempts + 1):
            try:
                self._running = _start(self.memory_gb)
                self._hear()
            except _CLOSED:
                death = self._bury() if self._running else _NO_START
            else:
                return
            if not death.from_outside:
                why = f"the decoder child could not start, it died of {death.text}; see stderr"
                raise RuntimeError(why)
            if attempt < _STARTS.attempts:
                time.sleep(_STARTS.wait_s(attempt))
        raise _lost(death, "was ready")

    def _hear(self) -> None:
        """Wait for the child's word that it is ready, or that it took a task."""
        assert self._running
        try:
            if not self._running.results.poll(_START_LIMIT_S):
                raise RuntimeError(f"the decoder child gave no sign for {_START_LIMIT_S:g} s")
            self._running.results.recv()
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

    def _bury(self) -> _Death:
        """Forget a child that is dead or dying; what it died of."""
        assert self._running
        running, self._running = self._running, None
        running.process.join(_END_LIMIT_S)
        running.tasks.close()
        running.results.close()
        running.lifeline.close()
        return _death(running.process.exitcode or 0)


def _death(exit_code: int) -> _Death:
    if exit_code == -signal.SIGKILL:
        text = "signal SIGKILL (the system may have run out of memory)"
        return _Death(text, from_outside=True)
    if exit_code == _SERVER_IS_GONE:
        text = "what nobody saw, for its forkserver was killed before (exit code 255)"
        return _Death(text, from_outside=True)
    names = {number.value: number.name for number in signal.Signals}
    if exit_code < 0:
        return _Death(f"signal {names.get(-exit_code, -exit_code)}", from_outside=False)
    return _Death(f"exit code {exit_code}", from_outside=False)


def _lost(death: _Death, before: str) -> LostWorkersError:
    return LostWorkersError(
        f"decoder children were killed {_STARTS.attempts} times in a row before one {before}, the "
        f"last died of {death.text}; what is committed stays, run the same command again to go on"
    )


def _taken(part: Part, given: Counter[tuple[int, Source]]) -> bool:
    """Whether a part is one of those given before; it is taken off them then."""
    key = (part.clip, part.source)
    if not given[key]:
        return False
    given[key] -= 1
    return True


def _start(memory_gb: float) -> _Running:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["audioflow.media.pyav", "decord"])
    results, child_results = context.Pipe(duplex=False)
    child_tasks, tasks = context.Pipe(duplex=False)
    for pipe in (results, child_tasks):
        with contextlib.suppress(OSError):  # where the system allows less, it takes more turns
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    child_lifeline, lifeline = context.Pipe(duplex=False)
    process = context.Process(
        target=serve, args=(child_tasks, child_results, child_lifeline, memory_gb), daemon=True
    )
    process.start()
    for pipe in (child_tasks, child_results, child_lifeline):
        pipe.close()
    return _Running(process, tasks, results, lifeline)
