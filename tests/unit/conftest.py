"""A small run of tables, made once, and a copy of it to damage."""

import shutil
from pathlib import Path

import pytest

from audioflow.storage import Folder
from tests.unit.small_run import make_small_run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """For tests that only look."""
    return make_small_run(Folder(str(tmp_path_factory.mktemp("whole") / "run")))


@pytest.fixture
def run(whole: Folder, tmp_path: Path) -> Folder:
    """A copy to damage."""
    shutil.copytree(whole.url, tmp_path / "run")
    return Folder(str(tmp_path / "run"))
