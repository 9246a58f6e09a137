"""A Ray that is there already: how it is found, let in by, and joined.

Nothing here imports Ray before it has to: the mode of authentication is read by `import ray`.
"""

import os
import socket
from pathlib import Path
from typing import Any

_CONNECT_S = 5.0
_RAY_ADDRESS = "RAY_ADDRESS"


class NoRayError(ConnectionError):
    """No Ray can be joined at `where`: why."""

    def __init__(self, where: str, why: str) -> None:
        self.where = where
        self.why = why
        super().__init__(f"no Ray answers at {where}: {why}")


def set_auth_mode() -> None:
    """Settle how this process authenticates to a Ray that it joins, unless the user has; before
    Ray is imported.

    A cluster started without a mode uses a token where the user has one, and none elsewhere; a
    client has to say the same to be let in.
    """
    token = Path("~/.ray/auth_token").expanduser()
    has_token = token.exists() or bool(os.environ.get("RAY_AUTH_TOKEN"))
    os.environ.setdefault("RAY_AUTH_MODE", "token" if has_token else "disabled")


def silence(address: str) -> str:
    """Why nothing listens at `host:port`; "" where something does. Ray itself tries for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if not host or not port.isdigit():
        return ""
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def joined(address: str, **options: Any) -> bool:
    """Join the Ray at an address, or with `auto` the one that is there; False where `auto` finds
    none.

    options: of `ray.init`. Raises `NoRayError` where one is named, here or by `$RAY_ADDRESS`, that
    does not answer, and where one is there that does not let this process in.
    """
    set_auth_mode()
    import ray

    given = os.environ.get(_RAY_ADDRESS, "") if address == "auto" else ""
    if given == "local":
        return False
    named = given if given != "auto" else ""
    where = f"{named} (RAY_ADDRESS)" if named else address
    wanted = named or (address if address != "auto" else "")
    if wanted and (why := silence(wanted)):
        raise NoRayError(where, why)
    if named.startswith(("http://", "https://")):
        raise NoRayError(
            where, "it is the address of a dashboard, where `audioflow submit` sends jobs to"
        )
    try:
        ray.init(address=address, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        there = wanted or _current()
        if not wanted and (not there or silence(there)):
            return False
        told = str(error).strip().partition("\n")[0]
        raise NoRayError(where if wanted else there, f"{told} ({_let_in()})") from error
    return True


def _current() -> str:
    """The address of the Ray that was started last on this machine; "" where none is known."""
    from ray._private.services import find_bootstrap_address, find_gcs_addresses

    return str(find_bootstrap_address(None) or next(iter(find_gcs_addresses()), ""))


def _let_in() -> str:
    mode = os.environ["RAY_AUTH_MODE"]
    if mode == "token":
        return "RAY_AUTH_MODE is token: has RAY_AUTH_TOKEN, or ~/.ray/auth_token, the cluster's?"
    return (
        f"RAY_AUTH_MODE is {mode}: where the cluster asks for a token, set it to token, and "
        "RAY_AUTH_TOKEN or ~/.ray/auth_token to that of the cluster"
    )
