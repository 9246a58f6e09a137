"""Access to a store is tried again where the error may pass, with growing waits."""

import errno
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Result = TypeVar("Result")
Nature = Literal["passing", "not_found", "permission", "lasting"]


@dataclass(frozen=True)
class Retrying:
    """How often, and how long, something is tried.

    Waits double from `first_wait_s` to `most_wait_s`, each shortened by up to a half at random, so
    that many workers do not come back at once. No attempt begins later than `patience_s` after the
    first: with the time that one attempt may take, that bounds the whole.
    """

    attempts: int = 5
    first_wait_s: float = 2.0
    most_wait_s: float = 16.0
    patience_s: float = 120.0

    def wait_s(self, attempt: int) -> float:
        """Seconds to wait after the failed attempt of this number, counted from 1."""
        longest = min(self.first_wait_s * 2.0 ** (attempt - 1), self.most_wait_s)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret is made of it


MEDIA = Retrying()
"""About half a minute of waiting: after it, the recording is a failure and the run goes on."""
TABLES = Retrying(attempts=9, first_wait_s=1.0, most_wait_s=30.0, patience_s=150.0)
"""About two minutes: without its tables a run can only stop."""


class AccessFailed(Exception):
    """Access failed for good: the last `error`, what it means, and how many attempts were made."""

    def __init__(self, error: Exception, attempts: int) -> None:
        self.error = error
        self.nature = nature(error)
        self.attempts = attempts
        super().__init__(f"{cause(error)} (attempts: {attempts})")

    @property
    def after(self) -> str:
        """For a message: ` after 5 attempts`, or nothing where there was one."""
        return f" after {self.attempts} attempts" if self.attempts > 1 else ""


@dataclass(frozen=True)
class Wait:
    """Access to `what` has failed for some seconds already, and is tried again."""

    what: str
    error: Exception
    attempt: int
    retrying: Retrying

    @property
    def text(self) -> str:
        """In words; urls as they are, so it is masked before it is shown."""
        named = f"{self.what}: " if self.what else ""
        tries = f"attempt {self.attempt} of {self.retrying.attempts}"
        return f"{named}{cause(self.error)}; it is tried again ({tries} failed)"


_hearers: list[Callable[[Wait], None]] = []
_UNTOLD_S = 2.0


@contextmanager
def hearing_waits(hearer: Callable[[Wait], None]) -> Iterator[None]:
    """While it lasts, `hearer` is told in this process, by any thread, of what is waited for."""
    _hearers.append(hearer)
    try:
        yield
    finally:
        _hearers.remove(hearer)


def retried(action: Callable[[], Result], retrying: Retrying, what: str = "") -> Result:
    """What `action` returns; it is called again while its error may pass.

    what: the file or folder, for those who hear of waits. Raises `AccessFailed` for an error of a
    store or of the system; other exceptions as they are.
    """
    begun = time.monotonic()
    for attempt in itertools.count(1):
        try:
            return action()
        except access_errors() as error:
            wait_s = retrying.wait_s(attempt)
            late = time.monotonic() + wait_s - begun > retrying.patience_s
            if attempt >= retrying.attempts or late or nature(error) != "passing":
                raise AccessFailed(error, attempt) from error
            if time.monotonic() + wait_s - begun >= _UNTOLD_S:
                for hearer in tuple(_hearers):
                    hearer(Wait(what, error, attempt, retrying))
        time.sleep(wait_s)
    raise AssertionError("unreachable")


def access_errors() -> tuple[type[Exception], ...]:
    """What access to a file may raise: `OSError`, and the like of the store libraries in use."""
    return (OSError, *_loaded(_LIBRARY_ERRORS))


