"""Writes `docs/recipe.md`, the keys of a recipe, from the models and the registries: `make docs`.

A section is a model of the recipe, and below it stand those that its keys lead to. A plug-in is the
model of its settings; what several share is told once.
"""

import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from audioflow.plugins import plugins
from audioflow.recipe import Recipe
from audioflow.registry import Registry
from docs.models import Key, intro, keys_of

PAGE = Path(__file__).with_name("recipe.md")

_HEAD = """# The keys of a recipe

This page is made by `make docs` from the models that check a recipe, so that it says what the
program takes. `NAME` is a name that you choose; it becomes a folder. A key without a default is
left out where it is not wanted. Any key can be given on the command line, where it replaces that of
the recipe: `systems.audio.train.lr=0.01`.

A key that does not exist, a value of another type or out of range, and parts that do not fit each
other are refused before anything starts, all at once.
"""
_KINDS = {
    "readers": "Reader",
    "decoders": "Decoder",
    "backbones": "Backbone",
    "importers": "Importer",
    "poolings": "Pooling",
    "heads": "Head",
    "score_importers": "Score importer",
    "rules": "Fusion rule",
}
"""The kinds of plug-ins, in the order in which a recipe reads."""

_PLACES = {
    "readers": "`manifest.reader` and `manifest.extra.NAME.reader`; the settings stand beside it.",
    "decoders": "`embed.decoder`.",
    "backbones": "`embed.backbones.NAME`; `name` says which, by default the entry's own name.",
    "importers": "`embed.imports.NAME`; `name` says which, by default the entry's own name.",
    "poolings": "`systems.NAME.pooling`; the name alone, or `name` and settings.",
    "heads": "`systems.NAME.head`; the name alone, or `name` and settings.",
    "score_importers": "`score.imports.NAME`; `name` says which, by default the entry's own name.",
    "rules": "`fuse.NAME.rule`; the settings stand beside it.",
}
_COLUMNS = ("key", "type", "default", "range", "meaning")


@dataclass(frozen=True)
class Part:
    """A heading with its text and its table; level 2 is the highest."""

    level: int
    title: str
    text: str
    keys: Sequence[Key] = ()

    @property
    def anchor(self) -> str:
        """As GitHub makes it of the heading."""
        kept = (letter for letter in self.title.lower() if letter.isalnum() or letter in " _-")
        return "".join(kept).replace(" ", "-")

    @property
    def link(self) -> str:
        """Where it stands on the page."""
        return f"[{self.title}](#{self.anchor})"

    def lines(self) -> Iterator[str]:
        """Markdown."""
        yield from ["", f"{'#' * self.level} {self.title}"]
        yield from ["", self.text] if self.text else []
        if self.keys:
            yield from ["", *_row(_COLUMNS), *_row(["---"] * len(_COLUMNS))]
            for key in self.keys:
                yield from _row([f"`{key.name}`", *key.row, key.meaning])


def _row(cells: Sequence[str]) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"


def page() -> str:
    """The page as a whole."""
    sections, plugs = list(section_parts()), list(plugin_parts())
    contents = [f"{'  ' * (part.level - 2)}- {part.link}" for part in sections]
    for part in plugs:
        if part.level == 2:
            contents += [f"- {part.link}:"]
        else:
            contents[-1] += f"{',' if contents[-1][-1] == ')' else ''} {part.link}"
    lines = [_HEAD, *contents, *(line for part in [*sections, *plugs] for line in part.lines())]
    return "\n".join(lines) + "\n"


def section_parts() -> Iterator[Part]:
    """The sections of a recipe, each followed by the models below it."""
    keys = keys_of(Recipe)
    yield Part(2, "Top level", "", keys)
    for key in keys:
        if key.nested is not None:
            yield from _below(2, key.name, key)


def _below(level: int, path: str, key: Key) -> Iterator[Part]:
    path = f"{path}.NAME" if key.entries else path
    model = key.nested
    assert model is not None
    keys = keys_of(model)
    yield Part(level, f"`{path}`", intro(model), keys)
    for each in keys:
        if each.nested is not None:
            yield from _below(3, f"{path}.{each.name}", each)


def plugin_parts() -> Iterator[Part]:
    """The plug-ins of every kind."""
    for kind, place in _PLACES.items():
        registry: Registry = getattr(plugins(), kind)
        yield Part(2, f"{_KINDS[kind]}s", place)
        classes = {name: registry.load(name) for name in registry.names()}
        shared = _shared({name: found.Settings for name, found in classes.items()})
        for base, users in shared.items():
            text = f"For {', '.join(f'`{user}`' for user in users)}. {intro(base)}".strip()
            yield Part(3, _title(base, kind), text, flat_keys(base, _known(base, shared)))
        for name, plugin in classes.items():
            yield _plugin_part(name, plugin, kind, shared)


def _plugin_part(
    name: str, plugin: Any, kind: str, shared: dict[type[BaseModel], list[str]]
) -> Part:
    settings = plugin.Settings
    bases = [base for base in settings.__mro__[1:] if base in shared]
    own = flat_keys(settings, _known(settings, shared))
    text = f"{described(name, plugin)} {intro(settings)}".strip()
    if bases:
        links = ", ".join(Part(3, _title(base, kind), "").link for base in bases)
        text += f" It has the keys of {links}, too."
    elif not own:
        text += " Nothing to set." if "othing to set" not in text else ""
    return Part(3, f"{_KINDS[kind]} `{name}`", text.strip(), own)


def described(name: str, plugin: Any) -> str:
    """What a plug-in is, in a sentence: from its module where that begins with its name."""
    module = inspect.cleandoc(sys.modules[plugin.__module__].__doc__ or "")
    start = f"`{name}`: "
    text = module.removeprefix(start) if module.startswith(start) else plugin.__doc__ or ""
    paragraph = " ".join(inspect.cleandoc(text).split("\n\n")[0].split())
    return paragraph[:1].upper() + paragraph[1:]


def _shared(models: dict[str, type[BaseModel]]) -> dict[type[BaseModel], list[str]]:
    """Bases of the settings of several plug-ins -> the names of these, the most general first."""
    users: dict[type[BaseModel], list[str]] = {}
    for name, model in models.items():
        for base in model.__mro__:
            if issubclass(base, BaseModel) and base.model_fields:
                users.setdefault(base, []).append(name)
    found = {base: names for base, names in users.items() if len(names) > 1}
    return dict(sorted(found.items(), key=lambda each: (len(each[0].__mro__), each[0].__name__)))


def _known(model: type[BaseModel], shared: dict[type[BaseModel], list[str]]) -> dict[str, Key]:
    """The keys that a model has from shared bases, as these tell them."""
    known: dict[str, Key] = {}
    for base in reversed(model.__mro__[1:]):
        if base in shared:
            known |= {key.name: key for key in keys_of(base)}
    return known


def flat_keys(model: type[BaseModel], known: dict[str, Key] | None = None) -> list[Key]:
    """The keys of a plug-in's settings, and of mappings below them, but for those as `known`."""
    found = []
    for key in keys_of(model):
        before = (known or {}).get(key.name)
        if before is not None and (before.row, before.meaning) == (key.row, key.meaning):
            continue
        found.append(key)
        if key.nested is not None:
            below = flat_keys(key.nested)
            found += [replace(each, name=f"{key.name}.{each.name}") for each in below]
    return found


def _title(base: type[BaseModel], kind: str) -> str:
    word = base.__name__.removesuffix("Settings").lower()
    return f"Common to {_KINDS[kind].lower()}s: {word}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
