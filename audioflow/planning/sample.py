"""A small sample of a manifest that speaks for all of it.

Recordings are divided into strata by file suffix and size; within a stratum the sample goes evenly
through the classes. Half of it follows the number of recordings, half their bytes, so that the few
huge files are seen too. What is measured is weighted by how many recordings each one stands for.

Shapes: R recordings, N clips, S strata, K kinds (suffixes), n recordings of the sample.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LEAST_PER_STRATUM = 2
"""One would not show how much its recordings differ."""

_PER_STRATUM = 4
"""On average; more strata would leave too few recordings for the large ones among them."""

_SIZE_QUANTILES = (0.5, 0.9)
_ALIKE = 4.0
"""Files that differ by less in size are one stratum."""

_LONGEST_SUFFIX = 8
OTHER = "other"


@dataclass(frozen=True, eq=False)
class Recordings:
    """The recordings of a manifest, in the order of their first clips.

    of_clip: (N,) recording of every clip. first: (R,) its first clip. clips: (R,) how many it has.
    size_bytes, claimed_s: (R,) size, and length of its clips as the manifest has it; NaN where it
    says nothing. kind: (R,) place of its suffix in `kinds`. label: (R,) a number for the class.
    """

    of_clip: Ints
    first: Ints
    clips: Ints
    size_bytes: Floats
    claimed_s: Floats
    kind: Ints
    kinds: tuple[str, ...]
    label: Ints

    def __len__(self) -> int:
        return len(self.first)


def recordings_of(manifest: pa.Table) -> Recordings:
    """The recordings of a manifest (`tables.MANIFEST_SCHEMA`, one clip or more)."""
    uris = manifest["uri"].combine_chunks().dictionary_encode()
    of_clip = uris.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    _, first = np.unique(of_clip, return_index=True)
    clips = np.bincount(of_clip)
    suffixes = np.array([_suffix(uri) for uri in uris.dictionary.to_pylist()])
    kinds, kind = np.unique(suffixes, return_inverse=True)
    durations = manifest["duration_s"].to_numpy().astype(np.float64)
    return Recordings(
        of_clip,
        first.astype(np.int64),
        clips.astype(np.int64),
        manifest["size_bytes"].to_numpy().astype(np.float64)[first],
        # NaN where one of its clips says nothing
        np.bincount(of_clip, weights=durations).astype(np.float64),
        kind.astype(np.int64),
        tuple(map(str, kinds)),
        _labels(manifest)[first],
    )


def _suffix(uri: str) -> str:
    name = uri.partition("?")[0].rpartition("/")[2]
    _, dot, suffix = name.rpartition(".")
    return suffix.lower() if dot and suffix and len(suffix) <= _LONGEST_SUFFIX else OTHER


def _labels(manifest: pa.Table) -> Ints:
    """(N,) a number for the first label of every clip, -1 where it has none."""
    labels = manifest["labels"].combine_chunks()
    lengths = np.asarray(labels.value_lengths().fill_null(0).to_numpy(zero_copy_only=False))
    codes = labels.flatten().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    begins = np.concatenate([[0], np.cumsum(lengths)])[:-1].astype(np.int64)
    found = np.full(len(lengths), -1, np.int64)
    found[lengths > 0] = codes[begins[lengths > 0]]
    return found


@dataclass(frozen=True)
class Stratum:
    """Recordings of one suffix (`other` for the rare ones) and of like size.

    low_bytes, high_bytes: sizes of the smallest and the largest; None where the manifest says none.
    """

    kind: str
    recordings: int
    sampled: int
    low_bytes: int | None
    high_bytes: int | None


@dataclass(frozen=True, eq=False)
class Sample:
    """Recordings to probe, in an order in which any beginning is a mix of all.

    chosen: (n,) recordings. stratum: (n,) the stratum of each. of_recording: (R,) that of all.
    """

    chosen: Ints
    stratum: Ints
    of_recording: Ints
    strata: tuple[Stratum, ...]

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def weights(self) -> Floats:
        """(n,) how many recordings each one stands for."""
        shares = [stratum.recordings / stratum.sampled for stratum in self.strata]
        return np.array(shares, np.float64)[self.stratum]

    def part(self, count: int) -> "Sample":
        """The first `count` recordings only, for a probe that was ended early."""
        return Sample(self.chosen[:count], self.stratum[:count], self.of_recording, self.strata)


def draw(recordings: Recordings, count: int) -> Sample:
    """At most `count` (1 or more) recordings; the same for the same manifest."""
    of_recording, names = _strata(recordings, max(1, count // _PER_STRATUM))
    sizes = np.bincount(of_recording, minlength=len(names)).astype(np.int64)
    wanted = allocate(sizes, _masses(recordings, of_recording, len(names)), count)
    random = np.random.default_rng(0)
    tickets = random.random(len(recordings))
    chosen, strata = [], []
    for number, name in enumerate(names):
        members = np.flatnonzero(of_recording == number)
        members = members[np.lexsort((tickets[members], recordings.label[members]))]
        steps = (random.random() + np.arange(wanted[number])) * (len(members) / wanted[number])
        chosen.append(members[steps.astype(np.int64)])
        low, high = _range(recordings.size_bytes[members])
        strata.append(Stratum(name, len(members), int(wanted[number]), low, high))
    mixed = random.permutation(np.concatenate(chosen))
    return Sample(mixed, of_recording[mixed], of_recording, tuple(strata))


def allocate(sizes: Ints, masses: Floats, count: int) -> Ints:
    """(S,) how many of strata with `sizes` recordings to take, in proportion to `masses`.

    Each gets two (where it has two, and `count` allows it), none more than it has.
    """
    least = max(1, min(LEAST_PER_STRATUM, count // len(sizes)))
    found: Ints = np.minimum(sizes, least)
    while found.sum() < min(count, sizes.sum()):
        lacking = np.where(found < sizes, masses * count - found, -np.inf)
        found[np.argmax(lacking)] += 1
    return found


def _range(size_bytes: Floats) -> tuple[int | None, int | None]:
    known = size_bytes[~np.isnan(size_bytes)]
    return (int(known.min()), int(known.max())) if known.size else (None, None)


def _masses(recordings: Recordings, part: Ints, parts: int) -> Floats:
    """(S,) the mean of each part's share of the recordings and of the bytes; they sum up to 1."""
    numbers = np.bincount(part, minlength=parts) / len(part)
    known = np.nan_to_num(recordings.size_bytes)
    if not known.sum():
        return numbers
    found: Floats = (numbers + np.bincount(part, known, minlength=parts) / known.sum()) / 2
    return found


