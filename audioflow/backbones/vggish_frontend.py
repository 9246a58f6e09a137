"""The front end of VGGish, exactly: waveforms to log-mel patches.

16 kHz; frames of 25 ms every 10 ms under a periodic Hann window, no padding; magnitudes of an FFT
of 512; 64 HTK mel bands from 125 to 7500 Hz, triangles linear in mel, of peak 1; natural logarithm
of the mel magnitudes plus 0.01. As in Google's code (Hershey et al. 2017, tensorflow/models,
`research/audioset/vggish`).

Shapes: P patches, T samples of a patch, F frames, M mel bands.
"""

import torch
from torch import Tensor

from audioflow.backbones.mel_triangles import mel_triangles

SAMPLE_RATE_HZ = 16_000
WINDOW = 400
HOP = 160
N_FFT = 512
NUM_MELS = 64
LOW_HZ = 125.0
HIGH_HZ = 7500.0
LOG_OFFSET = 0.01
FRAMES_PER_PATCH = 96
PATCH_SAMPLES = WINDOW + (FRAMES_PER_PATCH - 1) * HOP
"""0.975 s: the samples that the 96 frames of a patch see, though patches lie 0.96 s apart."""


def log_mel(waveform_PT: Tensor) -> Tensor:
    """Waveforms in [-1, 1] -> float32 (P, F, 64), F = 1 + (T - 400) // 160.

    An incomplete last frame is dropped. T is at least 400.
    """
    device = waveform_PT.device
    # In float32 the rounding of a loud tone's FFT reaches 3e-4 in bands that are silent but for it.
    window = torch.hann_window(WINDOW, dtype=torch.float64, device=device)
    frames_PFW = waveform_PT.double().unfold(1, WINDOW, HOP) * window
    magnitude_PFK = torch.fft.rfft(frames_PFW, N_FFT).abs().float()
    filters = mel_triangles(N_FFT, SAMPLE_RATE_HZ, NUM_MELS, LOW_HZ, HIGH_HZ, "htk", "mel")
    return torch.log(magnitude_PFK @ filters.to(device) + LOG_OFFSET)
