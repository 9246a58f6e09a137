"""What backbones share that are networks: weights, precision, batches that fit."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import save_file
from torch import nn

from audioflow.backbones import BACKBONES, tuning
from audioflow.backbones.network import fill, fill_random, random_tensor
from audioflow.backbones.ready import made_ready
from audioflow.backbones.running import Heard, Limits, embed_sound
from audioflow.errors import AudioflowError
from audioflow.media.patches import Stretch
from audioflow.weights import WeightsError
from tests.tiny_backbone import SAMPLE_RATE_HZ, Tiny, TinySettings

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    monkeypatch.setitem(BACKBONES.entries, "tiny", "tests.tiny_backbone:Tiny")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AUDIOFLOW_WEIGHTS", str(tmp_path / "weights"))


def noise(count: int, seconds: float = 1.0) -> torch.Tensor:
    shape = (count, round(seconds * SAMPLE_RATE_HZ))
    return torch.from_numpy(np.random.default_rng(0).integers(-9000, 9000, shape, np.int16))


def vectors(options: dict, batch: torch.Tensor) -> torch.Tensor:
    backbone = made_ready("tiny", options).backbone
    backbone.to(CPU)
    with torch.inference_mode():
        return backbone.embed(batch)["embedding"]


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


# Random weights


def test_random_weights_come_from_the_seed_and_the_name_alone():
    one, other, third = small(), small(), small()
    fill_random(one, 7)
    fill_random(other, 7)
    fill_random(third, 8)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    assert not torch.equal(one[0].weight, third[0].weight)
    drawn = np.random.default_rng([7, 3_378_657_847]).standard_normal((2, 3), np.float32)
    assert np.allclose(random_tensor("0.weight", (2, 3), 7), drawn * np.sqrt(2 / 3))


def test_random_weights_do_not_touch_the_generator_of_torch():
    module = small()
    before = torch.random.get_rng_state()
    fill_random(module, 0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_random_variances_are_positive():
    assert (random_tensor("bn.running_var", (1000,), 0) > 0).all()


def test_random_weights_keep_the_scale_of_what_flows_through():
    deep = nn.Sequential(*[nn.Sequential(nn.Linear(256, 256), nn.ReLU()) for _ in range(20)])
    fill_random(deep, 0)
    with torch.inference_mode():
        out = deep(torch.randn(16, 256, generator=torch.Generator().manual_seed(0)))
    assert 0.2 < float(out.std()) < 5


# Files


def test_weights_of_a_file_are_those_of_the_network(tmp_path):
    module = small()
    tensors = {n: t.numpy() + 1 for n, t in module.state_dict().items() if t.is_floating_point()}
    save_file(tensors, tmp_path / "w.safetensors")
    fill(module, str(tmp_path / "w.safetensors"))
    for name, tensor in tensors.items():
        assert np.array_equal(module.state_dict()[name].numpy(), tensor)


def test_a_file_of_another_network_is_refused_with_what_differs(tmp_path):
    path = tmp_path / "w.safetensors"
    wrong = {"0.weight": np.zeros((2, 4), np.float32), "head.bias": np.zeros(5, np.float32)}
    save_file(wrong, path)
    with pytest.raises(WeightsError) as caught:
        fill(small(), str(path))
    text = str(caught.value)
    assert str(path) in text
    assert "5 of 6 tensors are missing: 0.bias, 1.bias" in text
    assert "0.weight is (2, 4), expected (2, 3)" in text
    assert "1 belong to another network: head.bias" in text


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    module = small()
    tensors = {n: t.numpy().copy() for n, t in module.state_dict().items() if t.is_floating_point()}
    tensors["0.weight"][1, 2] = np.nan
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"0\.weight has 1 value that is NaN or infinite"):
        fill(small(), str(tmp_path / "w.safetensors"))


# From a recipe to a backbone


def test_what_counts_of_weights_is_their_content_and_not_their_place(tmp_path):
    module = nn.Sequential(
        nn.Conv1d(1, 32, 64), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 16, 4)
    )
    fill_random(module, 3)
    tensors = {n: t.numpy() for n, t in module.state_dict().items() if t.is_floating_point()}
    for name in ("a.safetensors", "b.safetensors"):
        save_file(tensors, tmp_path / name)
    save_file(tensors | {"0.bias": tensors["0.bias"] + 1}, tmp_path / "c.safetensors")
    a, b, c = (
        made_ready("tiny", {"weights": str(tmp_path / f"{name}.safetensors")}) for name in "abc"
    )
    assert a.what_counts() == b.what_counts()
    assert a.what_counts() != c.what_counts()
    assert str(tmp_path) not in json.dumps(a.what_counts())
    assert a.trained
    assert "seed" not in a.what_counts(), "nothing is drawn from it"
    assert np.allclose(
        vectors({"weights": str(tmp_path / "a.safetensors")}, noise(2)),
        vectors({"weights": "random", "seed": 3}, noise(2)),
    )


def test_random_weights_are_told_as_untrained():
    ready = made_ready("tiny", {"weights": "random", "seed": 5})
    assert not ready.trained
    assert ready.hashes == {"weights": "random"}
    assert ready.weights["weights"].to_json()["trained"] is False
    assert ready.what_counts()["seed"] == 5


def test_settings_for_speed_do_not_count():
    slow, fast = (
        made_ready("tiny", {"weights": "random", "batch_size": size}) for size in (1, "auto")
    )
    assert slow.what_counts() == fast.what_counts()
    assert "compile" not in fast.what_counts()


def test_automatic_precision_depends_on_the_recipe_and_not_on_the_machine():
    options = {"weights": "random"}
    assert made_ready("tiny", options).what_counts()["precision"] == "float32"
    assert made_ready("tiny", options, on_gpu=True).what_counts()["precision"] == "bfloat16"


def test_weights_that_are_not_here_are_told_with_the_way_to_get_them():
    with pytest.raises(WeightsError, match="audioflow weights fetch"):
        made_ready("tiny", {})


# Precision


def test_bfloat16_gives_float32_vectors_of_the_same_direction():
    exact = vectors({"weights": "random", "precision": "float32"}, noise(4))
    rough = vectors({"weights": "random", "precision": "bfloat16"}, noise(4))
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert torch.cosine_similarity(exact, rough).min() > 0.999


# torch.compile


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_vectors_in_batches_of_any_size():
    plain = vectors({"weights": "random"}, noise(5))
    ready = made_ready("tiny", {"weights": "random", "compile": True})
    ready.backbone.to(CPU)
    with torch.inference_mode():
        for size in (5, 3, 1):
            found = ready.backbone.embed(noise(5)[:size])["embedding"]
            assert torch.allclose(found, plain[:size], rtol=1e-5, atol=1e-5)


def test_without_a_compiler_that_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(AudioflowError, match=r"compile: true needs a C\+\+ compiler"):
        vectors({"weights": "random", "compile": True}, noise(1))


@pytest.mark.parametrize("size", [0, -1, "fast", 2.5])
def test_a_batch_size_that_cannot_be_is_refused(size):
    with pytest.raises(ValidationError, match="batch_size"):
        TinySettings(batch_size=size)


# Batches


def test_a_batch_that_does_not_fit_is_halved_until_it_does():
    sizes: list[int] = []

    class Narrow(Tiny):
        """On a device with room for three patches."""

        def embed(self, batch):
            sizes.append(len(batch))
            if len(batch) > 3:
                raise torch.OutOfMemoryError("no room")
            return super().embed(batch)

    backbone = Narrow(TinySettings(weights="random"))
    backbone.to(CPU)
    wide = Tiny(TinySettings(weights="random"))
    wide.to(CPU)
    heard = [
        Heard(0, Stretch(noise(1, 5.0)[0].numpy())),
        Heard(1, Stretch(noise(1, 2.0)[0].numpy())),
    ]
    found = embed_sound(backbone, heard, CPU, Limits(16))
    expected = embed_sound(wide, heard, CPU, Limits(16))
    for one, other in zip(found, expected, strict=True):
        assert np.allclose(one.embedding.layers["embedding"], other.embedding.layers["embedding"])
    assert sizes[0] == 12
    assert max(size for size in sizes[1:]) == 6


def test_a_patch_that_never_fits_ends_the_job_with_its_shape():
    class None_(Tiny):
        def embed(self, batch):
            raise torch.OutOfMemoryError("no room")

    heard = [Heard(0, Stretch(noise(1, 2.0)[0].numpy()))]
    with pytest.raises(AudioflowError, match=r"one patch of shape \(8000,\) is too much"):
        embed_sound(None_(TinySettings(weights="random")), heard, CPU, Limits(16))


# The size of a batch


def test_the_smallest_batch_that_is_nearly_as_fast_as_the_fastest_is_taken():
    assert tuning.chosen_size({1: 10.0, 2: 19.0, 4: 29.0, 8: 31.0, 16: 31.5, 32: 20.0}) == 8
    assert tuning.chosen_size({1: 10.0}) == 1


def test_the_size_is_measured_once_and_remembered(monkeypatch, tmp_path):
    ready = made_ready("tiny", {"weights": "random"})
    ready.backbone.to(CPU)
    first = tuning.batch_size(ready, CPU)
    (stored,) = (tmp_path / "cache/audioflow/batch-sizes").glob("*.json")
    told = json.loads(stored.read_text())
    curve = {int(size): rate for size, rate in told["patches_per_s"].items()}
    assert first == told["batch_size"] == tuning.chosen_size(curve)
    assert min(curve.values()) > 0
    monkeypatch.setattr(tuning, "throughputs", lambda *_: pytest.fail("measured again"))
    assert tuning.batch_size(ready, CPU) == first
    other = made_ready("tiny", {"weights": "random", "hop_s": 0.25})
    assert tuning._key(other, CPU) != tuning._key(ready, CPU)


def test_a_damaged_memory_of_the_size_is_measured_again(tmp_path):
    ready = made_ready("tiny", {"weights": "random"})
    ready.backbone.to(CPU)
    tuning.batch_size(ready, CPU)
    (stored,) = (tmp_path / "cache/audioflow/batch-sizes").glob("*.json")
    stored.write_text("{")
    assert tuning.batch_size(ready, CPU) >= 1
    assert json.loads(stored.read_text())["batch_size"] >= 1


def test_a_given_size_is_not_measured_and_on_a_cpu_none_is(monkeypatch):
    monkeypatch.setattr(tuning, "throughputs", lambda *_: pytest.fail("measured"))
    ready = made_ready("tiny", {"weights": "random", "batch_size": 7})
    assert tuning.limits_for(ready, CPU).batch_size(8000) == 7
    sizes = {"acoustic": 8, "tiny": 32, "vggish": 64}
    for name, size in sizes.items():
        options = {} if name == "acoustic" else {"weights": "random"}
        assert tuning.limits_for(made_ready(name, options), CPU).patches_per_batch == size


def test_sizes_that_need_too_much_memory_end_the_measuring():
    class Narrow(Tiny):
        def embed(self, batch):
            if len(batch) > 4:
                raise torch.OutOfMemoryError("no room")
            return super().embed(batch)

    backbone = Narrow(TinySettings(weights="random"))
    backbone.to(CPU)
    assert max(tuning.throughputs(backbone, CPU)) <= 4
