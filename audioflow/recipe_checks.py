"""Checks between the parts of a recipe: plug-ins and their settings, references, sections of a job.

They look at the values as written, so that they find their faults beside those of other checks.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError

from audioflow.errors import AudioflowError, Fault
from audioflow.recipe import (
    JOBS,
    BackboneChoice,
    FuseSection,
    ManifestSection,
    Plugins,
    ReportSection,
    ScoreSection,
)
from audioflow.recipe_faults import faults_of
from audioflow.recipe_splits import SPLITS, SplitsSection
from audioflow.redaction import OPTIONS_KEY, has_password, misplaced_masked
from audioflow.registry import Registry, UnknownPlugin, nearest
from audioflow.stores import option_faults

Values = Mapping[str, Any]

_NEEDS = {
    "manifest": ("manifest",),
    "embed": ("embed",),
    "train": ("embed", "systems"),
    "score": ("embed", "systems", "score"),
    "fuse": ("systems", "fuse"),
    "report": ("report",),
}
"""The sections that a job reads, its own last."""


def all_faults(data: Values, plugins: Plugins, job: str) -> list[Fault]:
    """What is wrong with `data` beyond the shape of single sections, for `job`."""
    faults: list[Fault] = []
    for use in _plugin_uses(data, plugins):
        faults += use.faults()
    faults += _backbone_faults(data, plugins) + _fusion_faults(data, plugins)
    faults += _storage_faults(data) + _password_faults(data)
    return faults + _split_faults(data) + _section_faults(data, job)


@dataclass(frozen=True)
class _Use:
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


def _plugin_uses(data: Values, plugins: Plugins) -> Iterator[_Use]:
    manifest = _mapping(data, "manifest")
    own = tuple(ManifestSection.model_fields)
    yield _Use(("manifest",), plugins.readers, manifest, manifest.get("reader"), "reader", own)
    decoder = _mapping(data, "embed").get("decoder")
    yield _Use(("embed",), plugins.decoders, {}, decoder, "decoder")
    for table, values in _items(data, "embed", "backbones"):
        yield _backbone_use(table, values, plugins)
    for system, values in _items(data, "systems"):
        for part, registry in (("pooling", plugins.poolings), ("head", plugins.heads)):
            key, choice = ("systems", system, part), values.get(part)
            if isinstance(choice, dict):
                yield _Use(key, registry, choice, choice.get("name"), "name")
            else:
                yield _Use(key, registry, {}, choice)
    for name, values in _items(data, "fuse"):
        yield _rule_use(name, values, plugins)


def _backbone_use(table: str, choice: Values, plugins: Plugins) -> _Use:
    name = choice.get("name")
    key = ("embed", "backbones", table)
    own = tuple(BackboneChoice.model_fields)
    if name is None:
        return _Use(key, plugins.backbones, choice, table, "", own)
    return _Use(key, plugins.backbones, choice, name, "name", own)


def _rule_use(name: str, values: Values, plugins: Plugins) -> _Use:
    rule = values.get("rule", FuseSection.model_fields["rule"].default)
    own = tuple(FuseSection.model_fields)
    return _Use(("fuse", name), plugins.rules, values, rule, "rule", own)


def _backbone_faults(data: Values, plugins: Plugins) -> list[Fault]:
    """Systems on a table that the recipe does not make, or on a layer that it does not have."""
    faults = []
    tables = dict(_items(data, "embed", "backbones"))
    written = _mapping(data, "embed").get("backbones")
    names = list(written) if isinstance(written, dict) else []
    for name, system in _items(data, "systems"):
        table, layer = system.get("backbone"), system.get("layer")
        if not isinstance(table, str):
            continue
        if table not in names:
            problem = f"{table!r} is not in embed.backbones"
            hint = nearest(table, names)
            where = f"systems.{name}.backbone"
            faults.append(Fault(where, problem, table, ", ".join(names) or "(it is empty)", hint))
        elif table in tables and isinstance(layer, str):
            layers = _layers(_backbone_use(table, tables[table], plugins).build())
            if layers and layer not in layers:
                problem = f"{layer!r} is not a layer of {table}"
                hint = nearest(layer, layers)
                where = f"systems.{name}.layer"
                faults.append(Fault(where, problem, layer, ", ".join(layers), hint))
    return faults


def _layers(backbone: Any) -> list[str]:
    """The layers of a backbone; none where only a file that is not there yet could tell."""
    try:
        return list(backbone.layers) if backbone is not None else []
    except AudioflowError:
        return []


def _fusion_faults(data: Values, plugins: Plugins) -> list[Fault]:
    faults = []
    known = list(_mapping(data, "systems"))
    for name, fused in _items(data, "fuse"):
        key = f"fuse.{name}.systems"
        if name in known:
            problem = f"there is a system {name!r} already; give the fused one another name"
            faults.append(Fault(f"fuse.{name}", problem, name))
        parts = fused.get("systems")
        parts = [part for part in parts if isinstance(part, str)] if isinstance(parts, list) else []
        for part in dict.fromkeys(parts):
            if part not in known:
                problem = f"{part!r} is not a system above this one"
                hint = nearest(part, known)
                faults.append(Fault(key, problem, part, ", ".join(known) or "(none)", hint))
            elif parts.count(part) > 1:
                faults.append(Fault(key, f"names {part!r} {parts.count(part)} times", part))
        faults += _fit_faults(data, name, fused, _rule_use(name, fused, plugins))
        known += [name] if name not in known else []
    return faults


def _fit_faults(data: Values, name: str, fused: Values, use: _Use) -> list[Fault]:
    """A rule that is fitted on clips which are not scored."""
    split = fused.get("fit_split", FuseSection.model_fields["fit_split"].default)
    scored = _scored(data)
    if split not in get_args(FuseSection.model_fields["fit_split"].annotation) or scored is None:
        return []
    rule = use.build() if split not in scored else None
    if rule is None or not rule.needs_fit:
        return []
    key = f"fuse.{name}.fit_split"
    if _mapping(data, "manifest", "splits").get("folds") is not None:
        problem = (
            f"{split!r} has no scores: with manifest.splits.folds every clip is scored as test"
        )
        return [Fault(key, problem, split, "a rule that is not fitted, with fixed weights")]
    usable = ", ".join(name for name in scored if name != "test")
    problem = f"{split!r} has no scores: see score.splits and manifest.splits"
    return [Fault(key, problem, split, usable)]


def _split_faults(data: Values) -> list[Fault]:
    """Heads without clips to learn or to be selected on, and a report on clips without scores."""
    faults = []
    splits, scored = _splits(data), _scored(data)
    if splits is not None and splits.folds is None and _mapping(data, "systems"):
        for split in ("train", "val"):
            if split not in splits.filled:
                use = "learn from" if split == "train" else "be selected on"
                problem = f"gives no clips to {split!r}, and heads need some to {use}"
                faults.append(Fault("manifest.splits", problem, split))
    report = data.get("report")
    if isinstance(report, dict) and scored is not None and "score" in data:
        split = report.get("split", ReportSection().split)
        if isinstance(split, str) and split not in scored:
            problem = f"{split!r} has no scores: see score.splits and manifest.splits"
            faults.append(Fault("report.split", problem, split, ", ".join(scored)))
    return faults


def _storage_faults(data: Values) -> list[Fault]:
    """Options of stores that have a wrong shape. Their values may be secrets and are not shown."""
    return [
        Fault(".".join((OPTIONS_KEY, *fault.key)), fault.problem, None, fault.allowed)
        for fault in option_faults(data.get(OPTIONS_KEY, {}))
    ]


def _password_faults(data: Values) -> list[Fault]:
    """Urls with a password in them: they would stand in every table and message."""
    way_out = f"the url alone; key and secret in {OPTIONS_KEY} or in the environment"
    return [
        Fault(".".join(key), "is a url with a password in it", None, way_out)
        for key, text in _texts(data, ())
        if key[0] != OPTIONS_KEY and has_password(text)
    ]


def _texts(value: Any, key: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text of the recipe with its key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, (*key, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*key, str(index)))


def _section_faults(data: Values, job: str) -> list[Fault]:
    """Sections that are not there; one without an entry of `systems` or `fuse` counts as such."""
    there = {key for key, value in data.items() if value != {} or key not in ("systems", "fuse")}
    needs = _NEEDS | ({"fuse": (*_NEEDS["fuse"], "score")} if job == "run" else {})
    jobs = [job] if job != "run" else [each for each in JOBS if _NEEDS[each][-1] in there]
    faults = {
        section: Fault(section, f"is missing; the job {each} needs this section")
        for each in reversed(jobs)
        for section in needs.get(each, ())
        if section not in there
    }
    return list(faults.values())


def _splits(data: Values) -> SplitsSection | None:
    """The splits of the manifest, or None where they are faulty."""
    manifest = _mapping(data, "manifest")
    if "splits" not in manifest:
        default: SplitsSection = ManifestSection.model_fields["splits"].default
        return default
    try:
        return SplitsSection.model_validate_json(json.dumps(manifest["splits"]), strict=True)
    except ValidationError:
        return None


def _scored(data: Values) -> list[str] | None:
    """The splits that will have scores, or None where that cannot be told."""
    splits = _splits(data)
    wanted = _mapping(data, "score").get("splits", ScoreSection().splits)
    if splits is None or not isinstance(wanted, list) or not set(map(str, wanted)) <= set(SPLITS):
        return None
    if splits.folds is not None:
        return list(splits.filled)
    return [split for split in splits.filled if split in wanted]


def _mapping(data: Values, *keys: str) -> Values:
    """The mapping at `keys`; empty where something else is there."""
    found: Any = data
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _items(data: Values, *keys: str) -> list[tuple[str, Values]]:
    """The entries of the mapping at `keys` that are mappings themselves."""
    found = _mapping(data, *keys)
    return [(key, value) for key, value in found.items() if isinstance(value, dict)]
