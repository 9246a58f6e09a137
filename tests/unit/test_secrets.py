"""Secrets planted wherever a user may write them, and looked for wherever a person may read."""

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from audioflow.cli import plugins
from audioflow.console import Console
from audioflow.datasets import READERS
from audioflow.engine.run import Run
from audioflow.errors import InputError, MediaError, RecipeError
from audioflow.events import Event
from audioflow.recipe import Recipe
from audioflow.recipe_file import load_recipe
from audioflow.redaction import (
    masked,
    masked_command,
    masked_fault,
    masked_faults,
    masked_recipe,
    masked_values,
    unsigned,
)
from audioflow.retries import Retrying
from audioflow.storage import Folder, StorageOptions, local_copy

PLANTED = "Pl4nted/Secret+Value"
QUOTED = "Pl4nted%2FSecret%2BValue"
ONCE = Retrying(attempts=1)

RECIPE = f"""\
# once it was: secret: {PLANTED}
run_dir: runs/x   # the place
storage_options:
  endpoint_url: http://minio:9000
  key: {PLANTED}-key  # who
  secret: "{PLANTED}"
  client_kwargs: {{aws_session_token: '{PLANTED}', region_name: eu}}
  config_kwargs:
    read_timeout: 3
    proxies: {{http: "http://user:{PLANTED}@proxy"}}
  "s3://public/": {{anon: true, token: {PLANTED}}}
  sas: |
    {PLANTED}
    more of it
manifest: {{reader: folder, root: data}}
report: {{}}
"""


def hidden(text: str) -> bool:
    return not any(form in text for form in ("Pl4nted", QUOTED))


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Recipe]:
    def call(text: str = RECIPE, *overrides: str) -> Recipe:
        path = tmp_path / "r.yaml"
        path.write_text(text)
        return load_recipe(str(path), overrides, plugins(), "manifest")

    return call


def told(load: Callable[..., Recipe], *arguments: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load(*arguments)
    return caught.value


# Texts


def test_a_recipe_is_quoted_as_written_without_its_secrets() -> None:
    text = masked_recipe(RECIPE)
    assert hidden(text)
    kept = (
        "run_dir: runs/x   # the place\n",
        "  endpoint_url: http://minio:9000\n",
        "  key: ***  # who\n",
        "  secret: ***\n",
        "region_name: eu}",
        "    read_timeout: 3\n",
        '  "s3://public/": {anon: true, token: ***}\n',
        "  sas: ***\nmanifest: {reader: folder, root: data}\n",
    )
    for part in kept:
        assert part in text
    plain = "run_dir: a\nmanifest: {reader: folder, root: 'x'}  # key of all\n"
    assert masked_recipe(plain) == plain
    assert masked_recipe("\ufeff" + RECIPE) == text


def test_a_command_line_is_quoted_without_its_secrets() -> None:
    command = (
        f"audioflow run r.yaml storage_options.secret={PLANTED} "
        f"'storage_options={{secret: {PLANTED}}}' storage_options.endpoint_url=http://a:1 "
        f"storage_options.client_kwargs.aws_session_token={PLANTED} report.title='a b'"
    )
    text = masked_command(command)
    assert hidden(text)
    for part in (
        "audioflow run r.yaml",
        "storage_options.endpoint_url=http://a:1",
        "'report.title=a",
    ):
        assert part in text
    assert hidden(masked_command(command + " 'unclosed"))


@pytest.mark.parametrize(
    ("url", "shown", "stable"),
    [
        (
            "https://b.s3.amazonaws.com/a.wav?X-Amz-Date=1&X-Amz-Signature=ab12&v=2",
            "https://b.s3.amazonaws.com/a.wav?X-Amz-Date=1&X-Amz-Signature=***&v=2",
            "https://b.s3.amazonaws.com/a.wav?v=2",
        ),
        (
            "https://h/a?X-Amz-Credential=AK%2F1&X-Amz-Security-Token=x",
            "https://h/a?X-Amz-Credential=***&X-Amz-Security-Token=***",
            "https://h/a",
        ),
        ("https://h/a?AWSAccessKeyId=AK&Expires=9", "https://h/a?AWSAccessKeyId=***&Expires=9",
         "https://h/a"),
        ("https://h/a?sv=1&sig=x%3D", "https://h/a?sv=1&sig=***", "https://h/a?sv=1"),
        ("https://h/a?token=x&id=5", "https://h/a?token=***&id=5", "https://h/a?id=5"),
        ("https://h/a?id=5&n=2", "https://h/a?id=5&n=2", "https://h/a?id=5&n=2"),
        ("s3://bucket/a:b@c.wav", "s3://bucket/a:b@c.wav", "s3://bucket/a:b@c.wav"),
        ("/data/100% @ home?.wav", "/data/100% @ home?.wav", "/data/100% @ home?.wav"),
    ],
)  # fmt: skip
def test_signatures_in_urls_are_masked_and_are_no_part_of_an_id(
    url: str, shown: str, stable: str
) -> None:
    assert masked(f"cannot read {url}: no") == f"cannot read {shown}: no"
    assert unsigned(url) == stable


def test_passwords_and_known_values_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert masked(f"ftp://user:{PLANTED.replace('/', '')}@host/a") == "ftp://***@host/a"
    assert masked(f"a {PLANTED} b {QUOTED}", [PLANTED]) == "a *** b ***"
    assert masked("the test split", ["test"]) == "the test split", "too short to be told from words"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PLANTED)
    monkeypatch.setenv("AWS_SESSION_TOKEN", PLANTED[::-1])
    assert masked(f"{PLANTED} {PLANTED[::-1]}") == "*** ***"
    assert masked_values({"a": [PLANTED, 1, None, True]}) == {"a": ["***", 1, None, True]}


