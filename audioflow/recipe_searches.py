"""Checks of systems, as they are written and as searches vary them."""

import json
from dataclasses import replace

from pydantic import ValidationError

from audioflow.errors import Fault, RecipeError
from audioflow.recipe import Plugins, SystemSection
from audioflow.recipe_faults import faults_of
from audioflow.recipe_systems import system_faults
from audioflow.recipe_tune import TUNED
from audioflow.recipe_uses import Values, items, layer_faults, mapping, part_class, part_use
from audioflow.registry import nearest
from audioflow.search import SEARCHES, search_faults
from audioflow.search.reading import read_space, space_faults
from audioflow.search.sampling import RandomSampler
from audioflow.search.space import Space, applied

_PARTS = ("head", "pooling", "train")
_TRIED = 48
"""Trials of a search that are looked at before it begins."""


def misfit_faults(data: Values, plugins: Plugins) -> list[Fault]:
    """Parts of a system that do not fit each other."""
    faults = []
    for name, values in items(data, "systems"):
        faults += _misfits(name, values, plugins)
    return faults


def _misfits(name: str, values: Values, plugins: Plugins, *, varied: bool = False) -> list[Fault]:
    head, pooling = part_class(name, "head", values, plugins), None
    if values.get("pooling") is not None:
        pooling = part_class(name, "pooling", values, plugins)
    try:
        section = SystemSection.model_validate_json(json.dumps(values), strict=True)
    except ValidationError:
        return []  # faults of the section itself
    if head is None:
        return []
    return system_faults(name, section, head, pooling, varied=varied)


def tune_faults(data: Values, plugins: Plugins) -> list[Fault]:
    """Searches over what is no system, or over settings that it cannot have."""
    faults = []
    systems = mapping(data, "systems")
    for name, search in items(data, "tune"):
        key = f"tune.{name}"
        if name in systems:
            problem = f"there is a system {name!r} already; give the tuned one another name"
            faults.append(Fault(key, problem, name))
        system = search.get("system")
        if not isinstance(system, str):
            continue
        if system not in systems:
            problem, hint = f"{system!r} is not in systems", nearest(system, systems)
            allowed = ", ".join(systems) or "(it is empty)"
            faults.append(Fault(f"{key}.system", problem, system, allowed, hint))
        elif isinstance(systems[system], dict):
            faults += _space_faults(key, search, system, data, plugins)
    return faults


def _space_faults(
    key: str, search: Values, system: str, data: Values, plugins: Plugins
) -> list[Fault]:
    given, values = search.get("space"), mapping(data, "systems", system)
    if not isinstance(given, dict) or not given:
        return []  # a fault of the section itself
    found = space_faults(given)
    if not found and search.get("search", "random") in SEARCHES:
        found = search_faults(search.get("search", "random"), read_space(given))
    faults = [replace(fault, key=f"{key}.{fault.key}") for fault in found]
    for name in given:
        if str(name).partition(".")[0] not in TUNED:
            problem = f"{name!r} is not a setting of a system that can be varied"
            allowed = ", ".join(f"{part}.*" if part in _PARTS else part for part in TUNED)
            faults.append(Fault(f"{key}.space.{name}", problem, name, allowed))
    if faults or _is_faulty(system, values, plugins):
        return faults
    return _trial_faults(key, read_space(given), system, data, plugins)


def _is_faulty(system: str, values: Values, plugins: Plugins) -> bool:
    """Whether a system is wrong as written, so that nothing can be said of its trials."""
    try:
        SystemSection.model_validate_json(json.dumps(values), strict=True)
    except ValidationError:
        return True
    parts = [part for part in ("head", "pooling") if values.get(part) is not None]
    return any(part_use(system, part, values[part], plugins).faults() for part in parts)


def _trial_faults(
    key: str, space: Space, system: str, data: Values, plugins: Plugins
) -> list[Fault]:
    """What is wrong with some trials that the space allows; each fault once."""
    sampler, written = RandomSampler(space, 0), mapping(data, "systems", system)
    found: dict[tuple[str, str], Fault] = {}
    for _ in range(_TRIED):
        trial = sampler.ask()
        if trial is None:
            break
        try:
            faults = _varied_faults(system, applied(written, trial.values), data, plugins)
        except RecipeError as error:  # a key below what is no mapping
            faults = [replace(one, key=one.key.removeprefix("space.")) for one in error.faults]
        for fault in faults:
            inner = fault.key.removeprefix(f"systems.{system}.")
            found.setdefault((inner, fault.allowed), replace(fault, key=f"{key}.space.{inner}"))
    return list(found.values())


def _varied_faults(system: str, values: Values, data: Values, plugins: Plugins) -> list[Fault]:
    """What is wrong with a system that has the values of a trial."""
    faults: list[Fault] = []
    try:
        SystemSection.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        faults += faults_of(error, SystemSection, ("systems", system), ())
    for part in ("head", "pooling"):
        if values.get(part) is not None:
            faults += part_use(system, part, values[part], plugins).faults()
    faults += layer_faults(f"systems.{system}", values, data, plugins)
    return faults or _misfits(system, values, plugins, varied=True)
