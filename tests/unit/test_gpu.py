"""On a GPU: the same vectors as on a processor, in batches that were measured there."""

import numpy as np
import pytest
import torch

from audioflow import goldens
from audioflow.backbones import BACKBONES, tuning
from audioflow.backbones.ready import made_ready
from audioflow.backbones.running import Heard, Limits, embed_sound
from audioflow.media.patches import Stretch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CASES = [(name, golden) for name in goldens.names() for golden in goldens.load(name)]
IDS = [f"{name}-{golden.case.name}" for name, golden in CASES]


def embedded(name: str, golden: goldens.Golden, **options) -> dict[str, np.ndarray]:
    backbone = BACKBONES.build(name, dict(golden.case.options) | options)
    backbone.to(torch.device("cuda"))
    with torch.inference_mode():
        found = backbone.embed(torch.from_numpy(goldens.batch(golden.case)).cuda())
    return {layer: vectors.cpu().numpy() for layer, vectors in found.items()}


@pytest.mark.parametrize(("name", "golden"), CASES, ids=IDS)
def test_a_backbone_gives_its_golden_vectors(name, golden):
    network = "precision" in BACKBONES.load(name).Settings.model_fields
    found = embedded(name, golden, **({"precision": "float32"} if network else {}))
    for layer, expected in golden.layers.items():
        assert goldens.relative_error(found[layer], expected) < 1e-3, layer


@pytest.mark.parametrize(("name", "golden"), CASES, ids=IDS)
def test_in_bfloat16_vectors_keep_their_direction(name, golden):
    if "precision" not in BACKBONES.load(name).Settings.model_fields:
        pytest.skip(f"{name} is no network")
    found = embedded(name, golden, precision="bfloat16")
    for layer, expected in golden.layers.items():
        width = expected.shape[-1]
        a, b = found[layer].reshape(-1, width), expected.reshape(-1, width)
        cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
        assert cosine.min() >= 0.999, layer


@pytest.mark.parametrize("name", ["vggish", "acoustic"])
def test_clips_in_batches_are_those_of_a_processor(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = {"weights": "random"} if name == "vggish" else {}
    ready = made_ready(name, options)
    rate = ready.backbone.input.sample_rate_hz
    generator = np.random.default_rng(0)
    heard = [
        Heard(clip, Stretch(generator.integers(-9000, 9000, rate * (clip + 1), np.int16)))
        for clip in range(5)
    ]
    found = []
    for device in map(torch.device, ("cpu", "cuda")):
        ready.backbone.to(device)
        limits = tuning.limits_for(ready, device) if device.type == "cuda" else Limits()
        found.append(embed_sound(ready.backbone, heard, device, limits))
    for one, other in zip(*found, strict=True):
        for layer, expected in one.embedding.layers.items():
            assert goldens.relative_error(other.embedding.layers[layer], expected) < 1e-3
