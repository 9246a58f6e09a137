"""The jobs by name, and `run`: all sections of a recipe in the order of the flow."""

import importlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from audioflow.engine.run import Run
from audioflow.errors import AudioflowError

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

    That is certain where a table of embeddings is not complete; where all are, they may be
    unchanged, and then nothing needs Ray.
    """
    section = run.recipe.embed
    if section is None or job not in ("embed", "run"):
        return
    with suppress(AudioflowError):  # a store that does not answer is told when it is needed
        if any(run.embeddings(name).header() is None for name in section.backbones):
            run.session.begin()


def run_job(job: str, run: Run) -> None:
    """Do one job, or with `run` every job the recipe has a section for; closes the session.

    Weights that are not to be had are told before the first of them starts.
    """
    jobs = run.recipe.sections if job == "run" else (job,)
    with run.session:
        if "embed" in jobs:
            from audioflow.engine.embed_plan import check_weights

            check_weights(run)
        if "train" in jobs:
            from audioflow.engine.train_data import local_head

            for section in run.recipe.systems.values():
                local_head(section, run.storage)
        for name in jobs:
            job_function(name)(run)
