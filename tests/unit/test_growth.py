"""A pool of workers whose last node has gone, by a clock that the test turns."""

from types import SimpleNamespace
from typing import Any

import pytest

from audioflow.engine import embed_pool
from audioflow.engine.embed_pool import Room, _Growth
from audioflow.planning.machines import Machine, Machines, Need

NEED = Need("embed", "a worker", {"CPU": 1.0})
NONE = Machines((), grows=True)
ONE = Machines((Machine({"CPU": 1.0}),), grows=True)
OF_HAND = Machines(())


class Setting:
    """A pool with one worker and no item left, on a cluster as the test has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.there, self.told = 100.0, ONE, list[str]()
        monkeypatch.setattr(embed_pool, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(embed_pool, "look", lambda: self.there)
        deal: Any = SimpleNamespace(waiting=0, workers=1)
        room = Room(NEED, 1, tell=self.told.append, wait_s=60.0)
        self.growth = _Growth(room, deal, lambda: None)

    def waits(self, machines: Machines, seconds: float) -> bool:
        self.there, self.now = machines, self.now + seconds
        self.growth.look()
        return self.growth.waits


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    return Setting(monkeypatch)


def test_a_node_that_is_being_started_is_waited_for_and_told_once(setting: Setting) -> None:
    assert not setting.waits(ONE, 10)
    assert setting.waits(NONE, 10)
    assert setting.waits(NONE, 40)
    assert setting.told == [
        "waiting for nodes, 60 s at most: embed: a worker needs 1 CPU, and no node has that"
    ]
    assert not setting.waits(ONE, 10)


def test_but_not_for_ever(setting: Setting) -> None:
    setting.waits(ONE, 10)
    assert setting.waits(NONE, 59)
    assert not setting.waits(NONE, 10)


def test_where_nobody_starts_one_it_is_told_and_the_clock_of_a_stall_goes_on(
    setting: Setting,
) -> None:
    assert not setting.waits(OF_HAND, 10)
    assert not setting.waits(OF_HAND, 10)
    told = "waiting for nodes: embed: a worker needs 1 CPU, and no node has that"
    assert setting.told == [told]
    assert not setting.waits(ONE, 10)
    assert not setting.waits(OF_HAND, 10)
    assert setting.told == [told, told]


def test_no_worker_is_started_for_items_that_those_take_who_still_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[int] = []
    told: list[str] = []
    monkeypatch.setattr(embed_pool, "look", lambda: Machines((Machine({"CPU": 8.0}),)))
    deal: Any = SimpleNamespace(waiting=2, workers=2, loading=2, add=begun.append)
    growth = _Growth(Room(NEED, 2, tell=told.append), deal, lambda: 1)
    growth.look()
    assert not begun
    assert not told
    deal.waiting = 5
    growth._looked -= 100
    growth.look()
    assert len(begun) == 3
    assert told == ["5 workers instead of 2: nodes have joined"]
