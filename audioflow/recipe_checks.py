"""Checks between the parts of a recipe: plug-ins and their settings, references, sections of a job.

They look at the values as written, so that they find their faults beside those of other checks.
"""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from audioflow.errors import Fault
from audioflow.recipe import (
    JOBS,
    ManifestSection,
    Plugins,
    ReportSection,
    ScoreSection,
)
from audioflow.recipe_fuse_checks import fusion_faults
from audioflow.recipe_score_checks import fuse_needs, score_faults, score_needs
from audioflow.recipe_searches import misfit_faults, tune_faults
from audioflow.recipe_splits import SPLITS, SplitsSection
from audioflow.recipe_uses import (
    Values,
    items,
    layer_faults,
    mapping,
    part_class,
    plugin_uses,
)
from audioflow.redaction import OPTIONS_KEY, has_password
from audioflow.registry import nearest
from audioflow.stores import option_faults

_NEEDS = {
    "manifest": ("manifest",),
    "embed": ("embed",),
    "train": ("embed", "systems"),
    "tune": ("embed", "systems", "tune"),
    "score": ("score",),
    "fuse": ("fuse",),
    "report": ("report",),
}
"""The sections that a job reads, its own last; those of score and fuse depend on the recipe."""


def all_faults(data: Values, plugins: Plugins, job: str) -> list[Fault]:
    """What is wrong with `data` beyond the shape of single sections, for `job`."""
    faults: list[Fault] = []
    for use in plugin_uses(data, plugins):
        faults += use.faults()
    faults += _extra_faults(data) + _import_faults(data)
    faults += _backbone_faults(data, plugins) + misfit_faults(data, plugins)
    faults += tune_faults(data, plugins) + fusion_faults(data, plugins, _scored(data))
    faults += score_faults(data) + _storage_faults(data) + _password_faults(data)
    faults += _duplicates_faults(data)
    return faults + _split_faults(data, plugins) + _section_faults(data, job)


def _extra_faults(data: Values) -> list[Fault]:
    """Further data sets in a split that there is not: with folds clips learn or are tested."""
    if mapping(data, "manifest", "splits").get("folds") is None:
        return []
    problem = "cannot stand beside manifest.splits.folds: further data sets are only learnt from"
    return [
        Fault(f"manifest.extra.{name}.split", problem, values["split"], "train")
        for name, values in items(data, "manifest", "extra")
        if values.get("split", "train") != "train"
    ]


def _import_faults(data: Values) -> list[Fault]:
    """Tables that would be made twice."""
    backbones = mapping(data, "embed", "backbones")
    return [
        Fault(f"embed.imports.{name}", "stands in embed.backbones, too; give it another name", name)
        for name in mapping(data, "embed", "imports")
        if name in backbones
    ]


def _backbone_faults(data: Values, plugins: Plugins) -> list[Fault]:
    """Systems on a table that the recipe does not make, or on a layer that it does not have."""
    faults = []
    kinds = [kind for kind in ("backbones", "imports") if kind in mapping(data, "embed")]
    names = [name for kind in kinds for name in mapping(data, "embed", kind)]
    for name, system in items(data, "systems"):
        table, where = system.get("backbone"), f"systems.{name}"
        if not isinstance(table, str):
            continue
        if table in names:
            faults += layer_faults(where, system, data, plugins)
            continue
        problem = (
            f"{table!r} is not in {' or '.join(f'embed.{kind}' for kind in kinds or ['backbones'])}"
        )
        allowed, hint = ", ".join(names) or "(it is empty)", nearest(table, names)
        faults.append(Fault(f"{where}.backbone", problem, table, allowed, hint))
    return faults


def _duplicates_faults(data: Values) -> list[Fault]:
    """A table for near-duplicates that the recipe does not make."""
    table = mapping(data, "report", "checks").get("duplicates")
    names = [name for kind in ("backbones", "imports") for name in mapping(data, "embed", kind)]
    allowed = ["auto", "off", *names]
    if not isinstance(table, str) or table in allowed:
        return []
    problem = f"{table!r} is no embeddings table of this recipe"
    hint = nearest(table, allowed)
    return [Fault("report.checks.duplicates", problem, table, ", ".join(allowed), hint)]


def _selects(system: str, values: Values, plugins: Plugins) -> bool:
    """Whether a system needs `val` clips to be selected on."""
    head = part_class(system, "head", values, plugins)
    return mapping(values, "train").get("select") != "last" and not hasattr(head, "estimator")


def _split_faults(data: Values, plugins: Plugins) -> list[Fault]:
    """Heads without clips to learn or to be selected on, and a report on clips without scores."""
    faults = []
    splits, scored = _splits(data), _scored(data)
    if splits is not None and splits.folds is None and mapping(data, "systems"):
        selecting = any(_selects(*item, plugins) for item in items(data, "systems"))
        selecting |= bool(mapping(data, "tune"))
        for split in ("train", "val") if selecting else ("train",):
            if split not in _filled(data, splits):
                use = "learn from" if split == "train" else "be selected on"
                problem = f"gives no clips to {split!r}, and heads need some to {use}"
                faults.append(Fault("manifest.splits", problem, split))
    if splits is not None and splits.folds is None and "val" not in _filled(data, splits):
        faults += [
            Fault(
                f"systems.{name}.calibration",
                "is fitted on clips of 'val', and manifest.splits gives none",
                system["calibration"],
                "no calibration, or a share of the clips for val",
            )
            for name, system in items(data, "systems")
            if system.get("calibration") not in (None, "none")
        ]
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
    """Sections that are not there; `systems`, `tune` and `fuse` without an entry count as such."""
    named = ("systems", "tune", "fuse")
    there = {key for key, value in data.items() if value != {} or key not in named}
    needs = _NEEDS | {"score": score_needs(data), "fuse": fuse_needs(data)}
    needs |= {"fuse": (*needs["fuse"], "score")} if job == "run" else {}
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
    manifest = mapping(data, "manifest")
    if "splits" not in manifest:
        default: SplitsSection = ManifestSection.model_fields["splits"].default
        return default
    try:
        return SplitsSection.model_validate_json(json.dumps(manifest["splits"]), strict=True)
    except ValidationError:
        return None


def _filled(data: Values, splits: SplitsSection) -> list[str]:
    """The splits that get clips, from any data set; not for folds."""
    extra = [values.get("split", "train") for _, values in items(data, "manifest", "extra")]
    return [name for name in SPLITS if name in splits.filled or name in extra]


def _scored(data: Values) -> list[str] | None:
    """The splits that will have scores, or None where that cannot be told."""
    splits = _splits(data)
    wanted = mapping(data, "score").get("splits", ScoreSection().splits)
    if splits is None or not isinstance(wanted, list) or not set(map(str, wanted)) <= set(SPLITS):
        return None
    if splits.folds is not None and splits.test is None:
        return list(splits.filled)
    return [split for split in _filled(data, splits) if split in wanted]
