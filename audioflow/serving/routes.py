"""Which paths there are, and what each does."""

from typing import Literal

from audioflow.serving.refusals import NOT_FOUND, WRONG_METHOD, Refusal

Action = Literal["ping", "info", "parameters", "score"]

ROUTES: dict[str, tuple[Action, tuple[str, ...]]] = {
    "/": ("info", ("GET", "HEAD")),
    "/info": ("info", ("GET", "HEAD")),
    "/ping": ("ping", ("GET", "HEAD")),
    "/execution-parameters": ("parameters", ("GET", "HEAD")),
    "/invocations": ("score", ("POST",)),
}
"""Path -> what it does, and the methods it takes."""


def action_of(method: str, path: str) -> Action:
    """What a request asks for. Raises `Refusal` for a path or a method that is not there."""
    known = ROUTES.get(path if path == "/" else path.rstrip("/"))
    if known is None:
        listed = ", ".join(ROUTES)
        raise Refusal(NOT_FOUND, f"there is no {path[:80]!r} here; there are {listed}")
    action, methods = known
    if method not in methods:
        allowed = ", ".join(methods)
        raise Refusal(WRONG_METHOD, f"{path} takes {allowed}, got {method[:20]}", allow=allowed)
    return action
