"""Files on web servers: what they are, and their bytes from any place on.

A download goes on where it ended only while the server says that the file is the same: by its ETag,
else by its date (RFC 9110, sections 13.1.5 and 14).
"""

import base64
import contextlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote, urlsplit, urlunsplit

from audioflow.stores import READ_TIMEOUT_S

_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True)
class Version:
    """What a store tells of a file: how large it is, and what changes when its content does."""

    size_bytes: int | None
    tag: str

    @property
    def text(self) -> str:
        """As part of a key."""
        return f"{self.size_bytes} {self.tag}"


class OtherPart(OSError):
    """The bytes that came before cannot be gone on from: the file, or the server, is another."""


@dataclass(frozen=True)
class Answer:
    """The bytes of a file from `start` on, as far as the server followed the request."""

    start: int
    version: Version
    body: Any


def is_web(url: str) -> bool:
    """Whether a url leads to a web server."""
    return url.lower().startswith(("http://", "https://"))


@contextlib.contextmanager
def answer(
    url: str, options: Mapping[str, Any], start: int = 0, known: Version | None = None
) -> Iterator[Answer]:
    """The file from byte `start` on, or from 0 where it changed or the server gives no parts.

    known: what was told of the file when the bytes before were got. Raises `OtherPart` where the
    server gives something that they cannot be gone on with, and other `OSError`.
    """
    request = _request(url, options)
    if start and known is not None:
        request.add_header("Range", f"bytes={start}-")
        if known.tag:
            request.add_header("If-Range", known.tag)
    with _opened(request) as response:
        begun, total = 0, _length(response)
        if response.status == 206:
            found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != start:
                raise OtherPart("the server gave another part of the file than it was asked for")
            begun, total = start, None if found[2] == "*" else int(found[2])
        version = Version(total, _tag(response))
        if begun and known is not None and version.size_bytes != known.size_bytes:
            raise OtherPart("the file changed its size while it was downloaded")
        yield Answer(begun, version, response)


def version_of(url: str, options: Mapping[str, Any]) -> Version:
    """What the server tells of the file; raises `OSError`.

    Asked by GET, without reading the content: signed urls and some servers refuse HEAD.
    """
    with answer(url, options) as found:
        return found.version


def blocks(found: Answer, block_bytes: int) -> Iterator[bytes]:
    """The content in pieces; raises `ConnectionError` where it ends early."""
    got = found.start
    while True:
        try:
            block: bytes = found.body.read(block_bytes)
        except http.client.HTTPException as error:
            raise ConnectionError(f"the connection was cut: {error}") from error
        if not block:
            break
        got += len(block)
        yield block
    if found.version.size_bytes is not None and got < found.version.size_bytes:
        raise ConnectionError(f"only {got} of {found.version.size_bytes} bytes came")


def _request(url: str, options: Mapping[str, Any]) -> urllib.request.Request:
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")
    request = urllib.request.Request(  # noqa: S310 - `is_web` is what leads here
        urlunsplit(parts._replace(netloc=place[2], fragment="")),
        headers={"Accept-Encoding": "identity", "User-Agent": "audioflow"},
    )
    given = {**options.get("headers", {}), **options.get("client_kwargs", {}).get("headers", {})}
    if place[1]:
        secret = base64.b64encode(unquote(place[0]).encode()).decode()
        given["Authorization"] = f"Basic {secret}"
    for name, value in given.items():
        # Not sent on to another host that the server leads to: it may be a password.
        request.add_unredirected_header(name, str(value))
    return request


@contextlib.contextmanager
def _opened(request: urllib.request.Request) -> Iterator[http.client.HTTPResponse]:
    try:
        response = urllib.request.urlopen(request, timeout=READ_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:
                raise OtherPart("the server has no more bytes than came before") from error
            raise
    except urllib.error.URLError as error:
        raise error.reason if isinstance(error.reason, OSError) else error from error
    except http.client.HTTPException as error:
        raise ConnectionError(f"the server's answer is damaged: {error}") from error
    with response:
        yield cast("http.client.HTTPResponse", response)


def _length(response: http.client.HTTPResponse) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _tag(response: http.client.HTTPResponse) -> str:
    """The strong ETag, else the date of the last change, else nothing."""
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return str(tag)
    return str(response.headers.get("Last-Modified", ""))
