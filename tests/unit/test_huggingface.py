"""Small models of every family, saved as folders, against transformers called directly."""

import numpy as np
import pytest
import torch

from audioflow.backbones import BACKBONES
from audioflow.backbones.transformers_frontends import front_end
from audioflow.backbones.transformers_models import from_config
from audioflow.errors import AudioflowError
from audioflow.registry import UnknownPlugin
from audioflow.weights import WeightsError

transformers = pytest.importorskip("transformers")

CPU = torch.device("cpu")
BLOCKS = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
WAVES = BLOCKS | {
    "hidden_size": 32,
    "conv_dim": [16, 16, 16],
    "conv_kernel": [10, 3, 3],
    "conv_stride": [5, 4, 4],
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
CLAP = (
    {"patch_embeds_hidden_size": 16, "depths": [1, 1, 1], "hidden_size": 64}
    | {"num_attention_heads": [2, 2, 2], "projection_dim": 24, "spec_size": 128}
    | {"num_hidden_layers": 3, "window_size": 4, "num_mel_bins": 32}
)
TINY = {
    "ast": BLOCKS
    | {"hidden_size": 32, "num_mel_bins": 32, "max_length": 64, "patch_size": 8}
    | {"frequency_stride": 4, "time_stride": 4},
    "wav2vec2": WAVES,
    "hubert": WAVES,
    "wavlm": WAVES | {"num_buckets": 32, "max_bucket_distance": 80},
    "clap": CLAP,
    "clap_fused": CLAP | {"enable_fusion": True},
    "whisper": {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2}
    | {"encoder_ffn_dim": 48, "decoder_layers": 1, "decoder_attention_heads": 2}
    | {"decoder_ffn_dim": 48, "max_source_positions": 100, "num_mel_bins": 40}
    | {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    | {"decoder_start_token_id": 1},
}
FAMILIES = list(TINY)


def architecture(family: str) -> str:
    return family.removesuffix("_fused")


def batch(rate: int, seconds: float, count: int = 3) -> torch.Tensor:
    generator = np.random.default_rng(count)
    samples = generator.integers(-9_000, 9_000, (count, round(rate * seconds)), np.int16)
    return torch.from_numpy(samples // np.arange(1, count + 1, dtype=np.int16)[:, None])


def options(family: str, **more) -> dict:
    return {
        "weights": "random",
        "architecture": architecture(family),
        "config": TINY[family],
    } | more


def made(name="huggingface", /, **given):
    backbone = BACKBONES.build(name, given)
    backbone.to(CPU)
    return backbone


def embed(backbone, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return backbone.embed(inputs)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A saved model of every family, with its feature extractor."""
    found = {}
    for family in FAMILIES:
        torch.manual_seed(0)
        source = from_config(architecture(family), TINY[family])
        classes = {"clap": "ClapAudioModelWithProjection", "whisper": "WhisperModel"}
        if architecture(family) in classes:
            model = getattr(transformers, classes[architecture(family)])(source.config)
        else:
            model = transformers.AutoModel.from_config(source.config)
        folder = tmp_path_factory.mktemp(family)
        model.save_pretrained(folder)
        source.extractor.save_pretrained(folder)
        found[family] = folder
    return found


def expected(family: str, folder, samples: torch.Tensor) -> dict[str, torch.Tensor]:
    """The layers of one patch, from transformers alone."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    waveform = samples.numpy().astype(np.float32) / np.float32(32767.0)
    inputs = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    classes = {"clap": "ClapAudioModelWithProjection", "whisper": "WhisperModel"}
    model = getattr(transformers, classes.get(architecture(family), "AutoModel")).from_pretrained(
        folder
    )
    model = (model.get_encoder() if family == "whisper" else model).eval()
    if family.startswith("clap"):
        inputs["is_longer"] = torch.zeros_like(torch.as_tensor(inputs["is_longer"]))
    with torch.inference_mode():
        output = model(**inputs, output_hidden_states=True)
    last, hidden = output.last_hidden_state[0], output.hidden_states[1][0]
    if family == "whisper":
        heard = -(-len(samples) // 320)
        return {"embedding": last[:heard].mean(0), "hidden_1": hidden[:heard].mean(0)}
    if family == "ast":
        layers = {"embedding": last[2:].mean(0), "hidden_1": hidden[2:].mean(0)}
        return layers | {"pooled": output.pooler_output[0]}
    if family.startswith("clap"):
        layers = {"embedding": last.mean((1, 2)), "hidden_1": hidden.mean((1, 2))}
        return layers | {"pooled": output.audio_embeds[0]}
    return {"embedding": last.mean(0), "hidden_1": hidden.mean(0)}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_local_folder_gives_what_transformers_gives_patch_by_patch(folders, family):
    pooled = family == "ast" or family.startswith("clap")
    layers = ["embedding", "hidden_1"] + ["pooled"] * pooled
    seconds = 0.5 if not family.startswith("clap") else 3.0
    backbone = made(weights=str(folders[family]), layers=layers, patch_s=seconds)
    inputs = batch(backbone.input.sample_rate_hz, seconds)
    found = embed(backbone, inputs)
    assert list(found) == layers == list(backbone.layers)
    for number, samples in enumerate(inputs):
        for layer, vector in expected(family, folders[family], samples).items():
            scale = vector.abs().max()
            assert (found[layer][number] - vector).abs().max() < 2e-4 * scale, layer


@pytest.mark.parametrize("family", FAMILIES)
def test_every_front_end_is_that_of_the_feature_extractor(folders, family):
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folders[family])
    seconds = 0.63 if not family.startswith("clap") else 4.2
    inputs = batch(extractor.sampling_rate, seconds).float() / 32767.0
    found = front_end(extractor)(inputs)
    for number, waveform in enumerate(inputs):
        rate = extractor.sampling_rate
        given = extractor(waveform.numpy(), sampling_rate=rate, return_tensors="np")
        values = next(iter(given.values()))[0]
        values = values[0] if values.ndim == 3 else values
        assert found[number].shape == values.shape
        assert np.abs(found[number].numpy() - values).max() < 5e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_together_equals_one_by_one_and_bfloat16_keeps_the_direction(family):
    backbone = made(**options(family))
    inputs = batch(backbone.input.sample_rate_hz, backbone.input.patch_s)
    found = embed(backbone, inputs)["embedding"]
    apart = torch.cat([embed(backbone, one[None])["embedding"] for one in inputs])
    assert torch.allclose(found, apart, rtol=1e-5, atol=1e-5)
    rough = embed(made(**options(family, precision="bfloat16")), inputs)["embedding"]
    assert torch.cosine_similarity(rough, found).min() > 0.999


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sequence_has_the_mean_of_the_layer(family):
    mean, sequence = made(**options(family)), made(**options(family, time="sequence"))
    inputs = batch(mean.input.sample_rate_hz, mean.input.patch_s)
    together, apart = embed(mean, inputs)["embedding"], embed(sequence, inputs)["embedding"]
    assert apart.shape[0] == 3
    assert apart.shape[1] > 1
    assert torch.allclose(apart.mean(dim=1), together, atol=1e-5)


def test_patches_are_as_long_as_the_model_takes():
    lengths = {family: BACKBONES.build("huggingface", options(family)).input for family in FAMILIES}
    assert {family: round(input.patch_s, 3) for family, input in lengths.items()} == {
        "ast": 0.655,
        "wav2vec2": 10.0,
        "hubert": 10.0,
        "wavlm": 10.0,
        "clap": 5.0,
        "clap_fused": 5.0,
        "whisper": 2.0,
    }
    assert lengths["clap"].sample_rate_hz == 48_000
    with pytest.raises(AudioflowError, match=r"patch_s is 3, this model takes at most 2 s"):
        _ = BACKBONES.build("huggingface", options("whisper", patch_s=3.0)).input


def test_a_layer_that_a_model_lacks_is_refused():
    with pytest.raises(AudioflowError, match="no layer pooled; it has embedding, hidden_0 to hid"):
        _ = BACKBONES.build("huggingface", options("hubert", layers=["pooled"])).layers
    with pytest.raises(AudioflowError, match="no layer hidden_3; it has embedding, pooled, hidden"):
        _ = BACKBONES.build("huggingface", options("ast", layers=["hidden_3"])).layers
    wrong = options("clap", layers=["hidden_1"], time="sequence")
    with pytest.raises(AudioflowError, match="sequence is not possible for hidden_1 of CLAP"):
        _ = BACKBONES.build("huggingface", wrong).layers


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="architecture None: architecture goes with weights: rand"):
        BACKBONES.build("huggingface", {"weights": "random"})
    with pytest.raises(ValueError, match="folder has its own"):
        BACKBONES.build("huggingface", {"weights": "some/model", "config": {"hidden_size": 8}})
    wrong = {"weights": "random", "architecture": "hubert", "config": {"hiden_size": 8}}
    with pytest.raises(AudioflowError, match="HubertConfig has no option 'hiden_size'"):
        _ = BACKBONES.build("huggingface", wrong).layers


def test_a_model_that_is_not_on_this_machine_is_told_with_the_way_to_get_it():
    backbone = BACKBONES.build("huggingface", {"weights": "no-one/no-such-model"})
    with pytest.raises(WeightsError, match="hf download no-one/no-such-model"):
        _ = backbone.input


def test_weights_that_are_no_safetensors_are_refused(folders, tmp_path):
    for file in folders["hubert"].iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    backbone = BACKBONES.build("huggingface", {"weights": str(tmp_path)})
    with pytest.raises(WeightsError, match=r"no \.safetensors there"):
        backbone.to(CPU)


def test_missing_tensors_are_an_error_and_not_random_numbers(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    for file in folders["ast"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    gone = next(name for name in sorted(tensors) if name.endswith("layernorm.weight"))
    del tensors[gone]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    backbone = BACKBONES.build("huggingface", {"weights": str(tmp_path)})
    with pytest.raises(WeightsError, match=r"1 tensors are missing \(layernorm\.weight"):
        backbone.to(CPU)


def test_a_folder_that_is_no_model_is_told(tmp_path):
    backbone = BACKBONES.build("huggingface", {"weights": str(tmp_path)})
    with pytest.raises(WeightsError, match="no model of transformers with a feature extractor"):
        _ = backbone.layers


def test_a_missing_package_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    backbone = BACKBONES.build("huggingface", options("wav2vec2"))
    with pytest.raises(UnknownPlugin, match=r"pip install 'audioflow\[huggingface\]'"):
        _ = backbone.layers
