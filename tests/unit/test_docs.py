"""The pages about keys and about other systems: what they name is the project's.

Links, commands and recipes of all pages are looked at in test_readme.py.
"""

import re
import shlex
from functools import cache
from typing import Any

import pytest
from typer.main import get_command

from audioflow.cli import app
from audioflow.exporters import EXPORTERS
from audioflow.plugins import plugins
from audioflow.recipe import Recipe
from docs import make
from docs.models import keys_of
from tests.conftest import ROOT
from tests.unit.recipe_keys import is_key

DOCS = ROOT / "docs"
COMING_FROM = (DOCS / "coming-from.md").read_text(encoding="utf-8")
ROWS = [
    tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
    for line in COMING_FROM.splitlines()
    if line.startswith("| ") and not line.startswith(("| theirs", "|---"))
]
PLACES = {"manifest", "embeddings", "heads", "tune", "scores", "report", "train", "explanations"}
FILES = {"report.json", "head.json", "epochs.json"}
"""What else the pages name of a run: folders below `run_dir`, and files in them."""

THEIRS = {
    "soundnet": "--model_path --input_dir --output_dir --file_ext --feat_layer feat_dir feat_dim"
    " list_videos output_file feat_appendix mode model_file file_ext mp3/ cls_map.csv train_val.csv"
    " test_for_students.csv pool5/ conv6/ conv7/ extract_soundnet_feats.py train_mlp.py"
    " test_mlp.py environment.yaml",
    "audioconcept": "--lr --audio-length --weight-decay --label-smoothing --noise-level"
    " SVM_FEATURES_FILTER MODEL_TO_TRAIN get_data.sh wandb data/raw/sample_audio"
    " train_filtered.txt valid_filtered.txt test_filtered.txt jazz.00054.wav models/best_"
    " reports/figures AudioConcept.train AudioConcept.evaluate AudioConcept.predict experiment"
    " evaluate_{model_name} augmentation.py llm_experiment notebooks data/processed"
    " features_30_sec.csv features.py dataset.py images_original ffplay",
    "kinetics": "making_txt_list.py extract_audio_from_video.py melspectrogram_extract.py"
    " audio_clip_score_test.py AudioDataLoader.py file_and_label_dir.py train.py config.py"
    " match_video_to_audio_quantity.py audio_clip_score_fusion.py Fusion_audio_with_video.py"
    " datalists/ file_lists/ network/ npy_files/ video_classification_results/ K600AudioImage"
    " K600_audio_file.txt K600_video_file.txt tensorboardX",
    "tomofun": "audioset_train_strong.tsv mid_to_display_name.tsv quick_merge.py"
    " download_sound_all.py data/AudioSet/raw gen_meta_train_audioset.py meta_train.csv"
    " Final_Training_Dataset/raw feats run_classification_verbose_classes_final.py"
    " run_classification_verbose_classes_final_extra_data.py AudioDatasetFinalClasses src/serve"
    " src/serve-local.py colorednoise [0,1,2] temperature",
    "transfer": "vggish_model.ckpt openl3 data/audio/GTZAN data/index/GTZAN"
    " audio_transfer_learning.py define_classification_model() model_type linearSVM SVM perceptron"
    " MLP kNN audio_paths_train audio_paths_test path2gt_datasets load_training_data"
    " training_data_GTZAN_8643.npz train_batch test_batch utils.py vggish_input.py"
    " vggish_params.py vggish_slim.py mel_features.py data/audio_representation data/experiments",
}
"""Commands, flags and files that the READMEs of the five systems name."""


def _spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_the_page_of_keys_is_what_the_models_say() -> None:
    committed = make.PAGE.read_text(encoding="utf-8")
    assert committed == make.page(), "the models say otherwise: make docs"


def test_every_key_has_a_meaning_on_the_page() -> None:
    parts = [*make.section_parts(), *make.plugin_parts()]
    assert len(parts) > 80
    silent = [f"{part.title}: {key.name}" for part in parts for key in part.keys if not key.meaning]
    assert silent == [], "say it in the docstring of its settings, as `key: meaning`"


def test_every_plugin_stands_on_the_page_with_what_it_is() -> None:
    text = make.PAGE.read_text(encoding="utf-8")
    for kind, title in make._KINDS.items():
        for name in getattr(plugins(), kind).names():
            assert f"\n### {title} `{name}`\n" in text
            assert make.described(name, getattr(plugins(), kind).load(name))


