"""Clips on the page: which are listed, which get a player, what their excerpts are."""

import base64
import io
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from audioflow.media.child import DecoderChild
from audioflow.media.parts import Wanted
from audioflow.report import ClipRow, ClipTable, Picture, PictureSet
from audioflow.report.clip_lists import MOST, best_clips, uncertain_clips
from audioflow.report.clips import EvalClips, eval_clips
from audioflow.report.excerpts import (
    EXCERPT_S,
    MOST_FETCHED_BYTES,
    SAMPLE_RATE_HZ,
    ClipPlace,
    Excerpt,
    encoded_picture,
    encoded_sound,
    read_excerpts,
)
from audioflow.report.figures import compute
from audioflow.report.players import clips_to_play
from audioflow.storage import NO_OPTIONS
from tests.media_files import numbered_frames, write_media, write_wav
from tests.unit.report_pages import build_text, make_data, make_system, page_of, two_and_fused

SECOND = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ


def tone(hz: float, seconds: float) -> np.ndarray:
    times = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (20_000 * np.sin(2 * np.pi * hz * times)).astype(np.int16)


# Which clips


def test_the_best_clips_are_the_surest_right_ones() -> None:
    system = make_system("audio")
    found = best_clips(system, eval_clips(system, "test"))
    right = [
        (float(scores.max()), clip_id)
        for scores, label, clip_id in zip(
            system.scores, system.labels, system.clip_ids, strict=True
        )
        if system.classes[scores.argmax()] == label
    ]
    assert [clip.clip_id for clip in found] == [c for _, c in sorted(right, reverse=True)[:MOST]]
    assert all(clip.label == clip.predicted for clip in found)
    assert all(clip.score == clip.label_score for clip in found)


