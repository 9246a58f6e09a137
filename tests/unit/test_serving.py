"""What a server does apart from Ray: routes, bodies, decoders, answers, counts."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audioflow.errors import ERROR_CLASSES, InputError, MediaError
from audioflow.media.parts import End, SoundPart, Wanted
from audioflow.serving.answers import About, Scored, answer, in_order
from audioflow.serving.bodies import Body, received
from audioflow.serving.decoding import Decoders
from audioflow.serving.limits import Limits
from audioflow.serving.refusals import BAD_MEDIA, Refusal, of_media
from audioflow.serving.routes import action_of
from audioflow.serving.tally import Lately, Tally, percentile
from tests.media_files import RATE, tone, write_wav

# Routes and refusals


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("GET", "/", "info"),
        ("GET", "/info", "info"),
        ("HEAD", "/ping", "ping"),
        ("GET", "/ping/", "ping"),
        ("POST", "/invocations", "score"),
        ("GET", "/execution-parameters", "parameters"),
    ],
)
def test_a_path_says_what_is_asked_for(method: str, path: str, action: str) -> None:
    assert action_of(method, path) == action


def test_an_unknown_path_names_those_that_there_are() -> None:
    with pytest.raises(Refusal, match=r"no '/score' here; there are /, .*/invocations") as caught:
        action_of("POST", "/score")
    assert caught.value.status == 404


def test_a_wrong_method_names_the_right_ones() -> None:
    with pytest.raises(Refusal, match="/invocations takes POST, got GET") as caught:
        action_of("GET", "/invocations")
    assert caught.value.status == 405
    assert caught.value.headers == {"Allow": "POST"}


def test_all_that_can_be_wrong_with_media_is_the_clients_doing_but_what_is_internal() -> None:
    for error in set(ERROR_CLASSES) - {"killed"}:
        refusal = of_media(MediaError(error, "why"))
        assert refusal.status == (500 if error == "internal" else BAD_MEDIA)
        assert refusal.body == {"error": error, "reason": "why"}


def test_a_decoder_that_was_killed_is_no_fault_of_the_media() -> None:
    refusal = of_media(MediaError("killed", "why", attempts=3))
    assert (refusal.status, refusal.error, refusal.retry_after_s) == (503, "unavailable", 1)


def test_when_to_come_back_is_told_in_whole_seconds() -> None:
    assert Refusal("loading", "", retry_after_s=1.2).headers == {"Retry-After": "2"}
    assert Refusal("loading", "", retry_after_s=0.0).headers == {"Retry-After": "1"}
    assert Refusal("timeout", "").headers == {}


# Bodies


class Pieces:
    """The pieces of a body, and how many of them were taken."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self.taken = pieces, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            self.taken += 1
            yield piece


def take(pieces: Pieces, folder: Path, most: int = 10, **headers: str) -> Body:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.run(received(aiter(pieces), told, folder, most))


def test_a_body_becomes_a_file(tmp_path: Path) -> None:
    body = take(Pieces([b"abc", b"", b"defg"]), tmp_path)
    assert body.path.read_bytes() == b"abcdefg"
    assert (body.size_bytes, body.sha256) == (7, hashlib.sha256(b"abcdefg").hexdigest())
    body.remove()
    body.remove()
    assert not list(tmp_path.iterdir())


def test_a_body_that_says_that_it_is_too_large_is_not_read(tmp_path: Path) -> None:
    pieces = Pieces([b"x" * 11])
    with pytest.raises(Refusal, match=r"larger than 1e-05 MB") as caught:
        take(pieces, tmp_path, content_length="11")
    assert caught.value.status == 413
    assert pieces.taken == 0
    assert not list(tmp_path.iterdir())


def test_a_body_that_does_not_say_so_is_read_up_to_the_limit(tmp_path: Path) -> None:
    pieces = Pieces(b"xxxx" for _ in range(1000))
    with pytest.raises(Refusal, match=r"larger than 1e-05 MB"):
        take(pieces, tmp_path)
    assert pieces.taken == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pieces", [[], [b"", b""]])
def test_no_body_is_told(tmp_path: Path, pieces: list[bytes]) -> None:
    with pytest.raises(Refusal, match="send the bytes of a media file") as caught:
        take(Pieces(pieces), tmp_path)
    assert caught.value.status == 400
    assert not list(tmp_path.iterdir())


def test_of_a_client_that_goes_away_nothing_is_left(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"abc"
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        take(Pieces(broken()), tmp_path)
    assert not list(tmp_path.iterdir())


# Decoding

HARMFUL = Wanted((16_000,), decoder="tests.decoders:Segfaulting")


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    """Decoders that take two seconds of sound, and wait a second for a sign of life."""
    made = Decoders(HARMFUL, Limits(max_duration_s=2.0, timeout_s=2.0, decoders=2))
    yield made
    made.close()


def end_of(decoders: Decoders, path: Path, seconds: float = 30.0) -> End:
    last = decoders.decode(str(path), time.monotonic() + seconds)[-1]
    assert isinstance(last, End)
    return last


def test_a_recording_is_decoded_whole(decoders: Decoders, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(seconds=1.5))
    parts = decoders.decode(str(path), time.monotonic() + 30)
    samples = [part.samples for part in parts if isinstance(part, SoundPart)]
    assert sum(map(len, samples)) == 24_000
    assert parts[-1] == End(0, 16_000, 1.5, 1.0)


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("segfault.wav", "crashed", "the decoder died of signal SIGSEGV"),
        ("hang.wav", "timeout", "the decoder gave no sign for 1 s, and was ended"),
    ],
)
def test_what_kills_or_hangs_a_decoder_is_told_and_the_next_is_decoded(
    decoders: Decoders, tmp_path: Path, name: str, error: str, reason: str
) -> None:
    write_wav(tmp_path / name, tone())
    for _ in range(2):  # as many as there are children
        told = end_of(decoders, tmp_path / name).error
        assert told is not None
        assert (told.error, told.reason) == (error, reason)
    for number in range(2):
        path = write_wav(tmp_path / f"good{number}.wav", tone())
        assert end_of(decoders, path).error is None


