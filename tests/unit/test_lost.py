"""What a driver tells of errors that came from workers."""

import pytest
from ray.exceptions import ActorDiedError, RayTaskError, WorkerCrashedError
from ray.train import WorkerGroupError

from audioflow.engine.lost import in_our_words
from audioflow.errors import InputError, LostWorkersError, StorageError, cause_of

ADVICE = "\nFailed to apply UDF transform after 1/1 attempts"


def told(error: Exception) -> Exception:
    expected = (LostWorkersError, StorageError, ZeroDivisionError)
    with pytest.raises(expected) as caught, in_our_words():
        raise error
    return caught.value


def from_worker(cause: Exception) -> Exception:
    """As Ray gives what a task raised."""
    return RayTaskError("task", "traceback", cause).as_instanceof_cause()


def test_an_error_of_ours_comes_as_it_was_raised() -> None:
    error = told(from_worker(StorageError("no room; set TMPDIR" + ADVICE)))
    assert type(error) is StorageError
    assert str(error) == "no room; set TMPDIR"


def test_what_a_worker_raised_is_told_without_the_traceback_of_ray() -> None:
    raised = from_worker(InputError("head knn has k 5, but there are 3 training vectors"))
    assert isinstance(raised, InputError)  # as well: Ray makes a class of both
    found = cause_of(raised)
    assert type(found) is InputError
    assert str(found) == "head knn has k 5, but there are 3 training vectors"
    other = ZeroDivisionError("no error of ours")
    assert cause_of(other) is other


@pytest.mark.parametrize("lost", [WorkerCrashedError(), ActorDiedError()])
def test_lost_workers_are_told_with_the_way_out(lost: Exception) -> None:
    outer = RuntimeError("Ray Data failed")
    outer.__cause__ = lost
    error = told(outer)
    assert isinstance(error, LostWorkersError)
    assert "more often than they are replaced (8 times)" in str(error)
    assert "run the same command again" in str(error)


def test_what_one_of_several_workers_raised_counts_more_than_that_others_were_lost() -> None:
    ours = StorageError("no room; set TMPDIR")
    one = from_worker(ours)
    assert told(WorkerGroupError("training", {0: ActorDiedError(), 1: one})) is ours
    error = told(WorkerGroupError("training", {0: ActorDiedError()}))
    assert isinstance(error, LostWorkersError)


def test_an_actor_that_cannot_be_made_is_a_mistake_in_the_program() -> None:
    lost = ActorDiedError(RayTaskError("__init__", "traceback", ValueError("no such thing")))
    outer = ZeroDivisionError("as it came")
    outer.__cause__ = lost
    assert told(outer) is outer


def test_a_mistake_in_the_program_stays_what_it_is() -> None:
    mistake = ZeroDivisionError("division by zero")
    assert told(mistake) is mistake
