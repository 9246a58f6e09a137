"""The fit of a fusion: on a bounded sample of the clips that it may be fitted on.

The sample are the clips with the least hashes of their ids, so that it depends neither on the order
of rows nor on where they come from.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from audioflow.cut import distinct, row_hashes
from audioflow.engine.fuse_facts import Known, block_of, looked_up, manifest_facts
from audioflow.engine.fuse_inputs import Scan
from audioflow.engine.fuse_part import join_pieces
from audioflow.engine.fuse_sources import Source
from audioflow.fusion import FIT_CELLS, FitClips, Fusion, labelled, no_fit_clips
from audioflow.join import Joined
from audioflow.storage import Folder
from audioflow.tables import Table

FILE = "fusion.json"
"""Beside the shards of a fused table: what was fitted, and for which fingerprint."""


@dataclass(frozen=True)
class Fitting:
    """What is fitted, on which split, with which facts. known: of all clips."""

    fusion: Fusion
    classes: Mapping[str, Sequence[str]]
    fit_split: str
    manifest: Table | None
    known: Known


def kept_params(folder: Folder, key: str) -> dict[str, Any] | None:
    """What an earlier run fitted for the same table; None where it did not come to that."""
    try:
        kept: dict[str, Any] = json.loads(folder.read(FILE))
    except FileNotFoundError:
        return None
    return kept["params"] if kept["fingerprint"] == key else None


def keep_params(folder: Folder, key: str, params: Mapping[str, Any]) -> None:
    """Keep what was fitted, so that all shards are made with the same."""
    folder.write(FILE, json.dumps({"fingerprint": key, "params": params}, indent=1).encode())


def fitted(fitting: Fitting, source: Source, scans: Mapping[str, Scan]) -> dict[str, Any]:
    """Parameters of the fusion. Raises `TableError` where it needs clips and there are none."""
    hashes, folded = [one.hashes for one in scans.values()], None
    if not any(map(len, hashes)) and fitting.fusion.takes_clips:
        there = manifest_facts(fitting.manifest) if fitting.manifest else None
        if there is not None and there.num_rows:
            folded, hashes = there, [row_hashes(there)]
        elif fitting.fusion.needs_clips:
            raise no_fit_clips(fitting.fit_split, _most([one.splits for one in scans.values()]))
    ids = distinct(hashes)
    most = max(1, FIT_CELLS // sum(map(len, fitting.classes.values())))
    clips = _clips(fitting, source, int(ids[:most][-1]), folded) if len(ids) else None
    params = fitting.fusion.fit(clips, cross=folded is not None)
    sampled_from = len(ids) if len(ids) > most else None
    params["fit"] |= {"split": fitting.fit_split, "sampled_from": sampled_from}
    return params


def _most(counters: Sequence[Counter[str]]) -> Counter[str]:
    """How many clips each split has at least."""
    found = Counter[str]()
    for one in counters:
        found |= one
    return found


def _clips(fitting: Fitting, source: Source, last: int, folded: pa.Table | None) -> FitClips | None:
    """The clips to fit on whose hashes are at most `last`: those of `fit_split`, or all in folds.

    None where labels are not needed, and no clip has one.
    """
    split = fitting.fit_split if folded is None else None
    joined = join_pieces(source.sample(split, last), fitting.classes)
    known = dict(fitting.known)
    if folded is not None:
        known["fold"] = folded
        joined = joined.take(np.flatnonzero(looked_up(joined, folded, "fold").is_valid()))
    if not fitting.fusion.needs_clips and not any(joined.labels):
        return None
    keep_N, targets = labelled(joined.labels, joined.classes, fitting.fusion.task.multi_label)
    joined = joined.take(np.flatnonzero(keep_N))
    groups = _groups(joined, folded, fitting.manifest)
    return FitClips(block_of(joined, known), targets, groups, joined.clip_ids)


def _groups(joined: Joined, facts: pa.Table | None, manifest: Table | None) -> list[str]:
    """The group of each clip; a clip that the manifest lacks is one by itself."""
    if facts is None and manifest is not None:
        facts = manifest_facts(manifest, joined.clip_ids)
    if facts is None:
        return joined.clip_ids
    groups = looked_up(joined, facts, "group").to_pylist()
    return [group or clip_id for group, clip_id in zip(groups, joined.clip_ids, strict=True)]
