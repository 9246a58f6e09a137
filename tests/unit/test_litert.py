"""TFLite models made here, and real ones: YAMNet in 8 bits."""

import numpy as np
import pytest
import torch

from audioflow.backbones import BACKBONES
from audioflow.backbones.declared import CallShape, FrontEnd, vectors
from audioflow.errors import AudioflowError
from audioflow.registry import UnknownPlugin
from audioflow.weights import WeightsError
from tests.model_files import INNER, OUTER, STEP, dense, tflite_model

pytest.importorskip("ai_edge_litert")

CPU = torch.device("cpu")
SAMPLES = 100
MODEL = dense(SAMPLES)
PLAIN = {"n_fft": 64, "frame_hop_samples": 9, "num_mels": 20, "low_hz": 50, "high_hz": 500}


def batch(count: int = 5, samples: int = SAMPLES) -> torch.Tensor:
    generator = np.random.default_rng(count)
    return torch.from_numpy(generator.integers(-20_000, 20_000, (count, samples), np.int16))


def built(path, **options):
    return BACKBONES.build(
        "litert", {"weights": str(path), "sample_rate_hz": 1000, "patch_s": 0.1} | options
    )


def made(path, **options):
    backbone = built(path, **options)
    backbone.to(CPU)
    return backbone


@pytest.mark.parametrize("takes", [None, 1, 3])
def test_layers_are_what_the_model_computes_however_many_patches_it_takes(tmp_path, takes):
    path = tflite_model(tmp_path / "model.tflite", MODEL, batch=takes)
    backbone = made(path, outputs={"hidden": INNER, "result": OUTER})
    hidden, result = MODEL(batch().numpy() / 32767.0)
    assert dict(backbone.layers) == {"hidden": 6, "result": 3}
    for _ in range(2):  # the second call finds the model's memory as the first left it
        found = backbone.embed(batch())
        assert found["hidden"].numpy() == pytest.approx(hidden, abs=1e-5)
        assert found["result"].numpy() == pytest.approx(result, abs=1e-5)
    assert backbone.embed(batch(2))["result"].shape == (2, 3)


@pytest.mark.parametrize("takes", [None, 1])
def test_a_quantised_model_gets_and_gives_real_numbers(tmp_path, takes):
    path = tflite_model(tmp_path / "model.tflite", MODEL, batch=takes, quantised=True)
    found = made(path, outputs={"hidden": INNER, "result": OUTER}).embed(batch())
    rounded = np.clip(np.round(batch().numpy() / 32767.0 / STEP), -133, 122) * STEP
    hidden, result = MODEL(rounded)
    hidden = np.round(hidden * 16) / 16  # the inner tensor has steps of 1/16, the result of 1/8
    assert found["hidden"].numpy() == pytest.approx(hidden, abs=1 / 16 + 1e-6)
    assert np.abs(found["hidden"].numpy() - hidden).mean() < 1 / 64
    assert found["result"].numpy() == pytest.approx(result, abs=1 / 8)
    assert set(np.unique(found["result"].numpy() * 8 % 1)) == {0.0}


def test_without_names_the_models_own_output_is_the_embedding(tmp_path):
    path = tflite_model(tmp_path / "model.tflite", MODEL)
    found = made(path).embed(batch())
    assert found["embedding"].numpy() == pytest.approx(MODEL(batch().numpy() / 32767)[1], abs=1e-5)
    assert built(path).layers == {"embedding": 3}


def test_the_input_has_the_range_that_is_declared(tmp_path):
    path = tflite_model(tmp_path / "model.tflite", MODEL)
    found = made(path, input_range=32768.0).embed(batch())["embedding"].numpy()
    assert found == pytest.approx(MODEL(batch().numpy() / 32767.0 * 32768)[1], rel=1e-4, abs=0.1)


def test_a_declared_log_mel_is_that_of_the_backbone_of_the_same_keys():
    told = {"sample_rate_hz": 1000, "patch_s": 0.1}
    keys = PLAIN | {"log": "log10", "offset": 0.5}
    expected = BACKBONES.build("logmel", {"preset": "none"} | told | keys).embed(batch())["logmel"]
    assert expected.shape == (5, 5, 20)
    settings = BACKBONES.load("litert").Settings(weights="model.tflite", **told, logmel=keys)
    assert torch.equal(FrontEnd(settings)(batch()), expected)
    turned = FrontEnd(settings.model_copy(update={"bands_first": True}))
    assert torch.equal(turned(batch()), expected.transpose(1, 2))


def test_an_output_that_does_not_exist_is_told_with_those_that_do(tmp_path):
    path = tflite_model(tmp_path / "model.tflite", MODEL)
    for wanted in ("inner/Sigmoid", 77):
        backbone = built(path, outputs={"hidden": wanted})
        with pytest.raises(WeightsError, match=r"output .* of layer hidden does not exist") as told:
            _ = backbone.layers
        assert repr(wanted) in str(told.value)
        assert f"2 '{INNER}' [1, 6]" in str(told.value)


def test_a_model_of_another_length_is_told(tmp_path):
    path = tflite_model(tmp_path / "model.tflite", MODEL)
    with pytest.raises(WeightsError, match="takes anyx100, the front end gives 200 per patch"):
        _ = built(path, patch_s=0.2).layers


def test_a_changed_file_has_its_own_layers(tmp_path):
    path = tmp_path / "model.tflite"
    tflite_model(path, MODEL)
    assert built(path, outputs={"a": 2}).layers == {"a": 6}
    tflite_model(path, MODEL, batch=2)
    path.touch()
    assert built(path, outputs={"a": 4}).layers == {"a": 3}


