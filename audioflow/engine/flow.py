"""The jobs by name, and `run`: all sections of a recipe in the order of the flow."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from audioflow.engine.run import Run
from audioflow.errors import AudioflowError
from audioflow.tables import Table

_FUNCTIONS = {
    "manifest": "manifest:make_manifest",
    "embed": "embed:embed",
    "train": "train:train",
    "tune": "tune:tune",
    "score": "score:score",
    "fuse": "fuse:fuse_systems",
    "report": "report:make_report",
}
"""Where the function of a job is; imported on use, for a job needs few of the frameworks."""


def job_function(job: str) -> Callable[[Run], Any]:
    """The function that does a job."""
    module, _, name = _FUNCTIONS[job].partition(":")
    function: Callable[[Run], Any] = getattr(
        importlib.import_module(f"audioflow.engine.{module}"), name
    )
    return function


def begin_early(job: str, run: Run) -> None:
    """Let Ray start now where a job will need it, while everything else is being looked at.

    That is certain where a table of embeddings (or of scores) is not complete; where all are, they
    may be unchanged, and then nothing needs Ray.
    """
    with suppress(AudioflowError):  # a store that does not answer is told when it is needed
        if any(table.header() is None for table in _made_on_ray(job, run)):
            run.session.begin()


def _made_on_ray(job: str, run: Run) -> Iterator[Table]:
    """The tables that a job makes on Ray, those of the first of its jobs that needs it."""
    embed, score = run.recipe.embed, run.recipe.score
    embeds = job == "embed" or (job == "run" and run.recipe.embeds)
    if embed is not None and embeds:
        yield from map(run.embeddings, embed.backbones)
    elif score is not None and job in ("score", "run"):
        yield from map(run.scores, [*run.recipe.trained, *score.heads])


def run_job(job: str, run: Run) -> None:
    """Do one job, or with `run` every job the recipe has a section for; closes the session.

    Weights that are not to be had are told before the first of them starts.
    """
    jobs = run.recipe.sections if job == "run" else (job,)
    with run.session, run.measures:
        scoring = run.recipe.score if "score" in jobs else None
        if "embed" in jobs or (scoring is not None and scoring.source == "media"):
            from audioflow.engine.embed_plan import check_weights

            check_weights(run)
        if "train" in jobs:
            from audioflow.engine.train_task import check_heads

            check_heads(run.recipe.systems, run.storage)
        for name in jobs:
            job_function(name)(run)
