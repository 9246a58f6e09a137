"""The dashboard of a cluster, which takes jobs: where it is, and whether it answers."""

import contextlib
import errno
import os
import re
import ssl
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from audioflow.engine.joining import silence
from audioflow.errors import InputError

ANSWER_S = 30.0
"""How long an answer may take; that of a busy head takes seconds."""

_CONNECT_S = 10.0
_PORT = 8265
_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Where Ray looks for an address, in this order, before it takes the one that it is given."""

_HELP = (
    "give the address of the dashboard with --address or RAY_API_SERVER_ADDRESS, "
    "as http://HEAD:8265"
)


def dashboard_url(address: str | None) -> str:
    """The url of a dashboard, from the forms in which people have it, also as a browser shows it.

    Raises `InputError` for what cannot be one.
    """
    found = (address or next(filter(None, map(os.environ.get, _ADDRESSES)), None) or "").strip()
    if not found or found == "auto":
        return f"http://127.0.0.1:{_PORT}"
    given, known = found.partition("://")[::2] if "://" in found else ("http", found)
    scheme = given.lower()
    host, slash, path = re.split("[?#]", known, maxsplit=1)[0].partition("/")
    try:
        parts = urlsplit(f"//{host}")
        port, named = parts.port, bool((parts.hostname or "").encode("idna"))
    except ValueError:
        port, named = None, False
    if scheme not in ("http", "https") or not named:
        raise InputError(f"{found!r} is no address of a dashboard; {_HELP}")
    if scheme == "http" and port is None:
        host = f"{host.rstrip(':')}:{_PORT}"
    return f"{scheme}://{host}{slash}{path}".rstrip("/")


def connected(address: str) -> Any:
    """Ray's client for a dashboard. What it asks raises `OSError` where no answer comes in time, or
    where this client is not let in; sending a folder may take as long as it takes.

    Raises `InputError` where no jobs are taken. The mode of authentication has to be settled
    before, since Ray reads it when it is imported.
    """
    if why := _refusal(address):
        raise InputError(f"no Ray answers at {address}: {why}; {_HELP}{_nearby(address, why)}")

    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def _do_request(self, method: str, endpoint: str, **named: Any) -> Any:
            if method == "GET" or endpoint.endswith("/stop"):
                named.setdefault("timeout", (_CONNECT_S, ANSWER_S))
            try:
                return super()._do_request(method, endpoint, **named)
            except AuthenticationError as error:
                raise PermissionError(str(error)) from error

    try:
        with without(_ADDRESSES):
            return Client(address)
    except AuthenticationError as error:
        raise not_let_in(address, error) from error
    except (RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable(address, error) from error


def _unusable(address: str, error: Exception) -> InputError:
    """Why what listens there is of no use, by what the first request came to."""
    from requests.exceptions import Timeout

    if isinstance(error, PermissionError):
        return not_let_in(address, error)
    if isinstance(error, Timeout):
        return InputError(
            f"something listens at {address}, and does not answer within {ANSWER_S:g} s: it is no "
            f"dashboard of Ray, or one that hangs; {_HELP}"
        )
    if isinstance(error, ConnectionError):
        causes = list(_causes(error))
        told = f"no Ray answers at {address}: {said(causes[-1])}"
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            told += (
                ". A dashboard itself speaks http; behind https, REQUESTS_CA_BUNDLE names the "
                "certificates that are trusted"
            )
        return InputError(f"{told}; {_HELP}")
    known = isinstance(error, RuntimeError) or (
        isinstance(error, OSError) and not isinstance(error, ValueError)
    )
    why = said(error) if known else "it names no version of Ray"
    return InputError(f"what answers at {address} is no dashboard that takes jobs: {why}; {_HELP}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    inner: BaseException | None = error
    while inner is not None:
        yield inner
        inner = inner.__cause__ or inner.__context__


def _refusal(address: str) -> str:
    """Why nothing listens at a url; "" where something does, or where a proxy has to know."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    if getproxies().keys() & {parts.scheme, "all"} and not proxy_bypass(host):
        return ""
    return silence(f"[{host}]:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}")


def _nearby(address: str, why: str) -> str:
    """What to do where a machine is there, and lets nobody in."""
    if why != os.strerror(errno.ECONNREFUSED):
        return ""
    port = urlsplit(address).port or _PORT
    return (
        ". A dashboard listens on its own machine alone, unless Ray was started there by "
        "`ray start --head --dashboard-host=0.0.0.0`; else it is reached by "
        f"`ssh -L {port}:127.0.0.1:{port} HEAD`, as http://127.0.0.1:{port}"
    )


@contextlib.contextmanager
def without(names: Sequence[str]) -> Iterator[None]:
    """While it lasts, the environment has none of these variables."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def not_let_in(address: str, error: Exception) -> InputError:
    """What who lacks the token of a cluster is told."""
    return InputError(
        f"{address} does not let this client in (RAY_AUTH_MODE is "
        f"{os.environ.get('RAY_AUTH_MODE')}): {said(error)}. "
        "Set RAY_AUTH_MODE=token, and the token of the cluster in ~/.ray/auth_token, in the "
        "file at RAY_AUTH_TOKEN_PATH, or in RAY_AUTH_TOKEN"
    )


def said(error: BaseException) -> str:
    """The first line that says something, or of a traceback the last; without a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" .")]
    if not lines:
        return type(error).__name__
    traced = any("Traceback (most recent call last)" in line for line in lines)
    return lines[-1 if traced else 0].rstrip(" .")
