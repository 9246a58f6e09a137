"""Systems that are trained side by side: one that fails, and an end by Ctrl-C."""

import threading

import pytest

from audioflow.engine.train_fits import side_by_side


def never() -> None:
    raise AssertionError("nothing was interrupted")


def test_where_one_fails_the_others_go_on_and_it_is_told_at_once() -> None:
    told = threading.Event()
    errors: dict[str, BaseException] = {}

    def bad() -> str:
        raise ValueError("of bad")

    def good() -> str:
        assert told.wait(30), "it was told only when all were done"
        return "made"

    def failed(name: str, error: BaseException) -> None:
        errors[name] = error
        told.set()

    assert side_by_side({"bad": bad, "good": good}, never, failed) == {"good": "made"}
    assert list(errors) == ["bad"]
    assert str(errors["bad"]) == "of bad"


def test_an_interrupt_ends_what_runs_and_begins_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("audioflow.engine.train_fits._MOST_AT_ONCE", 2)
    begun: list[str] = []
    ended = threading.Event()

    def short() -> None:
        begun.append("short")
        raise ValueError

    def long() -> None:
        begun.append("long")
        assert ended.wait(30), "nobody ended it"

    def interrupted(name: str, error: BaseException) -> None:
        raise KeyboardInterrupt

    works = {"short": short, "long": long} | {f"{number}": long for number in range(50)}
    with pytest.raises(KeyboardInterrupt):
        side_by_side(works, ended.set, interrupted)
    assert ended.is_set()
    assert len(begun) < len(works)


def test_nothing_to_do_is_done() -> None:
    assert side_by_side({}, never, lambda name, error: None) == {}