def test_keys_are_told_apart_from_what_is_none() -> None:
    assert is_key("systems.NAME.train.lr")
    assert is_key("embed.backbones.vggish.final_relu")
    assert is_key("score.imports.NAME.key.pattern")
    assert is_key("manifest.splits.folds")
    assert is_key("tracking.loggers=[wandb, mlflow]")
    assert is_key("systems.NAME.train.temperature=2")
    assert not is_key("systems.NAME.train.select=best")
    assert not is_key("systems.NAME.train.rate")
    assert not is_key("embed.backbones.vggish.preset")
    assert not is_key("manifest.splits.folds.more")
    assert not is_key("nowhere")


def test_every_top_level_key_is_a_section_of_the_page() -> None:
    titles = [part.title.strip("`").removesuffix(".NAME") for part in make.section_parts()]
    nested = [key.name for key in keys_of(Recipe) if key.nested is not None]
    assert len(nested) >= 9
    assert set(nested) <= set(titles)


@pytest.mark.parametrize("system", THEIRS)
def test_every_flag_and_file_of_the_five_systems_has_a_row(system: str) -> None:
    section = list(THEIRS).index(system)
    text = COMING_FROM.split("\n## ")[section + 1]
    left = "\n".join(line.split(" | ")[0] for line in text.splitlines() if line.startswith("| "))
    for name in THEIRS[system].split():
        assert name in left, name


def test_what_does_not_exist_is_not_taken_for_something_here() -> None:
    wrong = [
        "audioflow serve HEAD --no-decoder",
        "audioflow host HEAD",
        "audioflow export wav RUN_DIR",
        "audioflow explain RUN_DIR --method lime",
        "audioflow train RECIPE systems.NAME.train.rate=1",
        "audioflow datasets imagenet",
        "make everything",
        "configs/nothing.yaml",
        "--no-such-option",
        "embed.backbones.soundnet.layer_names",
        "resnet1001",
    ]
    assert [span for span in wrong if _is_here(span)] == []


def test_what_a_row_of_coming_from_names_here_exists() -> None:
    assert len(ROWS) > 120
    for _, here in ROWS:
        assert here
        for span in _spans(here):
            assert _is_here(span), f"{span} in: {here}"


def _is_here(span: str) -> bool:
    if span.startswith("audioflow "):
        return _is_command(span)
    if span.startswith("make "):
        makefile = (ROOT / "Makefile").read_text()
        return re.search(rf"^{span.split()[1]}:", makefile, flags=re.MULTILINE) is not None
    if span.startswith("configs/"):
        return (ROOT / span).is_file()
    if span.startswith("--"):
        return any(_has_option(tool, span) for tool in _commands())
    if re.fullmatch(r"[\w.]+(=\S+)?", span) and is_key(span.split("=", maxsplit=1)[0]):
        return True
    place = span.rstrip("/").split("/")
    if place[0] in PLACES:
        return True
    return span in {*_names(), *FILES, "pip install .", "val", "clip_id", "no_audio", "code"}


def _names() -> set[str]:
    found = plugins()
    loggers = {"tensorboard", "mlflow", "wandb"}
    return loggers.union(*(getattr(found, kind).names() for kind in make._KINDS))


@cache
def _commands() -> dict[str, Any]:
    """The jobs and tools of the command line."""
    return dict(get_command(app).commands)


def _has_option(tool: str, span: str) -> bool:
    """Whether a tool has the option, and its help the value where that is one of a few words."""
    option, *value = span.split()
    for parameter in _commands()[tool].params:
        if option in parameter.opts:
            return option != "--method" or all(each in parameter.help for each in value)
    return False


def _is_command(span: str) -> bool:
    _, job, *rest = shlex.split(span)
    commands = _commands()
    if job not in commands:
        return False
    if job == "weights":
        return rest[0] in commands["weights"].commands
    registry = {"export": EXPORTERS, "datasets": plugins().readers}.get(job)
    if registry is not None and rest[0] not in registry.names():
        return False
    options = re.findall(r"--\S+(?: [a-z_]+)?", span)
    overrides = [word for word in rest if "=" in word]
    return all(_has_option(job, each) for each in options) and all(map(is_key, overrides))
