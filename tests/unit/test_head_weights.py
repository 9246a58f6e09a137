"""Heads that begin with the weights of a published system's checkpoint, under its names."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from audioflow.engine.train_task import check_heads, head_weights, local_head
from audioflow.heads.base import HeadShape
from audioflow.heads.resnet50 import ResNet50
from audioflow.heads.vggish_finetune import VggishFinetune, VggishModule
from audioflow.networks.vggish import renamed
from audioflow.recipe import SystemSection
from audioflow.stores import NO_OPTIONS
from audioflow.weights import WeightsError

PICTURE = HeadShape(("mel",), (64,), 96)


def resnet(seed: int, classes: int, **options: str) -> nn.Module:
    torch.manual_seed(seed)
    return ResNet50(ResNet50.Settings.model_validate(options)).build(PICTURE, classes)


def of_kinetics(name: str) -> str:
    """The name of a tensor in the checkpoints of SoundtrackClassification."""
    outside = {"conv1": "group1.", "bn1": "group1.", "fc": "group2."}
    first, _, rest = name.partition(".")
    if first in outside:
        return f"module.{outside[first]}{name}"
    block, part = rest.split(".", 1)
    inner = "" if part.startswith("downsample") else "group1."
    return f"module.{first}.{block}.{inner}{part}"


def test_resnet50_begins_with_a_checkpoint_of_kinetics_but_for_its_last_layer(
    tmp_path: Path,
) -> None:
    theirs = resnet(1, 600).state_dict()
    path = str(tmp_path / "Resnet-50-Kinetics600_epoch-9.pth.tar")
    names = {of_kinetics(name): tensor for name, tensor in theirs.items()}
    assert "module.layer1.0.group1.conv1.weight" in names
    assert "module.layer1.0.downsample.0.weight" in names
    optimiser = {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.01}]}
    saved = {"epoch": 9, "model_state_dict": names, "optimizer_state_dict": optimiser}
    torch.save(saved, path)
    ours = resnet(2, 7, weights=path).state_dict()
    for name, tensor in theirs.items():
        if not name.startswith("fc."):
            assert torch.equal(ours[name], tensor), name
    fresh = resnet(2, 7).state_dict()
    assert torch.equal(ours["fc.weight"], fresh["fc.weight"])
    with torch.device("meta"):
        assert resnet(2, 7, weights=path)


def test_a_job_gives_workers_the_path_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("some.pth").write_bytes(b"not looked at")
    head = {"name": "resnet50", "weights": "./some.pth"}
    section = SystemSection.model_validate({"backbone": "mel", "head": head})
    assert local_head(section, NO_OPTIONS)["weights"] == str(tmp_path / "some.pth")
    gone = SystemSection.model_validate({"backbone": "mel", "head": head | {"weights": "./no.pth"}})
    with pytest.raises(WeightsError, match=r"weights: \./no\.pth does not exist"):
        local_head(gone, NO_OPTIONS)
    told = r"^systems\.mine\.head\.weights: \./no\.pth does not exist"
    with pytest.raises(WeightsError, match=told):
        check_heads({"other": section, "mine": gone}, NO_OPTIONS)


def test_a_head_is_known_by_what_is_in_the_file_it_begins_with(tmp_path: Path) -> None:
    def hashes(**options: str) -> dict[str, str]:
        head = {"name": "resnet50"} | options
        section = SystemSection.model_validate({"backbone": "mel", "head": head})
        return head_weights(section, NO_OPTIONS)

    path = tmp_path / "some.pth"
    path.write_bytes(b"one")
    first = hashes(weights=str(path))
    path.write_bytes(b"another")
    assert hashes(weights=str(path)) != first
    path.write_bytes(b"one")
    assert hashes(weights=str(path)) == first
    assert list(first) == ["weights"]
    assert hashes() == {}
    linear = SystemSection.model_validate({"backbone": "mel", "head": "linear"})
    assert head_weights(linear, NO_OPTIONS) == {}


def test_a_checkpoint_of_another_network_is_refused_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(WeightsError, match=r"conv1\.weight is \(64, 3, 7, 7\), expected \(64, 1,"):
        resnet(0, 7, weights=str(path))
    with pytest.raises(WeightsError, match=r"gone\.pth does not exist"):
        resnet(0, 7, weights=str(tmp_path / "gone.pth"))


def finetune(seed: int, classes: int, **options: str) -> VggishModule:
    torch.manual_seed(seed)
    settings = VggishFinetune.Settings.model_validate({"weights": "random"} | options)
    module = VggishFinetune(settings).build(PICTURE, classes)
    assert isinstance(module, VggishModule)
    return module


def test_vggish_finetune_begins_with_a_checkpoint_of_the_dogs(tmp_path: Path) -> None:
    theirs = finetune(1, 15).state_dict()
    renamed_to = {"trunk.": "feature_extractor.", "pool.attention.": "attnpooling."}
    named = {}
    for name, tensor in theirs.items():
        begin = next((one for one in renamed_to if name.startswith(one)), "")
        named[renamed_to.get(begin, "") + name.removeprefix(begin)] = tensor
    named["feature_extractor.pproc.pca_eigen_vectors"] = torch.eye(128)
    named["feature_extractor.pproc.pca_means"] = torch.zeros(128, 1)
    path = str(tmp_path / "Best1.ckpt")
    torch.save(named, path)
    ours = finetune(2, 15, weights=path).state_dict()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor) == (not name.startswith("classifier.")), name
    assert len(ours) == len(theirs) == 24


def test_the_backbone_vggish_takes_its_part_of_the_same_checkpoint() -> None:
    values = np.zeros(3, np.float32)
    found = renamed(
        {
            "feature_extractor.features.0.weight": values,
            "feature_extractor.embeddings.4.bias": values,
            "feature_extractor.pproc.pca_means": values,
            "attnpooling.in_proj_bias": values,
            "classifier.weight": values,
        }
    )
    assert list(found) == ["features.0.weight", "embeddings.4.bias"]
