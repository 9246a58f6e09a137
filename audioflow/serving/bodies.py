"""The body of a request, on its way to a file; never more of it in memory than a piece."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from audioflow.serving.limits import MB
from audioflow.serving.refusals import EMPTY, TOO_LARGE, Refusal


@dataclass(frozen=True)
class Body:
    """A body in a file; `sha256` of its bytes tells two of the same content."""

    path: Path
    size_bytes: int
    sha256: str

    def remove(self) -> None:
        """Remove the file, if it is there."""
        self.path.unlink(missing_ok=True)


async def received(
    pieces: AsyncIterator[bytes], headers: Mapping[str, str], folder: Path, max_bytes: int
) -> Body:
    """Write a body into a new file of this folder.

    Raises `Refusal` for an empty one, and for one that is larger than `max_bytes`: at once where
    its header says so, else as soon as so much has come. Nothing is left in the folder then.
    """
    told = headers.get("content-length", "")
    if told.isdigit() and int(told) > max_bytes:
        raise _too_large(max_bytes)
    path, size, digest = folder / uuid4().hex, 0, hashlib.sha256()
    try:
        with path.open("wb") as file:
            async for piece in pieces:
                size += len(piece)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                digest.update(piece)
                file.write(piece)
        if not size:
            raise Refusal(EMPTY, "the request has no body; send the bytes of a media file")
    except BaseException:  # whatever it was, also that the client is gone
        path.unlink(missing_ok=True)
        raise
    return Body(path, size, digest.hexdigest())


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(TOO_LARGE, f"the body is larger than {max_bytes / MB:g} MB, the limit here")
