"""Decoders for the tests on Ray: each does as `pyav`, and one thing more."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from audioflow.errors import MediaError, StorageError
from audioflow.media.parts import End, Part, Wanted
from audioflow.media.pyav import PyAV
from audioflow.media.spans import Span

LOG = ".decoded.log"
DOWN = ".down"
RENEWED = ".renewed"


class Logging(PyAV):
    """Writes down what it decodes, beside the media."""

    def decode(self, path: str, spans: Sequence[Span], wanted: Wanted) -> Iterator[Part]:
        with (Path(path).parent / LOG).open("a") as log:
            log.write(Path(path).name + "\n")
        return super().decode(path, spans, wanted)


class Moody(PyAV):
    """Fails as a store does that is out of order, as long as there is a file `.down`."""

    def decode(self, path: str, spans: Sequence[Span], wanted: Wanted) -> Iterator[Part]:
        if not (Path(path).parent / DOWN).exists():
            yield from super().decode(path, spans, wanted)
            return
        for clip in range(len(spans)):
            for source in wanted.sources:
                yield End(clip, source, error=MediaError("network", "the store does not answer"))


class Expiring(PyAV):
    """May read nothing after some twenty files, until there is a file `.renewed`."""

    def decode(self, path: str, spans: Sequence[Span], wanted: Wanted) -> Iterator[Part]:
        root = Path(path).parent.parent
        log = root / LOG
        if (root / RENEWED).exists() or not log.exists() or log.stat().st_size < 20:
            with log.open("a") as file:
                file.write("x")
            yield from super().decode(path, spans, wanted)
            return
        for clip in range(len(spans)):
            for source in wanted.sources:
                yield End(clip, source, error=MediaError("permission", "the token has expired"))


class Sleeping(PyAV):
    """Never comes back from files that are named so."""

    def decode(self, path: str, spans: Sequence[Span], wanted: Wanted) -> Iterator[Part]:
        if "asleep" in Path(path).name:
            time.sleep(10_000)
        return super().decode(path, spans, wanted)


class FullDisk(PyAV):
    """Finds no room for what it has to write."""

    def decode(self, path: str, spans: Sequence[Span], wanted: Wanted) -> Iterator[Part]:
        raise StorageError("no room in /tmp; set TMPDIR to another folder")


class Buggy(PyAV):
    """Has a mistake in it."""

    def decode(self, path: str, spans: Sequence[Span], wanted: Wanted) -> Iterator[Part]:
        raise ZeroDivisionError("a mistake in the decoder")
