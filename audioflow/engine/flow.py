"""The jobs by name, and `run`: all sections of a recipe in the order of the flow."""

from collections.abc import Callable
from typing import Any

from audioflow.engine.embed import embed
from audioflow.engine.embed_plan import check_weights
from audioflow.engine.fuse import fuse_systems
from audioflow.engine.manifest import make_manifest
from audioflow.engine.report import make_report
from audioflow.engine.run import Run
from audioflow.engine.score import score
from audioflow.engine.train import train

JOB_FUNCTIONS: dict[str, Callable[[Run], Any]] = {
    "manifest": make_manifest,
    "embed": embed,
    "train": train,
    "score": score,
    "fuse": fuse_systems,
    "report": make_report,
}


def run_job(job: str, run: Run) -> None:
    """Do one job, or with `run` every job the recipe has a section for; closes the session.

    Weights that are not to be had are told before the first of them starts.
    """
    jobs = run.recipe.sections if job == "run" else (job,)
    if "embed" in jobs:
        check_weights(run)
    with run.session:
        for name in jobs:
            JOB_FUNCTIONS[name](run)
