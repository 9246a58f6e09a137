"""The front ends of `transformers` audio models, batched and on any device.

Each gives what the feature extractor of that model gives patch by patch on a CPU; constants come
from the extractor object, that is from the model's `preprocessor_config.json`.
Shapes: P patches, T samples, F frames, W samples of a window, M mel bands.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchaudio.compliance.kaldi import get_mel_banks

TINY = 1e-10
KALDI_TINY = torch.finfo(torch.float32).eps
_PREEMPHASIS = 0.97
_KALDI_LOW_HZ = 20.0


def front_end(extractor: Any) -> Callable[[Tensor], Tensor]:
    """float32 waveforms (P, T) in [-1, 1] -> what the model is given, (P, T) or (P, F, M)."""
    found = {
        "waves": _waves,
        "ast": _ast,
        "whisper": _whisper,
        "clap": _clap,
    }[family_of(extractor)]
    return lambda waveform_PT: found(waveform_PT, extractor)


_FAMILIES = {
    "Wav2Vec2FeatureExtractor": "waves",
    "ASTFeatureExtractor": "ast",
    "WhisperFeatureExtractor": "whisper",
    "ClapFeatureExtractor": "clap",
}
SUPPORTED = tuple(_FAMILIES)


def family_of(extractor: Any) -> str:
    """`waves`, `ast`, `whisper` or `clap`; "" for an extractor of another kind."""
    return _FAMILIES.get(type(extractor).__name__, "")


def longest_s(extractor: Any) -> float | None:
    """The longest patch (seconds) that the model takes, None where there is no limit."""
    family = family_of(extractor)
    if family == "waves":
        return None
    if family == "whisper":
        return float(extractor.chunk_length)
    if family == "clap":
        return float(extractor.max_length_s)
    window, hop = _kaldi_lengths(extractor)
    return ((extractor.max_length - 1) * hop + window) / extractor.sampling_rate


def _waves(waveform_PT: Tensor, extractor: Any) -> Tensor:
    """Zero mean and unit variance over each patch, where the model wants it."""
    if not extractor.do_normalize:
        return waveform_PT
    variance, mean = torch.var_mean(waveform_PT, dim=1, keepdim=True, correction=0)
    return (waveform_PT - mean) / (variance + 1e-7).sqrt()


def _kaldi_lengths(extractor: Any) -> tuple[int, int]:
    """Window of 25 ms and hop of 10 ms in samples."""
    return int(extractor.sampling_rate * 0.025), int(extractor.sampling_rate * 0.010)


def _ast(waveform_PT: Tensor, extractor: Any) -> Tensor:
    """Kaldi's log filter banks with a Hann window; missing frames are zero before normalising."""
    window, hop = _kaldi_lengths(extractor)
    frames = waveform_PT.unfold(1, window, hop)[:, : extractor.max_length]
    frames = frames - frames.mean(dim=2, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
    frames = frames - _PREEMPHASIS * before
    frames = frames * torch.hann_window(window, periodic=False, device=frames.device)
    n_fft = 1 << (window - 1).bit_length()
    power_PFK = torch.fft.rfft(frames, n_fft).abs().square()
    filters_MK, _ = get_mel_banks(
        extractor.num_mel_bins, n_fft, extractor.sampling_rate, _KALDI_LOW_HZ, 0.0, 100.0, -500, 1.0
    )
    filters_KM = pad(filters_MK, (0, 1)).T.to(power_PFK.device)
    mel_PFM = (power_PFK @ filters_KM).clamp(min=KALDI_TINY).log()
    mel_PFM = pad(mel_PFM, (0, 0, 0, extractor.max_length - mel_PFM.shape[1]))
    if not extractor.do_normalize:
        return mel_PFM
    return (mel_PFM - extractor.mean) / (extractor.std * 2)


def _whisper(waveform_PT: Tensor, extractor: Any) -> Tensor:
    """log10 mel power, at most 8 below the patch's largest, over 30 s; (P, M, F)."""
    waveform_PT = pad(waveform_PT, (0, extractor.n_samples - waveform_PT.shape[1]))
    power_PKF = _power(waveform_PT, extractor.n_fft, extractor.hop_length)[..., :-1]
    filters_MK = _filters(extractor.mel_filters, power_PKF).T
    mel_PMF = (filters_MK @ power_PKF).clamp(min=TINY).log10()
    mel_PMF = torch.maximum(mel_PMF, mel_PMF.amax(dim=(1, 2), keepdim=True) - 8.0)
    return (mel_PMF + 4.0) / 4.0


def _clap(waveform_PT: Tensor, extractor: Any) -> Tensor:
    """Mel power in dB over the longest length. A shorter patch is repeated as often as it fits."""
    least = extractor.nb_max_samples
    length = waveform_PT.shape[1]
    if length < least:
        if extractor.padding in ("repeat", "repeatpad"):
            times = least // length + (extractor.padding == "repeat")
            waveform_PT = waveform_PT.repeat(1, times)[:, :least]
        waveform_PT = pad(waveform_PT, (0, least - waveform_PT.shape[1]))
    fusion = extractor.truncation == "fusion"
    matrix = extractor.mel_filters if fusion else extractor.mel_filters_slaney
    power_PKF = _power(waveform_PT, extractor.fft_window_size, extractor.hop_length)
    mel_PFM = power_PKF.transpose(1, 2) @ _filters(matrix, power_PKF)
    return 10.0 * mel_PFM.clamp(min=TINY).log10()


def _filters(matrix: Any, like: Tensor) -> Tensor:
    return torch.from_numpy(matrix).to(like.device, torch.float32)


def _power(waveform_PT: Tensor, n_fft: int, hop: int) -> Tensor:
    """(P, K, F) of centred frames under a periodic Hann window, the ends mirrored."""
    window = torch.hann_window(n_fft, device=waveform_PT.device)
    spectrum = torch.stft(waveform_PT, n_fft, hop, window=window, return_complex=True)
    return spectrum.abs().square()
