"""Which Ray is joined: what is named is, and nothing else is begun instead."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from audioflow.engine.joining import NoRayError, joined
from audioflow.engine.session import Session
from audioflow.errors import InputError
from audioflow.recipe import RaySection
from tests.conftest import free_port

SETTLED = """
import os, sys
from audioflow.engine.run import Run
from audioflow.engine.session import Session
from audioflow.recipe import RaySection
Session(RaySection(address=sys.argv[1]))
print(os.environ["RAY_AUTH_MODE"], "ray" in sys.modules)
"""


@pytest.mark.parametrize(
    ("address", "token", "mode"),
    [
        ("auto", True, "token"),
        ("head:6379", True, "token"),
        ("auto", False, "disabled"),
        ("local", True, "disabled"),
    ],
)
def test_the_mode_of_authentication_is_settled_before_ray_reads_it(
    tmp_path: Path, address: str, token: bool, mode: str
) -> None:
    (tmp_path / ".ray").mkdir()
    if token:
        (tmp_path / ".ray" / "auth_token").write_text("0123456789")
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    command = [sys.executable, "-c", SETTLED, address]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=env | {"HOME": str(tmp_path)}
    )
    assert done.stdout.split() == [mode, "False"]


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ray.init` is not come to."""

    def begun(*arguments: object, **named: object) -> None:
        raise AssertionError("a Ray was begun")

    monkeypatch.setattr("ray.init", begun)


def test_what_the_environment_names_is_joined_or_told(
    no_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with pytest.raises(NoRayError, match=r"127.0.0.1:\d+ \(RAY_ADDRESS\): Connection refused"):
        joined("auto")
    with (
        pytest.raises(InputError, match=r"ray.address is 'auto', and no Ray answers at 127.0.0.1"),
        Session(RaySection()) as session,
    ):
        session.ensure()
    with socket.create_server(("127.0.0.1", 0)) as dashboard:
        monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{dashboard.getsockname()[1]}")
        with pytest.raises(NoRayError, match="address of a dashboard, where `audioflow submit`"):
            joined("auto")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert not joined("auto")


@pytest.mark.parametrize(
    ("mode", "hint"),
    [("token", "has RAY_AUTH_TOKEN, or"), ("disabled", "asks for a token, set it to token")],
)
def test_a_ray_that_lets_nobody_in_is_not_taken_for_none(
    monkeypatch: pytest.MonkeyPatch, mode: str, hint: str
) -> None:
    def refused(*arguments: object, **named: object) -> None:
        raise ConnectionError("Failed to connect\nat all")

    monkeypatch.setattr("ray.init", refused)
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("audioflow.engine.joining._current", lambda: "")
    assert not joined("auto"), "there is none"
    with socket.create_server(("127.0.0.1", 0)) as head:
        there = f"127.0.0.1:{head.getsockname()[1]}"
        monkeypatch.setattr("audioflow.engine.joining._current", lambda: there)
        for address in ("auto", there):
            with pytest.raises(NoRayError, match=rf"{there}: Failed to connect \(.*{hint}"):
                joined(address)
    assert not joined("auto"), "one that has ended leaves its address behind"
