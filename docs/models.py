"""What the models of a recipe say of their keys: type, default, range, and meaning.

The meaning of a key stands in the docstring of its model, as `key: meaning` or, for several keys,
`one, other: meaning`. It ends at the next key or at the end of the paragraph.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import AfterValidator, BaseModel, StringConstraints
from pydantic.fields import FieldInfo

from audioflow.registry import Settings

_WORDS = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "`true`, `false`",
    Any: "see meaning",
}
_BOUNDS = (Ge, Gt, Le, Lt, MinLen, MaxLen)


@dataclass(frozen=True)
class Key:
    """One key of a model as the documentation tells it, in Markdown.

    nested: the model of what stands below it, if any; entries: whether names that the user chooses
    stand between the key and that model.
    """

    name: str
    kind: str
    default: str
    range: str
    meaning: str
    nested: type[BaseModel] | None = None
    entries: bool = False

    @property
    def row(self) -> tuple[str, ...]:
        """Without name and meaning: what has to agree for two keys to be the same."""
        return (self.kind, self.default, self.range)


def keys_of(model: type[BaseModel]) -> list[Key]:
    """The keys of a model, in its order.

    One that the docstrings do not tell has the meaning of the model below it, or else an empty one.
    """
    told = meanings(model)
    return [_key(name, field, told.get(name, "")) for name, field in model.model_fields.items()]


def intro(model: type[BaseModel]) -> str:
    """What the docstring of a model says before its first key, in whole sentences."""
    if model is Settings:
        return ""
    text = inspect.cleandoc(model.__doc__ or "")
    first = _marker(model.model_fields).search(text) if model.model_fields else None
    before = " ".join((text[: first.start()] if first else text).split())
    return before[: before.rfind(".") + 1]


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Key -> meaning, from the docstrings of the model and, where it is silent, of its bases."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if issubclass(each, BaseModel):
            found |= _told(each.__dict__.get("__doc__") or "", model.model_fields)
    return found


def _marker(names: Any) -> re.Pattern[str]:
    key = "(?:" + "|".join(sorted(map(re.escape, names), key=len, reverse=True)) + ")"
    return re.compile(rf"(?:^|(?<=[.;]\s)|(?<=\n\n))({key}(?:(?:, | and ){key})*):\s")


def _told(docstring: str, names: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        text = " ".join(paragraph.split()) + " "
        marks = list(_marker(names).finditer(text)) if names else []
        ends = [*(mark.start() for mark in marks), len(text)][1:]
        for mark, end in zip(marks, ends, strict=True):
            keys = re.split(r", | and ", mark.group(1))
            meaning = text[mark.end() : end].strip().rstrip(";,.")
            if len(keys) > 1:
                meaning = f"{', '.join(f'`{key}`' for key in keys)}: {meaning}"
            found |= dict.fromkeys(keys, meaning)
    return found


def _key(name: str, field: FieldInfo, meaning: str) -> Key:
    annotation = field.annotation
    models = list(_models(annotation))
    return Key(
        name,
        _type(annotation),
        _default(field),
        ", ".join(dict.fromkeys(_ranges(annotation, field.metadata))),
        meaning or (intro(models[0]).rstrip(".") if models else ""),
        models[0] if models else None,
        get_origin(_given(annotation)) is dict,
    )


def _given(annotation: Any) -> Any:
    """The type without None and without annotations around it."""
    if get_origin(annotation) is Annotated:
        return _given(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not NoneType]
        return _given(parts[0]) if len(parts) == 1 else annotation
    return annotation


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    if get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from _models(part)


def _type(annotation: Any) -> str:
    given = _given(annotation)
    origin, parts = get_origin(given), get_args(given)
    if origin is Literal:
        return ", ".join(f"`{_shown(part)}`" for part in parts)
    if origin in (Union, UnionType):
        return " or ".join(_type(part) for part in parts if part is not NoneType)
    if origin is dict:
        return f"mapping of {_plural(parts[1])}"
    if origin is tuple and parts[-1] is not Ellipsis:
        return f"list of {len(parts)} {_plural(parts[0])}"
    if origin in (list, tuple):
        return f"list of {_plural(parts[0])}"
    nested = isinstance(given, type) and (issubclass(given, BaseModel) or is_dataclass(given))
    return "mapping" if nested else _WORDS[given]


def _plural(annotation: Any) -> str:
    kind = _type(annotation)
    return f"{kind}s" if kind in ("whole number", "number", "text", "mapping") else kind


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return _literal(field.get_default(call_default_factory=True))


def _literal(value: Any) -> str:
    if value is None:
        return ""
    if is_dataclass(value):
        return "`{}`"
    if isinstance(value, Settings):
        given = value.model_dump(exclude_unset=True)
        return f"`{_shown(given)}`"
    return f"`{_shown(value)}`"


def _shown(value: Any) -> str:
    """A value as a recipe has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_shown(part)}' for key, part in value.items())}}}"
    return str(value) if value != "" else '""'


def _ranges(annotation: Any, metadata: Any = ()) -> Iterator[str]:
    """What a value is held to: of numbers their ends, of texts and lists their length."""
    yield from _range(list(metadata), _type(annotation))
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        yield from _ranges(inner, [*_flat(more)])
    elif get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from _ranges(part) if part not in (NoneType, Ellipsis) else ()


def _flat(metadata: Any) -> Iterator[Any]:
    for each in metadata:
        yield from each.metadata if isinstance(each, FieldInfo) else [each]


def _range(metadata: Any, kind: str) -> Iterator[str]:
    bounds = [each for each in metadata if isinstance(each, _BOUNDS)]
    ends = {type(each): getattr(each, fields(each)[0].name) for each in bounds}
    low = [f"{_shown(ends[Ge])} or more"] if Ge in ends else []
    low += [f"above {_shown(ends[Gt])}"] if Gt in ends else []
    high = [f"at most {_shown(ends[Le])}"] if Le in ends else []
    high += [f"below {_shown(ends[Lt])}"] if Lt in ends else []
    if Ge in ends and Le in ends:
        low, high = [f"{_shown(ends[Ge])} to {_shown(ends[Le])}"], []
    yield from [*low, *high]
    if MinLen in ends and ends[MinLen] == ends.get(MaxLen):
        yield f"{ends[MinLen]} letter" if kind == "text" else f"{ends[MinLen]} entries"
    elif MinLen in ends or MaxLen in ends:
        least, most = ends.get(MinLen), ends.get(MaxLen)
        unit = "letters" if kind == "text" else "entries"
        not_empty = "not empty" if least == 1 else f"{least} {unit} or more"
        yield from [not_empty] if least is not None else []
        yield from [f"at most {most} {unit}"] if most is not None else []
    for each in metadata:
        if isinstance(each, StringConstraints) and each.pattern:
            yield f"`{each.pattern}`".replace("|", "\\|")
        if isinstance(each, AfterValidator) and is_dataclass(each.func):
            within = vars(each.func)
            yield f"within {_shown(within['least'])} to {_shown(within['most'])}"
