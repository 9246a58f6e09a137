"""The recipes of the project, run as their users run them, on the Ray of this process."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from typer.testing import CliRunner

from audioflow.cli import app, plugins
from audioflow.engine.flow import run_job
from audioflow.engine.run import Run
from audioflow.recipe_file import load_recipe
from tests.conftest import ROOT


def run_recipe(recipe: str, folder: Path, *overrides: str, jobs: Sequence[str] = ("run",)) -> Path:
    """Do jobs of a recipe with overrides, prove the tables of a whole run, and give its folder."""
    path = ROOT / "configs" / f"{recipe}.yaml"
    text = path.read_text()
    reports = "\nreport:" in text
    quick = ["report.num_bootstrap=20"] if reports else []
    for job in jobs:
        checked = load_recipe(str(path), [f"run_dir={folder}", *quick, *overrides], plugins(), job)
        run_job(job, Run(checked, lambda event: None, text, "test"))
    if "run" in jobs:
        assert "ok: every clip is exactly once" in told("verify", str(folder))
        assert not reports or "</html>" in (folder / "report" / "index.html").read_text()
    return folder


def told(*arguments: str, code: int = 0) -> str:
    """What a tool of the command line prints."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, done.output
    return done.output


def table(folder: Path, name: str) -> pl.DataFrame:
    """The rows of a table, by clip."""
    return pl.read_parquet(folder / name / "*.parquet").sort("clip_id")


def header(folder: Path, name: str) -> dict[str, Any]:
    """The header of a table."""
    found: dict[str, Any] = json.loads((folder / name / "_header.json").read_text())
    return found