def test_a_limit_is_told_in_words_that_name_no_key_of_a_recipe(
    decoders: Decoders, tmp_path: Path
) -> None:
    told = end_of(decoders, write_wav(tmp_path / "long.wav", tone(seconds=2.5))).error
    assert told is not None
    assert (told.error, told.reason) == ("too_long", "it is longer than 2 s, the limit here")


def test_what_nobody_waits_for_any_more_is_given_up(decoders: Decoders, tmp_path: Path) -> None:
    path = write_wav(tmp_path / "unwanted.wav", tone(seconds=1.9))
    with pytest.raises(MediaError, match="could not be decoded in time"):
        decoders.decode(str(path), time.monotonic() - 1)
    assert end_of(decoders, path).error is None


def test_a_table_that_takes_less_is_the_limit(tmp_path: Path) -> None:
    made = Decoders(Wanted((RATE,), max_duration_s=1.0), Limits(decoders=1))
    try:
        told = end_of(made, write_wav(tmp_path / "a.wav", tone(seconds=1.5))).error
    finally:
        made.close()
    assert told is not None
    assert told.reason == "it is longer than 1 s, the limit here"


# Answers

ABOUT = About("sound", ("bird", "cat", "dog"), False, "f00", ("sound",), ("acoustic",), 1)
SCORES = np.array([0.2, 0.7, 0.1], np.float32)


def test_an_answer_has_what_sagemaker_asks_for_and_names() -> None:
    assert answer(ABOUT, Scored(SCORES, 1.25, 1.0)) == {
        "label": 1,
        "probability": [float(score) for score in SCORES],
        "class": "cat",
        "classes": ["bird", "cat", "dog"],
        "score": float(SCORES[1]),
        "system": "sound",
        "duration_s": 1.25,
        "coverage": 1.0,
    }


def test_of_several_classes_at_once_all_that_are_probable_are_labels() -> None:
    several = replace(ABOUT, multi_label=True)
    scores = np.array([0.5, 0.9, 0.1], np.float32)
    told = answer(several, Scored(scores, 1.0, 1.0))
    assert (told["label"], told["class"]) == ([0, 1], ["bird", "cat"])
    told = answer(several, Scored(scores, 1.0, 1.0, above=["dog", "cat"]))
    assert (told["label"], told["class"]) == ([1, 2], ["cat", "dog"])
    assert told["above_threshold"] == ["dog", "cat"]
    none = answer(several, Scored(np.array([0.1, 0.2, 0.3], np.float32), 1.0, 1.0))
    assert (none["label"], none["class"], none["score"]) == ([], [], pytest.approx(0.3))


def test_classes_come_in_the_order_that_is_asked_for() -> None:
    mine = in_order(ABOUT, ["dog", "bird", "cat"])
    scored = Scored(np.array([0.1, 0.2, 0.7], np.float32), 1.0, 1.0)
    found = answer(mine, scored)
    assert (found["label"], found["class"]) == (0, "dog")
    assert found["classes"] == ["dog", "bird", "cat"]
    assert found["probability"] == pytest.approx([0.7, 0.1, 0.2])
    several = answer(replace(mine, multi_label=True), replace(scored, above=["dog", "cat"]))
    assert (several["label"], several["class"]) == ([0, 2], ["dog", "cat"])


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (
            ["dog", "bird", "cta"],
            "no class 'cta'; its classes are bird, cat, dog; did you mean 'cat'",
        ),
        (["dog", "bird"], "'cat' is missing; name each class of the head once"),
        (["dog", "bird", "cat", "dog"], "'dog' stands 2 times"),
    ],
)
def test_an_order_names_every_class_once(names: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        in_order(ABOUT, names)


def test_random_weights_and_missing_systems_are_told() -> None:
    told = answer(replace(ABOUT, untrained=("vggish",)), Scored(SCORES, 1, 1, systems=["video"]))
    assert (told["untrained"], told["available"]) == (["vggish"], ["video"])


# Counts


def test_what_was_done_is_told_in_a_line_and_forgotten() -> None:
    tally = Tally()
    for number in range(100):
        tally.answered(0.001 * (number + 1))
    for error in ("empty", "not_media", "not_media"):
        tally.refused(error)
    tally.waiting = 4
    assert tally.look().line(10.0) == (
        "103 requests (10.3/s); p50 50 ms, p95 95 ms; 3 refused: not_media 2, empty 1; 4 in hand"
    )
    tally.waiting = 0
    assert tally.look() == Lately()
    assert tally.look().line(10.0) == ""


@pytest.mark.parametrize("count", [1, 2, 3, 19, 20, 21, 1000])
def test_a_percentile_is_that_of_numpy(count: int) -> None:
    values = np.random.default_rng(count).uniform(size=count)
    for share in (0.0, 0.5, 0.95, 1.0):
        expected = np.quantile(values, share, method="inverted_cdf")
        assert percentile(values.tolist(), share) == expected
