"""The rows of work items, handed out one by one while they are asked for.

A row has the ids and places of the clips of a shard. All rows of a run at once would be gigabytes
on the driver, and in the object store: so nothing but their numbers goes into Ray Data, and whoever
begins with a shard asks for its row. The driver makes it then.
"""

import asyncio
import os
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from audioflow.engine.embed_decode import DecodeTask, decode_shard
from audioflow.engine.embed_pulse import BoardRef, TellingPulse
from audioflow.engine.embed_work import Work
from audioflow.engine.node_names import on_this_node
from audioflow.errors import LostWorkersError

_WAIT_S = 1.0
_ASK_AGAIN_S = 0.5
_AT_ONCE = 1000


class Rowed(Protocol):
    """A work item: what is to be done for it in each table, and the row that travels."""

    @property
    def works(self) -> Mapping[str, Work]: ...

    def row(self, number: int) -> pa.Table:
        """The row of this item, which carries its number."""
        ...


class Rowables(Protocol):
    """Work items by their number, which may be made when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Rowed: ...


@ray.remote(num_cpus=0, max_restarts=3, max_task_retries=-1)
class Desk:
    """Where rows are asked for, and handed in by the driver."""

    def __init__(self) -> None:
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._new: list[int] = []
        self._some = asyncio.Event()

    async def row(self, number: int) -> Any:
        """The row of a number, once the driver has made it."""
        if number not in self._asked:
            self._asked[number] = asyncio.get_running_loop().create_future()
            self._new.append(number)
            self._some.set()
        return await self._asked[number]

    async def asked(self) -> list[int]:
        """Numbers that were asked for since the last time; waits a while for the first of them."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._some.wait(), _WAIT_S)
        self._some.clear()
        found, self._new = self._new, []
        return found

    async def hand_in(self, rows: Mapping[int, Any]) -> None:
        """Rows for those who asked, or the error that kept a row from being made."""
        for number, row in rows.items():
            future = self._asked.pop(number, None)
            if future is None or future.done():
                continue
            if isinstance(row, Exception):
                future.set_exception(row)
            else:
                future.set_result(row)


@dataclass(frozen=True)
class RowsRef:
    """The desk of one execution, known by a name."""

    name: str = field(default_factory=lambda: f"audioflow-rows-{uuid.uuid4().hex}")

    def row(self, number: int) -> pa.Table:
        """The row of a number."""
        found: pa.Table = ray.get(ray.get_actor(self.name).row.remote(number))
        return found


def decode_asked(
    row: pa.Table, rows: RowsRef, task: DecodeTask, board: BoardRef
) -> Iterator[pa.Table]:
    """`decode_shard` as a task of its own, for the number of an item; it tells a board what takes
    it long.

    Where no decoder child lives, its worker ends: Ray gives the tasks of lost workers to others,
    and no others.
    """
    whole = rows.row(row["item"][0].as_py())
    try:
        with on_this_node():
            yield from decode_shard(whole, task, TellingPulse.of(board))
    except LostWorkersError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(1)


@contextmanager
def handing_out(items: Rowables) -> Iterator[RowsRef]:
    """While it lasts, rows of these items can be had, wherever a task is."""
    rows = RowsRef()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    desk = Desk.options(  # type: ignore[attr-defined]
        name=rows.name, scheduling_strategy=here, max_concurrency=_AT_ONCE
    ).remote()
    ended = threading.Event()
    thread = threading.Thread(target=_serve, args=(desk, items, ended), daemon=True)
    thread.start()
    try:
        yield rows
    finally:
        ended.set()
        thread.join()
        ray.kill(desk)


def _serve(desk: Any, items: Rowables, ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            numbers = ray.get(desk.asked.remote())
            if numbers:
                desk.hand_in.remote({number: _row(items, number) for number in numbers})
        except RayError:  # its node is in trouble; it is started again, and asked again
            ended.wait(_ASK_AGAIN_S)


def _row(items: Rowables, number: int) -> Any:
    try:
        return items[number].row(number)
    except Exception as error:  # noqa: BLE001 - raised where it is asked for, else that waits for ever
        return error
