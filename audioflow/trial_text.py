"""How the settings of a trial read, wherever trials are listed: short names and short values."""

import json
from collections.abc import Iterable
from typing import Any


def setting_names(keys: Iterable[str]) -> dict[str, str]:
    """Dotted keys -> the shortest ends that tell them apart; `head.name` is called `head`."""
    parts = {key: key.removesuffix(".name").split(".") for key in keys}
    names = {}
    for key, own in parts.items():
        others = [other for one, other in parts.items() if one != key]
        depth = 1
        while depth < len(own) and any(other[-depth:] == own[-depth:] for other in others):
            depth += 1
        names[key] = ".".join(own[-depth:])
    return names


def value_text(value: Any) -> str:
    """A value as JSON has it, but texts without quotes and fractions with three digits."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(value_text, value))}]"
    return "none" if value is None else json.dumps(value)
