"""A comparison in lines for people, in the markup of rich, and as plain values."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.markup import escape

from audioflow.comparing.differences import Change, Comparison
from audioflow.errors import shown
from audioflow.fusion.results import ClassGain
from audioflow.metrics import Estimate
from audioflow.report.formats import (
    DASH,
    metric_name,
    p_value,
    percent,
    points,
    undefined,
)
from audioflow.verify.text import one_line, plural

MOST_CLASSES = 10
MOST_CHANGES = 20
_WIDEST = 60


def comparison_lines(found: Comparison) -> Iterator[str]:
    """The verdict, the metrics, the classes that differ most, and what is set otherwise."""
    yield f"[bold]audioflow compare[/bold]  {escape(found.split)}"
    yield f"a  {escape(_who(found.a.system, found.a.url))}"
    yield f"b  {escape(_who(found.b.system, found.b.url))}"
    yield ""
    yield f"[bold]{escape(verdict(found))}[/bold]"
    yield escape(basis(found))
    yield ""
    yield from _metric_lines(found)
    yield ""
    yield from _class_lines(found)
    yield from _change_lines(found)


def verdict(found: Comparison) -> str:
    """Which is better, by how much, and how sure that is, in a sentence."""
    head, name = found.headline, metric_name(found.headline.metric)
    gain = head.difference
    if undefined(gain.value):
        return f"{name} is undefined on these clips"
    size = f"{percent(abs(gain.value))} points of {name}"
    if gain.value == 0:
        first = f"both have the same {name}, {percent(head.a)} %"
    else:
        better = "b" if gain.value > 0 else "a"
        first = f"{better} is better by {size} ({percent(head.a)} -> {percent(head.b)} %)"
    if undefined(gain.low):
        return f"{first}; all clips are of one group, so that it has no interval"
    spread = f"95 % interval {points(gain.low)} to {points(gain.high)}"
    sure = "" if found.is_sure else ", so that it may be chance"
    return f"{first}; {spread}{sure}"


def basis(found: Comparison) -> str:
    """What the comparison stands on: clips, groups, and McNemar's test."""
    said = f"on {plural(found.num_clips, 'clip')} that both scored"
    if found.num_groups != found.num_clips:
        said += f", in {plural(found.num_groups, 'group')}"
    alone = [f"{count} in {name} alone" for name, count in _alone(found) if count]
    if found.left_out:
        alone.append(f"{found.left_out} without exactly one known label")
    if alone:
        said += f"; not compared: {', '.join(alone)}"
    test = found.test
    return (
        f"{said}; a alone is right on {test.only_a}, b alone on {test.only_b} "
        f"(McNemar's test: p {p_value(test.p_value)})"
    )


def values_of(found: Comparison) -> dict[str, Any]:
    """All of it as JSON has it; NaN as null."""
    sides = {
        name: {"run_dir": side.url, "system": side.system, "fingerprint": side.header.fingerprint}
        for name, side in (("a", found.a), ("b", found.b))
    }
    own = ("split", "multi_label", "num_clips", "num_groups", "only_a", "only_b", "left_out")
    classes = [
        {
            "class": one.name,
            "num_clips": one.num_clips,
            "a": one.part,
            "b": one.fused,
            "difference": asdict(one.gain),
        }
        for one in found.classes
    ]
    return _plain(
        sides
        | {name: getattr(found, name) for name in own}
        | {
            "verdict": verdict(found),
            "sure": found.is_sure,
            "metrics": [asdict(one) for one in found.metrics],
            "mcnemar": asdict(found.test),
            "classes": classes,
            "changes": [asdict(one) for one in found.changes],
        }
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and undefined(value) else value


def _who(system: str, url: str) -> str:
    return f"{system}  {one_line(url)}"


def _alone(found: Comparison) -> tuple[tuple[str, int], tuple[str, int]]:
    return ("a", found.only_a), ("b", found.only_b)


def _metric_lines(found: Comparison) -> Iterator[str]:
    names = [metric_name(one.metric) for one in found.metrics]
    width = max(map(len, names))
    yield f"{'':<{width}}  {'a, %':>7}  {'b, %':>7}  {'points':>7}  95 % interval"
    for name, one in zip(names, found.metrics, strict=True):
        cells = f"{percent(one.a):>7}  {percent(one.b):>7}  {points(one.difference.value):>7}"
        yield f"{name:<{width}}  {cells}  {_spread(one.difference)}"


def _spread(gain: Estimate) -> str:
    return DASH if undefined(gain.low) else f"{points(gain.low)} to {points(gain.high)}"


def _class_lines(found: Comparison) -> Iterator[str]:
    differing = [one for one in found.classes if one.gain.value]
    what = "average precision" if found.multi_label else "recall"
    if not differing:
        yield f"no class has another {what}"
        return
    listed = sorted(differing, key=lambda one: -abs(one.gain.value))[:MOST_CLASSES]
    of = "" if len(listed) == len(differing) else f", the {len(listed)} largest"
    yield f"of {len(found.classes)} classes {len(differing)} with another {what}{of}:"
    width = max(len(_short(one.name)) for one in listed)
    for one in listed:
        yield _class_line(one, width)


def _class_line(one: ClassGain, width: int) -> str:
    cells = f"{percent(one.part):>7}  {percent(one.fused):>7}  {points(one.gain.value):>7}"
    clips = plural(one.num_clips, "clip")
    return f"{escape(f'{_short(one.name):<{width}}')}  {cells}  {_spread(one.gain)}  {clips}"


def _change_lines(found: Comparison) -> Iterator[str]:
    yield ""
    if not found.changes:
        yield "made with the same settings and versions"
        return
    other = [one for one in found.changes if one.in_both]
    alone = {
        "a": sum(not one.in_b for one in found.changes),
        "b": sum(not one.in_a for one in found.changes),
    }
    if other:
        yield f"{plural(len(other), 'setting')} not the same:"
    yield from (escape(change_line(one)) for one in other[:MOST_CHANGES])
    if len(other) > MOST_CHANGES:
        yield f"and {len(other) - MOST_CHANGES} more (--json has all)"
    for name, count in alone.items():
        if count:
            yield f"{plural(count, 'setting')} that only {name} has (--json has all)"


def change_line(one: Change) -> str:
    """`heads.train.lr: 0.001 -> 0.01`."""
    return f"  {one.key}: {_short(shown(one.a))} -> {_short(shown(one.b))}"


def _short(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
