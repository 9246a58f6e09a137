"""The replica that talks HTTP: it takes bodies in, decodes them, and asks the scorers.

It holds no network and no weights, so that it is there at once, and says so while others load.
"""

import asyncio
import json
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ray import serve
from ray.exceptions import ActorUnavailableError, RayActorError, RayError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
)
from ray.serve.handle import DeploymentHandle
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from audioflow.engine.serve_asked import SCORER, Asked
from audioflow.errors import MediaError
from audioflow.media.parts import End, Part, Wanted
from audioflow.serving import refusals
from audioflow.serving.answers import About, answer
from audioflow.serving.bodies import Body, received
from audioflow.serving.decoding import Decoders
from audioflow.serving.limits import MB, Limits
from audioflow.serving.refusals import Refusal
from audioflow.serving.routes import action_of
from audioflow.serving.tally import Lately, Tally

_LOOK_EVERY_S = 0.5
_GONE = (ActorUnavailableError, RayActorError, DeploymentUnavailableError)
_AGAIN_S = 5.0
"""When to come back while networks load, or a lost replica is replaced."""


@dataclass(frozen=True)
class FrontTask:
    """What is served, what of the media it needs, the limits, and what else is told at `/info`."""

    about: About
    wanted: Wanted
    limits: Limits
    versions: Mapping[str, str]


