"""A fusion in a line."""

from collections.abc import Mapping
from typing import Any


def summary_line(settings: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """What a fused table is, from its header: rule, weights where it has any, what it is fitted on.

    settings: the recipe's entry. params: what `Fusion.fit` gave.
    """
    weights = params.get("weights", {})
    shown = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
    extra = [
        text
        for there, text in (
            (params.get("per_class"), "by class"),
            (params.get("gate"), "on average"),
        )
        if there
    ]
    line = f"{settings['rule']}: {shown}" if shown else str(settings["rule"])
    line += f" {' '.join(extra)}" if extra else ""
    given = ["given weights"] if settings.get("weights") else []
    if params.get("fit", {}).get("clips", 0) and (not given or params.get("calibrators")):
        where = "by fold" if "cross_fit" in params else f"on {settings['fit_split']}"
        given.append(f"{'calibrated' if given else 'fitted'} {where}")
    return f"{line} ({', '.join(given)})" if given else line