def cause(error: Exception) -> str:
    """Why access failed, in words, without the path that the message around it names."""
    behind = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(behind, Exception):
        error = error if nature(error) == "not_found" else behind
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def nature(error: BaseException) -> Nature:
    """Whether an error of a store may pass, or what else it means."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        # Some libraries say so whatever went wrong, with the error itself behind it.
        behind = nature(error.__cause__) if error.__cause__ else "not_found"
        unsure = behind == "lasting" and not isinstance(error.__cause__, TypeError)
        return "not_found" if unsure else behind
    code, status = _answer(error)
    if code in _NO_BUCKET or status in (404, 410):
        return "not_found"
    if isinstance(error, PermissionError) or code in _DENIED or status in (401, 403):
        return "permission"
    if isinstance(error, _loaded(_BAD_CREDENTIALS)):
        return "permission"
    if isinstance(error, _loaded((("botocore.exceptions", "ParamValidationError"),))):
        return "not_found"  # a bucket of that name cannot exist
    return "passing" if _may_pass(error, code, status) else "lasting"


def _may_pass(error: BaseException, code: str, status: int) -> bool:
    if code in _BUSY or status in _BUSY_STATUS:
        return True
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return False
    if status:
        return False  # an answer that is no error of the server
    if isinstance(error, TimeoutError | ConnectionError | EOFError):
        return True
    if isinstance(error, _loaded(_PASSING)):
        return not isinstance(error, ValueError)  # aiohttp's InvalidURL is both
    return isinstance(error, OSError) and error.errno in _PASSING_NUMBERS


def _answer(error: BaseException) -> tuple[str, int]:
    """The store's own error code and its HTTP status, behind whatever wraps them; "" and 0."""
    for each in _chain(error):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return str(response.get("Error", {}).get("Code", "")), int(status)
        number = getattr(each, "status", None)
        if isinstance(number, int):
            return "", number
    return "", 0


def _chain(error: BaseException) -> Iterator[BaseException]:
    each: BaseException | None = error
    for _ in range(10):  # a chain may be a circle
        if each is None:
            return
        yield each
        each = each.__cause__


def _loaded(names: tuple[tuple[str, str], ...]) -> tuple[Any, ...]:
    """The classes of those names whose modules are in use: what is not loaded raises nothing."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in names)
    return tuple(kind for kind in found if kind is not None)


_LIBRARY_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("botocore.parsers", "ResponseParserError"),
    ("aiohttp", "ClientError"),
    ("google.auth.exceptions", "GoogleAuthError"),
)
_PASSING = (
    ("botocore.exceptions", "HTTPClientError"),
    ("botocore.exceptions", "ConnectionError"),
    ("botocore.exceptions", "IncompleteReadError"),
    ("botocore.exceptions", "MetadataRetrievalError"),
    ("botocore.exceptions", "CredentialRetrievalError"),
    ("botocore.exceptions", "ChecksumError"),
    ("botocore.exceptions", "FlexibleChecksumError"),
    # An overloaded server or a proxy before it may answer with a page that is no XML.
    ("botocore.parsers", "ResponseParserError"),
    ("aiohttp", "ClientError"),
    ("google.auth.exceptions", "TransportError"),
)
_BAD_CREDENTIALS = (
    ("botocore.exceptions", "NoCredentialsError"),
    ("botocore.exceptions", "PartialCredentialsError"),
    ("botocore.exceptions", "ProfileNotFound"),
    ("botocore.exceptions", "TokenRetrievalError"),
    ("botocore.exceptions", "SSOError"),
    ("google.auth.exceptions", "DefaultCredentialsError"),
    ("google.auth.exceptions", "RefreshError"),
)
_NO_BUCKET = frozenset("NoSuchBucket NoSuchKey InvalidBucketName 404".split())
_DENIED = frozenset(
    "AccessDenied AuthorizationHeaderMalformed CredentialsNotSupported ExpiredToken"
    " InvalidAccessKeyId InvalidSecurity InvalidToken RequestTimeTooSkewed SignatureDoesNotMatch"
    " TokenRefreshRequired".split()
)
_BUSY = frozenset(
    "BadDigest BandwidthLimitExceeded IncompleteBody InternalError OperationAborted"
    " PriorRequestNotComplete RequestLimitExceeded RequestThrottled RequestTimeout"
    " RequestTimeoutException ServiceUnavailable SlowDown Throttling ThrottlingException"
    " TooManyRequestsException XAmzContentSHA256Mismatch".split()
)
_BUSY_STATUS = frozenset((408, 425, 429, 500, 502, 503, 504, 509))
_PASSING_NUMBERS = frozenset(
    getattr(errno, name)
    for name in (
        "EIO EAGAIN EBUSY EINTR EREMOTEIO ESTALE ETIMEDOUT EHOSTDOWN EHOSTUNREACH ENETDOWN"
        " ENETRESET ENETUNREACH"
    ).split()
    if hasattr(errno, name)  # not every system has all of them
)
