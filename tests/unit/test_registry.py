"""Plug-ins by name."""

import pickle
from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from audioflow.errors import Fault, MediaError, RecipeError, shown
from audioflow.registry import Registry, Settings, UnknownPlugin, nearest


class Greeter:
    """A plug-in as every registered class is."""

    class Settings(Settings):
        times: int = Field(1, ge=1)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings


GREETERS = Registry(
    "greeter",
    {
        "wave": f"{__name__}:Greeter",
        "bow": "no_such_package_of_anybody.bows:Bow",
        "broken": "audioflow.no_such_module:Broken",
    },
)


def test_a_plugin_is_built_from_options_that_its_own_settings_check() -> None:
    assert GREETERS.build("wave", {"times": 3}).settings.times == 3
    with pytest.raises(ValidationError, match="times"):
        GREETERS.build("wave", {"times": 0})
    with pytest.raises(ValidationError, match="tmes"):
        GREETERS.build("wave", {"tmes": 1})


def test_an_unknown_name_is_told_with_all_names_and_the_nearest() -> None:
    with pytest.raises(
        UnknownPlugin,
        match=r"greeter 'wvae' does not exist; there are bow, broken, wave; did you mean 'wave'\?",
    ):
        GREETERS.load("wvae")
    with pytest.raises(UnknownPlugin, match=r"there are bow, broken, wave$"):
        GREETERS.load("handshake")
    assert UnknownPlugin.exit_code == 2


def test_a_plugin_whose_package_is_not_installed_says_which() -> None:
    with pytest.raises(
        UnknownPlugin, match="'bow' needs the package 'no_such_package_of_anybody', which is not"
    ):
        GREETERS.load("bow")


def test_a_broken_import_inside_audioflow_is_a_bug_and_stays_one() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        GREETERS.load("broken")


def test_a_missing_module_without_a_name_stays_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vague_plugin.py").write_text("raise ModuleNotFoundError('something is missing')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="something is missing"):
        Registry("greeter", {"vague": "vague_plugin:Vague"}).load("vague")


def test_names_are_sorted() -> None:
    assert GREETERS.names() == ["bow", "broken", "wave"]


@pytest.mark.parametrize(
    ("word", "candidate"),
    [("acustic", "acoustic"), ("COLOR", "color"), ("Acoustic", "acoustic"), ("zebra", "")],
)
def test_nearest_finds_misspellings_whatever_their_case(word: str, candidate: str) -> None:
    assert nearest(word, ["acoustic", "color"]) == candidate


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ("a'b", '"a\'b"'),
        (1e-3, "0.001"),
        ([1, "x"], "[1, 'x']"),
        ({"a": {"b": False}}, "{a: {b: false}}"),
    ],
)
def test_values_are_shown_as_they_are_written_in_a_recipe(value: object, text: str) -> None:
    assert shown(value) == text


def test_long_values_are_shown_in_part() -> None:
    text = shown(list(range(1000)))
    assert text.startswith("[0, 1, 2")
    assert text.endswith(" ...")
    assert len(text) <= 80


def test_errors_keep_their_parts_when_they_travel_between_processes() -> None:
    fault = Fault("a.b", "3 is out of range", 3, "1 to 2", "", "r.yaml:4")
    recipe_error = pickle.loads(pickle.dumps(RecipeError("r.yaml", [fault])))
    assert recipe_error.faults == (fault,)
    assert str(recipe_error) == "r.yaml: 1 fault\n  - r.yaml:4: a.b: 3 is out of range; " + (
        "allowed: 1 to 2"
    )
    media_error = pickle.loads(pickle.dumps(MediaError("empty", "it has 0 bytes")))
    assert (media_error.error, media_error.reason) == ("empty", "it has 0 bytes")


def test_a_media_error_has_a_class_of_the_closed_set() -> None:
    with pytest.raises(ValueError, match="'weird' is not one of not_found, permission"):
        MediaError("weird", "because")
