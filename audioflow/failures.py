"""Failures of a run: which clips gave no result, grouped so that a person sees what to do.

Works on tables that are complete and on those that are still being made. A score table repeats the
failures of the embeddings it was made from; those are counted as such, and shown where they arose.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import pyarrow as pa

from audioflow.errors import ERROR_CLASSES, AudioflowError, Fault, RecipeError
from audioflow.redaction import masked
from audioflow.registry import nearest
from audioflow.storage import Folder
from audioflow.tables import FAILURES, RECEIPTS, Failure, Header, Receipt, Table
from audioflow.verify.headers import read_header
from audioflow.verify.places import kind_of, tables_in

HINTS: Mapping[str, str] = {
    "not_found": "The file is not where the manifest says. Put it back, or run the job manifest "
    "again.",
    "permission": "The file may not be read. Check its owner and mode, or the credentials of the "
    "bucket, on the node named.",
    "empty": "The file holds nothing. Get it again from where it came from.",
    "not_media": "FFmpeg recognises no media in it; often it is an error page that was saved under "
    "the name of a media file. Get it again, or take it out of the data set.",
    "no_audio": "There is no sound in it. A system that looks at the pictures can still score the "
    "clip: fuse both.",
    "no_video": "There are no pictures in it. A system that listens to the sound can still score "
    "the clip: fuse both.",
    "truncated": "The file ends, or is damaged, before the clip is over. Get it again, or lower "
    "embed.min_coverage to keep what can be decoded.",
    "unsupported": "This installation cannot read the codec, the container or the kind of url. "
    "Convert the file, or install the package that the reason names.",
    "too_short": "The clip is shorter than one patch of the backbone. Choose a backbone with "
    "shorter patches, or longer spans.",
    "too_long": "The clip is longer than embed.max_duration_s. Raise it, or divide the recording "
    "into clips with start_s and duration_s.",
    "timeout": "Decoding took longer than embed.decode_timeout_s. Raise it where the files are "
    "long or the store is slow; else the file is damaged.",
    "crashed": "The file made the decoder crash; other clips were not harmed. Convert it with "
    "ffmpeg, or take it out of the data set.",
    "killed": "The decoder was killed from outside, each time that it was tried: as a rule the "
    "system had run out of memory. That is not the file's doing. Try these clips again, with fewer "
    "workers or more memory.",
    "out_of_memory": "Decoding needed more than embed.decode_memory_gb. Raise it, or divide the "
    "recording into shorter clips.",
    "network": "The store did not answer, also after some tries. Try these clips again later.",
    "refused": "It is no regular file (a pipe, a folder), or it points at other files, or claims "
    "to be larger than real media is. It is never opened: name the media files themselves.",
    "no_scores": "The imported scores have no row of this clip, or one without numbers. Add it to "
    "the file, or fuse: another system may have scored the clip.",
    "internal": "This is a fault of audioflow, not of the file. Report it with the reason.",
}
"""Error class -> what it means and what to do about it; of every class there is one."""

_DAMAGED = (AudioflowError, pa.ArrowException, ValueError, TypeError, KeyError, AttributeError)
"""What reading a damaged file may raise."""

_FOLLOWING = ("score", "fuse")
"""Stages of failures that arise in score tables; those of other stages came with the embeddings."""


@dataclass(frozen=True)
class FailureGroup:
    """Failures of one table, stage and error class. `share` is of the table's clips, 0 to 1."""

    stage: str
    error: str
    count: int
    share: float
    hint: str
    example: Failure


@dataclass(frozen=True)
class TableFailures:
    """The failures of one table.

    clips: those that it accounts for, as far as it is made. following: failures that came with the
    tables it was made from; they are not in `count` and not in `groups`. unreadable: what could not
    be read, in words.
    """

    table: str
    complete: bool
    clips: int
    count: int
    following: int
    groups: tuple[FailureGroup, ...]
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class Chosen:
    """Which failures to look at: of one table, of one error class, or all."""

    table: str | None = None
    error: str | None = None


EVERYTHING = Chosen()


def summarise(run: Folder, chosen: Chosen = EVERYTHING) -> list[TableFailures]:
    """The failures of every table of a run that can have some, groups with the most first.

    Raises `InputError` where `run` holds no table, `RecipeError` for a choice that there is not.
    """
    return [_summary(_Source(run, table), chosen) for table in _tables(run, chosen)]


