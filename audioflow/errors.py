"""Every exception audioflow raises on purpose, in one tree.

The text of an error holds the value that was wrong, what was expected and the way out. `exit_code`
is what the command line returns when the error reaches it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ERROR_CLASSES = (
    "not_found",
    "permission",
    "empty",
    "not_media",
    "no_audio",
    "no_video",
    "truncated",
    "unsupported",
    "too_short",
    "too_long",
    "timeout",
    "crashed",
    "killed",
    "out_of_memory",
    "network",
    "refused",
    "no_scores",
    "internal",
)
"""The closed set of reasons for which a clip may fail (column `error` of a failures table)."""


_MOST_SHOWN = 80


class AudioflowError(Exception):
    """Base of all audioflow errors."""

    exit_code = 1


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a recipe: where it stands, what stood there and what may stand there."""

    key: str
    problem: str
    value: object = None
    allowed: str = ""
    nearest: str = ""
    place: str = ""

    def __str__(self) -> str:
        text = f"{self.place}: " if self.place else ""
        text += f"{self.key}: {self.problem}"
        if self.allowed:
            text += f"; allowed: {self.allowed}"
        if self.nearest:
            text += f"; did you mean {self.nearest!r}?"
        return text


def shown(value: object) -> str:
    """A value of a recipe as a message shows it: texts in quotes, the rest as YAML, shortened."""
    if isinstance(value, str):
        text = repr(value)
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {shown(item)}" for key, item in value.items()) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(map(shown, value)) + "]"
    else:
        text = {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 4]} ..."


class RecipeError(AudioflowError):
    """The recipe or the command line is wrong. `faults` lists everything found, not the first."""

    exit_code = 2

    def __init__(self, source: str, faults: Sequence[Fault]) -> None:
        self.source = source
        self.faults = tuple(faults)
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        lines = "\n".join(f"  - {fault}" for fault in self.faults)
        super().__init__(f"{source}: {count}\n{lines}")

    def __reduce__(self) -> tuple[type["RecipeError"], tuple[str, tuple[Fault, ...]]]:
        return RecipeError, (self.source, self.faults)


class InputError(AudioflowError):
    """The input is missing or unreadable as a whole: a root, a list of clips, a parent table."""

    exit_code = 4


class ClusterError(AudioflowError):
    """The cluster cannot give what the recipe asks for: CPUs, GPUs, memory, labels."""

    exit_code = 2


class StorageError(AudioflowError):
    """A folder of the run cannot be written or cleared."""


class TooManyFailures(AudioflowError):
    """The job is done, but a larger share of clips failed than the recipe allows."""

    exit_code = 3


class TableError(AudioflowError):
    """A table is not what its reader needs: incomplete, damaged, of another schema or parents."""

    exit_code = 4


class StalledError(AudioflowError):
    """Nothing moved for longer than the limit; the state on disk can be resumed."""


class LostWorkersError(AudioflowError):
    """Workers or nodes were lost more often than they are replaced; the state can be resumed."""


class StoppedError(AudioflowError):
    """A person or the system asked the job to stop; the state on disk can be resumed."""


class Terminated(KeyboardInterrupt):
    """The process was told to end by a signal; the state on disk can be resumed.

    As Ctrl-C it is no `Exception`: what copes with errors, here and in libraries, lets it through.
    """


class MediaError(AudioflowError):
    """A clip or recording gave no result: `error`, one of `ERROR_CLASSES`, because of `reason`.

    `attempts` is how often it was tried, where a store was slow or away.
    """

    def __init__(self, error: str, reason: str, attempts: int = 1) -> None:
        if error not in ERROR_CLASSES:
            raise ValueError(f"error class {error!r} is not one of {', '.join(ERROR_CLASSES)}")
        self.error = error
        self.reason = reason
        self.attempts = attempts
        super().__init__(f"{error}: {reason}")

    def __reduce__(self) -> tuple[type["MediaError"], tuple[str, str, int]]:
        return MediaError, (self.error, self.reason, self.attempts)


def cause_of(error: BaseException) -> BaseException:
    """The error of ours inside what a framework raised, or what it raised."""
    inner: BaseException | None = error
    while inner is not None:
        cause = getattr(inner, "cause", None)
        # What Ray raises is of the class of its cause, with the traceback as its text.
        if isinstance(inner, AudioflowError) and not isinstance(cause, AudioflowError):
            return inner
        inner = cause or inner.__cause__
    return error
