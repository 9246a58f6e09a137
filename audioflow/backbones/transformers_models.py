"""Audio models of `transformers`, from a local folder or from a configuration.

Nothing is fetched here, no code of a model's folder is run, and weights are read from safetensors
only. Shapes: P patches, L positions in time, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from audioflow.backbones.optional import needed
from audioflow.backbones.transformers_frontends import SUPPORTED, family_of
from audioflow.errors import AudioflowError
from audioflow.weights import WeightsError

Architecture = Literal["ast", "wav2vec2", "hubert", "wavlm", "clap", "whisper"]
_NAME = "huggingface"
_CLASSES = {
    "ast": ("ASTConfig", "ASTFeatureExtractor"),
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2FeatureExtractor"),
    "hubert": ("HubertConfig", "Wav2Vec2FeatureExtractor"),
    "wavlm": ("WavLMConfig", "Wav2Vec2FeatureExtractor"),
    "clap": ("ClapAudioConfig", "ClapFeatureExtractor"),
    "whisper": ("WhisperConfig", "WhisperFeatureExtractor"),
}
_ONLY_IN_TRAINING = "masked_spec_embed"
AST_CLASS_TOKENS = 2


@dataclass(frozen=True)
class Source:
    """A model's configuration and feature extractor, and the folder of its weights, if any."""

    config: Any
    extractor: Any
    folder: Path | None = None

    @property
    def family(self) -> str:
        return family_of(self.extractor)

    @property
    def width(self) -> int:
        """D of the last hidden state."""
        return int(self.config.d_model if self.family == "whisper" else self.config.hidden_size)

    @property
    def pooled_width(self) -> int | None:
        """D of what the model itself pools, None where it does not."""
        widths = {"ast": "hidden_size", "clap": "projection_dim"}
        return getattr(self.config, widths[self.family]) if self.family in widths else None

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """D of the hidden states: what goes into the first block, then what each block gives."""
        if self.family != "clap":
            blocks = "encoder_layers" if self.family == "whisper" else "num_hidden_layers"
            return (self.width,) * (getattr(self.config, blocks) + 1)
        first, stages = self.config.patch_embeds_hidden_size, len(self.config.depths)
        return tuple(first * 2 ** min(place, stages - 1) for place in range(stages + 1))


def from_folder(folder: Path) -> Source:
    """What a folder with `config.json`, `preprocessor_config.json` and weights describes."""
    library = needed("transformers", _NAME, _NAME)
    try:
        config = library.AutoConfig.from_pretrained(folder, local_files_only=True)
        extractor = library.AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{folder}: no model of transformers with a feature extractor: {error}"
        ) from error
    if not family_of(extractor):
        raise WeightsError(
            f"{folder}: its feature extractor is {type(extractor).__name__}; "
            f"supported are {', '.join(SUPPORTED)}"
        )
    config = getattr(config, "audio_config", config) if family_of(extractor) == "clap" else config
    return Source(config, extractor, folder)


def from_config(architecture: Architecture, options: Mapping[str, Any]) -> Source:
    """The architecture with transformers' defaults, changed by these options of its config."""
    library = needed("transformers", _NAME, _NAME)
    config_name, extractor_name = _CLASSES[architecture]
    config_class = getattr(library, config_name)
    known = config_class().to_dict()
    if unknown := sorted(options.keys() - known.keys()):
        raise AudioflowError(f"{config_name} has no option {unknown[0]!r}")
    config = config_class(**options)
    given = {}
    if architecture == "ast":
        given = {"num_mel_bins": config.num_mel_bins, "max_length": config.max_length}
    elif architecture == "clap":
        truncation = "fusion" if config.enable_fusion else "rand_trunc"
        frames = config.spec_size * (config.spec_size // config.num_mel_bins)
        given = {"feature_size": config.num_mel_bins, "truncation": truncation}
        given["max_length_s"] = frames * 480 // 48_000
    elif architecture == "whisper":
        seconds = config.max_source_positions * 2 * 160 // 16_000
        given = {"feature_size": config.num_mel_bins, "chunk_length": seconds}
    return Source(config, getattr(library, extractor_name)(**given))


def on_this_machine(weights: str) -> Path:
    """The folder of a model: a local one, or of a model of the Hugging Face hub in its cache."""
    if Path(weights).is_dir():
        return Path(weights)
    hub = needed("huggingface_hub", _NAME, _NAME)
    errors = needed("huggingface_hub.errors", _NAME, _NAME)
    try:
        return Path(hub.snapshot_download(weights, local_files_only=True))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError) as error:
        raise WeightsError(
            f"{weights} is neither a folder nor a model in the Hugging Face cache of this machine; "
            f"`hf download {weights}` fetches one, `hf download {weights} --local-dir FOLDER` "
            "to a folder that can be copied to other machines"
        ) from error


