"""What reading and finding weights raises, and how much a file may claim to hold."""

from collections.abc import Iterable

from audioflow.errors import AudioflowError

MOST_BYTES = 16 * 2**30
"""No weight file of a network here is larger; one that claims to be is damaged or hostile."""

_SHOWN = 6


class WeightsError(AudioflowError):
    """A weight file is missing, damaged, of another network, or not what was published."""

    exit_code = 4


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more


def refuse_too_large(what: str, claimed_bytes: int) -> None:
    """Raises `WeightsError` before memory is taken for more than any network needs."""
    fault = too_large(claimed_bytes)
    if fault:
        raise WeightsError(f"{what} {fault}")


def too_large(claimed_bytes: int) -> str:
    """What is wrong with a number of bytes that a file claims to hold; "" where nothing is."""
    if 0 <= claimed_bytes <= MOST_BYTES:
        return ""
    return (
        f"claims to hold {claimed_bytes} bytes; a weight file holds at most {MOST_BYTES}: it is "
        "damaged, or was made to exhaust this machine"
    )
