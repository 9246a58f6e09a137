"""All that serving a system needs, copied into a folder: the model of a container."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from audioflow.engine.serve_system import WEIGHTS, Served
from audioflow.storage import Folder
from audioflow.systems.ensemble import Heads
from audioflow.tables import HEADER

_NOT_NEEDED = frozenset(("epochs.json",))


@dataclass
class Saved:
    """What was copied: files by their names in the folder; and weights that were not, since they
    are no single file."""

    files: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def save(served: Served, folder: Folder) -> Saved:
    """Copy the heads, the headers of the tables, and the weights of the backbones.

    The folder is then one that can be served, on a machine that has neither the run nor the
    weights.
    """
    saved = Saved()
    for part in served.parts:
        for place in (f"heads/{part.name}", *_folds(served.run, part.name)):
            names = [name for name in _at(served.run, place).names() if name not in _NOT_NEEDED]
            _copy(served.run, folder, place, names, saved)
    for table in served.specs:
        _copy(served.run, folder, f"embeddings/{table}", [HEADER], saved)
    for name in dict.fromkeys([*served.about.systems, served.about.system]):
        if _at(served.run, f"scores/{name}").exists(HEADER):
            _copy(served.run, folder, f"scores/{name}", [HEADER], saved)
    _keep_weights(served, folder, saved)
    return saved


def _folds(run: Folder, name: str) -> Sequence[str]:
    """The folders of the heads of folds."""
    members = Heads.load(run / "heads" / name).members
    return [f"heads/{name}/fold-{fold}" for fold in members if fold]


def _at(folder: Folder, place: str) -> Folder:
    for name in place.split("/"):
        folder = folder / name
    return folder


def _copy(source: Folder, target: Folder, place: str, names: Iterable[str], saved: Saved) -> None:
    for name in names:
        _at(target, place).write(name, _at(source, place).read(name))
        saved.files.append(f"{place}/{name}")


def _keep_weights(served: Served, folder: Folder, saved: Saved) -> None:
    for table, spec in served.specs.items():
        ready = spec.ready
        for key, place in ready.places.items():
            path = Path(place)
            if not path.is_file():
                saved.left.append(f"{key} of {table} ({ready.weights[key].given})")
                continue
            name = f"{ready.weights[key].sha256}{path.suffix}"
            (folder / WEIGHTS).write(name, path.read_bytes())
            saved.files.append(f"{WEIGHTS}/{name}")