class Tower(nn.Module):
    """The audio side of a model: what its front end gives in, hidden states out.

    -> `last` (P, L, D), `pooled` (P, D) where the model pools, and `hidden_N` (P, L, D) for the
    numbers wanted. The two class tokens of an AST are left out of `last` and `hidden_N`.
    """

    def __init__(self, model: nn.Module, source: Source, hidden: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.model = model
        self._source = source
        self._hidden = hidden

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        family = self._source.family
        told: dict[str, Any] = {"output_hidden_states": bool(self._hidden), "return_dict": True}
        if family == "clap":
            # Whether a patch is a part of a longer clip: none is, so that no fusion is computed.
            fusion = self._source.config.enable_fusion
            told["is_longer"] = features.new_zeros(len(features), 1, dtype=torch.bool)
            features = features[:, None].repeat(1, 4 if fusion else 1, 1, 1)
        output = self.model(features, **told)
        found = {"last": self._positions(output.last_hidden_state)}
        if family == "ast":
            found["pooled"] = output.pooler_output
        elif family == "clap":
            found["pooled"] = output.audio_embeds
        for number in self._hidden:
            found[f"hidden_{number}"] = self._positions(output.hidden_states[number], inner=True)
        return found

    def _positions(self, states: Tensor, *, inner: bool = False) -> Tensor:
        """(P, L, D) in the order of time, averaged over frequency."""
        family, config = self._source.family, self._source.config
        if family == "ast":
            tokens = states[:, AST_CLASS_TOKENS:]
            times = (config.max_length - config.patch_size) // config.time_stride + 1
            return tokens.reshape(len(tokens), -1, times, tokens.shape[2]).mean(dim=1)
        if family == "clap":
            return states.flatten(2).transpose(1, 2) if inner else states.mean(2).transpose(1, 2)
        return states


def empty(source: Source) -> nn.Module:
    """The audio side of a model, without the weights of a file."""
    library = needed("transformers", _NAME, _NAME)
    if source.family == "clap":
        return library.ClapAudioModelWithProjection(source.config)
    if source.family == "whisper":
        return library.WhisperModel(source.config).get_encoder()
    return library.AutoModel.from_config(source.config)


def loaded(source: Source) -> nn.Module:
    """The audio side of a model with the weights of its folder, in float32.

    Raises `WeightsError` where weights are not safetensors, missing, or of another shape.
    """
    library = needed("transformers", _NAME, _NAME)
    if source.folder is None or not list(source.folder.glob("*.safetensors")):
        raise WeightsError(
            f"{source.folder}: no .safetensors there; weights in other formats may run code when "
            "they are read and are not: convert them with transformers' save_pretrained"
        )
    classes = {"clap": "ClapAudioModelWithProjection", "whisper": "WhisperModel"}
    library.utils.logging.disable_progress_bar()
    try:
        model, told = getattr(library, classes.get(source.family, "AutoModel")).from_pretrained(
            source.folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{source.folder} does not fit its config.json: {error}") from error
    if source.family == "whisper":
        model = model.get_encoder()
        told = {kind: _of_encoder(names) for kind, names in told.items()}
    missing = [name for name in told["missing_keys"] if not name.endswith(_ONLY_IN_TRAINING)]
    if missing or told["mismatched_keys"]:
        raise WeightsError(
            f"{source.folder}: {len(missing)} tensors are missing ({', '.join(sorted(missing)[:6])}"
            f"), {len(told['mismatched_keys'])} have another shape"
        )
    return model


def _of_encoder(names: Any) -> list[Any]:
    return [name for name in names if "decoder." not in str(name)]
