"""From what a recipe says of a backbone to the backbone itself, its weights on this machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from audioflow.backbones import BACKBONES
from audioflow.registry import Settings
from audioflow.stores import NO_OPTIONS, StorageOptions
from audioflow.weights import RANDOM, Identity, resolved, weights_fields


@dataclass(frozen=True)
class Ready:
    """A backbone whose weights are at hand (`to` loads them).

    given: its settings as they were given, with defaults. weights: what each setting that names
    weights led to.
    """

    backbone: Any
    given: Settings
    weights: Mapping[str, Identity]

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
        found = self.given.model_dump(mode="json", exclude=set(without | self.weights.keys()))
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
    known = {weights.name for weights in plugin.known} | {RANDOM}
    paths = {
        field: place(given)
        for field in weights_fields(type(settings))
        if (given := getattr(settings, field)) is not None and given not in known
    }
    local, found = resolved(settings.model_copy(update=paths), plugin.known, storage)
    return Ready(plugin(local), settings, found)
