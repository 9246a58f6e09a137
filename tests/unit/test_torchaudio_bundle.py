"""Speech models of torchaudio.pipelines, against torchaudio called directly."""

import numpy as np
import pytest
import torch
import torchaudio

from audioflow.backbones import BACKBONES
from audioflow.backbones.torchaudio_bundle import BUNDLES, TorchaudioBundle, Tower, renamed
from audioflow.weights import WeightsError

CPU = torch.device("cpu")


def batch(count: int = 3, samples: int = 8000) -> torch.Tensor:
    generator = np.random.default_rng(count)
    drawn = generator.integers(-9_000, 9_000, (count, samples), np.int16)
    return torch.from_numpy(drawn // np.arange(1, count + 1, dtype=np.int16)[:, None])


def two_blocks(bundle: str) -> torch.nn.Module:
    """A network of the bundle's shape with two blocks, its weights drawn by torch."""
    torch.manual_seed(0)
    params = BUNDLES[bundle]._params | {"encoder_num_layers": 2, "aux_num_out": None}
    wavlm = BUNDLES[bundle]._model_type == "WavLM"
    models = torchaudio.models
    return (models.wavlm_model if wavlm else models.wav2vec2_model)(**params).eval()


def made(**options):
    backbone = BACKBONES.build("torchaudio", {"patch_s": 0.5} | options)
    backbone.to(CPU)
    return backbone


def embed(backbone, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return backbone.embed(inputs)


@pytest.mark.parametrize("bundle", ["WAV2VEC2_BASE", "WAVLM_BASE", "WAV2VEC2_XLSR53"])
def test_a_file_gives_what_torchaudio_gives(bundle, tmp_path):
    """XLSR53 wants every patch with mean 0 and variance 1."""
    network = two_blocks(bundle)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = made(
        bundle=bundle, weights=str(tmp_path / "weights.pth"), layers=["layer_1", "layer_2"]
    )
    width = 1024 if bundle == "WAV2VEC2_XLSR53" else 768
    assert dict(backbone.layers) == {"layer_1": width, "layer_2": width}
    found = embed(backbone, batch())
    waveform = batch().numpy() / 32767.0
    if bundle == "WAV2VEC2_XLSR53":
        variance = waveform.var(axis=1, keepdims=True)
        waveform = (waveform - waveform.mean(axis=1, keepdims=True)) / np.sqrt(variance + 1e-5)
    with torch.inference_mode():
        states, _ = network.extract_features(torch.from_numpy(waveform).float())
    for number, state in enumerate(states, start=1):
        assert torch.allclose(found[f"layer_{number}"], state.mean(dim=1), atol=1e-5)


def test_names_of_older_files_are_known_and_deeper_blocks_and_letters_are_left_out():
    names = [
        "feature_extractor.conv_layers.0.conv.weight",
        "encoder.transformer.pos_conv_embed.conv.weight_g",
        "encoder.transformer.pos_conv_embed.conv.weight_v",
        "encoder.transformer.pos_conv_embed.conv.bias",
        "encoder.transformer.layers.1.final_layer_norm.weight",
        "encoder.transformer.layers.10.final_layer_norm.weight",
        "aux.weight",
    ]
    found = renamed({name: np.zeros(1) for name in names}, 2)
    assert list(found) == [
        "feature_extractor.conv_layers.0.conv.weight",
        "encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original0",
        "encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1",
        "encoder.transformer.pos_conv_embed.conv.bias",
        "encoder.transformer.layers.1.final_layer_norm.weight",
    ]


def test_a_file_in_the_older_names_is_read(tmp_path):
    new, old = ".parametrizations.weight.original", {"0": ".weight_g", "1": ".weight_v"}
    tensors = two_blocks("WAV2VEC2_BASE").state_dict()
    files = {}
    for age in ("new", "old"):
        files[age] = str(tmp_path / f"{age}.pth")
        torch.save(tensors, files[age])
        tensors = {
            name.split(new)[0] + old[name[-1]] if new in name else name: tensor
            for name, tensor in tensors.items()
        }
    one, other = (made(weights=file, layers=["layer_2"]) for file in files.values())
    assert torch.equal(embed(one, batch())["layer_2"], embed(other, batch())["layer_2"])


def test_the_embedding_is_what_the_network_gives_at_its_end():
    for first in (False, True):
        params = BUNDLES["WAV2VEC2_BASE"]._params | {"encoder_num_layers": 2}
        torch.manual_seed(0)
        network = torchaudio.models.wav2vec2_model(**params | {"encoder_layer_norm_first": first})
        with torch.no_grad():
            network.encoder.transformer.layer_norm.weight.fill_(3.0)
        network.eval()
        waveform = batch().float() / 32767.0
        with torch.inference_mode():
            expected, _ = network(waveform)
            found = Tower(network, ["embedding", "layer_2"])(waveform)
        assert torch.equal(found["embedding"], expected)
        assert torch.equal(found["layer_2"], expected) is not first


def test_a_sequence_has_a_vector_every_20_ms():
    options = {"weights": "random", "layers": ["layer_1"], "patch_s": 1.0}
    sequence = embed(made(**options, time="sequence"), batch(2, 16_000))["layer_1"]
    mean = embed(made(**options), batch(2, 16_000))["layer_1"]
    assert sequence.shape == (2, 49, 768)
    assert torch.allclose(sequence.mean(dim=1), mean, atol=1e-5)


def test_in_bfloat16_vectors_keep_their_direction():
    options = {"weights": "random", "layers": ["layer_2"]}
    exact = embed(made(**options), batch())["layer_2"]
    rough = embed(made(**options, precision="bfloat16"), batch())["layer_2"]
    assert torch.cosine_similarity(exact, rough).min() > 0.999


def test_every_bundle_is_known_with_its_address_and_licence():
    known = {weights.name: weights for weights in TorchaudioBundle.known}
    assert known.keys() == BUNDLES.keys()
    assert known["WAVLM_LARGE"].url == (
        "https://download.pytorch.org/torchaudio/models/wavlm_large.pth"
    )
    assert known["MMS_FA"].url.startswith("https://dl.fbaipublicfiles.com/mms/")
    licences = {name: known[name].licence for name in ("HUBERT_BASE", "VOXPOPULI_ASR_BASE_10K_DE")}
    assert licences == {"HUBERT_BASE": "MIT", "VOXPOPULI_ASR_BASE_10K_DE": "CC BY-NC 4.0"}


def test_without_weights_those_of_the_bundle_are_meant():
    settings = BACKBONES.load("torchaudio").Settings
    assert settings().weights == "WAV2VEC2_BASE"
    assert settings(bundle="WAVLM_LARGE").weights == "WAVLM_LARGE"
    assert BACKBONES.build("torchaudio", {"bundle": "WAVLM_LARGE"}).layers == {"embedding": 1024}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bundle": "WAVLM"}, "'WAVLM' is none of torchaudio's: HUBERT_ASR_LARGE, "),
        ({"bundle": "WAVLM_BASE", "weights": "HUBERT_BASE"}, "weights are those of HUBERT_BASE"),
        ({"layers": ["layer_13"]}, "WAV2VEC2_BASE has layer_1 to layer_12, no layer_13"),
        ({"layers": ["conv_1"]}, "layers"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BACKBONES.build("torchaudio", options)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"some.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"tensors are missing: .*belong to another network"):
        made(weights=str(tmp_path / "other.pth"), layers=["layer_1"])
