"""A small run of tables, made once, and a copy of it to damage; one thread for small networks."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from audioflow.storage import Folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads only get in each other's way on matrices this small."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """For tests that only look."""
    from tests.unit.small_run import make_small_run

    return make_small_run(Folder(str(tmp_path_factory.mktemp("whole") / "run")))


@pytest.fixture
def run(whole: Folder, tmp_path: Path) -> Folder:
    """A copy to damage."""
    shutil.copytree(whole.url, tmp_path / "run")
    return Folder(str(tmp_path / "run"))
