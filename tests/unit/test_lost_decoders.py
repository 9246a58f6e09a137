"""Shards whose worker finds no decoder child alive: others get them, as those of lost workers."""

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from ray.exceptions import RayTaskError

from audioflow.engine import embed_deal, embed_rows
from audioflow.engine.embed_work import Done
from audioflow.engine.lost import RETRIES, in_our_words
from audioflow.errors import LostWorkersError

LOST = LostWorkersError("decoder children were killed 6 times in a row")


class Worker:
    """An actor that has lost its decoders so many times; calls are made when they are asked for."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.ready = SimpleNamespace(remote=lambda: lambda: None)
        self.do = SimpleNamespace(remote=lambda row: lambda: self._do(row))

    def _do(self, row: int) -> Done:
        if self.times:
            self.times -= 1
            raise RayTaskError("do", "Traceback\n of the worker", LOST).as_instanceof_cause()
        return Done({})


def dealt(monkeypatch: pytest.MonkeyPatch, times: int) -> tuple[set[int], list[tuple[Any, ...]]]:
    """Which of three items are done, and what is told of losses."""
    monkeypatch.setattr(embed_deal.ray, "wait", lambda refs, timeout: (refs[:1], refs[1:]))
    monkeypatch.setattr(embed_deal.ray, "get", lambda ref: ref())
    told: list[tuple[Any, ...]] = []
    deal = embed_deal.Deal(
        [Worker(times), Worker(0)],
        3,
        lambda number: number,
        lambda *loss: told.append(loss),
        began=int,
        tell=str,
    )
    done: set[int] = set()
    while deal.left:
        done |= {number for number, _ in deal.finished()}
    return done, told


def test_a_shard_whose_worker_lost_its_decoders_is_given_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done, told = dealt(monkeypatch, times=2)
    assert done == {0, 1, 2}
    assert [why for _, _, why in told] == [str(LOST)] * 2


def test_decoders_that_are_lost_too_often_end_the_job_in_our_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embed_deal, "RETRIES", 0)
    with pytest.raises(LostWorkersError) as caught, in_our_words():
        dealt(monkeypatch, times=RETRIES)
    assert str(caught.value) == str(LOST)


def test_a_decode_task_without_decoders_ends_its_worker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without(*_: Any) -> Any:
        yield "a part"
        raise LOST

    def ended(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(embed_rows, "decode_shard", without)
    monkeypatch.setattr(embed_rows, "TellingPulse", SimpleNamespace(of=lambda board: None))
    monkeypatch.setattr(embed_rows.os, "_exit", ended)
    rows: Any = SimpleNamespace(row=lambda number: number)
    task = embed_rows.decode_asked(pa.table({"item": [0]}), rows, None, None)  # type: ignore[arg-type]
    assert next(task) == "a part"
    with pytest.raises(SystemExit, match="1"):
        next(task)
    assert str(LOST) in capsys.readouterr().err
