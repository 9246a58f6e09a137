"""`pyav`: sound by PyAV (FFmpeg's libraries, in this process), pictures by decord or PyAV."""

from collections.abc import Callable, Iterator, Sequence

from av.container import InputContainer

from audioflow.errors import MediaError
from audioflow.media.container import open_media
from audioflow.media.parts import End, FrameSampling, Part, Source, Wanted
from audioflow.media.pictures import read_pictures
from audioflow.media.sound import read_sound
from audioflow.media.spans import Span
from audioflow.registry import Settings as NoSettings

SoundReading = Callable[[str, InputContainer, Sequence[Span], Wanted], Iterator[Part]]


class PyAV:
    """The usual decoder: needs no program on the machine."""

    Settings = NoSettings

    def __init__(self, settings: NoSettings) -> None:
        pass

    def decode(self, path: str, spans: Sequence[Span], wanted: Wanted) -> Iterator[Part]:
        """As `Decoder.decode`."""
        return decode_with(read_sound, path, spans, wanted)


def decode_with(
    sound: SoundReading, path: str, spans: Sequence[Span], wanted: Wanted
) -> Iterator[Part]:
    """Sound in the way that is given, then pictures."""
    if wanted.sample_rates_hz:

        def read(container: InputContainer) -> Iterator[Part]:
            return sound(path, container, spans, wanted)

        yield from _opened(path, read, len(spans), wanted.sample_rates_hz)
    for sampling in wanted.samplings:

        def look(container: InputContainer, sampling: Source = sampling) -> Iterator[Part]:
            assert isinstance(sampling, FrameSampling)
            return read_pictures(path, container, spans, sampling, wanted)

        yield from _opened(path, look, len(spans), (sampling,))


def _opened(
    path: str,
    read: Callable[[InputContainer], Iterator[Part]],
    num_clips: int,
    sources: Sequence[Source],
) -> Iterator[Part]:
    """The parts of some sources; what goes wrong is the end of all that has not ended before."""
    left = {(clip, source): None for clip in range(num_clips) for source in sources}
    try:
        with open_media(path) as container:
            for part in read(container):
                if isinstance(part, End):
                    left.pop((part.clip, part.source), None)
                yield part
            return
    except MediaError as error:
        failure = error
    except MemoryError:
        why = "decoding needs more than embed.decode_memory_gb"
        failure = MediaError("out_of_memory", why)
    for clip, source in left:
        yield End(clip, source, error=failure)
