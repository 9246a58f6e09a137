"""Who of a pool does which item, with workers that the test moves by hand."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError

from audioflow.engine import embed_deal
from audioflow.engine.embed_deal import Deal
from audioflow.engine.embed_work import Done, Doubt, Trial

WHY = "s3://media/x may not be read with these credentials"


@dataclass(eq=False)
class Call:
    """What an actor was asked for, and its answer once the test has given it."""

    what: tuple[Any, ...]
    worker: "Worker | None"
    answer: Any = None


class Method:
    """A method of an actor: what is called is kept until the test answers it."""

    def __init__(self, calls: list[Call], worker: "Worker | None" = None) -> None:
        self._calls, self._worker = calls, worker

    def remote(self, *what: Any) -> Any:
        call = Call(what, self._worker)
        self._calls.append(call)
        return call


class Worker:
    """An actor on a node, which reads everything or nothing."""

    def __init__(self, node: str, reads: bool = True) -> None:
        self.node, self.reads = node, reads
        self.begun: list[Any] = []
        self.calls: list[Any] = []
        self.ready, self.do = Method(self.begun), Method(self.calls, self)

    def begin(self) -> None:
        self.begun[-1].answer = self.node

    def act(self) -> None:
        """Come to an end with the first thing that it was given, as a worker does."""
        call = self.calls.pop(0)
        trial = call.what[1] if len(call.what) > 1 else Trial()
        doubt = Doubt((0,), "permission", WHY, self.node, kept=False)
        left = not self.reads and trial.pass_on
        call.answer = Done({}, doubt=doubt if left else None, reads=self.reads)

    def die(self) -> None:
        calls, self.calls[:] = list(self.calls), []
        for call in calls:
            call.answer = RayActorError()


class Game:
    """A deal, and what has come of it: by item, the node that had the last word."""

    def __init__(self, workers: list[Worker], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.told, self.last = 100.0, list[str](), dict[int, str]()
        fake = SimpleNamespace(wait=self._wait, get=self._get)
        monkeypatch.setattr(embed_deal, "ray", fake)
        monkeypatch.setattr(embed_deal, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.workers, self.count = workers, count
        self.deal = Deal(
            workers, count, lambda n: n, lambda *_: None, lambda: None, self.told.append
        )

    def _wait(self, calls: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return [call for call in calls if call.answer is not None], []

    def _get(self, call: Any) -> Any:
        if isinstance(call.answer, Exception):
            raise call.answer
        return call.answer

    def go_on(self) -> None:
        calls = [call for call in self.deal._at if call.worker]
        nodes = {call.what[0]: call.worker.node for call in calls}
        for number, _ in self.deal.finished():
            assert number not in self.last
            self.last[number] = nodes[number]

    def begin(self, *workers: Worker) -> None:
        for worker in workers or self.workers:
            worker.begin()
        self.go_on()

    def play(self) -> None:
        """To the end; the workers that read nothing are the fastest."""
        for _ in range(1000):
            if not self.deal.left:
                return
            for worker in self.workers:
                for _ in range(1 if worker.reads else 5):
                    if worker.calls:
                        worker.act()
                        self.go_on()
            self.go_on()
        raise AssertionError(f"{self.deal.left} are left")


def test_what_one_node_cannot_read_goes_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    sick, sound = Worker("sick", reads=False), Worker("sound")
    game = Game([sick, sound], 30, monkeypatch)
    game.begin()
    game.play()
    assert game.last == dict.fromkeys(range(30), "sound")
    assert len(game.told) == 1, "once for a node"
    assert "node sick reads nothing: 3 shards in a row failed there as 'permission'" in game.told[0]
    assert WHY in game.told[0]


def test_also_where_that_one_still_loads_and_the_sick_one_has_tried_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sick, sound = Worker("sick", reads=False), Worker("sound")
    game = Game([sick, sound], 10, monkeypatch)
    game.begin(sick)
    for _ in range(10):
        sick.act()
        game.go_on()
    assert not sick.calls
    assert not game.last
    game.begin(sound)
    game.play()
    assert game.last == dict.fromkeys(range(10), "sound")


def test_a_second_sick_node_has_not_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [Worker("one", reads=False), Worker("two", reads=False), Worker("sound")]
    game = Game(workers, 40, monkeypatch)
    game.begin()
    game.play()
    assert game.last == dict.fromkeys(range(40), "sound")


def test_where_no_node_reads_each_item_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [Worker(f"node{number}", reads=False) for number in range(5)]
    game = Game(workers, 20, monkeypatch)
    game.begin()
    game.play()
    assert len(game.last) == 20


def test_one_node_alone_passes_nothing_on(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [Worker("sick", reads=False), Worker("sick", reads=False)]
    game = Game(workers, 6, monkeypatch)
    game.deal.alone = True
    game.begin()
    assert all(len(call.what) == 1 for worker in workers for call in worker.calls)
    game.play()
    assert game.last == dict.fromkeys(range(6), "sick")
    assert not game.told


def test_nor_do_workers_of_one_node_that_were_not_known_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = [Worker("sick", reads=False), Worker("sick", reads=False)]
    game = Game(workers, 6, monkeypatch)
    game.begin(workers[0])
    for _ in range(2):
        workers[0].act()
        game.go_on()
    assert not game.last
    game.begin(workers[1])
    game.play()
    assert game.last == dict.fromkeys(range(6), "sick")


def test_it_does_not_wait_for_ever_for_a_worker_that_never_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sick, never = Worker("sick", reads=False), Worker("sound")
    game = Game([sick, never], 4, monkeypatch)
    game.begin(sick)
    for _ in range(4):
        sick.act()
        game.go_on()
    game.now += 59
    game.go_on()
    assert not sick.calls
    game.now += 2
    game.go_on()
    game.play()
    assert game.last == dict.fromkeys(range(4), "sick")


def test_what_a_lost_worker_tried_for_another_node_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sick, sound = Worker("sick", reads=False), Worker("sound")
    game = Game([sick, sound], 8, monkeypatch)
    game.begin()
    for _ in range(3):
        sick.act()
        game.go_on()
    sound.act()
    game.go_on()
    sound.die()
    game.go_on()
    assert not any(node == "sick" for node in game.last.values())
    game.begin(sound)
    game.play()
    assert game.last == dict.fromkeys(range(8), "sound")


def test_and_by_whom_is_left_where_it_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    sick, sound = Worker("sick", reads=False), Worker("sound")
    game = Game([sick, sound], 8, monkeypatch)
    game.begin()
    sick.act()
    sound.die()
    game.go_on()
    game.now += 61
    game.play()
    assert game.last == dict.fromkeys(range(8), "sick")
