"""Options with which every backbone can be made here, without any file that has to be fetched."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from audioflow.backbones import BACKBONES
from audioflow.weights import RANDOM, weights_fields
from tests.model_files import INNER, OUTER, dense, onnx_model, tflite_model


def _dense_model(made: Path) -> dict[str, Any]:
    """A model of two layers that takes 0.1 s at 8 kHz, and both of them."""
    outputs = {"hidden": INNER, "embedding": OUTER}
    return {"weights": str(made), "sample_rate_hz": 8000, "patch_s": 0.1, "outputs": outputs}


_SMALL_WAV2VEC2 = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": [16, 16],
    "conv_kernel": [10, 8],
    "conv_stride": [5, 8],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}

# For backbones that need more than random weights: from a folder that may be written to, options.
SPECIAL: dict[str, Callable[[Path], dict[str, Any]]] = {
    "huggingface": lambda folder: {
        "weights": RANDOM,
        "architecture": "wav2vec2",
        "config": _SMALL_WAV2VEC2,
        "patch_s": 0.5,
    },
    "litert": lambda folder: _dense_model(tflite_model(folder / "model.tflite", dense(800))),
    "mfcc_bof": lambda folder: {"codebook": RANDOM},
    "onnx": lambda folder: _dense_model(onnx_model(folder / "model.onnx", dense(800))),
    "openl3": lambda folder: {
        "weights": RANDOM,
        "representation": "mel128",
        "size": 512,
        "hop_s": 0.5,
    },
    "panns_cnn14": lambda folder: {"weights": RANDOM, "patch_s": 1.0, "hop_s": 1.0},
    "torchaudio": lambda folder: {"weights": RANDOM, "layers": ["layer_1"], "patch_s": 0.5},
    "r2plus1d_18": lambda folder: {"weights": RANDOM, "frames_per_patch": 2},
    "s3d": lambda folder: {"weights": RANDOM, "frames_per_patch": 14},
    "swin3d_t": lambda folder: {"weights": RANDOM, "frames_per_patch": 2},
    "video": lambda folder: {"weights": RANDOM, "frames_per_patch": 2},
}


def options_for(name: str, folder: Path) -> dict[str, Any]:
    """Options of the backbone `name`: random weights, or a file made in `folder`."""
    if name in SPECIAL:
        return SPECIAL[name](folder)
    settings = BACKBONES.load(name).Settings
    fields = [field for field in weights_fields(settings) if settings.model_fields[field].default]
    return dict.fromkeys(fields, RANDOM)
