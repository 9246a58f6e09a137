"""Reading a recipe file: YAML 1.2 with places, overrides, and every fault reported at once."""

import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from audioflow.errors import Fault, RecipeError
from audioflow.recipe import JOBS, Plugins, PluginUse, Recipe, plugin_uses
from audioflow.registry import nearest

Location = tuple[str | int, ...]

_KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than": ("gt", "more than {}"),
    "greater_than_equal": ("ge", "{} or more"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "{} or less"),
}


def load_recipe(path: str, overrides: Sequence[str], plugins: Plugins, job: str = "run") -> Recipe:
    """The checked recipe of the file `path`.

    overrides: `section.key=value`, the value read as YAML.
    job: the job that is about to run; its sections have to be there.
    Raises `RecipeError` with all faults.
    """
    document = _read(path)
    places = _places(document, Path(path).name)
    data = _plain(document)
    if not isinstance(data, dict):
        raise RecipeError(path, [Fault("(file)", "is not a mapping of sections")])
    faults = _apply(overrides, data, places)
    try:
        recipe = Recipe.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        faults += _faults(error, Recipe, (), data)
        raise RecipeError(
            path, _placed(faults + _plugin_faults_of(data, plugins), places)
        ) from None
    for use in plugin_uses(recipe, plugins):
        faults += _plugin_faults(use)
    faults += _reference_faults(recipe) + _section_faults(recipe, job)
    if faults:
        raise RecipeError(path, _placed(faults, places))
    return recipe


