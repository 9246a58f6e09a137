"""Opening a media file: what may be opened, and why it could not be.

Nothing but the file itself is ever opened: formats that point at other files or hosts (playlists,
concat lists, streaming manifests) are left out of the list of formats that FFmpeg may recognise.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.stream import Discard

from audioflow.errors import MediaError
from audioflow.media.references import external_reference

# Formats that read other files or hosts, devices, text, or one file per picture.
_REFUSED_FORMATS = frozenset(
    """hls applehttp dash concat sdp rtsp rtp rtp_mpegts sap lavfi fbdev alsa oss kmsgrab image2
    video4linux2 v4l2 xcbgrab x11grab smoothstreaming imf webm_dash_manifest ffmetadata tedcaptions
    tty ass srt webvtt microdvd mpl2 subviewer subviewer1 vplayer sami realtext stl jacosub pjs
    mpsub lrc scc aqtitle sup bin adf idf data vobsub mlv svg_pipe sbg avisynth vapoursynth libgme
    libopenmpt dvdvideo""".split()
)
_PLAYLIST = re.compile(
    rb"(\xef\xbb\xbf)?\s*"
    rb"(#EXTM3U|ffconcat|\[playlist\]|\[reference\]|v=0\r?\n|# VobSub index file|"
    rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(MPD|SmoothStreamingMedia|smil|asx)\b)",
    re.I | re.S,
)


_TRIES = 64
"""How often FFmpeg may find the container damaged in a row, before the rest is given up."""


@cache
def _formats() -> str:
    """Names of the formats that may be recognised. One format may have several: "mov,mp4,m4a"."""
    return ",".join(
        sorted(
            names for names in av.formats_available if _REFUSED_FORMATS.isdisjoint(names.split(","))
        )
    )


@contextmanager
def open_media(path: str) -> Iterator[InputContainer]:
    """Open a local media file for reading.

    Raises `MediaError`: `not_found`, `permission`, `empty`, `refused`, `truncated`, `not_media`,
    `unsupported`, `network`; and MemoryError.
    """
    head = _head(path)
    if _PLAYLIST.match(head):
        raise MediaError("refused", "it is a playlist or manifest that points at other files")
    if kind := external_reference(path, head):
        why = f"its media lies in another file (a data reference of the kind {kind!r})"
        raise MediaError("refused", why)
    options = {"protocol_whitelist": "file", "format_whitelist": _formats()} | _probing(head)
    try:
        container = av.open(
            "file:" + os.path.abspath(path), options=options, metadata_errors="ignore"
        )
    except MemoryError:
        raise
    except (av.error.FFmpegError, ValueError) as error:
        raise _open_error(error, head) from error
    with container:
        yield container


def _probing(head: bytes) -> dict[str, str]:
    """How far FFmpeg looks into a wav file for DTS, which may stand there as if it were PCM.

    Left alone it puts every format to up to 5 MB of samples, 18 of the 26 ms that opening a clip of
    5 s took; DTS shows within four packets (16 KiB), unless silence comes first.
    """
    is_wav = head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE"
    return {"max_probe_packets": "4"} if is_wav and any(head[-1024:]) else {}


def _head(path: str) -> bytes:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
            raise MediaError("refused", f"it is {what}, not a regular file")
        with Path(path).open("rb") as stream:
            head = stream.read(4096)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
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


def packets(container: InputContainer, stream: av.stream.Stream) -> Iterator[av.Packet]:
    """The packets of one track in file order, then an empty one to drain its decoder.

    Damage in the container is passed over, as long as packets follow it. Those of other tracks are
    not even read, where the format allows it.
    """
    for other in container.streams:
        other.discard = Discard.default if other.index == stream.index else Discard.all
    in_vain = 0
    while True:
        try:
            for packet in container.demux(stream):
                in_vain = 0
                yield packet
            return
        except IndexError:
            return  # PyAV ends so where tracks turned up that were not there at the start (MPEG-TS)
        except (av.error.InvalidDataError, av.error.BlockingIOError):
            in_vain += 1
            if in_vain > _TRIES:
                raise


def message(error: Exception) -> str:
    """FFmpeg's own words for an error, without the path (which may be a temporary one)."""
    return str(getattr(error, "strerror", None) or error)
