"""`verify`: prove that every table of a run is what its header says, or list where it is not.

    verification = verify(Folder("runs/demo"))
    verification.ok, verification.tables, verification.faults

Every file is read once: its bytes are compared with its receipt, its columns with the schema, its
values with what they may be, and its clip ids are counted against the manifest. Shards are read by
a few threads, and only so many are in memory at a time; what is kept are the ids of all clips of
the manifest as Arrow holds them, and some 30 bytes a clip beside them (`audioflow.ids`, `clips`).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from audioflow.schemas import MANIFEST_SCHEMA, TRIALS_SCHEMA, embeddings_schema, scores_schema
from audioflow.storage import Folder
from audioflow.tables import FAILURES, HEADER, PARTS, RECEIPTS, Header
from audioflow.verify.clips import Clips, Ledger, Splits
from audioflow.verify.faults import Findings, TableCheck, TableFault, Verification
from audioflow.verify.headers import Headers, is_fused, made_by, parent_faults, read_header
from audioflow.verify.heads import head_faults, report_faults
from audioflow.verify.places import kind_of, tables_in
from audioflow.verify.shards import ShardContent, ShardTask, check_shard
from audioflow.verify.trials import search_faults, trial_problems
from audioflow.verify.values import embedding_problems, score_problems

Progress = Callable[[str, int, int], None]
"""Told of every shard looked at: table, shards done, shards of the table."""

READERS = 8
"""Shards read at a time: enough to hide the latency of a bucket, few enough for memory."""


def verify(folder: Folder, progress: Progress = lambda table, done, total: None) -> Verification:
    """Look at every table of a run.

    Raises `InputError` where `folder` holds no table or cannot be listed; everything else that is
    wrong is a fault of the result.
    """
    names = tables_in(folder)
    findings = Findings()
    headers: dict[str, Header | None] = {}
    for name in names:
        headers[name], faults = read_header(folder, name)
        for fault in faults:
            findings.add(fault)
    run = _Run(folder, headers, findings, progress)
    checks = [run.check(name) for name in names]
    order = {name: position for position, name in enumerate(names)}
    found = sorted(findings.faults, key=lambda fault: order[fault.table])
    return Verification(tuple(checks), tuple(found), findings.by_kind())


@dataclass
class _Run:
    """The tables of a run under inspection; the manifest's come first, and fill `clips`.

    `clips` is None where there is no manifest to count against.
    """

    folder: Folder
    headers: Headers
    findings: Findings
    progress: Progress
    clips: Clips | None = field(default=None, init=False)

    def check(self, table: str) -> TableCheck:
        """Look at one table."""
        header = self.headers[table]
        found = TableCheck(table, False, 0, 0, 0, 0)
        if header is not None:
            self._add_all(parent_faults(table, header, self.headers))
            found = self._check_complete(table, header)
        return replace(found, faults=self.findings.of_table(table))

    def _check_complete(self, table: str, header: Header) -> TableCheck:
        kind = kind_of(table)
        if kind == "head":
            self._add_all(head_faults(self.folder, table, header, self.headers))
        elif kind == "report":
            self._add_all(report_faults(self.folder, table, header))
        elif kind == "tune":
            return self._check_trials(table, header)
        else:
            return self._check_shards(table, header)
        return TableCheck(table, True, header.rows, header.failures, 0, 0)

    def _check_shards(self, table: str, header: Header) -> TableCheck:
        is_manifest = kind_of(table) == "manifest"
        known = None if is_manifest or self.clips is None else self.clips.index
        ledger, splits = Ledger(known), Splits()
        self._check_listing(table, header)
        readable, rows, failures = True, 0, 0
        shards = len(header.shards)
        self.progress(table, 0, shards)
        for done, content in enumerate(in_order(check_shard, self._tasks(table, header)), start=1):
            self._add_all(content.faults)
            self._take(table, ledger, content)
            splits.add(content.splits)
            readable &= content.readable
            rows += len(content.ids)
            failures += len(content.failed)
            self.progress(table, done, shards)
        self._compare_counts(table, header, (rows, failures) if readable else None)
        self._account(table, ledger, readable)
        if is_manifest and readable:
            self.clips = ledger.clips(splits)
        return TableCheck(table, True, rows, failures, shards, 0)

    def _check_trials(self, table: str, header: Header) -> TableCheck:
        """A search: its rows are trials, and no clips to account for."""
        self._check_listing(table, header)
        shards = len(header.shards)
        self.progress(table, 0, shards)
        numbers: list[str] = []
        readable = True
        for done, content in enumerate(in_order(check_shard, self._tasks(table, header)), start=1):
            self._add_all(content.faults)
            numbers += content.ids.to_pylist()
            readable &= content.readable
            self.progress(table, done, shards)
        self._compare_counts(table, header, (len(numbers), 0) if readable else None)
        known = numbers if readable else None
        self._add_all(search_faults(table, header, self.headers, known))
        return TableCheck(table, True, len(numbers), header.failures, shards, 0)

    def _tasks(self, table: str, header: Header) -> Iterator[ShardTask]:
        kind = kind_of(table)
        make = partial(ShardTask, table, self.folder / table, command=self._command(table))
        if kind == "manifest":
            make = partial(make, schema=MANIFEST_SCHEMA, more_columns=True, with_splits=True)
        elif kind == "tune":
            make = partial(make, schema=TRIALS_SCHEMA, problems=trial_problems)
            make = partial(make, noun="trial", key="number")
        elif kind == "embeddings":
            layers = header.settings["layers"]
            problems = partial(embedding_problems, layers=list(layers))
            make = partial(make, schema=embeddings_schema(layers), problems=problems)
        else:
            fused = is_fused(header)
            systems = header.settings["systems"] if fused else None
            more = header.settings.get("columns", [])
            schema = scores_schema(len(header.classes), fused=fused, more=more)
            problems = partial(score_problems, classes=header.classes, systems=systems)
            make = partial(make, schema=schema, problems=problems)
        return (make(receipt=receipt) for receipt in header.shards)

    def _check_listing(self, table: str, header: Header) -> None:
        """Files that the header does not name: readers of `*.parquet` would take them for rows."""
        named: set[str] = {receipt.name for receipt in header.shards}
        failing = {receipt.name for receipt in header.shards if receipt.failures}
        folder = self.folder / table
        for place, suffix, wanted in (
            ("", ".parquet", named),
            (f"{FAILURES}/", ".parquet", failing),
            (f"{RECEIPTS}/", ".json", named),
            (f"{PARTS}/", ".parquet", set()),
        ):
            for file in (folder / place.rstrip("/") if place else folder).names():
                if file.endswith(suffix) and file.removesuffix(suffix) not in wanted:
                    what = f"{table}/{HEADER} does not name this file"
                    way_out = f"remove {table}/{place}{file}"
                    self._add(table, "extra_file", what, f"{place}{file}", way_out)

    def _take(self, table: str, ledger: Ledger, content: ShardContent) -> None:
        name = content.name
        unknown = ledger.add(f"{name}.parquet", content.ids, content.variants)
        where = f"{FAILURES}/{name}.parquet"
        places = [(f"{name}.parquet", unknown), (where, ledger.add_failed(where, content.failed))]
        for place, ids in places:
            for clip_id in ids:
                what = f"clip {clip_id!r} is not in the manifest"
                self._add(table, "unknown_clip", what, place, self._redo(table))

    def _compare_counts(self, table: str, header: Header, held: tuple[int, int] | None) -> None:
        """The header's counts, the receipts' and those of the files (None: not all were read)."""
        for position, noun in enumerate(("rows", "failures")):
            told = getattr(header, noun)
            counts = {"receipts make": sum(getattr(one, noun) for one in header.shards)}
            if held is not None:
                counts["files hold"] = held[position]
            differs = [f"its {who} {count}" for who, count in counts.items() if count != told]
            if differs:
                what = f"the header counts {told} {noun}, {' and '.join(differs)}"
                redo = f"remove {table}/{HEADER} and run `{self._command(table)}` again"
                self._add(table, "counts", what, HEADER, redo)

    def _account(self, table: str, ledger: Ledger, readable: bool) -> None:
        """Every clip exactly once. Not `readable`: clips may be lost with files told already."""
        redo = self._redo(table)
        for repeated in ledger.repeated():
            variant = f" in variant {repeated.variant}" if repeated.variant else ""
            places = " and ".join(dict.fromkeys(repeated.places))
            what = f"clip {repeated.clip_id!r} stands more than once{variant}"
            self._add(table, "repeated_clip", what, places, redo)
        for clip_id in ledger.lone_variants():
            what = f"clip {clip_id!r} has rows of variants, but none of itself (variant 0)"
            self._add(table, "variant", what, clip_id, redo)
        wanted_N = self._wanted(table)
        if wanted_N is None:
            return
        mend = redo if readable else f"first mend the files of {table} that are told of here"
        for clip_id in ledger.lost(wanted_N):
            what = f"clip {clip_id!r} is neither in the rows nor in the failures"
            self._add(table, "lost_clip", what, clip_id, mend)
        for clip_id in ledger.unwanted(wanted_N):
            what = f"clip {clip_id!r} is of a split that {table} does not score"
            self._add(table, "unknown_clip", what, clip_id, redo)

    def _wanted(self, table: str, within: tuple[str, ...] = ()) -> NDArray[np.bool_] | None:
        """(N,) the clips of the manifest that a table has to have; None where that is not known.

        `within` are the fused tables that asked, so that one that names itself comes to an end.
        """
        header = self.headers.get(table)
        if self.clips is None or header is None or table in within:
            return None
        if kind_of(table) != "scores":
            return self.clips.first_N
        if not is_fused(header):
            return self.clips.in_splits(header.settings["splits"])
        wanted_N = np.zeros(len(self.clips.index), np.bool_)
        for name in header.settings["systems"]:
            part_N = self._wanted(f"scores/{name}", (*within, table))
            if part_N is None:
                return None
            wanted_N |= part_N
        return wanted_N

    def _command(self, table: str) -> str:
        return made_by(table, self.headers[table])

    def _redo(self, table: str) -> str:
        """The way out where rows are wrong. A job makes a table anew that has other parents."""
        header = self.headers[table]
        again = f"run `{self._command(table)}` again"
        stale = header is not None and any(parent_faults(table, header, self.headers))
        return again if stale else f"remove {table}/ and {again}"

    def _add_all(self, faults: Iterable[TableFault]) -> None:
        for fault in faults:
            self.findings.add(fault)

    def _add(self, table: str, kind: str, what: str, where: str, way_out: str) -> None:
        self.findings.add(TableFault(table, kind, what, where, way_out))


def in_order(
    work: Callable[[ShardTask], ShardContent], tasks: Iterable[ShardTask]
) -> Iterator[ShardContent]:
    """`work` done on `READERS` tasks at a time, the results in the order of the tasks."""
    waiting: deque[Future[ShardContent]] = deque()
    with ThreadPoolExecutor(READERS, thread_name_prefix="verify") as pool:
        for task in tasks:
            waiting.append(pool.submit(work, task))
            if len(waiting) > READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
