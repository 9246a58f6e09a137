"""What every registered exporter promises."""

import inspect
from pathlib import Path

import pytest

from audioflow.errors import AudioflowError
from audioflow.export_cli import export_command
from audioflow.exporters import EXPORTERS
from audioflow.exporters.base import Source
from audioflow.registry import Settings
from audioflow.storage import Folder

NAMES = EXPORTERS.names()
GIVEN = {"kaggle": {"template": "t.csv"}}
"""Settings without which an exporter cannot be made."""


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_an_option_of_the_tool(name: str) -> None:
    settings = EXPORTERS.load(name).Settings
    assert issubclass(settings, Settings)
    options = set(inspect.signature(export_command).parameters)
    shorter = {"patch_s": "patch", "gap_s": "gap", "high_hz": "high_freq"}
    assert {shorter.get(one, one) for one in settings.model_fields} <= options


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_is_not_there_is_told_and_nothing_written(name: str, tmp_path: Path) -> None:
    exporter = EXPORTERS.build(name, GIVEN.get(name, {}))
    source = Source(Folder(str(tmp_path / "gone")), "audio")
    with pytest.raises(AudioflowError, match="gone"):
        exporter.write(source, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
