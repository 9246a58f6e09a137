"""A forecast in lines for people, in the markup of rich; at most about 100 columns."""

import textwrap
from collections.abc import Callable, Iterator

from rich.markup import escape

from audioflow.planning.estimate import WORKERS
from audioflow.planning.figures import ErrorSeen, Forecast, StratumForecast, TableForecast
from audioflow.planning.forecast import DECODE, STARTUP_S
from audioflow.planning.intervals import Interval
from audioflow.verify.text import one_line, plural

_WIDTH = 96
_INDENT = 11
_MOST_KINDS = 8
_MANY_PATCHES = 8
"""From so many patches per clip on, half as many take half as long."""


def forecast_lines(found: Forecast, url: str) -> Iterator[str]:
    """What a run takes, and what that depends on."""
    yield f"[bold]audioflow plan[/bold]  {escape(url)}"
    yield _line("media", _media(found))
    yield _line("probed", _probed(found))
    yield ""
    yield from _kinds(found)
    yield ""
    yield from _tables(found)
    yield ""
    yield from _failures(found)
    yield ""
    yield from _done(found)
    yield _line("decode", _decode(found))
    yield from _time(found)
    yield from _memory(found)
    yield from _cost(found)
    yield from _requests(found)
    for hint in hints(found):
        yield from _folded("[cyan]->[/cyan]", hint, 2)


def _line(name: str, text: str) -> str:
    return f"{name:<{_INDENT}}{text}"


def _folded(name: str, text: str, length: int) -> Iterator[str]:
    """A text over several lines; `length` is that of the name as it is seen."""
    lines = textwrap.wrap(one_line(text), _WIDTH - _INDENT, break_on_hyphens=False)
    for number, line in enumerate(lines):
        yield (name + " " * (_INDENT - length) if number == 0 else " " * _INDENT) + escape(line)


def _media(found: Forecast) -> str:
    clips = plural(found.clips, "clip")
    recordings = plural(found.recordings, "recording")
    media = between(found.media_s, hours)
    sizes = between(found.fetch_bytes, size)
    return f"{clips} of {recordings}, {media}, {sizes} to fetch"


def _probed(found: Forecast) -> str:
    tried = plural(found.sampled_recordings, "recording")
    clips = plural(found.sampled_clips, "clip")
    return f"{tried} with {clips}, in {duration(found.probe_s)}; ranges are 90 % intervals"


def _kinds(found: Forecast) -> Iterator[str]:
    """Per suffix: how many there are, and how the sample of them was decoded."""
    yield f"{'files':<8}{'there are':>10}{'probed':>8}{'each':>11}{'media':>11}{'decode':>14}"
    kinds = list(dict.fromkeys(stratum.kind for stratum in found.strata))
    by_kind = {kind: [one for one in found.strata if one.kind == kind] for kind in kinds}
    order = sorted(kinds, key=lambda kind: -sum(one.recordings for one in by_kind[kind]))
    for kind in order[:_MOST_KINDS]:
        yield _kind(kind, by_kind[kind])
    if len(order) > _MOST_KINDS:
        yield f"and {len(order) - _MOST_KINDS} more suffixes"


def _kind(kind: str, strata: list[StratumForecast]) -> str:
    sampled = sum(one.sampled for one in strata)
    recordings = sum(one.recordings for one in strata)
    mean = sum(one.fetched_bytes / one.sampled * one.recordings for one in strata) / recordings
    media_s = sum(one.media_s / one.sampled * one.recordings for one in strata)
    decode_s = sum(one.decode_s / one.sampled * one.recordings for one in strata)
    rate = f"{media_s / decode_s:.0f}x real time" if media_s and decode_s else "-"
    cells = f"{recordings:>10}{sampled:>8}{size(mean):>11}{hours(media_s):>11}{rate:>17}"
    return f"{escape(one_line(kind)):<8}{cells}"


def _tables(found: Forecast) -> Iterator[str]:
    names = [f"embeddings/{table.table}" for table in found.tables]
    width = max(len("table"), *map(len, names))
    heads = f"{'one core':>16}{'actors':>8}{'a clip':>10}{'output':>10}{'shards':>10}"
    yield f"{'table':<{width}}{heads}"
    for name, table in zip(names, found.tables, strict=True):
        rate = f"{table.x_real_time:.0f}x real time" if table.x_real_time else "-"
        shards = f"{table.shards}"
        cells = f"{rate:>16}{table.actors:>8}{size(table.bytes_per_clip):>10}"
        yield f"{name:<{width}}{cells}{size(table.output_bytes.value):>10}{shards:>10}"


