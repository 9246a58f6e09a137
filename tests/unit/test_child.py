"""The decoder child: hang, crash or too much memory cost one recording, and nothing is left."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from audioflow.errors import MediaError
from audioflow.media.child import DecoderChild
from audioflow.media.parts import End, FrameSampling, SoundPart, Wanted
from audioflow.media.spans import Span
from tests.conftest import ROOT
from tests.decoders import ClipMedia, Sound, collect, decode_recording
from tests.media_files import numbered_frames, tone, write_media, write_wav
from tests.unit import decoder_tasks as tasks

SAMPLING = FrameSampling(3, 64)
BOTH = Wanted((16_000,), (SAMPLING,))
WHOLE = [Span()]
HARMFUL = replace(BOTH, decoder="tests.decoders:Segfaulting")


@pytest.fixture
def child():
    made = DecoderChild(timeout_s=20, memory_gb=1.0)
    yield made
    made.close()


@pytest.fixture
def wav(tmp_path) -> str:
    return str(write_wav(tmp_path / "a.wav", tone()))


def call(child: DecoderChild, task, *args, limit_s: float = 20):
    """What a task gives, when it gives one thing."""
    (message,) = chain.from_iterable(child._run(limit_s, task, args))
    return message.value


def through(child: DecoderChild, path, spans=WHOLE, wanted=BOTH) -> list[ClipMedia]:
    parts = chain.from_iterable(child.decode(str(path), spans, wanted))
    return collect(parts, len(spans), wanted)


def harmed(child: DecoderChild, wav: str, name: str, count: int = 1) -> list[ClipMedia]:
    """What comes of a file of this name, by a decoder that does what the name says."""
    path = Path(wav).with_name(name)
    path.write_bytes(Path(wav).read_bytes())
    return through(child, path, [Span()] * count, HARMFUL)


def error_of(clips: list[ClipMedia]) -> MediaError:
    """The one error that stands for everything of every clip."""
    errors = {clip.sound for clip in clips} | {clip.pictures[SAMPLING] for clip in clips}
    assert len({(error.error, error.reason) for error in errors}) == 1
    return errors.pop()


def still_decodes(child: DecoderChild, wav: str) -> bool:
    return isinstance(through(child, wav)[0].sound, Sound)


def gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(condition, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# One recording at a time


def test_a_child_decodes_as_the_caller_would(tmp_path, child):
    path = write_media(tmp_path / "a.mp4", sound_CN=tone(), frames=numbered_frames(10))
    spans = [Span(0.0, 0.5), Span(2.0, 0.5)]
    (good, late), (near, past) = (
        through(child, path, spans),
        decode_recording(str(path), spans, BOTH),
    )
    assert np.array_equal(good.sound.waveforms[16_000], near.sound.waveforms[16_000])
    assert np.array_equal(good.pictures[SAMPLING].frames, near.pictures[SAMPLING].frames)
    assert (late.sound.error, late.sound.reason) == (past.sound.error, past.sound.reason)


def test_only_what_is_wanted_is_decoded(child, wav):
    assert through(child, wav, wanted=Wanted((), ())) == [ClipMedia(None, {})]


def test_calls_go_to_the_same_process(child):
    assert call(child, tasks.pid) == call(child, tasks.pid) != os.getpid()


def test_the_child_has_its_limits(child):
    assert call(child, tasks.limits) == (0, 2**30, True)


# What goes wrong


@pytest.mark.parametrize("task", [tasks.hang, tasks.hang_deaf])
def test_a_hang_is_ended_at_its_time_limit(child, wav, task):
    child.warm()
    pid, started = call(child, tasks.pid), time.monotonic()
    with pytest.raises(MediaError, match=r"timeout: decoding took longer than 0\.3 s"):
        call(child, task, limit_s=0.3)
    assert 0.3 <= time.monotonic() - started < 5
    assert gone(pid)
    assert still_decodes(child, wav)


def test_the_time_limit_counts_for_each_message(child):
    messages = child._run(1.0, tasks.pause_between, (0.4, 5))
    assert [part.value for parts in messages for part in parts] == list(range(5))


def test_the_time_limit_grows_with_the_clips_of_a_recording(wav):
    seen = []

    class Spy(DecoderChild):
        def _run(self, limit_s, *_args):
            seen.append(limit_s)
            return []

    spy = Spy(timeout_s=2, memory_gb=1)
    list(spy.decode(wav, [Span(), Span(), Span()], BOTH))
    list(spy.decode(wav, [], BOTH))
    assert seen == [6, 2]


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (tasks.segfault, "crashed: the decoder died of signal SIGSEGV"),
        (tasks.leave, "crashed: the decoder died of exit code 7"),
    ],
)
def test_a_crash_names_what_the_decoder_died_of(child, wav, task, reason):
    with pytest.raises(MediaError, match=reason):
        call(child, task)
    assert still_decodes(child, wav)


def test_a_crash_is_the_end_of_every_clip(child, wav):
    error = error_of(harmed(child, wav, "segfault.wav", 3))
    assert (error.error, error.reason) == ("crashed", "the decoder died of signal SIGSEGV")
    assert still_decodes(child, wav)


def test_a_hang_is_the_end_of_every_clip(wav):
    impatient = DecoderChild(timeout_s=0.5, memory_gb=1.0)
    impatient.warm()
    assert isinstance(harmed(impatient, wav, "fine.wav", 8)[0].sound, Sound)
    error = error_of(harmed(impatient, wav, "hang.wav", 2))
    assert error.error == "timeout"
    assert "decoding took longer than 1 s (embed.decode_timeout_s" in error.reason
    assert still_decodes(impatient, wav)
    impatient.close()


def test_a_bomb_is_out_of_memory(child, wav):
    error = error_of(harmed(child, wav, "bomb.wav"))
    assert error.error == "out_of_memory"
    assert error.reason == "decoding needs more than 1 GB (embed.decode_memory_gb)"
    assert still_decodes(child, wav)


@pytest.mark.parametrize(
    ("harm", "error"), [("segfault", "crashed"), ("hang", "timeout"), ("bomb", "out_of_memory")]
)
def test_clips_that_ended_before_a_crash_are_kept(wav, harm, error):
    child = DecoderChild(timeout_s=1.0 if harm == "hang" else 30.0, memory_gb=1.0)
    path = Path(wav).with_name(f"late {harm}.wav")
    path.write_bytes(Path(wav).read_bytes())
    wanted = replace(HARMFUL, samplings=())
    spans = [Span(0.0, 0.25), Span(0.5, 0.25)]
    parts = [part for parts in child.decode(str(path), spans, wanted) for part in parts]
    first, second = [part for part in parts if isinstance(part, End)]
    assert (first.clip, first.error, first.coverage) == (0, None, 1.0)
    assert (second.clip, second.error.error) == (1, error)
    assert any(isinstance(part, SoundPart) and part.source == 16_000 for part in parts)
    child.close()


def test_a_decoder_that_forgets_a_clip_is_found_out(child, wav):
    forgetful = Wanted((16_000,), decoder="tests.unit.decoder_tasks:Forgetful")
    first, second = child.decode(wav, [Span(), Span()], forgetful)
    assert [part.error for part in first if isinstance(part, End)] == [None]
    (end,) = second
    assert (end.clip, end.error.error) == (1, "internal")


def test_too_much_memory_ends_the_child_and_the_next_one_has_all_of_it(child, wav):
    with pytest.raises(MemoryError):
        call(child, tasks.take_memory, 2**31)
    assert call(child, tasks.take_memory, 2**28) == 2**28
    assert still_decodes(child, wav)


def test_a_message_that_needs_too_much_memory_fails_too(child):
    with pytest.raises(MemoryError):
        call(child, tasks.answer_with, 7 * 2**27)


# Messages


def test_parts_come_in_messages_of_bounded_size(child):
    messages = list(child._run(20, tasks.count_to, (20, 2**21)))
    assert [[part.value for part in parts] for parts in messages] == [
        *([first, first + 1, first + 2, first + 3] for first in range(0, 20, 4)),
        [],
    ]


def test_a_short_clip_is_one_message(child, wav):
    assert len(list(child.decode(wav, [Span()], BOTH))) == 1


def test_a_caller_that_takes_no_more_ends_the_child(child, wav):
    pid = call(child, tasks.pid)
    messages = child._run(20, tasks.count_to, (100, 2**23))
    assert [part.value for part in next(messages)] == [0]
    messages.close()
    assert gone(pid)
    assert still_decodes(child, wav)


def test_a_caller_that_takes_no_more_after_the_last_message_keeps_the_child(child, wav):
    pid = call(child, tasks.pid)
    messages = child.decode(wav, [Span()], BOTH)
    next(messages)
    messages.close()
    assert call(child, tasks.pid) == pid


def test_pictures_too_large_for_the_memory_limit_are_out_of_memory(tmp_path):
    path = write_media(tmp_path / "a.mp4", frames=numbered_frames(3, 4096, 3072))
    small = DecoderChild(timeout_s=20, memory_gb=0.17)
    (clip,) = through(small, path, wanted=Wanted((), (SAMPLING,)))
    small.close()
    assert clip.pictures[SAMPLING].error == "out_of_memory"


def test_large_answers_come_whole(child):
    assert len(call(child, tasks.answer_with, 50_000_000)) == 50_000_000


def test_a_bug_is_raised_and_says_where_it_was(child, wav):
    with pytest.raises(ZeroDivisionError, match="a bug of the decoder") as caught:
        call(child, tasks.fail)
    assert "in fail" in caught.value.__notes__[0]
    assert still_decodes(child, wav)


def test_a_bug_that_looks_like_a_closed_pipe_is_no_crash(child):
    with pytest.raises(EOFError, match="of the task itself"):
        call(child, tasks.fail_like_a_closed_pipe)


def test_a_bug_whose_exception_cannot_travel_is_raised_as_text(child):
    with pytest.raises(RuntimeError, match="Unpicklable: 1 and 2"):
        call(child, tasks.fail_without_return)


def test_a_child_that_dies_between_calls_costs_no_recording(child, wav):
    pid = call(child, tasks.pid)
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: gone(pid))
    assert still_decodes(child, wav)


def test_ctrl_c_in_the_caller_leaves_no_answer_for_the_next_call(child, monkeypatch):
    child.warm()
    pid = call(child, tasks.pid)

    def interrupt(limit_s):
        if limit_s == 17:
            raise KeyboardInterrupt
        return True

    monkeypatch.setattr(child._running.results, "poll", interrupt, raising=False)
    with pytest.raises(KeyboardInterrupt):
        call(child, tasks.answer_with, 5, limit_s=17)
    assert gone(pid)
    assert call(child, tasks.take_memory, 3) == 3


def test_closing_ends_the_child_and_may_be_done_twice(child):
    pid = call(child, tasks.pid)
    child.close()
    child.close()
    assert gone(pid)


def test_a_task_that_the_child_cannot_import_is_a_bug_and_no_failed_recording(child, wav):
    def local() -> None:
        """Nothing outside this test can find it."""

    with pytest.raises((AttributeError, RuntimeError), match="local"):
        call(child, local)
    with pytest.raises(ValueError, match="invalid literal for int"):
        call(child, tasks.pid, tasks.NotInTheChild())
    assert still_decodes(child, wav)


def test_two_children_do_not_share_a_process(child):
    other = DecoderChild(timeout_s=20, memory_gb=1.0)
    assert call(other, tasks.pid) != call(child, tasks.pid)
    other.close()
    assert call(child, tasks.take_memory, 1) == 1


# Nothing is left behind


def start_parent(tmp_path: Path, body: str, guard: bool = True) -> subprocess.Popen[str]:
    """A Python program of its own that uses a child."""
    script = tmp_path / "parent.py"
    lines = "if __name__ == '__main__':\n" + textwrap.indent(body, "    ") if guard else body
    script.write_text(
        "import multiprocessing.forkserver, os, sys\n"
        "from audioflow.media.child import DecoderChild\n"
        "from tests.unit import decoder_tasks as tasks\n" + lines
    )
    return subprocess.Popen(
        [sys.executable, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


BUSY = """
child = DecoderChild(60, 1)
pid = next(child._run(20, tasks.pid, ()))[0].value
print(pid, multiprocessing.forkserver._forkserver._forkserver_pid, flush=True)
"""


@pytest.mark.parametrize(
    "then",
    ["sys.stdin.read()", "list(child._run(600, tasks.hang_deaf, ()))"],
    ids=["idle", "busy"],
)
def test_child_and_server_end_when_the_parent_is_killed(tmp_path, then):
    with start_parent(tmp_path, BUSY + then) as parent:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2, parent.stderr.read()
        assert not any(gone(pid) for pid in pids)
        parent.kill()
    left = [] if wait_until(lambda: all(gone(pid) for pid in pids)) else pids
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_a_program_that_forgets_to_close_ends_and_leaves_nothing(tmp_path):
    parent = start_parent(tmp_path, BUSY)
    out, err = parent.communicate(timeout=60)
    assert (parent.returncode, err) == (0, "")
    assert wait_until(lambda: all(gone(int(pid)) for pid in out.split()))


def test_a_script_without_a_main_guard_is_told_so_and_does_not_hang(tmp_path):
    parent = start_parent(tmp_path, BUSY, guard=False)
    _, err = parent.communicate(timeout=60)
    assert parent.returncode == 1
    assert "if __name__ == '__main__'" in err
    assert "RuntimeError: the decoder child could not start, it died of exit code 1" in err
