"""One recording, decoded once, for everything that a shard needs of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audioflow.errors import MediaError
from audioflow.media.container import open_media
from audioflow.media.patches import Patching
from audioflow.media.pictures import FrameSampling, Pictures, read_pictures
from audioflow.media.sound import Sound, Span, read_sound


@dataclass(frozen=True)
class Wanted:
    """What is needed of every clip: sound at these rates (Hz), frames sampled in these ways."""

    sample_rates_hz: tuple[int, ...] = ()
    samplings: tuple[FrameSampling, ...] = ()
    max_duration_s: float = 600.0

    @classmethod
    def of(cls, inputs: Iterable[Patching | FrameSampling], max_duration_s: float) -> "Wanted":
        """What backbones with these inputs need."""
        inputs = list(inputs)
        rates = {item.sample_rate_hz for item in inputs if isinstance(item, Patching)}
        samplings = {item for item in inputs if isinstance(item, FrameSampling)}
        ordered = sorted(samplings, key=lambda item: (item.num_frames, item.short_side))
        return cls(tuple(sorted(rates)), tuple(ordered), max_duration_s)


@dataclass(frozen=True)
class ClipMedia:
    """What was decoded of one clip; a `MediaError` stands where a part gave nothing."""

    sound: Sound | MediaError | None
    pictures: dict[FrameSampling, Pictures | MediaError]


def decode_recording(path: str, spans: Sequence[Span], wanted: Wanted) -> list[ClipMedia]:
    """Decode the clips `spans` of the local file `path`; never raises for bad media."""
    sounds: list[Sound | MediaError | None] = [None] * len(spans)
    pictures: list[dict[FrameSampling, Pictures | MediaError]] = [{} for _ in spans]
    if wanted.sample_rates_hz:
        sounds = list(_sounds(path, spans, wanted))
    for sampling in wanted.samplings:
        for found, picture in zip(pictures, _pictures(path, spans, sampling), strict=True):
            found[sampling] = picture
    return [ClipMedia(sound, found) for sound, found in zip(sounds, pictures, strict=True)]


def _sounds(path: str, spans: Sequence[Span], wanted: Wanted) -> Sequence[Sound | MediaError]:
    try:
        with open_media(path) as container:
            return read_sound(container, spans, wanted.sample_rates_hz, wanted.max_duration_s)
    except MediaError as error:
        return [error] * len(spans)
    except MemoryError:
        return [_out_of_memory()] * len(spans)


def _pictures(
    path: str, spans: Sequence[Span], sampling: FrameSampling
) -> Sequence[Pictures | MediaError]:
    try:
        with open_media(path) as container:
            return read_pictures(path, container, spans, sampling)
    except MediaError as error:
        return [error] * len(spans)
    except MemoryError:
        return [_out_of_memory()] * len(spans)


def _out_of_memory() -> MediaError:
    return MediaError("out_of_memory", "decoding needs more than embed.decode_memory_gb")
