"""Opening a media file: what may be opened, what it claims, and why it could not be.

Nothing but the file itself is ever opened: formats that point at other files or hosts (playlists,
concat lists, streaming manifests) are left out of the list of formats that FFmpeg may recognise.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import av
import av.error
from av.container import InputContainer

from audioflow.errors import MediaError

# Formats that read other files or hosts, devices, or one file per picture.
_REFUSED_FORMATS = frozenset(
    """hls applehttp dash concat sdp rtsp rtp rtp_mpegts sap lavfi fbdev alsa oss kmsgrab image2
    video4linux2,v4l2 xcbgrab x11grab smoothstreaming imf webm_dash_manifest ffmetadata tedcaptions
    tty ass srt webvtt microdvd mpl2 subviewer subviewer1 vplayer sami realtext stl jacosub pjs
    mpsub lrc scc aqtitle sup bin adf idf data""".split()
)
_PLAYLIST = re.compile(
    rb"\s*(#EXTM3U|ffconcat|\[playlist\]|<\?xml[^>]*>\s*<(MPD|Smooth)|v=0\r?\n)", re.I
)
_LOWEST_BITRATE = 400.0
"""Bits per second below which a claimed duration is not believed: no codec goes that low."""


@cache
def _formats() -> str:
    return ",".join(sorted(set(av.formats_available) - _REFUSED_FORMATS))


@contextmanager
def open_media(path: str) -> Iterator[InputContainer]:
    """Open a local media file for reading.

    Raises `MediaError`: `not_found`, `permission`, `empty`, `refused`, `truncated`, `not_media`,
    `unsupported`.
    """
    head = _head(path)
    if _PLAYLIST.match(head):
        raise MediaError("refused", "it is a playlist or manifest that points at other files")
    options = {"protocol_whitelist": "file", "format_whitelist": _formats()}
    try:
        container = av.open(
            "file:" + os.path.abspath(path), options=options, metadata_errors="ignore"
        )
    except (av.error.FFmpegError, ValueError, UnicodeError) as error:
        raise _open_error(error, head) from error
    with container:
        yield container


def _head(path: str) -> bytes:
    try:
        with Path(path).open("rb") as stream:
            head = stream.read(4096)
    except FileNotFoundError as error:
        raise MediaError("not_found", "the file does not exist") from error
    except PermissionError as error:
        raise MediaError("permission", "this user may not read the file") from error
    except OSError as error:
        raise MediaError("network", f"the file could not be read: {error.strerror}") from error
    if not head:
        raise MediaError("empty", "the file has 0 bytes")
    return head


def _open_error(error: Exception, head: bytes) -> MediaError:
    if isinstance(error, av.error.PatchWelcomeError | av.error.DecoderNotFoundError):
        return MediaError("unsupported", f"FFmpeg has no support for it: {message(error)}")
    if head[4:8] == b"ftyp":
        return MediaError("truncated", "the index of the mp4/mov file (moov) is missing or damaged")
    return MediaError("not_media", f"FFmpeg does not recognise it: {message(error)}")


def message(error: Exception) -> str:
    """FFmpeg's own words for an error, without the path (which may be a temporary one)."""
    return str(getattr(error, "strerror", None) or error)


def claimed_duration_s(container: InputContainer, stream: av.stream.Stream) -> float | None:
    """How long the file says that `stream` is; None where it does not say, or says what cannot be."""
    claim = None
    if stream.duration and stream.time_base:
        claim = float(stream.duration * stream.time_base)
    elif tag := stream.metadata.get("DURATION"):
        claim = _clock_s(tag)
        if claim is not None and stream.start_time and stream.time_base:
            claim -= float(stream.start_time * stream.time_base)  # the tag tells when it ends
    elif container.duration and len(container.streams) == 1:
        claim = container.duration / av.time_base
    if not claim or claim <= 0:
        return None
    size_bytes = container.size
    if size_bytes > 0 and size_bytes * 8 / claim < _LOWEST_BITRATE:
        return None
    return claim


def _clock_s(text: str) -> float | None:
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text.strip())
    if not found:
        return None
    hours, minutes, seconds = found.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
