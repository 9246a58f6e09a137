"""Near-duplicates: planted ones, on made-up vectors and on real sounds that were changed."""

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from audioflow.backbones.acoustic import SAMPLE_RATE_HZ, Acoustic, AcousticSettings
from audioflow.checks import Duplicates, Sides, duplicate_leaks
from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.neighbours.streaming import Source
from audioflow.storage import Folder
from audioflow.tables import Header, Table


def stored(folder: Path, vectors: np.ndarray, ids: Sequence[str], num_shards: int = 4) -> Source:
    """Vectors (N, D) as an embeddings table; two patches of a clip have them as their mean."""
    table, width = Table(Folder(str(folder))), vectors.shape[1]
    receipts = []
    for number, places in enumerate(np.array_split(np.arange(len(ids)), num_shards)):
        clips = [
            ClipEmbedding(
                {"embedding": np.stack([vectors[i] - 1, vectors[i] + 1])}, np.arange(2.0), 2.0, 1.0
            )
            for i in places
        ]
        rows = embedding_rows([ids[i] for i in places], clips, {"embedding": width})
        receipts.append(table.commit(f"s{number}", rows))
    table.finish(Header("embeddings", "x", "f", {}, {}, len(ids), 0, receipts, []))
    return Source(table, "embedding")


def sides(ids: Sequence[str], side: np.ndarray, names: Sequence[str]) -> Sides:
    return Sides(ids, [names[one] for one in side], side.astype(np.intp), tuple(names))


class Planted:
    """Scenes in clusters (N, D) on some sides; each of the last ones is a near copy of another."""

    def __init__(self, width: int, names: Sequence[str], copies: int = 20) -> None:
        rng = np.random.default_rng(width)
        count = 2000
        centres = rng.normal(size=(40, 10)) @ rng.normal(size=(10, width))
        self.vectors = centres[rng.integers(0, 40, count)] + rng.normal(size=(count, width))
        self.side = rng.integers(0, len(names), count)
        self.ids = [f"c{number:04d}" for number in range(count)]
        own, copy = np.arange(copies), np.arange(count - copies, count)
        self.vectors[copy] = self.vectors[own] + 0.3 * rng.normal(size=(copies, width))
        self.side[copy] = (self.side[own] + 1) % len(names)
        self.wanted = {(self.ids[a], self.ids[b]) for a, b in zip(own, copy, strict=True)}
        self.names = names

    def found(self, folder: Path, most_pairs: int = 10**9) -> Duplicates:
        source = stored(folder, self.vectors.astype(np.float32), self.ids)
        where = sides(self.ids, self.side, self.names)
        return duplicate_leaks(source, where, np.array(self.ids), most_pairs)


@pytest.mark.parametrize("width", [64, 600], ids=["as it is", "projected"])
@pytest.mark.parametrize("names", [("train", "test"), ("fold 1", "fold 2", "fold 3")])
@pytest.mark.parametrize("most_pairs", [10**9, 0], ids=["all pairs", "sketched"])
def test_planted_copies_are_found_and_nothing_else(
    tmp_path: Path, width: int, names: Sequence[str], most_pairs: int
) -> None:
    planted = Planted(width, names)
    found = planted.found(tmp_path, most_pairs)
    assert found.exact == (most_pairs > 0)
    assert {tuple(sorted(leak.clips)) for leak in found.leaks} == planted.wanted
    for leak in found.leaks:
        assert leak.similarity is not None
        assert 0.99 < leak.similarity < 0.999
        assert ("test" in names) == (len(leak.concerned) == 1)


def test_a_second_copy_on_the_own_side_hides_nothing(tmp_path: Path) -> None:
    planted = Planted(64, ("train", "test"), copies=1)
    planted.vectors[1] = planted.vectors[0] + 0.01
    planted.side[[0, 1, -1]] = 0, 0, 1
    (leak,) = planted.found(tmp_path).leaks
    assert planted.ids[-1] in leak.clips