def _strata(recordings: Recordings, most: int) -> tuple[Ints, list[str]]:
    """(R,) the stratum of every recording, and of every stratum its suffix."""
    kind, kinds = _frequent_kinds(recordings, max(1, most // 2))
    part = np.zeros(len(recordings), np.int64)
    names: list[str] = []
    for number, name in enumerate(kinds):
        members = np.flatnonzero(kind == number)
        size_bytes = recordings.size_bytes[members]
        edges = _edges(size_bytes)
        bins = np.searchsorted(edges, size_bytes, side="left")
        bins[np.isnan(size_bytes)] = len(edges) + 1
        used, place = np.unique(bins, return_inverse=True)
        part[members] = len(names) + place
        names += [name] * len(used)
    return _merged(recordings, part, names, max(most, len(kinds)))


def _frequent_kinds(recordings: Recordings, most: int) -> tuple[Ints, list[str]]:
    """The suffixes that matter most; the others become one."""
    if len(recordings.kinds) <= most:
        return recordings.kind, list(recordings.kinds)
    order = np.argsort(-_masses(recordings, recordings.kind, len(recordings.kinds)), kind="stable")
    kept = [recordings.kinds[place] for place in order[: most - 1] if recordings.kinds[place]]
    kept = [name for name in kept if name != OTHER]
    names = [*kept, OTHER]
    place_of = [names.index(name) if name in kept else len(kept) for name in recordings.kinds]
    return np.array(place_of, np.int64)[recordings.kind], names


def _edges(size_bytes: Floats) -> Floats:
    """Sizes up to which half and nine tenths of the files, and of their bytes, lie; without those
    above which no file is much larger."""
    known = np.sort(size_bytes[~np.isnan(size_bytes)])
    if not known.size:
        return known
    by_number = [known[int(q * (known.size - 1))] for q in _SIZE_QUANTILES]
    summed = np.cumsum(known)
    places = [int(np.searchsorted(summed, q * summed[-1])) for q in _SIZE_QUANTILES]
    by_bytes = [known[min(place, known.size - 1)] for place in places]
    edges = sorted({*by_number, *by_bytes})
    ends = [*edges[1:], known[-1]]
    kept = [edge for edge, end in zip(edges, ends, strict=True) if end >= _ALIKE * max(edge, 1.0)]
    return np.array(kept, np.float64)


def _merged(
    recordings: Recordings, part: Ints, names: list[str], most: int
) -> tuple[Ints, list[str]]:
    """Neighbours of one suffix made one, those that matter least first, until few are left."""
    while len(names) > most:
        masses = _masses(recordings, part, len(names))
        pairs = [at for at in range(len(names) - 1) if names[at] == names[at + 1]]
        at = min(pairs, key=lambda place: masses[place] + masses[place + 1])
        part = np.where(part > at, part - 1, part)
        names = names[:at] + names[at + 1 :]
    return part, names
