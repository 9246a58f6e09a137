"""Hashes of clip ids: the same on every machine, so that all tables are cut alike."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HASH_BITS = 64


def clip_hash(clip_id: str) -> int:
    """The first 64 bits of the BLAKE2b hash of an id."""
    digest = hashlib.blake2b(clip_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def clip_hashes(clip_ids: Sequence[str]) -> NDArray[np.uint64]:
    """`clip_hash` of every id."""
    return np.fromiter(map(clip_hash, clip_ids), np.uint64, len(clip_ids))
