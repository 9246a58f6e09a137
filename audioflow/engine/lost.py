"""Errors of Ray, told in our words: ours that a worker raised, and workers that were lost."""

from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayTaskError,
    WorkerCrashedError,
)

from audioflow.errors import AudioflowError, LostWorkersError

RETRIES = 8
"""How often a task is tried again, or an actor started again, whose worker or node was lost."""

_UNMADE = "an error raised in its creation task"

_ADVICE = "\nFailed to apply UDF transform"

LOST = (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    WorkerCrashedError,
)


@contextmanager
def in_our_words() -> Iterator[None]:
    """Raise what a worker raised on purpose as it was, and `LostWorkersError` for lost workers."""
    try:
        yield
    except Exception as error:  # Ray Data has some of its own, with the cause inside
        if (ours := ours_in(error)) is not None:
            ours.args = tuple(map(_own_words, ours.args))
            raise ours from error
        for cause in causes_of(error):
            if isinstance(cause, LOST):
                told = str(cause).strip().splitlines()[0]
                if _UNMADE in told:
                    raise  # an actor that cannot be made is a mistake in the program
                raise LostWorkersError(
                    f"workers were lost more often than they are replaced ({RETRIES} times): "
                    f"{told} What is committed stays, run the same command again to go on"
                ) from error
        raise


def ours_in(error: BaseException) -> AudioflowError | None:
    """What a worker raised on purpose, if that led to an error."""
    for cause in causes_of(error):
        if isinstance(cause, AudioflowError) and not isinstance(cause, RayTaskError):
            return cause
    return None


def _own_words(text: object) -> object:
    """What we said, without the advice on its own retries that Ray Data adds to it."""
    return text.partition(_ADVICE)[0] if isinstance(text, str) else text


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that led to it, also on other machines and on several at once."""
    seen: set[int] = set()
    todo = [error]
    while todo:
        cause = todo.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        todo += [cause.__cause__, getattr(cause, "cause", None)]
        todo += [getattr(cause, "controller_failure", None)]  # of Ray Train, as are these
        todo += getattr(cause, "worker_failures", {}).values()
