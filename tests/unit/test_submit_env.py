"""What `audioflow submit` takes from the file of `--runtime-env`, and from the environment."""

from pathlib import Path

import pytest

from audioflow.cli import main
from audioflow.engine.submit import EXCLUDES, Parcel
from audioflow.errors import RecipeError
from audioflow.submit_env import FIELDS, handed_on, read_runtime_env


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("working_dir: .", "has working_dir; allowed: --folder says"),
        ("- a", "is not a mapping; allowed: keys of"),
        ("a: [", "is not YAML"),
        ("pips: [a]", "has the unknown key 'pips'; allowed: config, .*; did you mean 'pip'"),
        ("1: a", "has the unknown key 1; allowed"),
        ("excludes: '*.bin'", r"has a text as excludes; allowed: a list of texts, as \['\*.bin'\]"),
        ("excludes: {a: b}", "has a mapping as excludes; allowed: a list of texts$"),
        ("excludes: [a, null]", "has null in excludes; allowed: texts"),
        ("excludes: [yes, true]", "has true in excludes; allowed: texts, in quotes"),
        ("env_vars: [A]", "has a list as env_vars; allowed: a mapping"),
        ("env_vars: {A: true}", "has true as A in env_vars; allowed: a text: 'true', in quotes"),
        ("env_vars: {A: 2024-01-01}", "has 2024-01-01 as A in env_vars; allowed: a text: '2024"),
        ("env_vars: {A: }", "has no value of A in env_vars; allowed: a text, '' for an empty"),
        ("env_vars: {A: [hush]}", "has a list as A in env_vars; allowed: a text$"),
        ("env_vars: {A=B: a}", "has the name 'A=B' in env_vars"),
        ("env_vars: {1: a}", "has the name 1 in env_vars"),
        ("pip: 5", "has 5 as pip; allowed: a text or a list of texts or a mapping"),
        ("pip: [a, 5]", "has 5 in pip; allowed: texts"),
        ("py_modules: lib", r"has a text as py_modules; allowed: a list of texts, as \['lib'\]"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_wrong_file_of_the_environment_is_refused(
    tmp_path: Path, text: str | None, told: str
) -> None:
    path = tmp_path / "env.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError, match=f"--runtime-env: {path} {told}"):
        read_runtime_env(str(path))


def test_excludes_and_variables_are_added_to_ours(tmp_path: Path) -> None:
    path = tmp_path / "env.yaml"
    path.write_text("excludes: [/clips]\nenv_vars: {A: '1', B: '1'}\npip: [soundfile==0.13.1]\n")
    made = Parcel(["a"], tmp_path, {"B": "2"}, read_runtime_env(str(path))).runtime_env()
    assert made["excludes"][0] == "/.git"
    assert made["excludes"][-1] == "/clips"
    assert made["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "60", "A": "1", "B": "2"}
    assert made["pip"] == ["soundfile==0.13.1"]
    assert made["working_dir"] == str(tmp_path)


def test_keys_without_a_value_and_an_empty_file_say_nothing(tmp_path: Path) -> None:
    path = tmp_path / "env.yaml"
    for text in ("env_vars:\nexcludes:\npip: null\nworking_dir:\n", "# nothing\n", ""):
        path.write_text(text)
        found = read_runtime_env(str(path))
        assert found == {}
        assert Parcel(["a"], tmp_path, {}, found).runtime_env()["excludes"] == [*EXCLUDES]


def test_numbers_are_the_texts_that_were_written(tmp_path: Path) -> None:
    path = tmp_path / "env.yaml"
    path.write_text(
        "env_vars: {OMP_NUM_THREADS: 4, VERSION: 1.10, MASK: 0x1F, EMPTY: ''}\n"
        "excludes: [2024, '*.bin']\n"
        "config: {setup_timeout_seconds: 60, eager_install: true}\n"
    )
    found = read_runtime_env(str(path))
    variables = {"OMP_NUM_THREADS": "4", "VERSION": "1.10", "MASK": "0x1F", "EMPTY": ""}
    assert found["env_vars"] == variables
    assert found["excludes"] == ["2024", "*.bin"]
    assert found["config"] == {"setup_timeout_seconds": 60, "eager_install": True}


def test_all_that_is_wrong_is_told_before_a_cluster_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "env.yaml"
    path.write_text("excludes: '*.bin'\nenv_vars: {A: true, B: {}}\nimage_url: a\n")
    asked = ["submit", "s3://b/a.yaml", "--folder", str(tmp_path), "--runtime-env", str(path)]
    with pytest.raises(SystemExit, match="2"):
        main(asked)
    told = capsys.readouterr().err
    assert "audioflow submit: 4 faults" in told
    assert told.count(f"--runtime-env: {path} has ") == 4
    assert "did you mean 'image_uri'?" in told


def test_the_keys_are_those_of_ray() -> None:
    from ray.runtime_env import RuntimeEnv

    own = {key for key in RuntimeEnv.known_fields if not key.startswith("_")}
    assert FIELDS.keys() | {"working_dir"} == own | {"nsight", "rocprof_sys"}
    assert {"_nsight", "_rocprof_sys"} <= RuntimeEnv.known_fields


def test_variables_are_handed_on_by_name_and_secrets_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio:9000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("HF_HOME", "/models")
    assert handed_on([]) == {"AWS_ENDPOINT_URL": "http://minio:9000"}
    assert handed_on(["HF_HOME"])["HF_HOME"] == "/models"
    assert capsys.readouterr().err == ""
    assert handed_on(["AWS_SECRET_ACCESS_KEY"])["AWS_SECRET_ACCESS_KEY"] == "hush"
    told = capsys.readouterr().err
    assert "the value of AWS_SECRET_ACCESS_KEY can be read by all" in told
    assert "hush" not in told
    with pytest.raises(RecipeError, match="--env: AUDIOFLOW_NOT_SET is not set here"):
        handed_on(["AUDIOFLOW_NOT_SET"])
    with pytest.raises(RecipeError, match="--env: 'A=1' is no name"):
        handed_on(["A=1"])
