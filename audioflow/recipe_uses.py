"""Where a recipe names plug-ins, and what is wrong with the names and settings given there.

Works on the values as written, whatever they are: what is no mapping counts as an empty one.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from audioflow.errors import AudioflowError, Fault
from audioflow.recipe import FuseSection, ManifestSection, Plugins
from audioflow.recipe_embed import BackboneChoice
from audioflow.recipe_faults import faults_of
from audioflow.recipe_score import ImportChoice
from audioflow.recipe_sources import ExtraSection
from audioflow.redaction import misplaced_masked
from audioflow.registry import Registry, UnknownPlugin, nearest

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Use:
    """One place of a recipe that names a plug-in, with the settings given for it."""

    key: tuple[str, ...]
    registry: Registry
    values: Values
    name: Any
    name_key: str = ""
    """The key that holds the name; empty where the name is that of the place itself."""
    own_keys: Sequence[str] = ("name",)
    """Keys that may stand beside the plug-in's settings."""

    @property
    def options(self) -> dict[str, Any]:
        return {key: value for key, value in self.values.items() if key not in self.own_keys}

    def faults(self) -> list[Fault]:
        if not isinstance(self.name, str):
            return []  # a fault of the section itself
        where = ".".join([*self.key, *([self.name_key] if self.name_key else [])])
        faults, name = [], self.name
        if name not in self.registry.entries:
            names = self.registry.names()
            problem = f"{self.registry.kind} {name!r} does not exist"
            name = nearest(name, names)
            faults.append(Fault(where, problem, self.name, ", ".join(names), name))
        # Settings beside a misspelt name are those of the plug-in that was probably meant.
        return faults + (self._setting_faults(name, where) if name else [])

    def _setting_faults(self, name: str, where: str) -> list[Fault]:
        try:
            settings = self.registry.load(name).Settings
        except UnknownPlugin as error:
            return [Fault(where, str(error), name)]
        try:
            settings.model_validate_json(json.dumps(misplaced_masked(self.options)), strict=True)
        except ValidationError as error:
            return faults_of(error, settings, self.key, self.own_keys)
        return []

    def build(self) -> Any:
        """The plug-in, or None where it cannot be made from what the recipe says."""
        usable = isinstance(self.name, str) and not self.faults()
        return self.registry.build(self.name, self.options) if usable else None


def plugin_uses(data: Values, plugins: Plugins) -> Iterator[Use]:
    manifest = mapping(data, "manifest")
    own = tuple(ManifestSection.model_fields)
    yield Use(("manifest",), plugins.readers, manifest, manifest.get("reader"), "reader", own)
    for source, values in items(data, "manifest", "extra"):
        yield _extra_use(source, values, plugins)
    decoder = mapping(data, "embed").get("decoder")
    yield Use(("embed",), plugins.decoders, {}, decoder, "decoder")
    for table, values in items(data, "embed", "backbones"):
        yield table_use("backbones", table, values, plugins)
    for table, values in items(data, "embed", "imports"):
        yield table_use("imports", table, values, plugins)
    for system, values in items(data, "systems"):
        for part in ("pooling", "head"):
            yield part_use(system, part, values.get(part), plugins)
    for name, values in items(data, "score", "imports"):
        yield _scores_use(name, values, plugins)
    for name, values in items(data, "fuse"):
        yield rule_use(name, values, plugins)


def _scores_use(table: str, choice: Values, plugins: Plugins) -> Use:
    """An entry of `score.imports`."""
    name = choice.get("name")
    key, own = ("score", "imports", table), tuple(ImportChoice.model_fields)
    if name is None:
        return Use(key, plugins.score_importers, choice, table, "", own)
    return Use(key, plugins.score_importers, choice, name, "name", own)


def _extra_use(source: str, values: Values, plugins: Plugins) -> Use:
    key, own = ("manifest", "extra", source), tuple(ExtraSection.model_fields)
    return Use(key, plugins.readers, values, values.get("reader"), "reader", own)


def table_use(kind: str, table: str, choice: Values, plugins: Plugins) -> Use:
    """An entry of `embed.backbones` or `embed.imports`."""
    name = choice.get("name")
    key = ("embed", kind, table)
    imported = kind == "imports"
    registry = plugins.importers if imported else plugins.backbones
    own = tuple((ImportChoice if imported else BackboneChoice).model_fields)
    if name is None:
        return Use(key, registry, choice, table, "", own)
    return Use(key, registry, choice, name, "name", own)


def part_use(system: str, part: str, choice: Any, plugins: Plugins) -> Use:
    registry = plugins.poolings if part == "pooling" else plugins.heads
    key, own = ("systems", system, part), ("name", "on") if part == "pooling" else ("name",)
    if isinstance(choice, dict):
        return Use(key, registry, choice, choice.get("name"), "name", own)
    return Use(key, registry, {}, choice)


def rule_use(name: str, values: Values, plugins: Plugins) -> Use:
    rule = values.get("rule", FuseSection.model_fields["rule"].default)
    own = tuple(FuseSection.model_fields)
    return Use(("fuse", name), plugins.rules, values, rule, "rule", own)


def part_class(system: str, part: str, values: Values, plugins: Plugins) -> Any:
    """The class of a system's head or pooling, or None where its name or settings are wrong."""
    use = part_use(system, part, values.get(part), plugins)
    usable = isinstance(use.name, str) and not use.faults()
    return use.registry.load(use.name) if usable else None


def layer_faults(key: str, system: Values, data: Values, plugins: Plugins) -> list[Fault]:
    """Layers of a system, which stands at `key`, that its table does not have."""
    table, one, several = (system.get(name) for name in ("backbone", "layer", "layers"))
    named = [("layer", one)] + [("layers", each) for each in _listed(several)]
    wanted = [(name, layer) for name, layer in named if isinstance(layer, str)]
    if not isinstance(table, str) or not wanted:
        return []
    known = _layers(table, data, plugins)
    return [
        Fault(
            f"{key}.{name}",
            f"{layer!r} is not a layer of {table}",
            layer,
            ", ".join(known),
            nearest(layer, known),
        )
        for name, layer in wanted
        if known and layer not in known
    ]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _layers(table: str, data: Values, plugins: Plugins) -> list[str]:
    """The layers of a table; none where only a file that is not there yet could tell."""
    for kind in ("imports", "backbones"):
        if table in (there := mapping(data, "embed", kind)):
            choice = there[table] if isinstance(there[table], dict) else {}
            try:
                return list(getattr(table_use(kind, table, choice, plugins).build(), "layers", ()))
            except AudioflowError:
                return []
    return []


def mapping(data: Values, *keys: str) -> Values:
    """The mapping at `keys`; empty where something else is there."""
    found: Any = data
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def items(data: Values, *keys: str) -> list[tuple[str, Values]]:
    """The entries of the mapping at `keys` that are mappings themselves."""
    found = mapping(data, *keys)
    return [(key, value) for key, value in found.items() if isinstance(value, dict)]