def test_clips_of_one_group_are_no_usual_neighbours(tmp_path: Path) -> None:
    """Many cuts of one recording on one side must not make a copy of it look usual."""
    planted = Planted(64, ("train", "test"), copies=1)
    planted.vectors[:6] = planted.vectors[0] + 0.001 * np.arange(6)[:, None]
    planted.side[:6], planted.side[-1] = 0, 1
    source = stored(tmp_path, planted.vectors.astype(np.float32), planted.ids)
    where = sides(planted.ids, planted.side, planted.names)
    assert duplicate_leaks(source, where, np.array(planted.ids)).leaks == ()
    groups = np.array(["one" if number < 6 else clip for number, clip in enumerate(planted.ids)])
    (leak,) = duplicate_leaks(source, where, groups).leaks
    assert planted.ids[-1] in leak.clips


def test_one_side_or_no_vector_has_no_near_duplicate(tmp_path: Path) -> None:
    planted = Planted(64, ("train",))
    assert planted.found(tmp_path / "a").leaks == ()
    unknown = sides(["x", "y"], np.array([0, 1]), ("train", "test"))
    source = stored(tmp_path / "b", planted.vectors[:8].astype(np.float32), planted.ids[:8])
    assert duplicate_leaks(source, unknown, np.array(["x", "y"])).leaks == ()


# Real sounds


def heard(source: str | io.BytesIO, rate_hz: int = SAMPLE_RATE_HZ) -> np.ndarray:
    """Samples int16 of a recording."""
    resampler = av.AudioResampler("s16", "mono", rate_hz)
    with av.open(source) as container:
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def as_mp3(path: str) -> np.ndarray:
    """Through an MP3 of 64 kbit/s and back."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=44_100, bit_rate=64_000, layout="mono")
        samples = heard(path, 44_100)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16p", layout="mono")
        frame.sample_rate, frame.time_base = 44_100, Fraction(1, 44_100)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    file.seek(0)
    return heard(file)


CHANGES = {
    "another bit rate": as_mp3,
    "half as loud": lambda path: heard(path) // 2,
    "0.3 s cut off": lambda path: heard(path)[round(0.3 * SAMPLE_RATE_HZ) :],
}


@pytest.fixture(scope="module")
def paths(shared_data: Path) -> list[str]:
    """A quarter of ESC-10, 100 sounds."""
    return [str(path) for path in sorted((shared_data / "esc10" / "audio").glob("*.ogg"))[::4]]


@pytest.fixture(scope="module")
def vectors(paths: list[str]) -> np.ndarray:
    return np.stack([embedded(heard(path)) for path in paths])


def embedded(samples: np.ndarray) -> np.ndarray:
    patch = SAMPLE_RATE_HZ
    starts = range(0, len(samples) - patch // 2, patch // 2)
    patches = [
        np.pad(samples[s : s + patch], (0, patch - len(samples[s : s + patch]))) for s in starts
    ]
    backbone = Acoustic(AcousticSettings())
    return backbone.embed(torch.from_numpy(np.stack(patches)))["embedding"].numpy().mean(axis=0)


@pytest.mark.parametrize("change", CHANGES)
def test_real_sounds_are_known_again_after_a_change(
    change: str, paths: list[str], vectors: np.ndarray, tmp_path: Path
) -> None:
    """Of every tenth sound a changed copy is in test, all others are in train."""
    chosen = range(0, len(paths), 10)
    copies = np.stack([embedded(CHANGES[change](paths[place])) for place in chosen])
    ids = [f"c{place}" for place in range(len(paths))] + [f"copy of c{one}" for one in chosen]
    side = np.repeat([0, 1], [len(paths), len(chosen)])
    source = stored(tmp_path, np.concatenate([vectors, copies]), ids)
    leaks = duplicate_leaks(source, sides(ids, side, ("train", "test")), np.array(ids)).leaks
    right = [leak for leak in leaks if leak.clips[1] == f"copy of {leak.clips[0]}"]
    assert len(right) >= 0.9 * len(chosen)
    assert len(leaks) == len(right)