def _failures(found: Forecast) -> Iterator[str]:
    for table in found.tables:
        share = table.failed_share
        text = f"{percent(share.value)} of the clips fail in embeddings/{table.table}"
        if share.low < share.high:
            text += f" (95 %: {percent(share.low)} to {percent(share.high)})"
        allowed = f"embed.max_failed_share allows {percent(found.max_failed_share)}"
        if table.too_many_failures:
            yield _line("failures", f"{escape(text)}")
            yield _line("", f"[red]{allowed}: the job would end with exit code 3[/red]")
        else:
            yield _line("failures", escape(text))
            if share.high > found.max_failed_share:
                yield _line("", f"[yellow]{allowed}: that may not be enough[/yellow]")
        for error in table.errors:
            yield from _error(error)


def _error(error: ErrorSeen) -> Iterator[str]:
    text = f"{plural(error.clips, 'clip')} of the sample, as {error.clip_id}: {error.reason}"
    shortened = textwrap.shorten(one_line(text), 2 * (_WIDTH - _INDENT - 13), placeholder=" ...")
    lines = textwrap.wrap(shortened, _WIDTH - _INDENT - 13, break_on_hyphens=False)
    for number, line in enumerate(lines):
        name = f"[yellow]{error.error:<13}[/yellow]" if number == 0 else " " * 13
        yield " " * _INDENT + name + escape(line)


def _done(found: Forecast) -> Iterator[str]:
    for table in found.tables:
        if table.shards_done:
            text = f"{table.shards_done} of {plural(table.shards, 'shard')} of "
            yield _line("done", escape(f"{text}embeddings/{table.table} are committed"))
        if table.may_take_over and table.shards_done < table.shards:
            text = f"embeddings/{table.table} has shards of other clips; what they share with these"
            yield _line("", escape(text) + " is taken over, so it takes less than is said here")


def _decode(found: Forecast) -> str:
    rate = f"{found.decode_x_real_time:.0f}x real time on one core"
    rate = rate if found.decode_x_real_time else "nothing could be decoded"
    fetch = f", {percent(found.fetch_share)} of it is fetching" if found.fetch_share > 0.1 else ""
    return f"{rate}, {plural(found.decode_workers, 'worker')}{fetch}"


def _time(found: Forecast) -> Iterator[str]:
    if found.done:
        yield _line("time", "nothing to do: every shard is committed")
        return
    cluster = found.cluster
    on = f"{cluster.cpus:g} CPU{'s' if cluster.cpus != 1 else ''}"
    on += f" and {cluster.gpus:g} GPU{'s' if cluster.gpus != 1 else ''}" if cluster.gpus else ""
    left = " for what is left" if any(table.shards_done for table in found.tables) else ""
    yield _line("time", f"[bold]{between(found.wall_s, duration)}[/bold] on {on}{left}")
    core_s = found.decode_core_s_left + sum(table.core_s_left for table in found.tables)
    how = f"{duration(core_s)} of work / {cluster.cpus:g} cores"
    if found.wall.by == "longest":
        how = "what the longest recording takes, on one core"
    elif found.wall.by == WORKERS:
        how = f"{duration(core_s)} of work / {plural(found.decode_workers, 'worker')}"
    elif found.wall.by != "cores":
        how = f"{duration(core_s)} of work, held up by {_stage(found.wall.by)}"
    yield from _folded(" " * 4, f"{how} + {STARTUP_S:g} s to start", 4)


def _stage(name: str) -> str:
    return "decoding" if name == DECODE else name


def _memory(found: Forecast) -> Iterator[str]:
    memory = found.memory_per_machine
    each = " per machine" if found.cluster.machines > 1 else ""
    yield _line("memory", f"{size(memory.expected)}{each}, at most {size(memory.at_most)}")
    text = (
        f"decoders {size(memory.decode_bytes)} (a child {size(found.decoder_child_bytes)} as seen "
        f"here, {size(memory.decode_limit_bytes)} at their limit, embed.decode_memory_gb), "
        f"backbones {size(memory.backbones_bytes)}, object store {size(memory.store_bytes)} "
        f"(rows of {size(found.row_bytes)}); Ray itself and the system come on top"
    )
    yield from _folded("", text, 0)