def test_the_most_uncertain_clips_have_their_two_best_scores_closest() -> None:
    system = make_system("audio")
    found = uncertain_clips(system, eval_clips(system, "test"))
    ordered = np.sort(system.scores, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    expected = [system.clip_ids[row] for row in np.argsort(margins, kind="stable")[:MOST]]
    assert [clip.clip_id for clip in found] == expected


def test_of_several_labels_uncertain_is_what_is_near_one_half() -> None:
    system = replace(make_system("audio", num_clips=3), scores=np.float32([[0.9, 0.1, 0.2, 0.3]]))
    scores = np.float32([[0.9, 0.1, 0.2, 0.97], [0.52, 0.1, 0.1, 0.1], [0.6, 0.3, 0.1, 0.1]])
    truth = np.array([[True, False, False, True], [False] * 4, [False, True, False, False]])
    clips = EvalClips(scores, np.full(3, -1), np.array(["a", "b", "c"]), np.arange(3), 0, truth)
    uncertain = uncertain_clips(system, clips)
    assert [clip.clip_id for clip in uncertain] == ["clip00001", "clip00002", "clip00000"]
    assert np.isnan(uncertain[0].label_score)  # a clip without a label has no such score
    best = best_clips(system, clips)
    assert [(clip.clip_id, clip.predicted) for clip in best] == [("clip00000", system.classes[3])]
    assert best[0].label_score == pytest.approx(0.9)  # of its labels, the one with less


def test_players_go_round_the_lists_of_the_best_system_and_those_given() -> None:
    audio, video, fused = two_and_fused()
    suspects = ClipTable(
        "suspects", "Suspects", "", (), (ClipRow({"odd one": "u", "clip00001": "u"}, ()),), 1
    )
    data = make_data(audio, video, fused, clip_tables=(suspects,))
    figures = compute(data, "test", 2)
    chosen = clips_to_play(data, figures, 7)
    best = max(figures.systems, key=lambda system: system.accuracy)
    firsts = [clips[0].clip_id for _, clips in best.clip_lists]
    assert chosen[:4] == [*firsts, "odd one"]
    assert len(chosen) == len(set(chosen)) == 7
    assert clips_to_play(data, figures, 0) == []


# Excerpts


def read(*clips: ClipPlace) -> dict[str, Excerpt]:
    child = DecoderChild(timeout_s=20, memory_gb=2)
    try:
        return read_excerpts(clips, child, Wanted(), NO_OPTIONS)
    finally:
        child.close()


def heard(excerpt: Excerpt) -> np.ndarray:
    """The samples of an excerpt at its own rate, as any player would decode them."""
    with av.open(io.BytesIO(excerpt.sound)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        assert container.streams.audio[0].rate == SAMPLE_RATE_HZ
    return np.concatenate(frames, axis=1)[0]


def pitch_hz(samples: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(power.argmax() * SAMPLE_RATE_HZ / len(samples))


def test_a_sound_comes_back_as_it_was_at_32_kbit_a_second() -> None:
    sound, kind = encoded_sound(tone(1000, 4))
    samples = heard(Excerpt(sound=sound, sound_type=kind))
    assert kind in ("audio/mpeg", "audio/webm")
    assert len(samples) / SAMPLE_RATE_HZ == pytest.approx(4, abs=0.15)
    assert pitch_hz(samples[SAMPLE_RATE_HZ : 2 * SAMPLE_RATE_HZ]) == pytest.approx(1000, abs=5)
    assert len(sound) < 4 * 32_000 / 8 * 1.2


def test_a_picture_is_a_small_jpeg_of_the_same_colours() -> None:
    picture = np.zeros((96, 170, 3), np.uint8)
    picture[:, :85] = (200, 30, 40)
    found = Image.open(io.BytesIO(encoded_picture(picture)))
    assert (found.format, found.size) == ("JPEG", (170, 96))
    assert np.abs(np.asarray(found)[48, 30].astype(int) - (200, 30, 40)).max() < 12


def test_excerpts_are_cut_from_the_span_of_the_clip(tmp_path: Path) -> None:
    rate = 16_000
    times = np.arange(30 * rate) / rate
    sound = np.where(times < 15, np.sin(2 * np.pi * 500 * times), np.sin(2 * np.pi * 2000 * times))
    write_wav(tmp_path / "long.wav", sound[None] / 2, rate)
    url = str(tmp_path / "long.wav")
    found = read(
        ClipPlace("early", url, 0.0, 4.0),
        ClipPlace("late", url, 20.0, 4.0),
        ClipPlace("whole", url, None, None),
    )
    assert found["early"].seconds == pytest.approx(4, abs=0.05)
    assert found["whole"].seconds == pytest.approx(EXCERPT_S, abs=0.05)
    assert pitch_hz(heard(found["early"])) == pytest.approx(500, abs=5)
    assert pitch_hz(heard(found["late"])) == pytest.approx(2000, abs=5)
    assert [excerpt.picture for excerpt in found.values()] == [b"", b"", b""]
    assert [excerpt.note for excerpt in found.values()] == ["", "", ""]


def test_what_cannot_be_played_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.mp3").write_text("not a sound at all, however long this line may be")
    write_media(tmp_path / "silent.mp4", frames=numbered_frames(10))
    found = read(
        ClipPlace("gone", str(tmp_path / "gone.wav"), None, None),
        ClipPlace("text", str(tmp_path / "text.mp3"), None, None),
        ClipPlace("silent", str(tmp_path / "silent.mp4"), None, None),
        ClipPlace("huge", "s3://bucket/huge.mkv", None, None, MOST_FETCHED_BYTES + 1),
    )
    assert found["gone"].note.startswith("not_found: ")
    assert found["text"].note.startswith("not_media: ")
    assert found["silent"].note == "no sound track"
    assert found["huge"].note == "not fetched: the recording has 256,000,001 bytes"
    assert [bool(one.sound) for one in found.values()] == [False] * 4
    assert found["silent"].picture[:2] == b"\xff\xd8"


# On the page


def test_a_clip_in_several_lists_has_its_sound_in_the_page_once() -> None:
    audio, video, fused = two_and_fused()
    data = make_data(audio, video, fused)
    figures = compute(data, "test", 2)
    chosen = clips_to_play(data, figures, 12)
    excerpts = {
        clip_id: Excerpt(b"sound of " + clip_id.encode(), "audio/mpeg", 1.0, b"\xff\xd8")
        for clip_id in chosen
    }
    page = page_of(build_text(data, num_bootstrap=2, excerpts=excerpts))
    sources = [a.get("src") for tag, a in page.tags if tag == "audio" and a.get("src")]
    assert len(sources) == len(set(sources)) == 12
    repeated = [a for tag, a in page.tags if tag == "audio" and "data-same" in a]
    assert repeated
    assert {a["data-same"] for a in repeated} <= set(page.ids())
    assert all("hidden" in a for a in repeated)  # until the page's script fills them in


def test_pictures_stand_in_the_page_with_their_captions() -> None:
    pictures = (Picture(b"\x89PNG one", "a <b> as dog"), Picture(b"\x89PNG two", "b"))
    sets = (PictureSet("audio: occlusion", "what is hidden", pictures),)
    page = page_of(build_text(make_data(make_system("audio"), pictures=sets), num_bootstrap=2))
    assert "explanations" in page.ids()
    assert "audio: occlusion what is hidden a <b> as dog" in page.text
    sources = [a["src"] for tag, a in page.tags if tag == "img"]
    assert sources == [
        "data:image/png;base64," + base64.b64encode(picture.png).decode() for picture in pictures
    ]


def test_given_tables_of_clips_stand_on_the_page_and_in_the_summary() -> None:
    table = ClipTable(
        id="leaks",
        title="Leaks",
        lead="The same recording on both sides.",
        columns=("why", "distance"),
        rows=(ClipRow({"a<b": "s3://x/1", "c": "s3://x/2"}, ("same file", 0.25)),),
        num_rows=40,
        numeric=frozenset({"distance"}),
        alarm="40 clips of train are in test too.",
    )
    empty = replace(table, id="suspects", title="Suspects", rows=(), num_rows=0, alarm="")
    page = page_of(
        build_text(make_data(make_system("audio"), clip_tables=(table, empty)), num_bootstrap=2)
    )
    assert {"leaks", "suspects"} <= set(page.ids())
    assert "40 clips of train are in test too." in page.text.partition("What is wrong?")[2]
    assert "a<b s3://x/1 c s3://x/2 same file 0.250" in page.text
    assert "Shown are 1 of 40." in page.text
    assert "There is none." in page.text
