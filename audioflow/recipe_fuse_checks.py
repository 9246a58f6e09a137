"""Checks of what a recipe says about fusing, against the rest of it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, get_args

from audioflow.errors import Fault
from audioflow.recipe import FuseSection, Plugins
from audioflow.recipe_fuse import PLAIN_QUALITIES
from audioflow.recipe_score_checks import scored_names
from audioflow.recipe_uses import Values, items, mapping, rule_use, table_use
from audioflow.registry import nearest


def fusion_faults(data: Values, plugins: Plugins, scored: Sequence[str] | None) -> list[Fault]:
    """What is wrong with the section `fuse`. scored: the splits that will have scores, or None
    where that cannot be told."""
    faults = []
    known = scored_names(data)
    for name, fused in items(data, "fuse"):
        if name in known:
            problem = f"there is a system {name!r} already; give the fused one another name"
            faults.append(Fault(f"fuse.{name}", problem, name))
        parts = fused.get("systems")
        parts = [part for part in parts if isinstance(part, str)] if isinstance(parts, list) else []
        faults += _system_faults(f"fuse.{name}.systems", parts, known)
        if (rule := rule_use(name, fused, plugins).build()) is not None:
            faults += _rule_faults(f"fuse.{name}", fused, rule, parts)
            faults += _fit_faults(data, name, fused, rule, scored)
        faults += _table_faults(data, f"fuse.{name}.quality", fused, plugins)
        known += [name] if name not in known else []
    return faults


def _system_faults(key: str, parts: Sequence[str], known: Sequence[str]) -> Iterator[Fault]:
    for part in dict.fromkeys(parts):
        if part not in known:
            problem = f"{part!r} is not a system above this one"
            hint = nearest(part, known)
            yield Fault(key, problem, part, ", ".join(known) or "(none)", hint)
        elif parts.count(part) > 1:
            yield Fault(key, f"names {part!r} {parts.count(part)} times", part)


def _rule_faults(key: str, fused: Values, rule: Any, parts: Sequence[str]) -> list[Fault]:
    """Settings that do not go with the systems, and a quality that is missing or of no use."""
    faults = [replace(fault, key=f"{key}.{fault.key}") for fault in rule.problems(parts)]
    named, quality = fused.get("rule"), fused.get("quality")
    if rule.needs_quality and quality is None:
        problem = f"is missing; rule {named!r} looks at what is known of the sound"
        allowed = "{table: an entry of embed.backbones, such as quality}"
        faults.append(Fault(f"{key}.quality", problem, allowed=allowed))
    if quality is not None and not rule.needs_quality:
        problem = "has no use with this rule; only gated looks at it"
        faults.append(Fault(f"{key}.quality", problem, quality))
    return faults


def _fit_faults(
    data: Values, name: str, fused: Values, rule: Any, scored: Sequence[str] | None
) -> list[Fault]:
    """A fusion that is fitted on clips which are not scored. Of clips in folds, those of a fold are
    fused by what was fitted on the others."""
    split = fused.get("fit_split", FuseSection.model_fields["fit_split"].default)
    if split not in get_args(FuseSection.model_fields["fit_split"].annotation) or scored is None:
        return []
    calibrated = fused.get("calibrate", "auto") not in ("auto", "none")
    folded = mapping(data, "manifest", "splits").get("folds") is not None
    if split in scored or folded or not (rule.needs_fit or calibrated):
        return []
    problem = f"{split!r} has no scores: see score.splits and manifest.splits"
    usable = ", ".join(name for name in scored if name != "test")
    return [Fault(f"fuse.{name}.fit_split", problem, split, usable)]


def _table_faults(data: Values, key: str, fused: Values, plugins: Plugins) -> list[Fault]:
    """A quality of a table that no backbone makes, or of columns that it does not have."""
    quality = mapping(fused, "quality")
    table, columns = quality.get("table"), quality.get("columns")
    backbones = mapping(data, "embed", "backbones")
    if not isinstance(table, str):
        return []
    if table not in backbones:
        problem, allowed = f"{table!r} is not in embed.backbones", ", ".join(backbones)
        hint = nearest(table, backbones)
        return [Fault(f"{key}.table", problem, table, allowed or "(it is empty)", hint)]
    choice = backbones[table] if isinstance(backbones[table], dict) else {}
    backbone = table_use("backbones", table, choice, plugins).build()
    if backbone is None or not isinstance(columns, list):
        return []
    known = [*PLAIN_QUALITIES, *getattr(backbone, "COLUMN_NAMES", {}).get("embedding", ())]
    return [
        Fault(
            f"{key}.columns",
            f"{table} has no column {name!r}",
            name,
            ", ".join(known),
            nearest(name, known),
        )
        for name in columns
        if isinstance(name, str) and name not in known
    ]