class FrontReplica:
    """Answers requests; as many at once as the limits say."""

    def __init__(self, task: FrontTask, scorer: DeploymentHandle[Any]) -> None:
        self._task = task
        self._scorer = scorer
        self._tally = Tally()
        self._ready = self._stopping = False
        self._folder = tempfile.TemporaryDirectory(prefix="audioflow-serve-")
        self._decoders = Decoders(task.wanted, task.limits)
        self._threads = ThreadPoolExecutor(task.limits.decoders)
        threading.Thread(target=self._watch, daemon=True).start()

    def __del__(self) -> None:
        """Ray Serve calls this when a replica is to end."""
        self._decoders.close()
        self._folder.cleanup()

    def _watch(self) -> None:
        """Look, again and again, whether a scorer is there."""
        app = serve.get_replica_context().app_name
        while True:
            with suppress(RayError, RayServeException):  # it is asked again
                told = serve.status().applications.get(app)
                scorer = told.deployments.get(SCORER) if told else None
                running = scorer.replica_states if scorer else {}
                self._ready = bool(running.get("RUNNING"))
            time.sleep(_LOOK_EVERY_S)

    async def drain(self) -> None:
        """Take no more requests, and wait until none is in hand."""
        self._stopping = True
        while self._tally.waiting:
            await asyncio.sleep(0.02)

    async def lately(self) -> Lately:
        """What was done since this was asked the last time."""
        return self._tally.look()

    async def __call__(self, request: Request) -> Response:
        """The answer to any request."""
        path = request.url.path.removeprefix(request.scope.get("root_path", "")) or "/"
        try:
            action = action_of(request.method, path)
            if action == "ping":
                self._refuse_unless_ready()
                return _json(200, {"status": "ready"})
            if action == "info":
                return _json(200, self._info())
            if action == "parameters":
                return _json(200, self._parameters())
            return _json(200, await self._scored(request))
        except Refusal as refusal:
            if request.method == "POST":
                self._tally.refused(refusal.error)
            return _json(refusal.status, refusal.body, refusal.headers)

    def _refuse_unless_ready(self) -> None:
        if self._stopping:
            raise Refusal(
                refusals.UNAVAILABLE, "the server is being stopped", retry_after_s=_AGAIN_S
            )
        if not self._ready:
            raise Refusal(refusals.LOADING, "the networks are being loaded", retry_after_s=_AGAIN_S)

    def _info(self) -> dict[str, Any]:
        limits = self._task.limits
        shown = ("max_body_bytes", "max_duration_s", "timeout_s", "max_waiting")
        about = asdict(self._task.about)
        about["classes"] = about.pop("shown") or about["classes"]
        return about | {
            "ready": self._ready,
            "in_hand": self._tally.waiting,
            "limits": {name: getattr(limits, name) for name in shown},
            "versions": dict(self._task.versions),
        }

    def _parameters(self) -> dict[str, Any]:
        """What a batch transform of SageMaker asks for."""
        limits = self._task.limits
        return {
            "MaxConcurrentTransforms": limits.max_waiting,
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": max(1, limits.max_body_bytes // MB),
        }

    async def _scored(self, request: Request) -> dict[str, Any]:
        """The answer to a body; raises `Refusal` where there is none."""
        began, limits = time.monotonic(), self._task.limits
        self._refuse_unless_ready()
        if self._tally.waiting >= limits.max_waiting:
            raise Refusal(
                refusals.OVERLOADED,
                f"{self._tally.waiting} requests are in hand already, the most here",
                retry_after_s=1,
            )
        self._tally.waiting += 1
        try:
            body = await self._body(request, began + limits.timeout_s)
            try:
                scored = await self._of_body(body, began + limits.timeout_s)
            finally:
                body.remove()
        finally:
            self._tally.waiting -= 1
        self._tally.answered(time.monotonic() - began)
        return scored

    async def _body(self, request: Request, until: float) -> Body:
        limits = self._task.limits
        try:
            async with asyncio.timeout(until - time.monotonic()):
                folder = Path(self._folder.name)
                return await received(
                    request.stream(), request.headers, folder, limits.max_body_bytes
                )
        except TimeoutError:
            reason = f"the body had not come after {limits.timeout_s:g} s, the limit here"
            raise Refusal(refusals.SLOW_UPLOAD, reason) from None
        except ClientDisconnect:
            raise Refusal(refusals.SLOW_UPLOAD, "the client went away") from None

    async def _of_body(self, body: Body, until: float) -> dict[str, Any]:
        limits = self._task.limits
        try:
            async with asyncio.timeout(until - time.monotonic()):
                parts = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._decoders.decode, str(body.path), until
                )
                found = _refused(parts) or await self._ask(body, parts, until)
        except TimeoutError:
            reason = f"there were no scores after {limits.timeout_s:g} s, the limit here"
            raise Refusal(refusals.TIMEOUT, reason) from None
        except MediaError as error:
            found = error
        if isinstance(found, MediaError):
            raise refusals.of_media(_without(body, found))
        return answer(self._task.about, found)

    async def _ask(self, body: Body, parts: list[Part], until: float) -> Any:
        """What the scorers say."""
        left_s = until - time.monotonic()
        asked = Asked(body.sha256, parts, time.time() + left_s)
        response = self._scorer.score.remote(asked)
        try:
            return await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        except BackPressureError:
            reason = "the scorers have more to do than they can take"
            raise Refusal(refusals.OVERLOADED, reason, retry_after_s=1) from None
        except _GONE:
            reason = "the process that had this request in hand was lost; try it again"
            raise Refusal(refusals.UNAVAILABLE, reason, retry_after_s=_AGAIN_S) from None


def _refused(parts: list[Part]) -> MediaError | None:
    """Why nothing can be scored, where every source has failed: the scorers need not be asked."""
    ends = [part for part in parts if isinstance(part, End)]
    errors = [end.error for end in ends if end.error is not None]
    return errors[0] if ends and len(errors) == len(ends) else None


def _without(body: Body, error: MediaError) -> MediaError:
    """The error without the place of the file, and without keys of a recipe."""
    reason = error.reason.replace(str(body.path), "the body")
    reason = reason.replace("embed.min_coverage asks for", "the least here is")
    return MediaError(error.error, reason)


def _json(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Response:
    data = json.dumps(content, ensure_ascii=False).encode()
    return Response(data, status, dict(headers or {}), "application/json")
