"""What runs inside the decoder child: one recording after the other, in messages of bounded size.

Every message is a pickled pair: `MORE` or `LAST` and a list of parts, or `RAISED` and an exception.
"""

import importlib
import os
import pickle
import resource
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

from audioflow.media.memory import keep_freed_memory
from audioflow.media.parts import Decoder, Part, Wanted
from audioflow.media.spans import Span

MORE, LAST, RAISED = "more", "last", "raised"

_MESSAGE_BYTES = 8 * 2**20
_MESSAGE_PARTS = 4096


def decode(path: str, spans: Sequence[Span], wanted: Wanted) -> Iterator[Part]:
    """What the wanted decoder gives."""
    return _decoder(wanted.decoder).decode(path, spans, wanted)


@cache
def _decoder(entry: str) -> Decoder:
    module, _, name = entry.partition(":")
    plugin = getattr(importlib.import_module(module), name)
    decoder: Decoder = plugin(plugin.Settings())
    return decoder


def serve(tasks: Connection, results: Connection, lifeline: Connection, memory_gb: float) -> None:
    """Do one task after the other until the parent is gone."""
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    _prepare(memory_gb)
    results.send(None)
    while True:
        try:
            task = tasks.recv_bytes()
        except EOFError:
            return
        results.send(None)
        for message in _answers(task):
            results.send_bytes(message)


def _end_with_parent(lifeline: Connection) -> None:
    """End at once when the parent is gone, whatever the decoder is doing."""
    try:
        lifeline.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)


def _prepare(memory_gb: float) -> None:
    """Set the child's limits; it must neither dump core nor write the decoders' chatter."""
    size = int(memory_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()
    import av.logging
    import decord

    av.logging.set_level(av.logging.PANIC)
    decord.logging.set_level(decord.logging.QUIET)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - decord names every file it cannot open
        os.dup2(nowhere.fileno(), 2)


def _answers(pickled: bytes) -> Iterator[bytes]:
    """The messages of one task."""
    try:
        task, args = pickle.loads(pickled)  # noqa: S301 - from the parent
        for kind, parts in _grouped(task(*args)):
            yield pickle.dumps((kind, parts), protocol=pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        yield pickle.dumps((RAISED, MemoryError()))
    except BaseException as error:  # noqa: BLE001 - it is raised again in the parent
        yield _raised(error)


def _grouped(parts: Iterable[Any]) -> Iterator[tuple[str, list[Any]]]:
    group: list[Any] = []
    size = 0
    for part in parts:
        group.append(part)
        size += part.nbytes
        if size >= _MESSAGE_BYTES or len(group) >= _MESSAGE_PARTS:
            yield MORE, group
            group, size = [], 0
    yield LAST, group


def _raised(error: BaseException) -> bytes:
    text = "".join(traceback.format_exception(error))
    error.add_note(f"in the decoder child:\n{text}")
    try:
        data = pickle.dumps((RAISED, error))
        pickle.loads(data)  # noqa: S301 - our own; some exceptions do not come back
    except Exception:  # noqa: BLE001 - of whatever kind
        return pickle.dumps((RAISED, RuntimeError(text)))
    return data
