"""What `audioflow submit` makes of its arguments, and of what a cluster says; no cluster here."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import s3fs

from audioflow.cli import main
from audioflow.engine.dashboard import dashboard_url, said
from audioflow.engine.submit import Outcome, Parcel, _Stream, largest, refused
from audioflow.errors import InputError, RecipeError
from audioflow.submit_cli import SubmitCommand, entrypoint_of, submit
from tests.conftest import free_port


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a recipe, which is no checkout."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "vögel 1.yaml").write_text("run_dir: runs/x\n")
    return tmp_path


def test_the_driver_is_the_script_of_a_checkout_or_the_installed_command(folder: Path) -> None:
    recipe = str(folder / "configs" / "vögel 1.yaml")
    command = SubmitCommand(recipe, ["embed.clips_per_shard=4"], "embed", retry_failed=True)
    rest = ["configs/vögel 1.yaml", "embed.clips_per_shard=4", "--retry-failed"]
    assert entrypoint_of(command, folder) == ["audioflow", "embed", *rest]
    (folder / "jobs").mkdir()
    (folder / "jobs" / "embed.py").touch()
    assert entrypoint_of(command, folder) == ["python", "jobs/embed.py", *rest]


def test_a_recipe_in_a_bucket_stays_where_it_is(folder: Path) -> None:
    command = SubmitCommand("s3://bucket/a.yaml")
    assert entrypoint_of(command, folder) == ["audioflow", "run", "s3://bucket/a.yaml"]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (SubmitCommand("s3://b/a.yaml", job="emded"), "--job: 'emded' is no job; allowed: manif"),
        (
            SubmitCommand("s3://b/a.yaml", job="score", retry_failed=True),
            "--retry-failed: does not go with --job score; allowed: --job embed, --job run",
        ),
        (SubmitCommand("nowhere.yaml"), "nowhere.yaml: 1 fault\n.*does not exist"),
        (SubmitCommand(__file__), "test_submit.py lies outside of .*, which is what is sent"),
    ],
)
def test_what_cannot_be_sent_is_refused(folder: Path, command: SubmitCommand, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        entrypoint_of(command, folder)
    with pytest.raises(RecipeError, match=f"--folder: {folder}/none is no folder"):
        entrypoint_of(SubmitCommand("s3://b/a.yaml"), folder / "none")


@pytest.mark.parametrize("name", ["a b/x", "../x", "a b", "-x", "", ".", "x" * 129, "vögel"])
def test_a_name_that_a_cluster_cannot_have_is_refused_before_anything(
    name: str, folder: Path
) -> None:
    command = SubmitCommand("s3://b/a.yaml", folder=str(folder), name=name)
    with pytest.raises(RecipeError, match=f"--id: {name!r} is no name of a job; allowed: 128 let"):
        submit(command)
    entrypoint_of(replace(command, name="Birds_2024.06-30"), folder)


class Interrupted:
    """The jobs of a cluster, for somebody who presses Ctrl-C twice."""

    address = "http://head:8265"

    def __init__(self, address: str | None) -> None:
        pass

    def submit(self, parcel: Parcel, name: str | None) -> str:
        return str(name)

    def command(self, words: str, name: str) -> str:
        return f"ray job {words} {name}"

    def follow(self, name: str, say: object) -> Outcome:
        raise KeyboardInterrupt

    def stop(self, name: str) -> Outcome:
        raise KeyboardInterrupt


def test_who_does_not_wait_until_the_job_has_ended_is_told_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("audioflow.engine.submit.Jobs", Interrupted)
    asked = ["submit", "s3://b/a.yaml", "--no-check", "--id", "birds", "--folder", str(folder)]
    with pytest.raises(SystemExit, match="1"):
        main([*asked, "--stop-on-interrupt"])
    told = capsys.readouterr().err
    assert "stopped while the job birds was being ended; how it is: ray job status birds" in told
    assert "what ends it: ray job stop birds; what is committed stays, run the same com" in told


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, "http://127.0.0.1:8265"),
        ("auto", "http://127.0.0.1:8265"),
        ("head", "http://head:8265"),
        ("10.0.0.1:26000", "http://10.0.0.1:26000"),
        ("http://head/", "http://head:8265"),
        ("https://ray.example.org/birds/", "https://ray.example.org/birds"),
        ("[::1]", "http://[::1]:8265"),
        ("head:8265/", "http://head:8265"),
        ("head/birds/", "http://head:8265/birds"),
        ("HTTP://head:8265/#/jobs", "http://head:8265"),
        ("http://head:8265/?a=1", "http://head:8265"),
        ("https://head:8443/", "https://head:8443"),
        (" head ", "http://head:8265"),
    ],
)
def test_an_address_is_taken_in_every_usual_form(
    given: str | None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert dashboard_url(given) == url


def test_an_address_of_something_else_is_refused() -> None:
    wrong = ("http://", "http://head:82a", "::1", "http://:8265", "http://a..b")
    for given in ("ray://head:10001", *wrong):
        with pytest.raises(InputError, match=f"{given}' is no address of a dashboard; give the"):
            dashboard_url(given)


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 3, 3),
        ("FAILED", 2, 2),
        ("FAILED", -9, 1),
        ("FAILED", 137, 1),
        ("FAILED", None, 1),
        ("STOPPED", 0, 1),
    ],
)
def test_the_exit_code_of_a_job(status: str, code: int | None, exit_code: int) -> None:
    assert Outcome(status, code, "").exit_code == exit_code


def test_what_was_said_is_not_said_again_when_the_stream_begins_anew() -> None:
    async def pieces(*texts: str) -> AsyncIterator[str]:
        for text in texts:
            yield text

    said: list[str] = []
    stream = _Stream(said.append)
    asyncio.run(stream.read(pieces("a\nb\n", "c\n")))
    asyncio.run(stream.read(pieces("a\n")))
    asyncio.run(stream.read(pieces("a\n", "b\nc\nd\n", "e\n")))
    assert "".join(said) == "a\nb\nc\nd\ne\n"


def test_too_large_a_folder_is_told_with_what_is_large(tmp_path: Path) -> None:
    for name, size in (("clips/a.wav", 3), ("clips/b.wav", 2), ("list.csv", 1), ("runs/x", 9)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with (tmp_path / name).open("wb") as file:
            file.truncate(size * 2**20)
    assert largest(tmp_path) == "clips (5.0 MiB), list.csv (1.0 MiB)"
    told = "Maximum request body size 104857600 exceeded, actual body size 136348168"
    for text, most in (
        (f"Request failed with status code 413: {told}.", "more than the 100 MiB that this"),
        ("Package size (600.0MiB) exceeds the maximum size of 512.00MiB. To", "than the 512 MiB"),
        ("Request failed with status code 413: .", "more than this cluster takes; the largest"),
    ):
        error = str(refused("http://head", RuntimeError(text), tmp_path))
        assert "is too large to be sent: packed it is " in error
        assert most in error
        assert "largest in it: clips (5.0 MiB), list.csv (1.0 MiB). Name what" in error
        assert text not in error


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Unauthorized: Missing authentication token\n\nToken ...", "Missing authentication token"),
        ("It is so.\nAnd so.\n", "It is so"),
        ("failed: Traceback (most recent call last):\n  File\nOSError: full.\n.", "OSError: full"),
        ("\n", "RuntimeError"),
    ],
)
def test_what_a_cluster_says_is_a_line_without_a_full_stop(text: str, line: str) -> None:
    assert said(RuntimeError(text)).endswith(line)


def test_what_is_missing_to_be_let_in_is_a_sentence() -> None:
    error = RuntimeError("Authentication required: Unauthorized: Missing authentication token\n\nX")
    told = str(refused("http://head", error))
    assert "Missing authentication token. Set RAY_AUTH_MODE=token, and" in told


# What is read here, and what on the cluster


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine without keys for any bucket."""
    for name in (*os.environ,):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()  # those that were made here know no keys


@pytest.mark.usefixtures("no_keys")
def test_a_recipe_that_cannot_be_read_here_can_be_sent_unread(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    silent = f"http://127.0.0.1:{free_port()}"
    command = SubmitCommand("s3://bucket/a.yaml", address=silent, folder=str(tmp_path))
    with pytest.raises(InputError, match=r"locate credentials.* --no-check sends it unread, and"):
        submit(command)
    with pytest.raises(InputError, match=f"no Ray answers at {silent}"):  # further than before
        submit(replace(command, check=False))
    asked = ["submit", "s3://bucket/a.yaml", "--no-check", "--address", silent]
    with pytest.raises(SystemExit, match="4"):
        main([*asked, "--folder", str(tmp_path)])
    assert f"no Ray answers at {silent}" in capfd.readouterr().err


def test_what_is_wrong_with_a_recipe_is_not_a_matter_of_keys(folder: Path) -> None:
    command = SubmitCommand(str(folder / "configs" / "vögel 1.yaml"), folder=str(folder))
    with pytest.raises(RecipeError, match="manifest") as caught:
        submit(command)
    assert "--no-check" not in str(caught.value)
