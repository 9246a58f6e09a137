"""What `audioflow submit` sends beside the folder: the file of `--runtime-env`, and variables."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from audioflow.errors import Fault, RecipeError, shown
from audioflow.recipe_yaml import COMMAND_LINE
from audioflow.registry import nearest

STORES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "AWS_REGION")
"""What says where buckets are, and is handed on where it is set here; none of it is a secret."""

_TEXT, _TEXTS, _MAPPING = "a text", "a list of texts", "a mapping"
_PACKAGES = (_TEXT, _TEXTS, _MAPPING)

FIELDS: Mapping[str, Sequence[str]] = {
    "config": (_MAPPING,),
    "conda": (_TEXT, _MAPPING),
    "container": (_MAPPING,),
    "env_vars": (_MAPPING,),
    "excludes": (_TEXTS,),
    "image_uri": (_TEXT,),
    "java_jars": (_TEXTS,),
    "nsight": (_TEXT, _MAPPING),
    "pip": _PACKAGES,
    "py_executable": (_TEXT,),
    "py_modules": (_TEXTS,),
    "rocprof_sys": (_TEXT, _MAPPING),
    "uv": _PACKAGES,
    "worker_process_setup_hook": (_TEXT,),
}
"""The keys of a runtime_env of Ray, without working_dir -> the forms of each."""

_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|CREDENTIAL", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def wrong(option: str, problem: str, allowed: str = "") -> RecipeError:
    """The error of a word of the command line."""
    fault = Fault(option, problem, allowed=allowed, place=COMMAND_LINE)
    return RecipeError("audioflow submit", [fault])


def read_runtime_env(path: str | None) -> dict[str, Any]:
    """The file of `--runtime-env`, keys without a value left out, and numbers of `env_vars` and
    `excludes` as the texts that they are there; raises `RecipeError` with all that is wrong."""
    if path is None:
        return {}
    try:
        text = Path(path).read_text(encoding="utf-8")
        found = YAML(typ="safe").load(text)
        written = YAML(typ="base").load(text)
    except OSError as error:
        raise wrong("--runtime-env", f"{path} cannot be read: {error.strerror}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        told = str(error).splitlines()[0]
        raise wrong("--runtime-env", f"{path} is not YAML: {told}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise wrong("--runtime-env", f"{path} is not a mapping", "keys of a runtime_env of Ray")
    given = {key: value for key, value in found.items() if value is not None}
    faults = [
        Fault("--runtime-env", f"{path} {problem}", None, allowed, near, COMMAND_LINE)
        for problem, allowed, near in _faults(given)
    ]
    if faults:
        raise RecipeError("audioflow submit", faults)
    return given | {
        key: _as_written(given[key], written.get(key))
        for key in ("env_vars", "excludes")
        if key in given
    }


def _faults(given: Mapping[Any, Any]) -> Iterator[tuple[str, str, str]]:
    """What is wrong, what may stand there, and the nearest key."""
    for key, value in given.items():
        if key == "working_dir":
            yield "has working_dir", "--folder says what is packed", ""
        elif key not in FIELDS:
            yield f"has the unknown key {shown(key)}", ", ".join(FIELDS), nearest(key, FIELDS)
        elif (kind := _kind(value)) not in {_stem(form) for form in FIELDS[key]}:
            yield f"has {kind} as {key}", _forms(key, value), ""
        elif key == "env_vars":
            yield from _faults_of_variables(value)
        elif kind == "a list":
            for item in value:
                if not isinstance(item, str) and not (key == "excludes" and _is_number(item)):
                    yield f"has {shown(item)} in {key}", "texts, in quotes where need be", ""


def _faults_of_variables(variables: Mapping[Any, Any]) -> Iterator[tuple[str, str, str]]:
    """Values are not shown where they may be secrets."""
    for name, value in variables.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            yield f"has the name {shown(name)} in env_vars", "a text without =", ""
        elif value is None:
            yield f"has no value of {name} in env_vars", "a text, '' for an empty one", ""
        elif isinstance(value, list | dict):
            yield f"has {_kind(value)} as {name} in env_vars", _TEXT, ""
        elif not isinstance(value, str) and not _is_number(value):
            told = shown(value)
            yield f"has {told} as {name} in env_vars", f"a text: '{told}', in quotes", ""


def _kind(value: object) -> str:
    kinds = ((str, _TEXT), (list, "a list"), (dict, _MAPPING))
    return next((kind for type_, kind in kinds if isinstance(value, type_)), shown(value))


def _stem(form: str) -> str:
    return form.removesuffix(" of texts")


def _forms(key: str, value: object) -> str:
    forms = " or ".join(FIELDS[key])
    return f"{forms}, as [{shown(value)}]" if forms == _TEXTS and _kind(value) == _TEXT else forms


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_written(value: Any, written: Any) -> Any:
    """A list or mapping with its numbers as texts: 1.10 is 1.10, and not 1.1."""
    if isinstance(value, dict):
        of = written if isinstance(written, dict) else {}
        return {name: _number_text(each, of.get(name)) for name, each in value.items()}
    return [_number_text(each, text) for each, text in zip(value, written, strict=True)]


def _number_text(value: object, written: object) -> object:
    if not _is_number(value):
        return value
    return written if isinstance(written, str) else str(value)


def handed_on(names: Sequence[str]) -> dict[str, str]:
    """The values of environment variables: those that say where buckets are, and `names`."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise wrong("--env", f"{name!r} is no name", "a name; its value is taken from here")
        if name not in os.environ:
            raise wrong("--env", f"{name} is not set here")
        if _SECRET.search(name):
            typer.echo(
                f"warning: the value of {name} can be read by all who may list the cluster's jobs; "
                "a role of the nodes, or the environment that Ray was started in, keeps it secret",
                err=True,
            )
    return {name: os.environ[name] for name in (*STORES, *names) if name in os.environ}
