"""Which clips make which shard: a pure function of the manifest, so that every run agrees."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from audioflow.tables import fingerprint


@dataclass(frozen=True)
class Shard:
    """A fixed list of clips: rows of the manifest, and a fingerprint of their media."""

    index: int
    media_key: str
    rows: pa.Table

    def name(self, settings_key: str) -> str:
        """The file name (without suffix) of this shard in a table made with these settings."""
        return f"{self.index:05d}-{fingerprint(settings_key, self.media_key)[:12]}"


def plan_shards(manifest: pa.Table, clips_per_shard: int) -> list[Shard]:
    """The manifest in shards of at most about `clips_per_shard` clips.

    Recordings are shuffled by a hash of their first clip's id, so that every shard holds a mix of
    classes; the clips of one recording stay together, so that it is decoded once.
    """
    shards: list[Shard] = []
    batch: list[int] = []
    for recording in _recordings(manifest):
        if batch and len(batch) + len(recording) > clips_per_shard:
            shards.append(_shard(manifest, len(shards), batch))
            batch = []
        batch += recording
    if batch:
        shards.append(_shard(manifest, len(shards), batch))
    return shards


def _recordings(manifest: pa.Table) -> list[list[int]]:
    found: dict[str, list[int]] = {}
    ids = manifest["clip_id"].to_pylist()
    for row, uri in enumerate(manifest["uri"].to_pylist()):
        found.setdefault(uri, []).append(row)
    return sorted(found.values(), key=lambda rows: _order(ids[rows[0]]))


def _order(clip_id: str) -> str:
    return hashlib.sha256(clip_id.encode()).hexdigest()


def _shard(manifest: pa.Table, index: int, rows: Sequence[int]) -> Shard:
    taken = manifest.take(pa.array(rows, pa.int64()))
    media = taken.select(["clip_id", "start_s", "duration_s", "size_bytes", "version"])
    return Shard(index, fingerprint(media.to_pydict()), taken)
