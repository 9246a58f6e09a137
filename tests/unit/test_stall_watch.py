"""When a job stands still, by a clock that the test turns."""

import pytest

from audioflow.engine import embed_watch
from audioflow.engine.embed_pulse import BoardRef
from audioflow.engine.embed_watch import START_S, StallWatch
from audioflow.engine.pulse import Busy
from audioflow.errors import StalledError


class Watched(StallWatch):
    """A watch that hears of workers from the test instead of from their board."""

    finished: int = 0
    busy: tuple[Busy, ...] = ()

    def _ask(self) -> tuple[int, list[Busy]]:
        return self.finished, list(self.busy)

    def _free(self) -> str:
        return "0 CPU"


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(embed_watch, "time", clock)
    return clock


@pytest.fixture
def watch(clock: Clock) -> Watched:
    return Watched(12, BoardRef("nowhere"), "each of 2 workers needs 1 CPU")


def passes(watch: Watched, clock: Clock, seconds: float) -> None:
    for _ in range(int(seconds)):
        clock.now += 1
        watch.check()


def test_workers_may_take_longer_to_begin_than_a_clip_may_take(
    watch: Watched, clock: Clock
) -> None:
    passes(watch, clock, START_S - 1)
    told = f"no clip was finished for {START_S:g} s .*: no worker is at work: each of 2 .* 0 CPU"
    with pytest.raises(StalledError, match=told):
        passes(watch, clock, 3)


@pytest.mark.parametrize("way", ["moved", "busy", "finished"])
def test_once_one_has_begun_the_time_of_the_recipe_counts_from_then(
    watch: Watched, clock: Clock, way: str
) -> None:
    passes(watch, clock, 50)
    if way == "moved":
        watch.moved()
    elif way == "busy":
        watch.busy = (Busy("decode", "low/asleep.wav", "here", 2.0),)
    else:
        watch.finished = 3
    passes(watch, clock, 11)
    with pytest.raises(StalledError, match="no clip was finished for 12 s"):
        passes(watch, clock, 3)


def test_what_workers_are_at_is_told(watch: Watched, clock: Clock) -> None:
    watch.moved()
    watch.busy = (Busy("decode", "low/asleep.wav", "here", 2.0),)
    with pytest.raises(StalledError, match=r"decode of clip 'low/asleep.wav' on node here"):
        passes(watch, clock, 14)
    assert clock.now <= 1014