def _read(path: str) -> Any:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(path, [Fault("(file)", "does not exist")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(path, [Fault("(file)", f"cannot be read: {error}")]) from None
    try:
        return YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{Path(path).name}:{mark.line + 1}" if mark else ""
        problem = " ".join(str(error.problem or error).split())
        raise RecipeError(path, [Fault("(file)", f"is not YAML: {problem}", place=place)]) from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return str(value)


def _places(document: Any, file: str, key: Location = ()) -> dict[Location, str]:
    found: dict[Location, str] = {}
    if isinstance(document, Mapping) and hasattr(document, "lc"):
        for name, item in document.items():
            data = document.lc.data.get(name) if document.lc.data else None
            if data:
                found[(*key, str(name))] = f"{file}:{data[0] + 1}"
            found |= _places(item, file, (*key, str(name)))
    return found


def _apply(
    overrides: Sequence[str], data: dict[str, Any], places: dict[Location, str]
) -> list[Fault]:
    faults = []
    for override in overrides:
        dotted, equals, text = override.partition("=")
        key = tuple(dotted.split("."))
        place = "command line"
        if not equals or not all(key):
            problem = "is no override; allowed: section.key=value"
            faults.append(Fault(override, problem, override, place=place))
            continue
        try:
            value = _plain(YAML(typ="rt").load(text)) if text else None
        except MarkedYAMLError as error:
            faults.append(
                Fault(dotted, f"{text!r} is not YAML: {error.problem}", text, place=place)
            )
            continue
        target: Any = data
        for depth, part in enumerate(key[:-1], 1):
            if target.get(part) is None:
                target[part] = {}
            target = target[part]
            if not isinstance(target, dict):
                above = ".".join(key[:depth])
                problem = f"cannot be set: {above} is {target!r}, not a mapping"
                faults.append(Fault(dotted, problem, text, place=place))
                break
        else:
            target[key[-1]] = value
            places[key] = f"{place}: {override}"
    return faults


def _faults(error: ValidationError, model: Any, prefix: Location, data: Any) -> list[Fault]:
    return [_fault(item, model, prefix) for item in error.errors()]


def _fault(item: Any, model: Any, prefix: Location) -> Fault:
    location: Location = tuple(part for part in item["loc"] if part != "[key]")
    key = ".".join(map(str, (*prefix, *location)))
    kind, value, context = item["type"], item.get("input"), item.get("ctx", {})
    if kind == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        return Fault(key, "unknown key", value, ", ".join(known), nearest(str(location[-1]), known))
    if kind == "missing":
        return Fault(key, "is missing")
    if kind == "literal_error":
        allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ")
        return Fault(
            key,
            f"{value!r} is not allowed",
            value,
            allowed,
            nearest(str(value), allowed.split(", ")),
        )
    if kind in _KINDS:
        return Fault(key, f"{value!r} is not {_KINDS[kind]}", value, _KINDS[kind])
    if kind in _BOUNDS:
        name, text = _BOUNDS[kind]
        return Fault(key, f"{value!r} is out of range", value, text.format(context[name]))
    if kind == "value_error":
        return Fault(key, str(context["error"]), value)
    if kind == "too_short":
        return Fault(
            key, f"{value!r} has too few entries", value, f"{context['min_length']} or more"
        )
    return Fault(key, f"{value!r}: {item['msg']}", value)


def _keys_at(model: Any, location: Location) -> list[str]:
    """The keys a mapping at `location` below `model` may have."""
    for part in location:
        model = _unwrap(model)
        if isinstance(model, type) and issubclass(model, BaseModel):
            found = model.model_fields.get(str(part))
            model = found.annotation if found else None
        elif typing.get_origin(model) is dict:
            model = typing.get_args(model)[1]
        elif typing.get_origin(model) in (list, tuple):
            model = typing.get_args(model)[0]
        else:
            return []
    model = _unwrap(model)
    return (
        list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
    )


def _unwrap(annotation: Any) -> Any:
    if typing.get_origin(annotation) is typing.Annotated:
        return _unwrap(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inner = [arg for arg in typing.get_args(annotation) if arg is not type(None)]
        return _unwrap(inner[0])
    return annotation


def _plugin_faults(use: PluginUse) -> list[Fault]:
    key = ".".join(use.key)
    if use.name not in use.registry.entries:
        names = use.registry.names()
        where = f"{key}.{use.name_key}"
        problem = f"{use.registry.kind} {use.name!r} does not exist"
        return [Fault(where, problem, use.name, ", ".join(names), nearest(use.name, names))]
    settings = use.registry.load(use.name).Settings
    try:
        settings.model_validate_json(json.dumps(dict(use.options), default=str), strict=True)
    except ValidationError as error:
        faults = []
        for item in error.errors():
            fault = _fault(item, settings, use.key)
            if item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
                known = [*use.own_keys, *settings.model_fields]
                hint = nearest(str(item["loc"][0]), known)
                fault = Fault(fault.key, fault.problem, fault.value, ", ".join(known), hint)
            faults.append(fault)
        return faults
    return []


def _plugin_faults_of(data: Mapping[str, Any], plugins: Plugins) -> list[Fault]:
    """Faults of plug-in settings in a recipe that is itself faulty: each sound section is looked at."""
    faults: list[Fault] = []
    for section in ("manifest", "embed", "systems", "fuse"):
        part = {"run_dir": "-", "manifest": {"reader": "-"}, section: data.get(section)}
        if part[section] is None:
            continue
        try:
            recipe = Recipe.model_validate_json(json.dumps(part, default=str), strict=True)
        except ValidationError:
            continue
        for use in plugin_uses(recipe, plugins):
            if use.key[0] == section:
                faults += _plugin_faults(use)
    return faults


def _reference_faults(recipe: Recipe) -> list[Fault]:
    faults = []
    tables = list(recipe.embed.backbones) if recipe.embed else []
    for name, system in recipe.systems.items():
        if recipe.embed and system.backbone not in tables:
            faults.append(
                Fault(
                    f"systems.{name}.backbone",
                    f"{system.backbone!r} is not in embed.backbones",
                    system.backbone,
                    ", ".join(tables),
                    nearest(system.backbone, tables),
                )
            )
    known = list(recipe.systems)
    for name, fused in recipe.fuse.items():
        key = f"fuse.{name}.systems"
        if name in known:
            faults.append(Fault(f"fuse.{name}", "a system of this name exists already", name))
        for part in fused.systems:
            if part not in known:
                hint = nearest(part, known)
                faults.append(Fault(key, f"{part!r} is not a system", part, ", ".join(known), hint))
        if len(set(fused.systems)) < len(fused.systems):
            faults.append(Fault(key, f"{fused.systems} names a system twice", fused.systems))
        splits = recipe.score.splits if recipe.score else [fused.fit_split]
        if fused.fit_split not in splits:
            problem = f"{fused.fit_split!r} is not in score.splits"
            faults.append(
                Fault(f"fuse.{name}.fit_split", problem, fused.fit_split, ", ".join(splits))
            )
        known.append(name)
    return faults


def _section_faults(recipe: Recipe, job: str) -> list[Fault]:
    if job == "run":
        return []
    missing = {"train": "systems"}.get(job, job)
    faults = []
    if job in JOBS and job not in recipe.sections:
        faults.append(Fault(missing, f"is missing; the job {job} needs this section"))
    if job in ("train", "score") and recipe.embed is None:
        faults.append(Fault("embed", f"is missing; the job {job} needs this section"))
    return faults


def _placed(faults: Sequence[Fault], places: Mapping[Location, str]) -> list[Fault]:
    result = []
    for fault in faults:
        place = fault.place
        key: Location = tuple(fault.key.split("."))
        while not place and key:
            place = places.get(key, "")
            key = key[:-1]
        result.append(
            Fault(fault.key, fault.problem, fault.value, fault.allowed, fault.nearest, place)
        )
    return result
