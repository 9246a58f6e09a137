"""Work in pieces, done in this process or, by `ray_tasks`, on Ray."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol


class Each(Protocol):
    """Calls `function(shared, item)` for every item, in this process or elsewhere."""

    def __call__(
        self, function: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]
    ) -> Iterator[tuple[Any, Any]]:
        """Every item with its result, in the order they finish."""


def here(
    function: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]
) -> Iterator[tuple[Any, Any]]:
    """`Each` in this process, one after the other."""
    for item in items:
        yield item, function(shared, item)
