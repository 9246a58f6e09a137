"""What a file says about its own time line, and whether to believe it."""

import re
from pathlib import Path

import av
from av.container import InputContainer

_LOWEST_BITRATE = 400.0
"""Bits per second below which a claimed duration is not believed: no codec goes that low."""

_NO_HEADER_FORMATS = frozenset(
    "aac adts ac3 eac3 dts dtshd mlp truehd amr amrnb amrwb loas latm gsm h264 hevc m4v".split()
)
"""Bare streams: they say no duration, FFmpeg multiplies the bit rate of the first frames."""

_OPEN_ENDED_BYTES = 2**31 - 2**17
"""Data sizes from here up are what programs write that do not know how much will follow."""

JUMPY_FORMATS = frozenset("mpegts mpeg ogg flv asf rm".split())
"""Formats whose clock may be set anew on the way: a broadcast that was cut, a chained stream."""

_LONGEST_JUMP_S = 10.0

_AFTER_CLAIM_S = 1.0
"""How much later than a file claims to end its sound may end: claims are rounded."""


def claimed_duration_s(container: InputContainer, stream: av.stream.Stream) -> float | None:
    """How long the file says that `stream` is; None where it says nothing, or what cannot be."""
    claim = _claim_s(container, stream)
    if claim is None or not 0 < claim <= longest_s(container):
        return None
    return claim


def _claim_s(container: InputContainer, stream: av.stream.Stream) -> float | None:
    name = container.format.name
    if name in _NO_HEADER_FORMATS or (name == "mp3" and not _counts_frames(_path(container))):
        return None
    if name == "wav" and (claim := _pcm_claim_s(container, stream)):
        return claim
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if tag := stream.metadata.get("DURATION"):
        ends_s = _clock_s(tag)
        starts = stream.start_time
        return ends_s - float(starts * stream.time_base) if ends_s and starts else ends_s
    if container.duration and len(container.streams) == 1:
        return float(container.duration / av.time_base)
    return None


def longest_s(container: InputContainer) -> float:
    """The longest duration that a file of this size can have."""
    size_bytes = container.size
    return size_bytes * 8 / _LOWEST_BITRATE if size_bytes > 0 else float("inf")


def start_s(container: InputContainer, stream: av.stream.Stream) -> float:
    """When `stream` begins, on the clock of its time stamps."""
    if stream.start_time is None or not stream.time_base:
        return 0.0
    return _unprimed(container, float(stream.start_time * stream.time_base))


def late_start_s(container: InputContainer, stream: av.stream.Stream) -> float:
    """Seconds from the start of the recording to that of `stream`."""
    if stream.start_time is None or container.start_time is None:
        return 0.0
    begins_s = _unprimed(container, container.start_time / av.time_base)
    late_s = start_s(container, stream) - begins_s
    return late_s if 0 < late_s <= longest_s(container) else 0.0


def _unprimed(container: InputContainer, begins_s: float) -> float:
    """Matroska gives what an encoder puts before its first sample a time stamp below zero."""
    return max(0.0, begins_s) if "matroska" in container.format.name else begins_s


def longest_hole_s(container: InputContainer) -> float:
    """The longest stretch of a track that may be missing; a longer one is a clock set anew."""
    jumpy = JUMPY_FORMATS.intersection(container.format.name.split(","))
    return _LONGEST_JUMP_S if jumpy else float("inf")


def latest_s(container: InputContainer, stream: av.stream.Stream) -> float:
    """The latest time that the sound of `stream` can reach."""
    claim_s = claimed_duration_s(container, stream)
    return longest_s(container) if claim_s is None else claim_s + _AFTER_CLAIM_S


def counts_packets(container: InputContainer) -> bool:
    """Whether time stamps are made by counting packets, so that damage leaves no trace in them."""
    name = container.format.name
    return name == "mp3" or name in _NO_HEADER_FORMATS


def _clock_s(text: str) -> float | None:
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text.strip())
    if not found:
        return None
    hours, minutes, seconds = found.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _path(container: InputContainer) -> Path:
    return Path(container.name.removeprefix("file:"))


def _counts_frames(path: Path) -> bool:
    """Whether an mp3 says how many frames it has; without that its duration is a guess."""
    with path.open("rb") as stream:
        tag = stream.read(10)
        if tag[:3] == b"ID3":  # its size: four bytes of seven bits each
            size = int.from_bytes(tag[6:10], "big")
            parts = (size & 0x7F, size >> 1 & 0x3F80, size >> 2 & 0x1FC000, size >> 3 & 0xFE00000)
            stream.seek(10 + sum(parts))
        else:
            stream.seek(0)
        first = stream.read(4096)
    return any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))


def _pcm_claim_s(container: InputContainer, stream: av.stream.Stream) -> float | None:
    """What the header of a PCM wav says. FFmpeg tells only what is there of a file cut short."""
    codec = stream.codec_context
    size = _wav_data_bytes(_path(container))
    if not codec or not codec.name.startswith("pcm_") or not codec.bit_rate or not size:
        return None
    return size * 8 / codec.bit_rate if size < _OPEN_ENDED_BYTES else None


def _wav_data_bytes(path: Path) -> int | None:
    """The size that the data chunk of a RIFF file claims."""
    with path.open("rb") as stream:
        if stream.read(12)[:4] != b"RIFF":
            return None
        while len(head := stream.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                return size
            stream.seek(size + size % 2, 1)
    return None
