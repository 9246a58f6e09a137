"""How fast a job goes: the rate of its last minute, begun with its first unit of work."""

from collections.abc import Iterable
from typing import Any

import pytest

from audioflow.events import Event
from audioflow.pace import Pace

CLIPS = 20
"""In a shard, of a second of media each."""


def shards(
    pace: Pace, ends: Iterable[float], done: int = 0, wall_s: float = 2.0, **seconds: float
) -> int:
    """Shards of 20 clips end at these times; how many clips are done then."""
    for end in ends:
        done += CLIPS
        pace.add(Event("embed", "shard", "a", {"wall_s": wall_s, "seconds": seconds}), end)
        progress(pace, end, done)
    return done


def progress(pace: Pace, now: float, done: int, **more: Any) -> None:
    pace.add(Event("embed", "progress", "a", {"done": done, "media_s": float(done)} | more), now)


def test_what_a_job_needs_to_start_is_no_part_of_its_rate() -> None:
    pace = Pace()
    shards(pace, [40.0, 41.0, 42.0, 43.0], wall_s=1.0)
    assert pace.per_s(43.0) == pytest.approx(CLIPS)
    assert pace.media_per_s(43.0) == pytest.approx(CLIPS)


def test_nor_is_what_a_worker_loads_before_its_first_shard() -> None:
    pace = Pace()
    shards(pace, [40.0], wall_s=31.0, load=30.0)
    assert pace.per_s(40.0) == pytest.approx(CLIPS)


def test_where_no_unit_says_how_long_it_took_the_first_one_begins_the_window() -> None:
    pace = Pace()
    progress(pace, 50.0, 100)
    assert pace.per_s(50.0) == 0.0
    progress(pace, 52.0, 110)
    assert pace.per_s(52.0) == pytest.approx(5.0)


def test_the_rate_follows_within_a_minute_when_nodes_are_lost_and_join() -> None:
    pace = Pace()
    done = shards(pace, [float(second) for second in range(10, 600)])
    assert pace.per_s(599.0) == pytest.approx(CLIPS, rel=0.02)
    done = shards(pace, [600.0 + 4 * place for place in range(17)], done)
    assert pace.per_s(664.0) == pytest.approx(CLIPS / 4, rel=0.1)
    shards(pace, [665.0 + place for place in range(62)], done)
    assert pace.per_s(726.0) == pytest.approx(CLIPS, rel=0.1)


def test_where_nothing_is_finished_any_more_the_rate_falls() -> None:
    pace = Pace()
    shards(pace, [float(second) for second in range(100)])
    rates = [pace.per_s(99.0 + silent_s) for silent_s in (0, 10, 30, 120)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(CLIPS, rel=0.02)
    assert 0 < rates[-1] < 1


@pytest.mark.parametrize("now", [310.0, 400.0, 599.0, 610.0, 899.0])
def test_workers_that_end_long_shards_together_have_a_steady_rate(now: float) -> None:
    """Eight of them, whose shards take five minutes."""
    pace = Pace()
    ends = [wave * 300.0 + worker for wave in (1, 2) for worker in range(8)]
    shards(pace, [end for end in ends if end <= now], wall_s=300.0)
    assert pace.per_s(now) == pytest.approx(8 * CLIPS / 300, rel=0.1)


def test_what_was_done_before_is_no_part_of_the_rate() -> None:
    pace = Pace(1000)
    shards(pace, [10.0, 11.0], done=1000, wall_s=1.0)
    assert pace.per_s(11.0) == pytest.approx(CLIPS)


def epochs(pace: Pace, first: int, last: int, begin: float) -> float:
    """These epochs are done, of half a second each; when the last one was."""
    for epoch in range(first, last + 1):
        begin += 0.5
        pace.add(Event("train", "epoch", "a", {"done": epoch, "seconds": 0.5}), begin)
    return begin


def test_epochs_of_an_earlier_command_are_no_part_of_the_rate() -> None:
    pace = Pace()
    progress(pace, 5.0, 370, before=370)
    now = epochs(pace, 371, 376, 6.0)
    assert pace.per_s(now) == pytest.approx(2.0)
    progress(pace, now, 746, before=740)  # another fold goes on
    now = epochs(pace, 747, 756, now)
    assert pace.per_s(now) == pytest.approx(2.0)


def test_epochs_that_are_done_again_do_not_make_it_slower() -> None:
    pace = Pace()
    now = epochs(pace, 1, 17, 0.0)
    progress(pace, now + 20.0, 10, before=0)
    now = epochs(pace, 11, 20, now + 20.0)
    assert pace.per_s(now) == pytest.approx(2.0)


def test_trials_are_counted_as_they_end() -> None:
    pace = Pace(3)
    for place in range(1, 11):
        pace.add(Event("tune", "trial", "t", {"seconds": 4.0}), 4.0 * place)
    assert pace.per_s(40.0) == pytest.approx(0.25)


def test_of_a_long_run_little_is_kept() -> None:
    pace = Pace()
    shards(pace, [place / 50 for place in range(50_000)], wall_s=0.02)
    assert len(pace._points) < 130
    assert pace.per_s(1000.0) == pytest.approx(50 * CLIPS, rel=0.02)
