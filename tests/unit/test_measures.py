"""Gauges stay as long as what they tell of, and go when it has ended."""

import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from audioflow.engine import measures
from audioflow.engine.measures import Measure, Measures
from audioflow.events import Event

BOTH = "acoustic, color"
JOINT = Event("embed", "start", BOTH, {"total": 9, "done": 1, "shards": 4})


class Metric:
    """Keeps what it is told, with its name."""

    def __init__(self, told: list[tuple[Any, ...]], name: str) -> None:
        self._told, self._name = told, name

    def set(self, value: float, labels: dict[str, str]) -> None:
        self._told.append((labels["audioflow_job"], self._name, labels.get("table"), value))

    def inc(self, value: float, labels: dict[str, str]) -> None:
        """A counter needs no setting again."""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """All that gauges were set to, on a Ray that seems to be there, and is told soon again."""
    found: list[tuple[Any, ...]] = []

    def metric(mine: Measures, measure: Measure) -> Metric:
        return Metric(found, measure.name)

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setattr(measures, "SET_EVERY_S", 0.01, raising=False)
    monkeypatch.setattr(Measures, "_metric", metric)
    return found


@pytest.fixture
def heard(told: list[tuple[Any, ...]]) -> Iterator[Measures]:
    found = Measures("it")
    yield found
    found.stop()


def until(told: list[tuple[Any, ...]], wanted: tuple[Any, ...], times: int = 3) -> None:
    """Wait until gauges were set to this so often."""
    end = time.monotonic() + 10
    while told.count(wanted) < times:
        assert time.monotonic() < end, f"{wanted} was not told {times} times"
        time.sleep(0.01)


def test_gauges_are_set_again_while_a_table_is_made(
    heard: Measures, told: list[tuple[Any, ...]]
) -> None:
    heard.hear(JOINT)
    heard.hear(Event("embed", "node", "n", {"what": "lost", "nodes": 3}))
    heard.hear(Event("embed", "progress", BOTH, {"total": 9, "done": 3, "shards_left": 2}))
    for wanted in (
        ("embed", "job_active", BOTH, 1),
        ("embed", "clips_left", BOTH, 6),
        ("embed", "shards_left", BOTH, 2),
        ("embed", "nodes", None, 3),
    ):
        until(told, wanted)


def test_tables_that_are_made_together_end_with_the_first_of_them(
    heard: Measures, told: list[tuple[Any, ...]]
) -> None:
    heard.hear(JOINT)
    heard.hear(Event("embed", "done", "acoustic", {}))
    heard.hear(Event("embed", "done", "color", {}))
    ends = [one for one in told if one[1] == "job_active" and one[3] == 0]
    assert ends == [("embed", "job_active", BOTH, 0)]


def test_nothing_is_set_again_once_no_table_is_at_work(
    heard: Measures, told: list[tuple[Any, ...]]
) -> None:
    heard.hear(Event("train", "start", "audio", {}))
    heard.hear(Event("train", "start", "video", {}))
    heard.hear(Event("train", "done", "audio", {}))
    before = told.count(("train", "job_active", "audio", 1))
    until(told, ("train", "job_active", "video", 1))
    assert told.count(("train", "job_active", "audio", 1)) == before
    heard.hear(Event("train", "failed", "video", {}))
    end = time.monotonic() + 30
    while heard._thread is not None:
        assert time.monotonic() < end, "the thread goes on"
        time.sleep(0.01)
    assert told[-1] == ("train", "job_active", "video", 0)


def test_another_job_has_gauges_of_its_own(heard: Measures, told: list[tuple[Any, ...]]) -> None:
    heard.hear(JOINT)
    heard.hear(Event("embed", "node", "n", {"what": "joined", "nodes": 2}))
    heard.hear(Event("embed", "done", "acoustic", {}))
    heard.hear(Event("score", "start", "audio", {}))
    before = len(told)
    until(told, ("score", "job_active", "audio", 1))
    assert {one[0] for one in told[before:]} == {"score"}


def test_a_command_that_ends_sets_nothing_again(told: list[tuple[Any, ...]]) -> None:
    with Measures("it") as found:
        found.hear(JOINT)
        until(told, ("embed", "job_active", BOTH, 1))
    assert found._thread is None
    before = len(told)
    time.sleep(0.1)
    assert len(told) == before