@pytest.mark.parametrize("content", [b"", b"not a model at all"])
def test_a_file_that_is_no_model_is_told(tmp_path, content):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.tflite cannot be read as a TFLite model"):
        made(path)


def test_a_missing_file_and_a_missing_package_are_told(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match=r"none\.tflite: no such file"):
        _ = built(tmp_path / "none.tflite").layers
    monkeypatch.setitem(__import__("sys").modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(UnknownPlugin, match=r"pip install 'audioflow\[litert\]'"):
        made(tmp_path / "none.tflite")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "random"}, "random is not possible: the file is the network"),
        ({"logmel": {"preset": "vggish"}}, r"high_hz \(7500\).*\(500\)"),
        ({"logmel": {}}, "n_fft, frame_hop_samples, num_mels, low_hz, high_hz missing"),
        ({"logmel": PLAIN | {"window_samples": 80}}, r"window_samples \(80\) is more than n_fft"),
        ({"logmel": PLAIN, "patch_s": 0.06}, "is 60 samples, one frame needs 64"),
        ({"bands_first": True}, "bands_first says nothing of a waveform"),
        ({"outputs": {"a b": 1}}, "outputs"),
        ({"logmel": PLAIN | {"window": 9}}, "logmel.window"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        built("model.tflite", **options)


def test_a_file_has_no_default():
    with pytest.raises(ValueError, match="weights"):
        BACKBONES.build("litert", {"sample_rate_hz": 1000, "patch_s": 0.1})


# Shapes


@pytest.mark.parametrize(
    ("model", "patch", "shape", "at_once", "batched"),
    [
        ((None, 100), (100,), (100,), None, True),
        ((1, 100), (100,), (100,), 1, True),
        ((4, 100, 1), (100,), (100, 1), 4, True),
        ((None, 1, 100), (100,), (1, 100), None, True),
        ((100,), (100,), (100,), 1, False),
        ((None,), (100,), (100,), 1, False),
        ((None, None), (100,), (100,), None, True),
        ((1, 96, 64), (96, 64), (96, 64), 1, True),
        ((None, 1, 96, 64), (96, 64), (1, 96, 64), None, True),
        ((None, 96, 64, 1), (96, 64), (96, 64, 1), None, True),
        ((96, 64), (96, 64), (96, 64), 1, False),
        ((None, 64), (96, 64), (96, 64), 1, False),
    ],
)
def test_patches_go_into_inputs_of_many_shapes(model, patch, shape, at_once, batched):
    found = CallShape(model, patch, "model")
    assert (found.patch, found.at_once, found.batched) == (shape, at_once, batched)


@pytest.mark.parametrize(("model", "patch"), [((1, 64, 96), (96, 64)), ((2, 2), (3,)), ((), (3,))])
def test_shapes_that_do_not_fit_are_refused(model, patch):
    with pytest.raises(WeightsError, match="check sample_rate_hz, patch_s and logmel"):
        CallShape(model, patch, "model")


def test_a_group_that_is_not_full_is_filled_up_with_silence():
    seen = []

    def call(values):
        seen.append(values.copy())
        return {"sum": values.sum(axis=1)}

    features = np.arange(10, dtype=np.float32).reshape(5, 2)
    found = CallShape((2, 2), (2,), "model").called(call, features)
    assert found["sum"].tolist() == [1, 5, 9, 13, 17]
    assert [values.shape for values in seen] == [(2, 2)] * 3
    assert seen[-1][1].tolist() == [0, 0]


def test_an_output_without_an_entry_per_patch_is_refused():
    with pytest.raises(AudioflowError, match=r"layer state has the shape \(2, 3\) for 5 patches"):
        CallShape((None, 2), (2,), "model").called(
            lambda values: {"state": np.zeros((2, 3))}, np.zeros((5, 2), np.float32)
        )


def test_outputs_of_more_than_one_vector_are_reduced_as_asked():
    maps = {"map": np.arange(24.0).reshape(2, 1, 3, 4), "pool": np.ones((2, 5, 1, 1))}
    mean, sequence, flat = (vectors(maps, way) for way in ("mean", "sequence", "flatten"))
    assert mean["map"].tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]
    assert (sequence["map"].shape, flat["map"].shape) == ((2, 3, 4), (2, 12))
    assert {found["pool"].shape for found in (mean, sequence, flat)} == {(2, 5)}
    assert vectors({"score": np.ones((2, 1))}, "mean")["score"].shape == (2, 1)
    assert vectors({"score": np.ones(2)}, "mean")["score"].shape == (2, 1)


# A real model


def test_yamnet_is_a_tflite_model_like_any_other(shared_data):
    path = shared_data / "weights" / "yamnet_spectra_in.tflite"
    options = {"sample_rate_hz": 16_000, "patch_s": 0.975}
    options["logmel"] = {"preset": "yamnet"}
    inner = "tower0/network/layer28/reduce_mean"
    backbone = made(path, **options, outputs={"embedding": inner, "map": 89, "scores": 93})
    assert dict(backbone.layers) == {"embedding": 1024, "map": 1024, "scores": 521}
    sound = np.fromfile(shared_data / "weights" / "yamnet_test_audio.bin", np.int16)
    found = backbone.embed(torch.from_numpy(sound)[None].repeat(3, 1))
    assert (found["scores"].argmax(dim=1) == 0).all()  # Speech
    assert found["scores"].max() > 0.9
    assert torch.equal(found["embedding"][0], found["embedding"][2])
    assert found["map"].numpy() == pytest.approx(found["embedding"].numpy(), abs=0.03)
