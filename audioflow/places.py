"""Where the paths of a recipe lie."""

import os
from pathlib import Path

from audioflow.stores import is_local, local_path

_JOB_FOLDER = "/runtime_resources/working_dir_files/"


def home() -> str:
    """The folder that relative paths of a recipe are taken from.

    `$AUDIOFLOW_HOME` where it is set, else the current folder. Inside a job sent with
    `ray job submit` the current folder is a throw-away copy, so there it is `~/audioflow`.
    """
    if os.environ.get("AUDIOFLOW_HOME"):
        return str(Path(os.environ["AUDIOFLOW_HOME"]).expanduser().resolve())
    here = str(Path.cwd())
    return str(Path("~/audioflow").expanduser()) if _JOB_FOLDER in here else here


def output_url(path: str) -> str:
    """A path of the recipe that is written to, made absolute."""
    if not is_local(path):
        return path
    return str(Path(home()) / Path(local_path(path)).expanduser())


def input_url(path: str) -> str:
    """A path of the recipe that is read: in the current folder if it is there, else as written."""
    if not is_local(path) or path.startswith("file://"):
        return path
    here = Path(path).expanduser().absolute()
    return str(here) if here.exists() else output_url(path)
