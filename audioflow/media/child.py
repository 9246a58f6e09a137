"""Decoding in a long-lived child process: a crash or a hang costs one recording, never the caller.

The child is forked from a clean server process that has the decoders loaded, so a replacement for a
child that died is there in a fraction of a second. One caller uses one child.
"""

import multiprocessing
import os
import resource
import signal
from collections.abc import Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from pebble import ProcessExpired, ProcessPool

from audioflow.errors import MediaError
from audioflow.media.decode import ClipMedia, Wanted, decode_recording
from audioflow.media.sound import Span


class DecoderChild:
    """A decoder in a process of its own.

    timeout_s: seconds one clip may take. memory_gb: data the child may hold; a recording that needs
    more fails as `out_of_memory`.
    """

    def __init__(self, timeout_s: float, memory_gb: float) -> None:
        self.timeout_s = timeout_s
        self.memory_gb = memory_gb
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["audioflow.media.decode", "decord"])
        self._pool = ProcessPool(
            max_workers=1, context=context, initializer=_prepare, initargs=(memory_gb, os.getpid())
        )

    def decode(self, path: str, spans: Sequence[Span], wanted: Wanted) -> list[ClipMedia]:
        """As `decode_recording`; a hang or a crash comes back as failures of all its clips."""
        limit_s = self.timeout_s * max(1, len(spans))
        return self._call(limit_s, len(spans), wanted, decode_recording, path, spans, wanted)

    def _call(self, limit_s: float, count: int, wanted: Wanted, task: Any, *args: Any) -> Any:
        future = self._pool.schedule(task, args=args, timeout=limit_s)
        try:
            return future.result()
        except FutureTimeout:
            reason = (
                f"decoding took longer than {limit_s:g} s (embed.decode_timeout_s) and was ended"
            )
            error = MediaError("timeout", reason)
        except ProcessExpired as expired:
            error = MediaError("crashed", f"the decoder died of {_death(expired.exitcode)}")
        except MemoryError:
            error = MediaError("out_of_memory", "decoding needs more than embed.decode_memory_gb")
        pictures = dict.fromkeys(wanted.samplings, error)
        sound = error if wanted.sample_rates_hz else None
        return [ClipMedia(sound, dict(pictures))] * count

    def warm(self) -> None:
        """Start the child and wait until it answers."""
        self._pool.schedule(os.getpid).result()

    def close(self) -> None:
        """End the child."""
        self._pool.stop()
        self._pool.join()


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"signal {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"


def _prepare(memory_gb: float, parent: int) -> None:
    """Set the child's limits; it must neither dump core nor write FFmpeg's chatter."""
    size = int(memory_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import av.logging
    import decord

    av.logging.set_level(av.logging.PANIC)
    decord.logging.set_level(decord.logging.QUIET)