def all_failures(run: Folder, chosen: Chosen = EVERYTHING) -> Iterator[tuple[str, Failure]]:
    """(table, failure) of every failure, file by file; those that only follow are left out.

    What cannot be read is left out, too: `summarise` tells of it. Raises as `summarise` does.
    """
    for table in _tables(run, chosen):
        source = _Source(run, table)
        for failure in source.failures():
            if not source.follows(failure) and chosen.error in (None, failure.error):
                yield table, failure


def _tables(run: Folder, chosen: Chosen) -> list[str]:
    found = [name for name in tables_in(run) if kind_of(name) in ("embeddings", "scores")]
    faults = []
    if chosen.table is not None and chosen.table not in found:
        faults.append(_unknown("table", chosen.table, found, "a table of this run with failures"))
    if chosen.error is not None and chosen.error not in ERROR_CLASSES:
        faults.append(_unknown("error", chosen.error, ERROR_CLASSES, "an error class"))
    if faults:
        raise RecipeError("command line", faults)
    return found if chosen.table is None else [chosen.table]


def _unknown(key: str, value: str, allowed: Sequence[str], what: str) -> Fault:
    problem = f"{value!r} is not {what}"
    return Fault(f"--{key}", problem, value, ", ".join(allowed) or "none", nearest(value, allowed))


def _summary(source: "_Source", chosen: Chosen) -> TableFailures:
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], Failure] = {}
    following = 0
    for failure in source.failures():
        if chosen.error not in (None, failure.error):
            continue
        if source.follows(failure):
            following += 1
            continue
        key = (failure.stage, failure.error)
        counts[key] += 1
        examples.setdefault(key, failure)
    clips = source.clips()
    groups = tuple(
        FailureGroup(
            stage=stage,
            error=error,
            count=count,
            share=count / clips if clips else 0.0,
            hint=HINTS.get(error, ""),
            example=examples[stage, error],
        )
        for (stage, error), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
    return TableFailures(
        source.table,
        source.complete,
        clips,
        counts.total(),
        following,
        groups,
        tuple(source.unreadable),
    )


@dataclass
class _Source:
    """The failure files of one table, whatever its state."""

    run: Folder
    table: str
    unreadable: list[str] = field(default_factory=list)
    _header: Header | None = field(init=False)

    def __post_init__(self) -> None:
        self._table = Table(self.run / self.table)
        self._header, faults = read_header(self.run, self.table)
        self.unreadable += [fault.what for fault in faults if fault.kind == "header"]

    @property
    def complete(self) -> bool:
        return self._header is not None

    def follows(self, failure: Failure) -> bool:
        """Whether a failure came with the tables that this one was made from.

        A fused clip fails only where every system of it has failed.
        """
        if kind_of(self.table) != "scores":
            return False
        settings = self._header.settings if self._header is not None else {}
        if settings.get("source") == "media":  # there are no embeddings that it came with
            return False
        return bool(settings.get("fused")) or failure.stage not in _FOLLOWING

    def clips(self) -> int:
        """Clips that the table accounts for so far."""
        if self._header is not None:
            return sum(receipt.clips for receipt in self._header.shards)
        return sum(receipt.clips for receipt in self._receipts())

    def _receipts(self) -> Iterator[Receipt]:
        folder = self._table.folder / RECEIPTS
        for name in folder.names():
            try:
                yield Receipt.parse(folder.read(name))
            except _DAMAGED as error:
                self.unreadable.append(f"{self.table}/{RECEIPTS}/{name} is damaged ({error})")

    def failures(self) -> Iterator[Failure]:
        """Every failure, file by file: those that the header names, or all that are there."""
        for name, count in self._files():
            where = f"{self.table}/{FAILURES}/{name}.parquet"
            found = 0
            try:
                for failure in _rows(self._table.shard_failures(name)):
                    found += 1
                    yield failure
            except _DAMAGED as error:
                told, _, _ = str(error).partition("; remove ")
                self.unreadable.append(f"{where} is damaged ({told})")
            else:
                if count is not None and found != count:
                    self.unreadable.append(f"{where} holds {found} of {count} failures")

    def _files(self) -> list[tuple[str, int | None]]:
        """Shards with a file of failures, and how many it holds where that is known."""
        if self._header is not None:
            return [(one.name, one.failures) for one in self._header.shards if one.failures]
        names = self._table.failures_folder.names()
        return [(name.removesuffix(".parquet"), None) for name in names]


def _rows(rows: pa.Table) -> Iterator[Failure]:
    names = [item.name for item in fields(Failure)]
    for row in rows.select(names).to_pylist():
        failure = Failure(**row)
        # A signed url is as good as a password to whoever reads over the shoulder.
        uri = masked(failure.uri) if failure.uri else failure.uri
        yield replace(failure, uri=uri, reason=masked(failure.reason))
