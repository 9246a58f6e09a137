"""Why a request gets no scores: the status, and a JSON body with the error class and the reason."""

import math
from collections.abc import Mapping
from typing import Any

from audioflow.errors import MediaError

LOADING, OVERLOADED, UNAVAILABLE = "loading", "overloaded", "unavailable"
EMPTY, TOO_LARGE, NOT_FOUND, WRONG_METHOD = "empty", "too_large", "not_found", "method_not_allowed"
SLOW_UPLOAD, TIMEOUT, INTERNAL = "upload_timeout", "timeout", "internal"

STATUS = {
    EMPTY: 400,
    NOT_FOUND: 404,
    WRONG_METHOD: 405,
    SLOW_UPLOAD: 408,
    TOO_LARGE: 413,
    INTERNAL: 500,
    LOADING: 503,
    OVERLOADED: 503,
    UNAVAILABLE: 503,
    TIMEOUT: 504,
}
"""Error classes of the server itself, and the status that each has."""

BAD_MEDIA = 422
"""The status of a body that could be received, but not scored: its class is one of those that
`audioflow failures` shows."""


class Refusal(Exception):
    """A request that gets no scores, because of `error` and `reason`.

    retry_after_s: when it may be tried again. allow: the methods that its path has.
    """

    def __init__(
        self,
        error: str,
        reason: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        allow: str = "",
    ) -> None:
        super().__init__(f"{error}: {reason}")
        self.error, self.reason = error, reason
        self.status = STATUS[error] if status is None else status
        self.retry_after_s, self.allow = retry_after_s, allow

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"error": self.error, "reason": self.reason}

    @property
    def headers(self) -> Mapping[str, str]:
        """Of the answer, beside the usual ones."""
        found = {}
        if self.retry_after_s is not None:
            found["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.allow:
            found["Allow"] = self.allow
        return found


def of_media(error: MediaError) -> Refusal:
    """What a client is told of media that cannot be scored: `internal` is not its doing, nor is
    `killed`, which may pass."""
    if error.error == "killed":
        return Refusal(UNAVAILABLE, error.reason, retry_after_s=1)
    status = STATUS[INTERNAL] if error.error == INTERNAL else BAD_MEDIA
    return Refusal(error.error, error.reason, status=status)
