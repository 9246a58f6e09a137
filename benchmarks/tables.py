"""The figures of the cases as tables for people."""

from collections.abc import Mapping, Sequence
from typing import Any

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
_RATES = "decode frontend backbone ideal steady whole plain_ray per_file".split()
_HEADS = {"frontend": "front end", "plain_ray": "plain Ray", "per_file": "per file"}


def markdown(cases: Sequence[Mapping[str, Any]]) -> str:
    """A table of rates and one of ratios, and what the other cases say."""
    rated = [one for one in cases if "rates" in one]
    parts = []
    if rated:
        heads = [_HEADS.get(name, name) for name in _RATES]
        parts.append(_table(["case (x real time)", *heads], [_rates(one) for one in rated]))
        heads = "steady / ideal", "whole / per file", "whole / plain Ray"
        more = "first shard, s", "whole, s", "memory, GB", "verdict"
        rows = [_ratios(one) for one in rated]
        parts.append(_table(["case", *heads, *more], rows))
    for one in cases:
        if "lines" in one:
            parts.append(_table([one["case"], ""], [list(line) for line in one["lines"]]))
    read_on = dict.fromkeys(f"{one['date']}: {one['machine']}" for one in cases)
    skipped = [f"`{one['case']}`: {one['skipped']}" for one in cases if "skipped" in one]
    parts.append("\n".join([*(f"Read on {line}." for line in read_on), *skipped]))
    return "\n\n".join(parts)


def replaced(page: str, text: str) -> str:
    """The page with the tables between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def _rates(one: Mapping[str, Any]) -> list[str]:
    return [f"`{one['case']}`", *(_number(one["rates"].get(name)) for name in _RATES)]


def _ratios(one: Mapping[str, Any]) -> list[str]:
    share = one["share_of_ideal"]
    cells = [f"`{one['case']}`", "" if share is None else f"{share:.2f}"]
    cells += [_number(one.get(name)) for name in ("times_per_file_way", "times_plain_ray")]
    cells += [_number(one.get(name)) for name in ("first_shard_s", "seconds", "peak_gb")]
    return [*cells, str(one.get("verdict", "")).partition(";")[0]]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |"]
    lines.append("|---|" + "---:|" * (len(heads) - 1))
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
