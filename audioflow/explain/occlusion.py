"""What a logit loses when a part of a clip is silent.

Shapes: P patches, F frames, M bands, N samples, S spans of time, B copies of a clip.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioflow.errors import InputError
from audioflow.explain.grid import Cells
from audioflow.explain.logits import SpectrogramLogit

MOST_PARTS = 4000
"""Times that a clip may go through the network."""
_VALUES_AT_ONCE = 2**18
_FADE_S = 0.005
"""Over so long sound fades out and in again: an abrupt end would be a click."""


def rectangles_occluded(
    model: SpectrogramLogit, spectrograms_PFM: Tensor, quiet: float, cells: Cells
) -> NDArray[np.float32]:
    """How much less the logit is when a rectangle of the clip is silent: (in time, in frequency).

    A rectangle that lies in several patches is silent in all of them; the network sees only these
    again, and what it made of the others stays. quiet: the value of silence.
    """
    in_time, in_bands = cells.counts
    _refuse_too_many(in_time * in_bands)
    lost = np.zeros(cells.counts, np.float32)
    with torch.no_grad():
        whole = model.layers(spectrograms_PFM)
        logit = float(model.of_layers(whole, 1))
        for time in range(in_time):
            times_PF = cells.times_PF == time
            seen = torch.nonzero(times_PF.any(dim=1)).flatten()
            at_once = max(1, _VALUES_AT_ONCE // spectrograms_PFM[seen].numel())
            for bands in torch.split(torch.arange(in_bands), at_once):
                silent = times_PF[seen][None, :, :, None] & (
                    cells.bands_M == bands[:, None, None, None]
                )
                given = torch.where(silent, quiet, spectrograms_PFM[seen][None])
                parts = model.layers(given.flatten(0, 1))
                changed = _in_place(whole, parts, seen, len(bands))
                left = model.of_layers(changed, len(bands))
                lost[time, bands.numpy()] = logit - left.numpy()
    return lost


def _in_place(
    whole: Mapping[str, Tensor], parts: Mapping[str, Tensor], seen: Tensor, copies: int
) -> dict[str, Tensor]:
    """The layers (P, ...) of a clip in so many copies (B P, ...), with others for some patches."""
    found = {}
    for name, values in whole.items():
        copied = values[None].repeat(copies, *[1] * values.ndim)
        copied[:, seen] = parts[name].reshape(copies, len(seen), *values.shape[1:])
        found[name] = copied.flatten(0, 1)
    return found


def spans_occluded(
    logit: Callable[[NDArray[Any]], float], waveform_N: NDArray[Any], rate_hz: int, span_s: float
) -> tuple[float, NDArray[np.float32]]:
    """The logit of a waveform, and how much less it is (S,) when a span of it is silent.

    logit: of a waveform like this one. Spans follow each other, the last one may be shorter.
    """
    length = max(1, round(span_s * rate_hz))
    starts = range(0, len(waveform_N), length)
    _refuse_too_many(len(starts))
    whole = logit(waveform_N)
    lost = [whole - logit(silenced(waveform_N, start, length, rate_hz)) for start in starts]
    return whole, np.array(lost, np.float32)


def silenced(waveform_N: NDArray[Any], start: int, length: int, rate_hz: int) -> NDArray[Any]:
    """The waveform with a silent span, which fades inside of it."""
    stop = min(start + length, len(waveform_N))
    fade = min(round(_FADE_S * rate_hz), (stop - start) // 2)
    gain = np.zeros(stop - start, np.float32)
    ramp = np.linspace(1, 0, fade, endpoint=False, dtype=np.float32)
    if start > 0:
        gain[:fade] = ramp
    if stop < len(waveform_N):
        gain[len(gain) - fade :] = ramp[::-1]
    found = waveform_N.copy()
    found[start:stop] = (found[start:stop] * gain).astype(found.dtype)
    return found


def _refuse_too_many(count: int) -> None:
    if count > MOST_PARTS:
        raise InputError(
            f"{count} parts of the clip would be made silent one by one, more than {MOST_PARTS}: "
            "make them longer (--span-s, --span-bands), or name a part of the clip"
        )
