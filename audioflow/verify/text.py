"""A verification in lines for people, in the markup of rich."""

from collections.abc import Iterator, Sequence

from rich.markup import escape

from audioflow.verify.faults import FAULT_KINDS, TableCheck, TableFault, Verification

MOST_SHOWN = 20
"""Faults told of a kind."""

MOST_WAYS_OUT = 3


def verification_lines(found: Verification, url: str) -> Iterator[str]:
    """One line per table, then the faults by kind, then the verdict."""
    yield f"[bold]audioflow verify[/bold]  {escape(url)}"
    width = max(len(one_line(check.table)) for check in found.tables)
    for check in found.tables:
        name = escape(f"{one_line(check.table):<{width}}")
        yield f"{name}  {_counted(check)}  {_verdict(check)}"
    for kind, total in found.fault_counts.items():
        yield ""
        yield from _kind_lines(kind, [one for one in found.faults if one.kind == kind], total)
    if found.ok:
        yield "[green]ok[/green]: every clip is exactly once in the rows or in the failures"
    else:
        yield f"\n[red bold]{plural(sum(found.fault_counts.values()), 'fault')}[/red bold]"
    if any(check.failures for check in found.tables):
        yield f"which clips failed, and why: audioflow failures {escape(url)}"


def _counted(check: TableCheck) -> str:
    nouns = {"heads": "head", "tune": "trial", "report": "system"}
    cells = [plural(check.rows, nouns.get(check.table.partition("/")[0], "row")), "", ""]
    if cells[0].startswith(f"{check.rows} row"):
        cells[1:] = [plural(check.failures, "failure"), plural(check.shards, "shard")]
    return f"{cells[0]:>10}  {cells[1]:>13}  {cells[2]:>10}"


def _verdict(check: TableCheck) -> str:
    if not check.faults:
        return "[green]ok[/green]"
    state = "" if check.complete else "cannot be used, "
    return f"[red]{state}{plural(check.faults, 'fault')}[/red]"


def _kind_lines(kind: str, faults: Sequence[TableFault], total: int) -> Iterator[str]:
    yield f"[bold]{FAULT_KINDS[kind]}[/bold] ({total})"
    for fault in faults[:MOST_SHOWN]:
        table = "" if fault.what.startswith(fault.table) else f"{fault.table}: "
        where = "" if fault.where in fault.what else f" ({fault.where})"
        yield f"  {escape(one_line(f'{table}{fault.what}{where}'))}"
    if total > MOST_SHOWN:
        yield f"  and {total - MOST_SHOWN} more"
    ways_out = list(dict.fromkeys(fault.way_out for fault in faults))
    for way_out in ways_out[:MOST_WAYS_OUT]:
        yield f"  [cyan]->[/cyan] {escape(one_line(way_out))}"
    if len(ways_out) > MOST_WAYS_OUT:
        yield f"  [cyan]->[/cyan] and so for {len(ways_out) - MOST_WAYS_OUT} more"


def plural(count: int, noun: str) -> str:
    """A count with its noun: `1 clip`, `2 clips`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def one_line(text: str) -> str:
    """Text of a file or a message as one line: what a terminal would act on is escaped."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text
    )
