"""Which public weight files are on this machine."""

from dataclasses import dataclass

from audioflow.backbones import BACKBONES
from audioflow.registry import UnknownPlugin
from audioflow.weights.store import place, store_folder


@dataclass(frozen=True)
class KeptWeights:
    """A known file that was fetched, and the backbones that can use it."""

    name: str
    path: str
    size_bytes: int
    backbones: tuple[str, ...]


def kept_weights() -> tuple[str, list[KeptWeights]]:
    """The folder of the store, and the known files in it."""
    found: dict[str, KeptWeights] = {}
    for backbone in BACKBONES.names():
        try:
            known = BACKBONES.load(backbone).known
        except UnknownPlugin:
            continue
        for weights in known:
            path = place(weights)
            if path.is_file():
                others = found[str(path)].backbones if str(path) in found else ()
                size = path.stat().st_size
                found[str(path)] = KeptWeights(weights.name, str(path), size, (*others, backbone))
    return str(store_folder()), list(found.values())
