"""Training by several workers is begun again where some are lost, with as many as fit."""

from collections.abc import Callable, Iterator
from typing import Any

from ray.exceptions import ActorDiedError, RayTaskError
from ray.train import ControllerError, WorkerGroupError

from audioflow.engine.lost import RETRIES
from audioflow.engine.train_together import MOST_FAULTS, Crew
from audioflow.errors import InputError, LostWorkersError, StalledError

Attempt = dict[str, Any] | Exception
Lost = list[tuple[int, int, str]]


def failed(*causes: Exception) -> WorkerGroupError:
    """What Ray Train raises where these came from its workers."""
    return WorkerGroupError("as Ray tells it", dict(enumerate(causes)))


def trained(
    attempts: list[Attempt], nodes: list[set[str]], room: int = 1
) -> tuple[dict[str, Any] | Exception, list[int], Lost]:
    """Train with two workers: the end of it, with how many it was tried, and what was told.

    nodes: those that are there, each time that it is asked.
    """
    tried: list[int] = []
    told: Lost = []
    there: Iterator[set[str]] = iter(nodes)

    def fit(workers: int) -> dict[str, Any]:
        tried.append(workers)
        found = attempts[len(tried) - 1]
        if isinstance(found, Exception):
            raise found
        return found

    lost: Callable[[int, int, str], None] = lambda *one: told.append(one)  # noqa: E731
    try:
        return Crew(2, lambda: next(there), lambda: room, lost).train(fit), tried, told
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        return error, tried, told


CLOSED = RuntimeError("Connection closed by peer")
DIED = ActorDiedError()


def test_with_a_node_less_it_goes_on_with_the_workers_that_fit() -> None:
    found, tried, told = trained([failed(CLOSED), {"a": 1}], [{"x", "y"}, {"x"}])
    assert (found, tried) == ({"a": 1}, [2, 1])
    assert told == [(1, 1, "1 node was lost.")]


def test_a_worker_that_is_lost_alone_is_replaced() -> None:
    found, tried, told = trained([failed(CLOSED, DIED), {"a": 1}], [{"x"}] * 2, room=4)
    assert (found, tried) == ({"a": 1}, [2, 2])
    assert "The actor died" in told[0][2]


def test_it_does_not_go_on_for_ever() -> None:
    nodes = [set(map(str, range(count, 20))) for count in range(12)]
    found, tried, told = trained([failed(DIED)] * 12, nodes)
    assert isinstance(found, LostWorkersError)
    assert f"workers were lost {RETRIES + 1} times: 1 node was lost." in str(found)
    assert len(tried) == len(told) + 1 == RETRIES + 1
    error, tried, _ = trained([failed(DIED)] * 12, [{"x"}] * 12)
    assert isinstance(error, LostWorkersError)
    assert f"workers were lost {MOST_FAULTS + 1} times: The actor died" in str(error)
    assert len(tried) == MOST_FAULTS + 1


def test_what_a_worker_raised_on_purpose_is_raised_at_once() -> None:
    ours = InputError("no clip of the split train has an embedding")
    raised = RayTaskError("task", "traceback", ours).as_instanceof_cause()
    found, tried, told = trained([failed(CLOSED, raised)], [{"x"}])
    assert found is ours
    assert (tried, told) == ([2], [])


def test_a_mistake_of_the_program_comes_as_it_is_after_some_tries() -> None:
    mistake = failed(ZeroDivisionError("division by zero"))
    found, tried, told = trained([mistake] * 3, [{"x"}] * 4)
    assert found is mistake
    assert len(tried) == MOST_FAULTS + 1
    assert {why for _, _, why in told} == {"division by zero"}


def test_workers_that_cannot_be_started_are_told_with_the_way_out() -> None:
    error = ControllerError(TimeoutError("no room for 2 workers"))
    found, _, _ = trained([error] * 3, [{"x"}] * 4, room=2)
    assert isinstance(found, StalledError)
    assert str(found) == (
        "workers could not be started (3 times): no room for 2 workers. What is committed stays, "
        "run the same command again to go on"
    )
