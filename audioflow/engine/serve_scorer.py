"""The replica that holds backbones and heads: it scores the clips of several requests at once."""

import asyncio
import time
from typing import Any

from ray import serve

from audioflow.engine.serve_asked import Asked
from audioflow.engine.serve_model import Model
from audioflow.engine.serve_system import Served
from audioflow.errors import MediaError
from audioflow.serving.answers import Scored
from audioflow.serving.limits import Limits


class ScorerReplica:
    """Scores what it is asked for, in batches."""

    def __init__(self, served: Served, limits: Limits) -> None:
        self._model = Model(served)
        self.batched.set_max_batch_size(limits.max_batch)
        self.batched.set_batch_wait_timeout_s(limits.batch_wait_s)

    async def score(self, asked: Asked) -> Scored | MediaError:
        """The scores of one clip, or why it has none."""
        found: Scored | MediaError = await self.batched(asked)
        return found

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.0)
    async def batched(self, asked: Any) -> list[Scored | MediaError]:
        """The scores of several: a list of `Asked`. Those of the same content are scored once."""
        now = time.time()
        media = {one.clip_id: one.parts for one in asked if one.until > now}
        found = await asyncio.to_thread(self._model.scores, media) if media else {}
        late = MediaError("timeout", "nobody waited any more when its turn came")
        return [found.get(one.clip_id, late) for one in asked]
