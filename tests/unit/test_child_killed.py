"""A decoder child, or its forkserver, that is killed from outside: no clip is lost by it."""

import multiprocessing.forkserver
import os
import signal
import threading
import time
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from audioflow.errors import LostWorkersError
from audioflow.media import child as module
from audioflow.media.child import DecoderChild
from audioflow.media.parts import End, SoundPart, Wanted
from audioflow.media.spans import Span
from audioflow.retries import Retrying
from tests.decoders import Sound, collect
from tests.media_files import tone, write_wav
from tests.unit import decoder_tasks as tasks

WANTED = Wanted((16_000,), decoder="tests.unit.decoder_tasks:Killed")
WHOLE = (Span(),)
AT_ONCE = Retrying(attempts=3, first_wait_s=0.0)


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_STARTS", "_KILLED"):
        monkeypatch.setattr(module, name, AT_ONCE)


@pytest.fixture
def child():
    made = DecoderChild(timeout_s=20, memory_gb=1.0)
    yield made
    made.close()


@pytest.fixture
def wav(tmp_path: Path) -> str:
    return str(write_wav(tmp_path / "a.wav", tone()))


def decoded(child: DecoderChild, wav: str, spans=WHOLE) -> list:
    return list(chain.from_iterable(child.decode(wav, spans, WANTED)))


def kill(wav: str, times: int) -> None:
    """Have the child killed so many times while it is at this file."""
    Path(f"{wav}.kills").write_text(str(times))


def end_server() -> None:
    """Kill the forkserver, of which the children go on."""
    pid = multiprocessing.forkserver._forkserver._forkserver_pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_a_clip_whose_child_is_killed_is_tried_again(child, wav):
    kill(wav, 2)
    (clip,) = collect(decoded(child, wav), 1, WANTED)
    assert isinstance(clip.sound, Sound)


def test_what_was_given_before_a_kill_is_not_given_again(child, wav):
    spans = [Span(0.0, 0.25), Span(0.4, 0.25), Span(0.7, 0.25)]
    undisturbed = decoded(child, wav, spans)
    kill(wav, 1)
    messages = list(child.decode(wav, spans, WANTED))
    again = list(chain.from_iterable(messages))
    assert [(type(part), part.clip, part.source) for part in again] == [
        (type(part), part.clip, part.source) for part in undisturbed
    ]
    for one, other in zip(again, undisturbed, strict=True):
        if isinstance(one, SoundPart):
            assert np.array_equal(one.samples, other.samples)
        else:
            assert one == other
    assert [] in messages, "the caller hears nothing while it is decoded again"


def test_a_clip_whose_child_is_killed_each_time_is_a_failure_that_says_so(child, wav):
    kill(wav, 3)
    (end,) = decoded(child, wav)
    assert isinstance(end, End)
    assert (end.error.error, end.error.attempts) == ("killed", 3)
    assert end.error.reason.startswith("the decoder died of signal SIGKILL (the system may have")
    assert decoded(child, wav)[-1].error is None


def test_a_child_that_dies_after_its_forkserver_is_taken_for_killed(child, wav):
    child.warm()
    end_server()
    kill(wav, 1)
    assert decoded(child, wav)[-1].error is None


def test_a_forkserver_that_is_killed_while_it_starts_a_child_is_started_again(child, wav):
    child.warm()
    child.close()
    pid = multiprocessing.forkserver._forkserver._forkserver_pid
    os.kill(pid, signal.SIGSTOP)  # it accepts who asks for a child, and answers nothing

    def later() -> None:
        time.sleep(0.5)
        os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=later)
    killer.start()
    assert decoded(child, wav)[-1].error is None
    killer.join()


def test_a_forkserver_that_is_killed_each_time_is_a_lost_worker(child, wav, monkeypatch):
    tries = []

    def start(memory_gb: float) -> None:
        tries.append(memory_gb)
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(module, "_start", start)
    with pytest.raises(LostWorkersError, match=r"killed 3 times .* what killed its forkserver"):
        decoded(child, wav)
    assert len(tries) == 3


@pytest.mark.parametrize("kills", [2, 3])
def test_a_child_that_is_killed_before_it_is_ready_is_started_again(
    child, wav, tmp_path, monkeypatch, kills
):
    mark = tmp_path / "kills"
    mark.write_text(str(kills))
    monkeypatch.setattr(module, "serve", partial(tasks.serve_if_not_killed, str(mark)))
    if kills < AT_ONCE.attempts:
        assert decoded(child, wav)[-1].error is None
        return
    with pytest.raises(LostWorkersError, match=r"before one was ready, the last died of .*SIGKILL"):
        decoded(child, wav)
    assert decoded(child, wav)[-1].error is None


def test_children_that_are_killed_before_they_take_a_task_are_lost_workers(child, wav, monkeypatch):
    monkeypatch.setattr(module, "serve", tasks.take_no_task)
    with pytest.raises(LostWorkersError, match=r"killed 3 times in a row before one took a task"):
        decoded(child, wav)
