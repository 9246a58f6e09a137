"""Bodies decoded side by side, each in a child process: one that crashes or hangs costs itself."""

import queue
import threading
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import cast

from audioflow.errors import MediaError
from audioflow.media.child import DecoderChild
from audioflow.media.parts import End, Part, Wanted
from audioflow.media.spans import Span
from audioflow.serving.limits import Limits

_OWN_WORDS = {
    "too_long": "it is longer than {limits.max_duration_s:g} s, the limit here",
    "timeout": "the decoder gave no sign for {limits.decode_timeout_s:g} s, and was ended",
    "out_of_memory": "decoding it needs more than {limits.decode_memory_gb:g} GB, the limit here",
}
"""Reasons that name keys of a recipe, which whoever sent the request does not have."""


class Decoders:
    """Decoder children that are kept, for as many threads as there are; they start at once."""

    def __init__(self, wanted: Wanted, limits: Limits) -> None:
        """wanted: what is needed of each body; no more than `limits.max_duration_s` of it."""
        most_s = min(wanted.max_duration_s, limits.max_duration_s)
        self._wanted = replace(wanted, max_duration_s=most_s)
        self._limits = replace(limits, max_duration_s=most_s)
        self._idle: queue.SimpleQueue[DecoderChild] = queue.SimpleQueue()
        self._all = [
            DecoderChild(limits.decode_timeout_s, limits.decode_memory_gb)
            for _ in range(limits.decoders)
        ]
        for child in self._all:
            threading.Thread(target=self._start, args=(child,), daemon=True).start()

    def _start(self, child: DecoderChild) -> None:
        """Start a child; who decodes waits until there is one, and tries again if there is none."""
        try:
            child.warm()
        finally:
            self._idle.put(child)

    def decode(self, path: str, until: float) -> list[Part]:
        """What the recording at a path gives, each source with its `End`.

        until: when nobody waits for it any more (`time.monotonic`); its child is ended then.
        """
        child = self._idle.get()
        found: list[Part] = []
        try:
            decoding = cast("Generator[list[Part]]", child.decode(path, [Span()], self._wanted))
            with closing(decoding) as messages:
                for parts in messages:
                    found += [self._in_own_words(part) for part in parts]
                    if time.monotonic() > until:
                        raise MediaError("timeout", "it could not be decoded in time")
        finally:
            self._idle.put(child)
        return found

    def _in_own_words(self, part: Part) -> Part:
        if not isinstance(part, End) or part.error is None:
            return part
        told = _OWN_WORDS.get(part.error.error)
        if told is None:
            return part
        told = told.format(limits=self._limits)
        return replace(part, error=MediaError(part.error.error, told))

    def close(self) -> None:
        """End the children."""
        for child in self._all:
            child.close()
