"""From what a recipe says of a backbone to the backbone itself, its weights on this machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audioflow.backbones import BACKBONES
from audioflow.registry import Settings
from audioflow.stores import NO_OPTIONS, StorageOptions, is_local
from audioflow.weights import RANDOM, Identity, resolved, weights_fields


@dataclass(frozen=True)
class Ready:
    """A backbone whose weights are at hand (`to` loads them).

    given: its settings as they were given, with defaults. weights: what each setting that names
    weights led to; places: where those that are files lie on this machine.
    """

    backbone: Any
    given: Settings
    weights: Mapping[str, Identity]
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Whether no weights were drawn from a seed."""
        return all(identity.trained for identity in self.weights.values())

    @property
    def hashes(self) -> dict[str, str]:
        """By setting, the hash of the weights, or `random`."""
        return {name: identity.sha256 or RANDOM for name, identity in self.weights.items()}

    def what_counts(self) -> dict[str, Any]:
        """The settings that the vectors depend on: a file of weights by its content, not its place.

        Settings that only change the speed are not among them.
        """
        without: frozenset[str] = getattr(type(self.given), "WITHOUT_EFFECT", frozenset())
        found = self.given.model_dump(mode="json", exclude=set(without))
        if self.trained:
            found.pop("seed", None)
        return found | self.hashes


def made_ready(
    name: str,
    options: Mapping[str, Any],
    storage: StorageOptions = NO_OPTIONS,
    place: Callable[[str], str] = str,
    *,
    on_gpu: bool = False,
) -> Ready:
    """The backbone `name` with these options.

    place: gives where a path of the recipe lies. on_gpu: what the precision `auto` goes by; one and
    the same for all who work on a table, whatever machine they are on.

    Raises `UnknownPlugin`, `pydantic.ValidationError`, and `WeightsError` where weights are not on
    this machine or not what was published.
    """
    plugin = BACKBONES.load(name)
    settings = plugin.Settings.model_validate(dict(options))
    if getattr(settings, "precision", None) == "auto":
        precision = "bfloat16" if on_gpu else "float32"
        settings = settings.model_copy(update={"precision": precision})
    paths = {
        field: _found(given, plugin, place)
        for field in weights_fields(type(settings))
        if (given := getattr(settings, field)) is not None
    }
    local, found = resolved(settings.model_copy(update=paths), plugin.known, storage, backbone=name)
    places = {key: getattr(local, key) for key, one in found.items() if one.trained}
    return Ready(plugin(local), settings, found, places)


def _found(given: str, plugin: Any, place: Callable[[str], str]) -> str:
    """What the setting of a recipe names: as given, or the place of a path.

    A plug-in may know more names, which its `find_weights` turns into paths.
    """
    if given == RANDOM or given in {weights.name for weights in plugin.known}:
        return given
    path = place(given)
    if not is_local(path) or Path(path).exists():
        return path
    find: Callable[[str], str] | None = getattr(plugin, "find_weights", None)
    if find:
        return find(given)
    named = "/" not in given and not Path(given).suffix  # one of `known`, misspelt
    return given if named else path
