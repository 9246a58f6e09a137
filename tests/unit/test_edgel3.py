"""`edgel3`: its real weight file, whose own filters and layers say what it has to compute.

Shapes: P patches, T samples of a patch, M bands, F frames.
"""

import gzip

import h5py
import numpy as np
import pytest
import torch

from audioflow import goldens
from audioflow.backbones import BACKBONES, edgel3
from audioflow.media.patches import Stretch, cut_patches

CPU = torch.device("cpu")
FILE = "edgel3_sea_ust_audio_emb_64.h5.gz"


@pytest.fixture(scope="module")
def packed(shared_data):
    return shared_data / "weights" / FILE


def built(**options):
    made = BACKBONES.build("edgel3", options)
    made.to(CPU)
    return made


def embed(backbone, batch: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return backbone.embed(torch.from_numpy(batch))["embedding"].numpy()


def test_the_spectrogram_is_that_of_the_kernels_in_the_file(packed):
    with gzip.open(packed) as file, h5py.File(file) as keras:
        layer = keras["model_weights/melspectrogram_1/melspectrogram_1"]
        real, imaginary = (layer[f"{name}_kernels:0"][:, 0, 0] for name in ("real", "imag"))
        mel_KM = layer["Variable:0"][()]
    patches = goldens.sound(2, 8000)
    padded = np.pad(patches / 32_767, ((0, 0), (432, 432)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1024, axis=1)[:, ::160]
    power = (frames @ real) ** 2 + (frames @ imaginary) ** 2
    db = 10 * np.log10(np.maximum(np.sqrt(power @ mel_KM), 1e-10))
    expected = np.maximum(db - db.max(axis=(1, 2), keepdims=True), -80).swapaxes(1, 2)
    found = edgel3.spectrogram(torch.from_numpy(patches).float() / 32_767).numpy()
    assert found.shape == (2, 64, 50)
    assert found == pytest.approx(expected, abs=1e-2)


def test_embeddings_are_those_of_keras(packed):
    """The numbers were computed by tf_keras 2.21 from the layers that the file describes."""
    found = embed(built(weights=str(packed)), goldens.sound(2, 8000))
    assert found.shape == (2, 64)
    assert found[0, :8] == pytest.approx(
        [0.0, 17.4948, 2.211, 0.7892, 0.0883, 4.4195, 2.5795, 3.663], abs=2e-3
    )
    assert found[1, :8] == pytest.approx(
        [0.0, 19.0368, 0.0864, 0.0, 0.2292, 4.8629, 6.0954, 10.4569], abs=2e-3
    )
    assert found.mean(axis=1) == pytest.approx([1.2317955, 1.4731385], rel=1e-4)
    assert found.max(axis=1) == pytest.approx([17.494766, 19.036789], rel=1e-4)


def test_trained_weights_keep_their_direction_in_bfloat16(packed):
    batch = goldens.sound(8, 8000)
    exact = embed(built(weights=str(packed)), batch)
    rough = embed(built(weights=str(packed), precision="bfloat16"), batch)
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(rough, axis=1)
    assert ((exact * rough).sum(axis=1) / lengths).min() > 0.999


@pytest.mark.parametrize(("centre", "count", "first"), [(True, 16, -0.5), (False, 11, 0.0)])
def test_patches_are_as_many_as_in_edgel3(centre, count, first):
    patching = BACKBONES.build("edgel3", {"centre": centre}).input
    patches, starts = cut_patches(Stretch(np.ones(16_000, np.int16)), patching)
    assert (patches.shape, starts[0]) == ((count, 8000), first)


def test_silence_and_full_scale_are_finite(packed):
    extremes = np.zeros((2, 8000), np.int16)
    extremes[1, ::2] = 32_767
    assert np.isfinite(embed(built(weights=str(packed)), extremes)).all()