# Faults of a recipe


@pytest.mark.parametrize(
    ("line", "key", "problem"),
    [
        (f"storage_options: {PLANTED}", "storage_options", "is no mapping"),
        (f"storage_options: [{PLANTED}]", "storage_options", "is no mapping"),
        (f"storage_options: {{anon: {PLANTED}}}", "storage_options.anon", "is neither true nor"),
        ("storage_options: {secret: 12345678}", "storage_options.secret", "is no text; allowed: a"),
        (
            f"storage_options: {{endpoint_url: {PLANTED}}}",
            "storage_options.endpoint_url",
            "is no a",
        ),
        (f"storage_option: {{secret: {PLANTED}}}", "storage_option", "unknown key, with the value"),
        (f"storage: {{secret: {PLANTED}}}", "storage", "unknown key, with the value {secret: '***"),
        (f"ray: {{storage_options: {{key: {PLANTED}}}}}", "ray.storage_options", "unknown key"),
        (f"embed: {{storageoptions: {{key: {PLANTED}}}}}", "embed.storageoptions", "unknown key"),
    ],
)
def test_faults_name_the_key_and_never_the_value(
    load: Callable[..., Recipe], line: str, key: str, problem: str
) -> None:
    text = f"run_dir: x\nmanifest: {{reader: folder, root: d}}\n{line}\n"
    error = told(load, text)
    assert f"r.yaml:3: {key}: {problem}" in str(error)
    assert hidden(str(error) + repr(error.faults))
    assert "12345678" not in str(error) + repr(error.faults)


def test_options_below_the_manifest_are_refused_without_their_values(
    load: Callable[..., Recipe],
) -> None:
    text = "run_dir: x\nmanifest:\n  reader: folder\n  root: d\n  storage_options: {secret: %s}\n"
    error = told(load, text % PLANTED)
    assert "r.yaml:5: manifest.storage_options: unknown key" in str(error)
    assert hidden(str(error) + repr(error.faults))


@pytest.mark.parametrize("key", ["run_dir", "manifest.root"])
def test_a_password_in_a_url_is_refused_with_the_way_out(
    load: Callable[..., Recipe], key: str
) -> None:
    error = told(load, RECIPE, f"{key}=s3://user:Pl4nted@bucket/x")
    assert (
        f"command line: {key}: is a url with a password in it; allowed: the url alone; key and "
        "secret in storage_options or in the environment" in str(error)
    )
    assert hidden(str(error) + repr(error.faults))


