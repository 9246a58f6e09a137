"""On a GPU: the same vectors as on a processor, in batches that were measured there.

Golden vectors are in `test_goldens.py`, on every device there is.
"""

import numpy as np
import pytest
import torch

from audioflow import goldens
from audioflow.backbones import tuning
from audioflow.backbones.ready import made_ready
from audioflow.backbones.running import Heard, Limits, embed_sound
from audioflow.media.patches import Stretch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


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
