"""`ffmpeg`: sound by the program ffmpeg, where its build knows codecs that PyAV's does not.

The program decodes, and writes its samples with their time stamps (a NUT stream of float PCM) to a
pipe. What may be opened is decided before, as for `pyav`; pictures are read as by `pyav`. A clip
far inside a recording is reached by decoding all that lies before it.
"""

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import av
import av.error
from av.container import InputContainer

from audioflow.errors import MediaError
from audioflow.media.claims import latest_s, longest_hole_s, start_s
from audioflow.media.clock import Stamp, TrackClock
from audioflow.media.parts import Part, Wanted
from audioflow.media.pyav import decode_with
from audioflow.media.reader import Batch, Reading
from audioflow.media.sound import fill, sound_track
from audioflow.media.spans import Span
from audioflow.media.windows import Piece
from audioflow.registry import Settings as NoSettings
from audioflow.registry import UnknownPlugin

_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux' prctl."""

_OFFSET_S = 1000
"""Added to all time stamps of the output, which cannot be negative."""


class FFmpegProgram:
    """The program `ffmpeg` of this machine, or that of the package imageio-ffmpeg."""

    Settings = NoSettings

    def __init__(self, settings: NoSettings) -> None:
        self._program = find_program()

    def decode(self, path: str, spans: Sequence[Span], wanted: Wanted) -> Iterator[Part]:
        """As `Decoder.decode`."""
        return decode_with(partial(_read_sound, self._program), path, spans, wanted)


def find_program() -> str:
    """Where ffmpeg is. Raises `UnknownPlugin` where there is none."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise UnknownPlugin(
            "decoder 'ffmpeg' needs the program ffmpeg, which is not on the PATH; install it by "
            "your system's package manager (apt-get install ffmpeg), or pip install imageio-ffmpeg"
        ) from error


def _read_sound(
    program: str, path: str, container: InputContainer, spans: Sequence[Span], wanted: Wanted
) -> Iterator[Part]:
    stream = sound_track(container, wanted.sound_track)
    reader = _ProgramReader(program, path, container, stream)
    try:
        yield from fill(reader, container, stream, spans, wanted)
    except MediaError as error:
        if reader.nothing and not _has_decoder(stream):
            raise MediaError("unsupported", "FFmpeg has no decoder for the sound") from error
        raise


def _has_decoder(stream: av.AudioStream) -> bool:
    try:
        av.Codec(stream.codec_context.name, "r")
    except (AttributeError, ValueError):
        return False
    return True


class _ProgramReader(Reading):
    """The pieces of a sound track, decoded by ffmpeg."""

    def __init__(
        self, program: str, path: str, container: InputContainer, stream: av.AudioStream
    ) -> None:
        super().__init__()
        self._command = _command(program, path, container, stream)
        self._longest_hole_s = longest_hole_s(container)
        self._latest_s = latest_s(container, stream)
        self._origin_s = _OFFSET_S + start_s(container, stream)

    def pieces(self, needs_s: Callable[[], float]) -> Iterator[Piece]:
        """Decoded samples in order, from the start of the track."""
        with _running(self._command) as process:
            assert process.stdout
            try:
                with av.open(process.stdout, format="nut") as output:
                    yield from self._read(output)
            except av.error.FFmpegError as error:
                if isinstance(error, MemoryError):
                    raise
                self.damaged = True  # the program gave nothing, or ended in the middle

    def _read(self, output: InputContainer) -> Iterator[Piece]:
        stream = output.streams.audio[0]
        tick_s = float(stream.time_base or 0)
        clock = TrackClock(tick_s, self._longest_hole_s, self._latest_s)
        batch = Batch()
        for frame in output.decode(stream):
            self.nothing = False
            at_s = None if frame.pts is None else frame.pts * tick_s - self._origin_s
            first = clock.place(Stamp(at_s, frame.sample_rate, frame.samples))
            yield from batch.add(first, frame)
            self.reached_s = clock.reached_s
        yield from batch.flush()


def _command(
    program: str, path: str, container: InputContainer, stream: av.AudioStream
) -> list[str]:
    number = [track.index for track in container.streams.audio].index(stream.index)
    return [
        *(program, "-nostdin", "-v", "quiet", "-threads", "1"),
        *("-protocol_whitelist", "file,pipe", "-format_whitelist", container.format.name),
        *("-i", "file:" + os.path.abspath(path)),
        *("-map", f"0:a:{number}", "-map_metadata", "-1", "-c:a", "pcm_f32le"),
        *("-copyts", "-output_ts_offset", str(_OFFSET_S)),
        *("-f", "nut", "-protocol_whitelist", "pipe", "pipe:1"),
    ]


@contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """ffmpeg for as long as its samples are wanted."""
    libc = ctypes.CDLL(None)  # found before the fork: after it, a thread may hold the loader's lock
    process = subprocess.Popen(
        [os.fsencode(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL),  # noqa: PLW1509
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