@pytest.mark.parametrize(
    "override",
    [
        f"storage_options.secret=[{PLANTED}",
        f"storage_options.secret.x={PLANTED}",
        f"storage_options.token={'Pl4nted' * 30}: :",
        "storage_options.secret=!!int Pl4nted",
    ],
)
def test_the_console_hides_what_faults_of_the_yaml_quote(
    load: Callable[..., Recipe], override: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = told(load, RECIPE, override)
    console = Console()
    console.error(str(error))
    shown = capsys.readouterr().err
    assert "storage_options" in shown
    assert hidden(shown)
    faults = [masked_fault(fault) for fault in error.faults]
    assert hidden(repr(faults))
    assert [fault.key for fault in faults] == [fault.key for fault in error.faults]
    assert masked_faults("r.yaml:1: scor: did you mean 'score'?") in (
        "r.yaml:1: scor: did you mean 'score'?"
    )


# A run


def test_a_recipe_with_secrets_shows_none(load: Callable[..., Recipe]) -> None:
    recipe = load()
    options = recipe.storage_options
    assert options.for_url("s3://b/x")["secret"] == PLANTED
    assert options.for_url("s3://public/x")["anon"] is True
    assert hidden(repr(recipe) + str(recipe) + repr(options) + recipe.model_dump_json())
    assert "storage_options" not in recipe.model_dump()
    assert pickle.loads(pickle.dumps(recipe)).storage_options == options
    run = Run(recipe, recipe_text=RECIPE)
    assert run.folder.options == run.storage == options
    assert run.manifest().folder.options == run.input("s3://b").options == options
    assert hidden(repr(run.folder) + repr(run.recipe))


def test_events_and_messages_show_no_secret(
    load: Callable[..., Recipe],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[Event] = []
    run = Run(load(), heard.append)
    run.tell("embed", "note", text=f"reading https://h/a?X-Amz-Signature=Pl4nted with {PLANTED}")
    assert hidden(json.dumps(heard[0].data))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "Pl4nted-in-the-environment")
    console = Console(str(tmp_path / "events"))
    console.hide(run.storage.secrets)
    console.begin("embed", "s3://u:Pl4nted@b/x")
    text = f"{PLANTED} Pl4nted-in-the-environment https://h/a?sig=Pl4nted s3://u:Pl4nted@b/x"
    console(Event("embed", "start", "acoustic", {"total": 0, "done": 0}))
    console(Event("embed", "note", "acoustic", {"text": text, "inner": {"list": [text]}}))
    console.error(text)
    console.close()
    output = capsys.readouterr()
    events = (tmp_path / "events").read_text()
    assert events.count("***") >= 8
    assert output.out.count("***") >= 4
    assert hidden(events + output.out + output.err)


def test_errors_of_stores_show_no_secret() -> None:
    options = StorageOptions.of({"secret": PLANTED, "s3://": {"endpoint_url": f"http://{PLANTED}"}})
    texts = []
    for url in (
        "nosuch://user:Pl4nted@bucket/b",
        "http://127.0.0.1:1/a?X-Amz-Signature=Pl4nted",
        f"s3://bucket/{QUOTED}",
    ):
        folder, name = Folder(url, options, ONCE).split()
        for use in (folder.read, folder.exists, lambda _, at=folder: at.names()):
            with pytest.raises(InputError) as caught:
                use(name)
            texts.append(str(caught.value))
        with pytest.raises(MediaError) as failed, local_copy(url, options, ONCE):
            pass
        texts += [str(failed.value), failed.value.reason]
    assert all(map(hidden, texts)), texts


def test_a_list_with_a_password_in_a_url_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(f"file,label\na.wav,x\nftp://me:{PLANTED[:7]}@host/b.wav,y\n")
    options = {"list": str(tmp_path / "l.csv"), "file_column": "file", "label_column": "label"}
    with pytest.raises(
        InputError,
        match=r"line 3: file is 'ftp://\*\*\*@host/b\.wav', a url with "
        r"a password; give that in the recipe's storage_options",
    ) as caught:
        list(READERS.build("csv", options).read(Folder))  # fmt: skip
    assert hidden(str(caught.value))


def test_a_presigned_url_has_an_id_without_its_signature(tmp_path: Path) -> None:
    url = "https://b.s3.amazonaws.com/a.wav?X-Amz-Expires=60&X-Amz-Signature=Pl4nted"
    (tmp_path / "l.csv").write_text(f"file,label\n{url},x\n")
    options = {"list": str(tmp_path / "l.csv"), "file_column": "file", "label_column": "label"}
    (clip,) = READERS.build("csv", options).read(Folder)
    assert clip.clip_id == "https://b.s3.amazonaws.com/a.wav"
    assert clip.uri == url, "it is fetched with its signature"


def test_the_report_shows_no_secret(load: Callable[..., Recipe], tmp_path: Path) -> None:
    from audioflow.engine.manifest import make_manifest
    from audioflow.engine.report import make_report

    for name in ("cat/1.wav", "cat/2.wav", "dog/1.wav", "dog/2.wav"):
        place, file = name.split("/")
        (Folder(str(tmp_path / "data")) / place).write(file, b"x")
    recipe = load(
        RECIPE, f"manifest.root={tmp_path}/data", f"run_dir={tmp_path}/run",
        "manifest.splits={train: 0.5, test: 0.5}",
    )  # fmt: skip
    command = f"audioflow run r.yaml storage_options.secret={PLANTED}"
    run = Run(recipe, recipe_text=RECIPE, command=command)
    make_manifest(run)
    make_report(run)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert any(path.name == "index.html" for path in files)
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "storage_options.secret=***" in page
    for path in files:
        stream = io.BytesIO(path.read_bytes())
        assert b"Pl4nted" not in stream.getvalue(), path