def _cost(found: Forecast) -> Iterator[str]:
    if found.cost is None or found.price is None:
        return

    def money(amount: float) -> str:
        return f"{amount:.2f}"

    unit = f" {found.price.currency}" if found.price.currency else ""
    machines = plural(found.cluster.machines, "machine")
    price = f"{machines} at {found.price.per_machine_h:g}{unit} per hour"
    yield _line("cost", escape(f"{between(found.cost, money)}{unit} for {price}"))


def _requests(found: Forecast) -> Iterator[str]:
    if found.done:
        return
    reads, writes = plural(found.reads, "recording"), plural(found.writes, "file")
    yield _line("requests", f"{reads} to get and {writes} to put, where they are in a bucket")


def hints(found: Forecast) -> Iterator[str]:
    """What would change the figures most, and where they are not to be believed."""
    for table in found.tables:
        if table.actors_on_gpu and table.device == "cpu":
            yield (
                f"embeddings/{table.table} asks for a GPU and was measured on a CPU here: its time "
                "is an upper bound"
            )
        if table.actors_on_gpu and not found.cluster.gpus:
            yield f"embeddings/{table.table} asks for a GPU, and there is none: say --gpus N"
    if not found.done:
        yield from _bottleneck(found)


def _bottleneck(found: Forecast) -> Iterator[str]:
    wall = found.wall
    if wall.seconds <= 2 * wall.startup_s:
        yield "the start takes most of the time; a faster machine would change little"
        return
    if wall.by == "longest":
        yield "one long recording takes longer than all others together; more cores do not help"
    elif wall.by == "cores":
        busiest = _stage(wall.busiest)
        yield f"{busiest} takes {percent(wall.share)} of the work; twice the cores halve the time"
    elif wall.by == WORKERS:
        few = found.decode_workers == max(table.shards for table in found.tables)
        why = "make embed.clips_per_shard smaller" if few else "raise `actors`, or leave it out"
        yield f"there are {plural(found.decode_workers, 'worker')} only: {why}"
    elif wall.by == DECODE:
        few = found.decode_workers == max(table.shards for table in found.tables)
        why = "embed.clips_per_shard" if few else "embed.decode_cpus"
        yield f"decoding has {plural(found.decode_workers, 'worker')} only: make {why} smaller"
    else:
        yield (
            f"{wall.by} has too few actors: raise `actors` of that backbone in the recipe, or give "
            "it more GPUs"
        )
    yield from _hop(found.tables, wall.busiest, wall.share)


def _hop(tables: tuple[TableForecast, ...], busiest: str, share: float) -> Iterator[str]:
    """A backbone works per patch: with half as many it takes half as long."""
    for table in tables:
        if (
            f"embeddings/{table.table}" == busiest
            and table.hop_s
            and table.patches_per_clip >= _MANY_PATCHES
        ):
            yield (
                f"embed.backbones.{table.table}.hop_s={2 * table.hop_s:g} (now {table.hop_s:g}) "
                f"would halve these {percent(share)}, and the output"
            )


# Figures as a person reads them.


def duration(seconds: float) -> str:
    """A time with its unit: 3.2 h, 14 min, 5.1 s."""
    for unit, size_s in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size_s:
            return f"{_digits(seconds / size_s)} {unit}"
    return f"{_digits(seconds)} s"


def hours(seconds: float) -> str:
    """A length of media: as `duration`, but in hours however long it is."""
    return f"{_digits(seconds / 3600)} h" if seconds >= 7200 else duration(seconds)


def size(count: float) -> str:
    """A number of bytes with its unit: 41 GB, 1.9 kB."""
    for unit, bytes_each in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= bytes_each:
            return f"{_digits(count / bytes_each)} {unit}"
    return f"{count:.0f} B"


def percent(share: float) -> str:
    """A share: 4.2 %."""
    return f"{100 * share:.{0 if share in (0, 1) else 1}f} %"


def between(found: Interval, words: Callable[[float], str]) -> str:
    """An estimate and its bounds, where they differ."""
    value, low, high = words(found.value), words(found.low), words(found.high)
    return value if low == high else f"{value} ({low} to {high})"


def _digits(number: float) -> str:
    return f"{number:.1f}" if number < 10 else f"{number:.0f}"
