"""A job whose nodes are lost waits for others, but not for ever."""

from types import SimpleNamespace

import pytest

from audioflow.engine import room
from audioflow.engine.room import LOST_WAIT_S, Room
from audioflow.errors import LostWorkersError
from audioflow.planning.machines import Machine, Machines, Need

NEED = Need("systems.birds.train", "a worker", {"CPU": 2.0})
NONE, SMALL = Machines(()), Machines((Machine({"CPU": 1.0}),))
ENOUGH = Machines((Machine({"CPU": 1.0}), Machine({"CPU": 2.0})))


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> list[Machines]:
    """What the cluster is, at every look; the last one stays."""
    looks: list[Machines] = []
    monkeypatch.setattr(room, "look", lambda: looks.pop(0) if len(looks) > 1 else looks[0])
    monkeypatch.setattr(room, "has_autoscaler", lambda: False)
    monkeypatch.setattr(room, "_LOOK_EVERY_S", 0.0)
    return looks


@pytest.mark.parametrize("machines", [NONE, SMALL])
def test_where_no_node_has_room_for_as_long_as_the_recipe_waits_it_is_told(
    there: list[Machines], machines: Machines
) -> None:
    there.append(machines)
    told = (
        r"for 0 s none was left with room: systems.birds.train: a worker needs 2 CPU, and no node "
        r"has that. What is committed stays, run the same command again"
    )
    with pytest.raises(LostWorkersError, match=told):
        Room([NEED], 0.0, print).check()


def test_it_waits_for_nodes_that_may_come(there: list[Machines]) -> None:
    there.extend([NONE, NONE, ENOUGH])
    Room([NEED], 60.0, print).wait()
    there[:] = [NONE]
    Room([NEED], None, print).check()
    assert LOST_WAIT_S > 0


def test_that_nodes_are_waited_for_is_told_once_each_time(
    there: list[Machines], capsys: pytest.CaptureFixture[str]
) -> None:
    there.extend([NONE, NONE, NONE, ENOUGH, SMALL, SMALL])
    asked = Room([NEED], 60.0, print)
    for _ in range(7):
        asked.check()
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first.startswith("nodes were lost, and none that is left has room: systems.birds.train:")
    assert first.endswith("Waiting for others, 60 s at most")


def test_a_node_with_room_is_enough(there: list[Machines]) -> None:
    there.append(ENOUGH)
    Room([NEED], 0.0, print).check()
    Room([NEED], 0.0, print).wait()


def test_room_that_came_back_starts_the_clock_anew(
    there: list[Machines], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(room, "time", SimpleNamespace(monotonic=lambda: now[0]))
    asked = Room([NEED], 10.0, print)
    for at, machines in ((108.0, NONE), (109.0, ENOUGH), (118.0, NONE)):
        now[0], there[:] = at, [machines]
        asked.check()
    now[0] = 119.5
    with pytest.raises(LostWorkersError, match="for 10 s none was left"):
        asked.check()
