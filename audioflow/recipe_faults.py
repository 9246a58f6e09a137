"""What pydantic finds wrong with a recipe, as faults a person can act on."""

import types
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from audioflow.errors import Fault, shown
from audioflow.recipe import PluginChoice
from audioflow.registry import nearest

Location = tuple[str | int, ...]

_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text (put it in quotes)",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping ({} where there is nothing to say)",
    "model_type": "a mapping ({} for its defaults)",
    "model_attributes_type": "a mapping ({} for its defaults)",
    "finite_number": "a finite number",
}
_OUT_OF_RANGE = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")


def faults_of(
    error: ValidationError,
    model: type[BaseModel],
    prefix: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> list[Fault]:
    """Faults for everything that `model` refused; a validator's error is one for every line.

    prefix: where in the recipe the model's value stands.
    beside: keys that may stand there too, because another model reads them.
    """
    faults = []
    for item in error.errors():
        if item["type"] == "value_error":
            key = ".".join(map(str, (*prefix, *item["loc"])))
            lines = str(item["ctx"]["error"]).splitlines()
            faults += [Fault(key, line, item.get("input")) for line in lines]
        else:
            faults.append(_fault(item, model, tuple(prefix), beside))
    return faults


def _fault(
    item: Any, model: type[BaseModel], prefix: tuple[str, ...], beside: Sequence[str]
) -> Fault:
    location: Location = item["loc"]
    key = ".".join(map(str, (*prefix, *location)))
    kind, value = item["type"], item.get("input")
    if kind == "extra_forbidden":
        known = [*(beside if len(location) == 1 else ()), *_keys(_type_at(model, location[:-1]))]
        hint = nearest(str(location[-1]), known)
        problem = f"unknown key, with the value {shown(value)}"
        return Fault(key, problem, value, ", ".join(known), hint)
    if kind == "missing":
        return _missing(key, location, model, value)
    problem, allowed, hint = _unfit(item, _type_at(model, location), _field_at(model, location))
    return Fault(key, problem, value, allowed, hint)


def _missing(key: str, location: Location, model: type[BaseModel], holder: Any) -> Fault:
    """`holder` is the mapping that lacks the key."""
    owner = _type_at(model, location[:-1])
    problem = "is missing"
    if isinstance(holder, dict) and _keys(owner) and owner.model_config.get("extra") == "allow":
        # Nobody else tells of a misspelt key here: it is taken for a setting of the plug-in.
        hint = nearest(str(location[-1]), [name for name in holder if name not in _keys(owner)])
        problem += f", unless {hint!r} is meant to be it" if hint else ""
    return Fault(key, problem, None, _described(_type_at(model, location)))


def _unfit(item: Any, annotation: Any, field: FieldInfo | None) -> tuple[str, str, str]:
    """Problem, what is allowed and the nearest spelling, for a value of a wrong kind or size."""
    kind, value, context = item["type"], item.get("input"), item.get("ctx", {})
    if kind == "literal_error":
        options = [str(option) for option in typing.get_args(annotation)]
        hint = nearest(str(value), options)
        return f"{shown(value)} is not allowed", ", ".join(options), hint
    if kind in _WANTED:
        choice = kind.startswith("model") and annotation is PluginChoice
        return f"{shown(value)} is {_kind_of(value)}", _CHOICE if choice else _WANTED[kind], ""
    if kind in _OUT_OF_RANGE:
        bounds = _range(field) or item["msg"].removeprefix("Input should be ")
        return f"{shown(value)} is out of range", bounds, ""
    if kind in ("too_short", "string_too_short"):
        least = _counted(context["min_length"], value)
        return f"{shown(value)} is too short", f"{least} or more", ""
    if kind in ("too_long", "string_too_long"):
        most = _counted(context["max_length"], value)
        return f"{shown(value)} is too long", f"{most} or fewer", ""
    return f"{shown(value)} is not allowed: {item['msg']}", "", ""


_CHOICE = "a name, or a mapping with name and the settings that go with it"


def _counted(number: int, value: Any) -> str:
    one, many = ("character", "characters") if isinstance(value, str) else ("entry", "entries")
    return f"{number} {one if number == 1 else many}"


def _described(annotation: Any) -> str:
    if annotation is PluginChoice:
        return _CHOICE
    if _keys(annotation):
        return f"a mapping with {', '.join(_keys(annotation))}"
    found = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    if typing.get_origin(annotation) is list:
        return "a list"
    return found.get(annotation, "a mapping" if typing.get_origin(annotation) is dict else "")


def _kind_of(value: Any) -> str:
    if value is None:
        return "no value"
    if isinstance(value, float):
        return "a number with a point" if value - value == 0 else "not finite"
    found = {bool: "a truth value", int: "a whole number", str: "a text", list: "a list"}
    return found.get(type(value), "a mapping")


def _range(field: FieldInfo | None) -> str:
    """The numbers that a field takes, in words."""
    bounds: dict[str, Any] = {}
    for constraint in field.metadata if field else ():
        for name in ("ge", "gt", "le", "lt"):
            if hasattr(constraint, name):
                bounds[name] = _number(getattr(constraint, name))
    if "ge" in bounds and "le" in bounds:
        return f"{bounds['ge']} to {bounds['le']}"
    words = {"ge": "{} or more", "gt": "more than {}", "le": "{} or less", "lt": "less than {}"}
    return " and ".join(words[name].format(bound) for name, bound in bounds.items())


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _keys(annotation: Any) -> list[str]:
    """The keys of a mapping that this model describes; none for what is no model."""
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return list(annotation.model_fields) if is_model else []


def _field_at(model: type[BaseModel], location: Location) -> FieldInfo | None:
    holder: Any = _type_at(model, location[:-1])
    return holder.model_fields.get(str(location[-1])) if location and _keys(holder) else None


def _type_at(model: type[BaseModel], location: Location) -> Any:
    """The type of the value at `location` below `model`; None where the model does not know it."""
    found: Any = model
    for part in location:
        arguments = typing.get_args(found)
        if _keys(found):
            field = found.model_fields.get(str(part))
            found = field.annotation if field else None
        elif typing.get_origin(found) is dict:
            found = arguments[1]
        elif typing.get_origin(found) in (list, tuple):
            found = arguments[0]
        else:
            return None
        found = _bare(found)
    return found


def _bare(annotation: Any) -> Any:
    """An annotation without `Annotated` and `| None`."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _bare(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return _bare(
            next(part for part in typing.get_args(annotation) if part is not types.NoneType)
        )
    return annotation
