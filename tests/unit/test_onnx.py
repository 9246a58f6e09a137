"""ONNX models made here, and a real one: Silero's voice activity detector."""

import numpy as np
import pytest
import torch

from audioflow.backbones import BACKBONES
from audioflow.errors import AudioflowError
from audioflow.registry import UnknownPlugin
from audioflow.weights import WeightsError
from tests.model_files import INNER, OUTER, dense, onnx_model

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

CPU = torch.device("cpu")
SAMPLES = 100
MODEL = dense(SAMPLES)


def batch(count: int = 5, samples: int = SAMPLES) -> torch.Tensor:
    generator = np.random.default_rng(count)
    return torch.from_numpy(generator.integers(-20_000, 20_000, (count, samples), np.int16))


def built(path, **options):
    return BACKBONES.build(
        "onnx", {"weights": str(path), "sample_rate_hz": 1000, "patch_s": 0.1} | options
    )


def made(path, **options):
    backbone = built(path, **options)
    backbone.to(CPU)
    return backbone


@pytest.mark.parametrize("takes", [None, 1, 3])
def test_layers_are_what_the_model_computes_however_many_patches_it_takes(tmp_path, takes):
    path = onnx_model(tmp_path / "model.onnx", MODEL, batch=takes)
    backbone = made(path, outputs={"hidden": INNER, "result": OUTER})
    hidden, result = MODEL(batch().numpy() / 32767.0)
    assert dict(backbone.layers) == {"hidden": 6, "result": 3}
    found = backbone.embed(batch())
    assert found["hidden"].numpy() == pytest.approx(hidden, abs=1e-5)
    assert found["result"].numpy() == pytest.approx(result, abs=1e-5)
    assert backbone.embed(batch(2))["result"].shape == (2, 3)


def test_one_by_one_gives_the_same(tmp_path):
    path = onnx_model(tmp_path / "model.onnx", MODEL)
    together, apart = made(path).embed(batch()), made(path, one_by_one=True).embed(batch())
    assert torch.allclose(together["embedding"], apart["embedding"], atol=1e-6)


def test_inputs_beside_the_sound_are_filled_with_what_is_declared(tmp_path):
    path = onnx_model(tmp_path / "model.onnx", MODEL, extra=True)
    found = made(path, constants={"gain": 3, "state": 0.5}).embed(batch())
    expected = 3 * MODEL(batch().numpy() / 32767.0)[1] + 0.5
    assert found["embedding"].numpy() == pytest.approx(expected, abs=1e-5)


def test_inputs_that_nothing_is_declared_for_are_told(tmp_path):
    path = onnx_model(tmp_path / "model.onnx", MODEL, extra=True)
    with pytest.raises(WeightsError, match=r"takes sound \['n', 100\] .*, gain \[\] .*constants"):
        made(path, constants={"gain": 3})
    with pytest.raises(WeightsError, match="has no input 'rate'; its inputs are sound"):
        made(path, constants={"rate": 3})


def test_an_output_that_does_not_exist_is_told_with_those_that_do(tmp_path):
    path = onnx_model(tmp_path / "model.onnx", MODEL)
    with pytest.raises(
        WeightsError, match=f"'nothing' of layer a does not exist; .*{OUTER}; inner"
    ):
        _ = built(path, outputs={"a": "nothing"}).layers


def test_a_model_of_another_length_is_told(tmp_path):
    path = onnx_model(tmp_path / "model.onnx", MODEL)
    with pytest.raises(WeightsError, match="takes anyx100, the front end gives 200 per patch"):
        _ = built(path, patch_s=0.2).layers


@pytest.mark.parametrize("content", [b"", b"not a model at all"])
def test_a_file_that_is_no_model_is_told(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.onnx cannot be read as an ONNX model"):
        made(path)


def test_a_device_that_the_runtime_lacks_is_told_and_not_replaced(tmp_path):
    path = onnx_model(tmp_path / "model.onnx", MODEL)
    with pytest.raises(AudioflowError, match=r"device meta; .*CPUExecutionProvider: install onnxr"):
        built(path).to(torch.device("meta"))


def test_a_missing_file_and_missing_packages_are_told(tmp_path, monkeypatch):
    path = onnx_model(tmp_path / "model.onnx", MODEL)
    with pytest.raises(WeightsError, match=r"none\.onnx: no such file"):
        _ = built(tmp_path / "none.onnx").layers
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    assert built(path).layers == {"embedding": 3}
    with pytest.raises(UnknownPlugin, match=r"pip install 'audioflow\[onnx\]' onnx"):
        _ = built(path, outputs={"hidden": INNER}).layers
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UnknownPlugin, match=r"pip install 'audioflow\[onnx\]'$"):
        made(path)


def test_weights_are_not_random():
    with pytest.raises(ValueError, match="random is not possible: the file is the network"):
        built("random")


def test_a_voice_activity_detector_hears_speech(shared_data):
    path = shared_data / "weights" / "silero_vad.onnx"
    constants = {"sr": 16_000, "state": 0}
    options = {"sample_rate_hz": 16_000, "patch_s": 0.036, "outputs": {"speech": "output"}}
    backbone = made(path, **options, constants=constants)
    assert dict(backbone.layers) == {"speech": 1}
    sound = np.fromfile(shared_data / "weights" / "yamnet_test_audio.bin", np.int16)
    patches = np.lib.stride_tricks.sliding_window_view(sound, 576)[::512].copy()
    heard = backbone.embed(torch.from_numpy(patches))["speech"]
    silent = backbone.embed(torch.zeros(3, 576, dtype=torch.int16))["speech"]
    assert heard.max() > 0.5 > 0.2 > silent.max()
