"""The reader `noise`: spectrum, level, and that a clip depends on nothing but its number."""

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from audioflow.clip import Clip
from audioflow.datasets import READERS
from audioflow.datasets.noise import NoiseSettings, make_noise
from audioflow.errors import InputError
from audioflow.storage import Folder

SEED_3 = {"label": "5Other", "count": 250, "duration_s": 5.0, "sample_rate_hz": 8000}


def options(root: Path | str, **changes: Any) -> dict[str, Any]:
    return {"root": str(root), "label": "noise", "count": 6, "duration_s": 0.5} | changes


def read(root: Path | str, **changes: Any) -> list[Clip]:
    return list(READERS.build("noise", options(root, **changes)).read(Folder))


def samples_of(path: str) -> tuple[NDArray[np.float64], int]:
    with wave.open(path, "rb") as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        data = file.readframes(file.getnframes())
        return np.frombuffer(data, "<i2") / 32768, file.getframerate()


def slope(waveforms: list[NDArray[np.float64]]) -> float:
    """d log(power) / d log(frequency), over all but the lowest frequencies."""
    power = np.mean([np.abs(np.fft.rfft(one)) ** 2 for one in waveforms], axis=0)
    frequency = np.arange(len(power), dtype=np.float64)
    chosen = slice(10, len(power) - 1)
    # Few points at low and many at high frequencies: means over octaves weigh the same.
    octave = np.floor(np.log2(frequency[chosen])).astype(int)
    means = [
        (np.log(frequency[chosen][octave == n]).mean(), np.log(power[chosen][octave == n]).mean())
        for n in np.unique(octave)[:-1]
    ]
    return float(np.polyfit(*np.transpose(means), 1)[0])


@pytest.mark.parametrize("beta", [0, 1, 2, -1, 0.5])
def test_the_power_of_the_files_falls_as_beta_says(tmp_path: Path, beta: float) -> None:
    clips = read(tmp_path, beta=beta, count=40, duration_s=2.0, sample_rate_hz=8000)
    found = slope([samples_of(clip.uri)[0] for clip in clips])
    assert found == pytest.approx(-beta, abs=0.06)


def test_pink_noise_as_in_the_dog_challenge(tmp_path: Path) -> None:
    clips = read(tmp_path, **SEED_3, beta=1, level={"peak_divisor": 1.5})
    assert len({clip.clip_id for clip in clips}) == 250
    assert {clip.labels for clip in clips} == {("5Other",)}
    for clip in clips[::50]:
        samples, rate_hz = samples_of(clip.uri)
        assert (len(samples), rate_hz) == (40_000, 8000)
        assert np.abs(samples).max() == pytest.approx(1 / 1.5, abs=1e-4)
        assert abs(samples.mean()) < 1e-4
        assert Path(clip.uri).stat().st_size == clip.size_bytes


def test_a_level_can_be_a_root_mean_square(tmp_path: Path) -> None:
    for clip in read(tmp_path, level={"rms": 0.1}):
        samples, _ = samples_of(clip.uri)
        assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.1, abs=1e-4)
    with pytest.raises(
        InputError,
        match=r"noise of level\.rms 0\.9 would be cut off: the loudest sample of clip 0 would be "
        r"\d\.\d+, full scale is 1; this clip allows up to rms 0\.\d+",
    ):
        read(tmp_path, level={"rms": 0.9})


def test_a_clip_depends_on_the_seed_and_its_number_not_on_how_many_there_are(
    tmp_path: Path,
) -> None:
    few, many = read(tmp_path / "few", count=3), read(tmp_path / "many", count=9)
    assert [clip.clip_id for clip in few] == [clip.clip_id for clip in many[:3]]
    for one, other in zip(few, many, strict=False):
        assert Path(one.uri).read_bytes() == Path(other.uri).read_bytes()
    contents = {Path(clip.uri).read_bytes() for clip in many}
    contents |= {Path(clip.uri).read_bytes() for clip in read(tmp_path / "seed", seed=1)}
    assert len(contents) == 9 + 6


def test_files_that_are_there_stay_and_only_the_others_are_made(tmp_path: Path) -> None:
    first = read(tmp_path, count=3)
    Path(first[1].uri).unlink()
    times = {clip.uri: Path(clip.uri).stat().st_mtime_ns for clip in (first[0], first[2])}
    again = read(tmp_path, count=5)
    assert again[:3] == first
    assert all(Path(clip.uri).is_file() for clip in again)
    assert {uri: Path(uri).stat().st_mtime_ns for uri in times} == times
    assert read(tmp_path, count=2) == first[:2]


@pytest.mark.parametrize(
    "change",
    [
        {"beta": 0.5},
        {"seed": 1},
        {"duration_s": 0.6},
        {"sample_rate_hz": 8000},
        {"level": {"rms": 0.05}},
    ],
)
def test_other_settings_are_other_clips_in_the_same_folder(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    first, second = read(tmp_path), read(tmp_path, **change)
    assert not {clip.clip_id for clip in first} & {clip.clip_id for clip in second}
    assert not {clip.version for clip in first} & {clip.version for clip in second}
    assert read(tmp_path) == first


def test_another_label_needs_no_other_files(tmp_path: Path) -> None:
    first, second = read(tmp_path), read(tmp_path, label="hiss")
    assert [clip.uri for clip in first] == [clip.uri for clip in second]
    assert {clip.labels for clip in second} == {("hiss",)}


def test_noise_can_be_kept_in_a_store() -> None:
    clips = read("memory://noise/here", count=2)
    name = clips[0].uri.rpartition("/")[2]
    data = Folder(clips[0].uri.rpartition("/")[0]).read(name)
    assert len(data) == clips[0].size_bytes == 44 + 2 * 8000
    assert read("memory://noise/here", count=2) == clips


@pytest.mark.parametrize("num_samples", [2, 3, 7, 8000])
def test_clips_of_any_length_are_in_range_and_without_a_constant_part(num_samples: int) -> None:
    settings = NoiseSettings(
        root="x", label="x", count=1, duration_s=num_samples / 8000, sample_rate_hz=8000
    )
    waveform = make_noise(settings, 0)
    assert waveform.shape == (num_samples,)
    assert waveform.dtype == np.float32
    assert np.abs(waveform).max() == pytest.approx(1 / 1.5)
    assert abs(waveform.mean()) < 1e-6


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"count": 0}, "greater than or equal to 1"),
        ({"beta": 9}, "less than or equal to 4"),
        ({"level": {}}, r"says nothing; allowed: {peak_divisor: 1\.5} or {rms: 0\.1}"),
        ({"level": {"peak_divisor": 2, "rms": 0.1}}, "says both peak_divisor and rms; allowed"),
        ({"level": {"peak_divisor": 0.5}}, "greater than or equal to 1"),
        ({"level": {"rms": 0}}, "greater than 0"),
        ({"colour": "pink"}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        read(tmp_path, **changes)
