"""The manifest: clips from readers, checked, divided into splits, as an Arrow table."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.additions import Addition, added, taught
from audioflow.clip import Clip
from audioflow.clip_columns import CHUNK, ClipColumns
from audioflow.division import CROSS_VALIDATED, divided
from audioflow.errors import InputError
from audioflow.grouping import columns_used, encoded, with_groups
from audioflow.manifest_rows import Placing, manifest_rows, order_of_ids, sorted_by_id
from audioflow.recipe import ManifestSection
from audioflow.recipe_sources import MAIN
from audioflow.recipe_splits import SPLITS
from audioflow.records import FINGERPRINT_DIGITS


def build_manifest(
    clips: Iterable[Clip],
    section: ManifestSection,
    source: str,
    additions: Sequence[Addition] = (),
) -> pa.Table:
    """The manifest table (`tables.MANIFEST_SCHEMA`), sorted by `clip_id`; see `arranged`."""
    return arranged(ClipColumns(clips, columns_used(section)), section, source, additions)


def arranged(
    clips: ClipColumns, section: ManifestSection, source: str, additions: Sequence[Addition] = ()
) -> pa.Table:
    """The manifest table of clips with the columns that `columns_used` names; takes them apart.

    The clips and groups of additions get the addition's name in front. They are in no fold, and no
    class of them has to be in any split. source: what was read, for messages. Raises `InputError`
    for no clip at all, ids that occur twice, a column that is not there, classes with too few
    groups for the splits, and a recording that is in two splits by way of an addition.
    """
    if not len(clips):
        raise InputError(
            f"{source} holds no clip; point manifest at the folder or list of your media"
        )
    clips.reorder(order_of_ids(clips))
    grouped = with_groups(clips, section, source)
    splits, folds = divided(grouped, taught(additions))
    placing = Placing(clips.rows["clip_id"], splits, folds, grouped.groups, MAIN)
    del grouped
    main = manifest_rows(clips, placing)
    if not additions:
        return main
    return sorted_by_id(pa.concat_tables([main, *added(additions, main)]))


def manifest_fingerprint(manifest: pa.Table) -> str:
    """Fingerprint of everything in the manifest: `tables.fingerprint` of its columns as lists."""
    names = json.dumps(manifest.column_names, separators=(",", ":"))
    digest = hashlib.sha256(f'["manifest",{names},['.encode())
    for number, name in enumerate(manifest.column_names):
        digest.update(b",[" if number else b"[")
        for at, text in enumerate(_json_texts(manifest[name])):
            digest.update((f",{text}" if at else text).encode())
        digest.update(b"]")
    digest.update(b"]]")
    return digest.hexdigest()[:FINGERPRINT_DIGITS]


def _json_texts(column: pa.ChunkedArray) -> Iterator[str]:
    """The values of a column as JSON, without the brackets around them, in parts."""
    for start in range(0, len(column), CHUNK):
        part = column.slice(start, CHUNK)
        if part.null_count == len(part):
            yield ",".join(["null"] * len(part))
        else:
            yield json.dumps(part.to_pylist(), separators=(",", ":"), ensure_ascii=True)[1:-1]


def classes_of(manifest: pa.Table) -> list[str]:
    """All class names, sorted."""
    return sorted(pc.unique(pc.list_flatten(manifest["labels"])).to_pylist())


def without_one_label(manifest: pa.Table) -> NDArray[np.bool_]:
    """Which clips (N,) have several labels, or none.

    But for clips of the split test without a label: theirs is not known, as in a list of what is to
    be submitted.
    """
    counts_N = pc.list_value_length(manifest["labels"]).to_numpy()
    tested_N = pc.equal(manifest["split"], "test").to_numpy(zero_copy_only=False)
    found: NDArray[np.bool_] = (counts_N > 1) | ((counts_N == 0) & ~tested_N)
    return found


def split_counts(manifest: pa.Table) -> dict[str, dict[str, int]]:
    """Clips per split (or fold) and class."""
    folds = pc.fill_null(manifest["fold"], "None")
    in_folds = pc.equal(manifest["split"], CROSS_VALIDATED)
    named = pc.binary_join_element_wise("fold ", folds, "")
    codes, parts = encoded(pc.if_else(in_folds, named, manifest["split"]))
    labels, classes = encoded(pc.list_flatten(manifest["labels"]))
    lengths = pc.list_value_length(manifest["labels"]).to_numpy()
    keys = np.repeat(codes.astype(np.int64), lengths) * max(1, len(classes)) + labels
    found: dict[str, dict[str, int]] = {part: {} for part in parts}
    for key, count in zip(
        *map(np.ndarray.tolist, np.unique(keys, return_counts=True)), strict=True
    ):
        found[parts[key // len(classes)]][classes[key % len(classes)]] = count
    order = [name for name in SPLITS if name in found] + sorted(set(found) - set(SPLITS))
    return {name: dict(sorted(found[name].items())) for name in order}
