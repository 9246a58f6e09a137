"""The demo corpus: what it holds, that a seed repeats it, and that it never touches other files."""

import contextlib
import hashlib
import json
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from audioflow.datasets import demo_corpus
from audioflow.datasets.demo_corpus import MARKER, MIN_CLIPS, make_corpus, plan_corpus
from audioflow.datasets.demo_synthesis import CLASSES, FRAME_RATE_HZ, HEIGHT, WIDTH
from audioflow.errors import InputError

AUDIO_CODECS = {
    ("mp4", "aac"),
    ("mov", "aac"),
    ("webm", "opus"),
    ("mkv", "aac"),
    ("mkv", "opus"),
    ("mkv", "mp3"),
    ("wav", "pcm_s16le"),
    ("flac", "flac"),
    ("mp3", "mp3"),
    ("m4a", "aac"),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("data") / "demo", clips=MIN_CLIPS, seed=3)


@pytest.fixture
def no_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a file was written")

    monkeypatch.setattr(demo_corpus, "_write", refuse)


def decoded(path: Path) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Pictures (F, H, W, 3) and sound (channels, samples), None where there is no such stream."""
    with av.open(str(path)) as container:
        kinds = {stream.type for stream in container.streams}
    content: dict[str, np.ndarray] = {}
    for kind in kinds:
        with av.open(str(path)) as container:
            if kind == "video":
                frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
                content[kind] = np.stack(frames)
            else:
                resampler = av.AudioResampler(format="fltp")
                blocks = [
                    block.to_ndarray()
                    for frame in container.decode(audio=0)
                    for block in resampler.resample(frame)
                ]
                content[kind] = np.concatenate(blocks, axis=1)
    return content.get("video"), content.get("audio")


def decodable(path: Path) -> tuple[int, int]:
    """Frames and samples up to the first error."""
    frames = samples = 0
    with av.open(str(path)) as container, contextlib.suppress(av.FFmpegError):
        for frame in container.decode():
            if isinstance(frame, av.AudioFrame):
                samples += frame.samples
            else:
                frames += 1
    return frames, samples


def good(corpus: Path) -> list[Path]:
    """Recordings without a flaw, by the plan."""
    return [corpus / r.relative_path for r in plan_corpus(MIN_CLIPS, 3) if not r.flaw]


def digests(corpus: Path) -> dict[str, str]:
    return {
        str(path.relative_to(corpus)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in corpus.rglob("*.*")
    }


def flawed(corpus: Path, flaw: str) -> list[Path]:
    return sorted(corpus.glob(f"*/*_{flaw}.mp4"))


def test_files_are_those_of_the_plan_in_class_folders(corpus: Path) -> None:
    found = {str(path.relative_to(corpus)) for path in corpus.glob("*/*")}
    assert found == {r.relative_path for r in plan_corpus(MIN_CLIPS, 3)}
    assert Counter(path.split("/")[0] for path in found) == dict.fromkeys(CLASSES, 4)


def test_default_size_has_the_promised_mixture() -> None:
    plan = plan_corpus(120, 0)
    assert Counter(r.flaw for r in plan) == {"": 112, "no_sound": 6, "cut_off": 1, "not_media": 1}
    assert sum(not r.format.video for r in plan) == 7
    assert {r.label for r in plan if r.flaw == "no_sound"} == set(CLASSES)
    for label in CLASSES:
        videos = [r.format for r in plan if r.label == label and r.format.video and not r.flaw]
        assert {f.extension for f in videos} == {"mp4", "webm", "mkv", "mov"}


def test_every_container_decodes_with_sound_and_pictures(corpus: Path) -> None:
    codecs = set()
    for path in good(corpus):
        pictures, sound = decoded(path)
        assert sound is not None
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            name = stream.codec_context.name.removesuffix("float")
            codecs.add((path.suffix[1:], name))
            assert sound.shape[0] in (1, 2)
            assert 1.7 < sound.shape[1] / stream.rate < 2.6
            assert (pictures is None) == (path.suffix in (".wav", ".flac", ".mp3", ".m4a"))
            if pictures is not None:
                video = container.streams.video[0]
                assert video.average_rate == FRAME_RATE_HZ
                assert video.codec_context.name == ("vp9" if path.suffix == ".webm" else "h264")
                assert pictures.shape[1:] == (HEIGHT, WIDTH, 3)
                assert abs(len(pictures) / FRAME_RATE_HZ - sound.shape[1] / stream.rate) < 0.2
        assert 0.01 < np.sqrt(np.mean(sound**2)) < 0.3
    assert codecs == AUDIO_CODECS


def test_no_sound_means_no_audio_stream(corpus: Path) -> None:
    assert len(flawed(corpus, "no_sound")) == 2
    for path in flawed(corpus, "no_sound"):
        pictures, sound = decoded(path)
        assert sound is None
        assert pictures is not None
        assert len(pictures) >= 1.7 * FRAME_RATE_HZ


def test_cut_off_recording_claims_more_than_it_holds(corpus: Path) -> None:
    (path,) = flawed(corpus, "cut_off")
    with av.open(str(path)) as container:
        claimed = container.streams.video[0].frames
        audio = container.streams.audio[0]
        claimed_s = float(audio.duration * audio.time_base)
    assert claimed == 3 * FRAME_RATE_HZ
    frames, samples = decodable(path)
    assert 0 < frames < 0.8 * claimed
    assert 0 < samples / audio.rate < 0.8 * claimed_s


def test_one_file_is_no_media(corpus: Path) -> None:
    (path,) = flawed(corpus, "not_media")
    with pytest.raises(av.InvalidDataError):
        av.open(str(path))


def test_same_seed_gives_the_same_files(corpus: Path, tmp_path: Path) -> None:
    again = make_corpus(tmp_path / "again", clips=MIN_CLIPS, seed=3)
    assert digests(again) == digests(corpus)


def test_another_seed_gives_another_sound() -> None:
    first, second = (
        demo_corpus.make_waveform("tram", 1.0, 16_000, np.random.default_rng([seed, 0]))
        for seed in (0, 1)
    )
    assert not np.allclose(first, second)


@pytest.mark.usefixtures("no_writing")
def test_second_call_does_no_work(corpus: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    assert make_corpus(str(corpus), clips=MIN_CLIPS, seed=3) == corpus
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


@pytest.mark.usefixtures("no_writing")
def test_other_settings_are_refused(corpus: Path) -> None:
    with pytest.raises(InputError, match=r"demo holds .*'seed': 3.* seed 4.*name another folder"):
        make_corpus(corpus, clips=MIN_CLIPS, seed=4)


@pytest.mark.usefixtures("no_writing")
def test_foreign_folder_is_refused_and_kept(tmp_path: Path) -> None:
    mine = tmp_path / "mine" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work")
    with pytest.raises(InputError, match=r"mine holds files that are not a demo corpus.*remove"):
        make_corpus(mine.parent)
    assert mine.read_text() == "years of work"
    assert list(tmp_path.iterdir()) == [mine.parent]


@pytest.mark.usefixtures("no_writing")
@pytest.mark.parametrize("marker", ["", "[]", '{"clips": 120}', "\x00"])
def test_damaged_marker_is_refused(tmp_path: Path, marker: str) -> None:
    (tmp_path / MARKER).write_text(marker)
    with pytest.raises(InputError, match=r"holds .* marker|holds a demo corpus made with"):
        make_corpus(tmp_path)


@pytest.mark.usefixtures("no_writing")
def test_root_that_is_a_file_or_below_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is no folder"):
        make_corpus(tmp_path / "file")
    with pytest.raises(InputError, match=r"file/demo cannot be made: Not a directory"):
        make_corpus(tmp_path / "file" / "demo")


@pytest.mark.usefixtures("no_writing")
def test_bucket_is_refused() -> None:
    with pytest.raises(InputError, match=r"s3://bucket/demo: .* local folder only"):
        make_corpus("s3://bucket/demo")


@pytest.mark.usefixtures("no_writing")
@pytest.mark.parametrize(("clips", "seed"), [(23, 0), (24, -1)])
def test_too_few_clips_or_a_negative_seed_are_refused(
    tmp_path: Path, clips: int, seed: int
) -> None:
    with pytest.raises(ValueError, match=f"clips={clips}, seed={seed}: clips must be at least 24"):
        make_corpus(tmp_path / "demo", clips=clips, seed=seed)


def test_interrupted_corpus_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_corpus, "_write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_corpus(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []


def write_stub(folder: Path, recording: demo_corpus.PlannedRecording) -> None:
    (folder / recording.relative_path).touch()


def test_empty_folder_and_link_to_one_are_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_corpus, "_write", write_stub)
    (tmp_path / "disk" / "empty").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "empty")
    make_corpus(tmp_path / "link", clips=30)
    assert json.loads((tmp_path / "disk" / "empty" / MARKER).read_text())["clips"] == 30
    assert len(list((tmp_path / "link").glob("*/*"))) == 30


def test_two_processes_at_once_end_with_one_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_while_another_finishes(folder: Path, recording: demo_corpus.PlannedRecording) -> None:
        monkeypatch.setattr(demo_corpus, "_write", write_stub)
        make_corpus(tmp_path / "demo")
        write_stub(folder, recording)

    monkeypatch.setattr(demo_corpus, "_write", write_while_another_finishes)
    make_corpus(tmp_path / "demo")
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert len(list((tmp_path / "demo").glob("*/*"))) == 120
