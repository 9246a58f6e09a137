"""Which dotted keys a recipe may have, by its models and by the settings of every plug-in.

Where the user chooses a name (`systems.NAME`), any name will do. Settings of plug-ins are those of
any plug-in of the kind, or of the one that the name in the key is that of.
"""

import re
from collections.abc import Iterable, Iterator

from pydantic import BaseModel

from audioflow.plugins import plugins
from audioflow.recipe import Recipe
from audioflow.registry import Registry
from docs.models import Key, keys_of

FOUND = plugins()
OPEN: dict[str, Registry] = {
    "ManifestSection": FOUND.readers,
    "ExtraSection": FOUND.readers,
    "BackboneChoice": FOUND.backbones,
    "PoolingChoice": FOUND.poolings,
    "PluginChoice": FOUND.heads,
    "FuseSection": FOUND.rules,
}
"""Models beside whose keys those of a plug-in stand."""
IMPORTS = {"embed": FOUND.importers, "score": FOUND.score_importers}


def is_key(text: str) -> bool:
    """Whether a recipe may have something at this dotted path, or, of `path=value`, this there."""
    path, equals, value = text.partition("=")
    section = path.partition(".")[0]
    found = list(_below([Recipe], path.split("."), section, ""))
    return any(not equals or _takes(key, value) for key in found)


def _takes(key: Key | None, value: str) -> bool:
    """A key that takes words takes these; what other keys take is not looked at."""
    words = re.findall(r"`(\w+)`", key.kind) if key is not None else []
    numeric = key is not None and "number" in key.kind
    given = re.findall(r"\w+", value)
    return not words or numeric or (bool(given) and set(given) <= set(words))


def _below(
    models: Iterable[type[BaseModel]], path: list[str], section: str, name: str
) -> Iterator[Key | None]:
    """What is at the path below these models; None for a name that the user chooses."""
    first, *rest = path
    for model in models:
        for key in _keys(model, section, name):
            if key.name == first:
                yield from _at(key, rest, section)


def _at(key: Key, rest: list[str], section: str) -> Iterator[Key | None]:
    if not rest:
        yield key
    elif key.nested is None:
        yield from [None] if key.kind.startswith("mapping") and len(rest) == 1 else []
    elif not key.entries:
        yield from _below([key.nested], rest, section, "")
    elif len(rest) == 1:
        yield None
    else:
        yield from _below([key.nested], rest[1:], section, rest[0])


def _keys(model: type[BaseModel], section: str, name: str) -> list[Key]:
    registry = OPEN.get(model.__name__)
    if model.__name__ == "ImportChoice":
        registry = IMPORTS[section]
    if registry is None:
        return keys_of(model)
    names = [name] if name in registry.entries else registry.names()
    more = [key for each in names for key in keys_of(registry.load(each).Settings)]
    return [*keys_of(model), *more]
