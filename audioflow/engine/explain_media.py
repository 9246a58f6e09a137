"""Explanations of what is heard: gradients and occlusion, from the media of a clip.

Shapes: P patches, F frames, M bands, N samples, D width of a layer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioflow.backbones.base import SpectrogramBackbone, sees_spectrogram
from audioflow.backbones.running import ClipPart, Heard, embed_sound
from audioflow.backbones.tuning import limits_for
from audioflow.engine.explain_system import ClipRow, SystemOfRun
from audioflow.engine.listening import CPU
from audioflow.errors import InputError, MediaError
from audioflow.explain.gradients import integrated_gradients
from audioflow.explain.grid import ClipGrid
from audioflow.explain.logits import ClassLogit, SpectrogramLogit, refuse_estimators
from audioflow.explain.occlusion import rectangles_occluded, spans_occluded
from audioflow.explain.pictures import spectrogram_picture, time_picture
from audioflow.explain.rows import ClipExplanation
from audioflow.media.patches import Patching, Stretch, cut_patches
from audioflow.media.spans import Span

MOST_PATCHES = 128
"""Of a clip that goes through the network at once, with what gradients need."""
_AT_ONCE = 64
_AGREE = 0.05
"""Share by which the logit of the sound may miss that of the table, whose network may have computed
in bfloat16; and as many logits at least."""
_PARTS_OF_TIME, _PARTS_OF_BANDS, _SHORTEST_S = 25, 10, 0.1


@dataclass(frozen=True)
class Part:
    """What of each clip is explained, and how finely: seconds and bands of what is made silent."""

    start_s: float | None = None
    duration_s: float | None = None
    span_s: float | None = None
    span_bands: int | None = None
    over_time: bool = False

    @property
    def whole(self) -> bool:
        """Whether all of the clip is."""
        return self.start_s is None and self.duration_s is None

    def span(self, clip: ClipRow) -> Span:
        """The part of the recording."""
        if self.whole:
            return Span(clip.start_s, clip.duration_s)
        begin = self.start_s or 0.0
        left = None if clip.duration_s is None else clip.duration_s - begin
        lengths = [length for length in (self.duration_s, left) if length is not None]
        return Span((clip.start_s or 0.0) + begin, min(lengths) if lengths else None)


@dataclass(frozen=True)
class Explainer:
    """Explains clips of one system from their sound."""

    system: SystemOfRun
    method: str
    label: str | None
    part: Part = field(default_factory=Part)

    def __post_init__(self) -> None:
        if not isinstance(self.system.listening.ready.backbone.input, Patching):
            raise InputError(
                f"{self.system.spec.backbone} looks at pictures: {self.method} explains sound alone"
            )
        if self.method == "integrated_gradients":
            refuse_estimators(list(self.system.heads.members.values()), self.method)
            if not sees_spectrogram(self.system.listening.ready.backbone):
                raise InputError(
                    f"the backbone of {self.system.spec.backbone} has no spectrogram that a torch "
                    "network sees, so that gradients cannot be taken over it: take --method "
                    "occlusion"
                )

    def explained(self, clip: ClipRow) -> tuple[ClipExplanation, bytes]:
        """One clip, and its picture. Raises `InputError` where it cannot be explained."""
        try:
            return self._explained(clip)
        except (InputError, MediaError) as error:
            raise InputError(f"{clip.clip_id}: {error}") from error

    def _explained(self, clip: ClipRow) -> tuple[ClipExplanation, bytes]:
        table = self.system.layers(clip)
        logits = self.system.scores(clip, table)
        label = self.label or max(logits, key=lambda name: logits[name])
        logit = ClassLogit(self.system.heads_for(clip), label)
        listening = self.system.listening
        waveform_N = listening.waveform(clip.uri, self.part.span(clip))
        fold = clip.fold if clip.fold in self.system.heads.members else None
        found = ClipExplanation(
            clip.clip_id, label, self.method, clip.labels, fold, 0.0, np.zeros(0, np.float32)
        )
        expected = logits[label] if self.part.whole else None
        backbone = listening.ready.backbone
        if self.part.over_time or not sees_spectrogram(backbone):
            return self._over_time(found, logit, waveform_N, expected)
        return self._over_spectrogram(found, backbone, logit, waveform_N, expected)

    def _over_spectrogram(
        self,
        found: ClipExplanation,
        backbone: SpectrogramBackbone,
        logit: ClassLogit,
        waveform_N: NDArray[Any],
        expected: float | None,
    ) -> tuple[ClipExplanation, bytes]:
        spectrograms, starts = spectrograms_of(backbone, waveform_N)
        axes = backbone.spectrum
        grid = ClipGrid.of(starts + (self.part.start_s or 0.0), spectrograms.shape[1], axes)
        model = SpectrogramLogit(backbone, logit)
        if self.method == "integrated_gradients":
            baseline = torch.full_like(spectrograms, axes.quiet)
            made = integrated_gradients(model, spectrograms, baseline)
            _refuse_other_sound(made.logit, expected)
            values = shown = grid.summed(made.values_PFM.numpy())
            found = replace(
                found,
                logit=made.logit,
                baseline_logit=made.baseline_logit,
                delta=made.delta,
                steps=made.steps,
            )
            hop_s, bands_hz = grid.hop_s, grid.bands_hz
        else:
            with torch.no_grad():
                found = replace(found, logit=float(model(spectrograms[None])))
            _refuse_other_sound(found.logit, expected)
            frames, bands = self._rectangle(grid)
            cells = grid.cells(frames, bands)
            values = rectangles_occluded(model, spectrograms, axes.quiet, cells)
            shown = np.repeat(np.repeat(values, frames, axis=0), bands, axis=1)
            shown = shown[: grid.num_frames, : len(grid.bands_hz)]
            hop_s = grid.hop_s * frames
            bands_hz = tuple(
                float(np.mean(grid.bands_hz[low : low + bands]))
                for low in range(0, len(grid.bands_hz), bands)
            )
        drawn = replace(found, start_s=grid.start_s, hop_s=grid.hop_s, bands_hz=grid.bands_hz)
        picture = spectrogram_picture(drawn, grid.averaged(spectrograms.numpy()), axes.unit, shown)
        middle_s = grid.start_s + (hop_s - grid.hop_s) / 2
        return (
            replace(found, attributions=values, start_s=middle_s, hop_s=hop_s, bands_hz=bands_hz),
            picture,
        )

    def _rectangle(self, grid: ClipGrid) -> tuple[int, int]:
        """Frames and bands of a rectangle."""
        span_s = self.part.span_s or max(_SHORTEST_S, grid.hop_s * grid.num_frames / _PARTS_OF_TIME)
        bands = self.part.span_bands or -(-len(grid.bands_hz) // _PARTS_OF_BANDS)
        return max(1, round(span_s / grid.hop_s)), bands

    def _over_time(
        self,
        found: ClipExplanation,
        logit: ClassLogit,
        waveform_N: NDArray[Any],
        expected: float | None,
    ) -> tuple[ClipExplanation, bytes]:
        ready = self.system.listening.ready
        backbone, limits = ready.backbone, limits_for(ready, CPU)
        rate_hz = backbone.input.sample_rate_hz

        def of_waveform(samples: NDArray[Any]) -> float:
            (part,) = embed_sound(backbone, [Heard(0, Stretch(samples))], CPU, limits)
            if not isinstance(part, ClipPart):
                raise part[1]
            layers = {
                name: torch.from_numpy(values.copy())
                for name, values in part.embedding.layers.items()
            }
            with torch.no_grad():
                return float(logit.of_layers(layers))

        _refuse_other_sound(of_waveform(waveform_N), expected)
        span_s = self.part.span_s or max(
            _SHORTEST_S, len(waveform_N) / rate_hz / (2 * _PARTS_OF_TIME)
        )
        whole, lost = spans_occluded(of_waveform, waveform_N, rate_hz, span_s)
        start_s = self.part.start_s or 0.0
        found = replace(found, logit=whole, attributions=lost, start_s=start_s, hop_s=span_s)
        return found, time_picture(found, waveform_N, rate_hz)


def spectrograms_of(
    backbone: SpectrogramBackbone, waveform_N: NDArray[Any]
) -> tuple[Tensor, NDArray[np.float64]]:
    """The spectrograms (P, F, M) of a waveform's patches, and where they begin (P,) in seconds."""
    assert isinstance(backbone.input, Patching)
    windows, starts = cut_patches(Stretch(waveform_N), backbone.input)
    if len(windows) > MOST_PATCHES:
        raise InputError(
            f"the clip has {len(windows)} patches, more than {MOST_PATCHES}: name a part of it "
            "(--start, --duration)"
        )
    parts = list(_spectrograms(backbone, windows))
    return torch.cat(parts), starts


def _spectrograms(backbone: SpectrogramBackbone, windows: NDArray[Any]) -> Iterator[Tensor]:
    with torch.no_grad():
        for begin in range(0, len(windows), _AT_ONCE):
            batch = torch.from_numpy(np.array(windows[begin : begin + _AT_ONCE]))
            yield backbone.spectrogram(batch).float()


def _refuse_other_sound(found: float, expected: float | None) -> None:
    """The sound has to give what the table has: else something else would be explained."""
    if expected is None:
        return
    if abs(found - expected) > _AGREE * max(1.0, abs(expected)):
        raise InputError(
            f"heard now, it has the logit {found:.3f}, from the table {expected:.3f}: the file is "
            "not the one that was embedded; run the job embed again"
        )
