"""A small real corpus, and runs on it, for the tests on Ray."""

import copy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from audioflow.cli import plugins
from audioflow.datasets.demo_corpus import make_corpus
from audioflow.engine.flow import run_job
from audioflow.engine.run import Run
from audioflow.events import Event
from audioflow.media import DECODERS
from audioflow.recipe_file import load_recipe
from audioflow.storage import local_path

BASE: dict[str, Any] = {
    "manifest": {"reader": "folder", "splits": {"train": 0.5, "val": 0.25, "test": 0.25}},
    "embed": {
        "backbones": {"acoustic": {}, "color": {"num_frames": 4}},
        "clips_per_shard": 6,
        "decode_cpus": 0.5,
        "max_failed_share": 0.5,
        "stall_timeout_s": 120,
    },
    "systems": {
        "audio": {
            "backbone": "acoustic",
            "head": "linear",
            "train": {"epochs": 12, "lr": 0.01, "batch_size": 8},
        },
        "video": {
            "backbone": "color",
            "head": {"name": "mlp", "hidden": [16], "dropout": 0.0},
            "train": {"epochs": 12, "lr": 0.01, "batch_size": 8},
        },
    },
    "score": {"splits": ["train", "val", "test"]},
    "fuse": {"fused": {"systems": ["audio", "video"]}},
    "report": {"num_bootstrap": 50},
}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo corpus of 48 files: six classes, some without sound, two broken."""
    return make_corpus(tmp_path_factory.mktemp("data") / "corpus", clips=48, seed=1)


Register = Callable[[str, str], str]


@pytest.fixture
def register() -> Iterator[Register]:
    """Registers a decoder ("module:Class") for one test; gives the override that chooses it."""
    before = DECODERS.entries

    def add(name: str, entry: str) -> str:
        object.__setattr__(DECODERS, "entries", {**DECODERS.entries, name: entry})
        return f"embed.decoder={name}"

    yield add
    object.__setattr__(DECODERS, "entries", before)


@pytest.fixture
def harmful(register: Register) -> str:
    """The decoder that crashes, hangs and bloats on files that are named so."""
    return register("harmful", "tests.decoders:Segfaulting")


class Recorder(list[Event]):
    """A listener that keeps what it hears."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def kinds(self, job: str) -> list[str]:
        return [event.kind for event in self if event.job == job]


MakeRun = Callable[..., Run]


def build_run(
    corpus: Path, folder: Path, *overrides: str, run_dir: str | None = None, sections: Any = None
) -> Run:
    """A run of the base recipe (with whole `sections` and single values replaced) in `folder`."""
    recipe = copy.deepcopy(BASE) | (sections or {})
    recipe["run_dir"] = run_dir or str(folder / "run")
    recipe["manifest"] = {"root": str(corpus)} | recipe["manifest"]
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    checked = load_recipe(str(path), list(overrides), plugins())
    return Run(checked, Recorder(), path.read_text(), "test")


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory, corpus: Path, ray_session: None) -> Run:
    """The base recipe, run once. For tests that only look."""
    run = build_run(corpus, tmp_path_factory.mktemp("done"))
    run_job("run", run)
    return run


@pytest.fixture
def make_run(tmp_path: Path, corpus: Path, done: Run) -> MakeRun:
    """Builds runs that find a copy of everything that `done` made, to change and to run again."""
    shutil.copytree(local_path(done.folder.url), tmp_path / "run", copy_function=shutil.copy2)

    def make(*overrides: str, **more: Any) -> Run:
        return build_run(corpus, tmp_path, *overrides, **more)

    return make
