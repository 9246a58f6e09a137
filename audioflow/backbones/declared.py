"""Models that come as a file (TFLite, ONNX), and the front end that the recipe declares for them.

The file says how tensors are shaped, not what is in them: sample rate, length, range and kind of
the input are settings. Shapes: P patches, T samples, F frames, M mel bands, L vectors per patch,
D their width.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, field_validator, model_validator
from torch import Tensor

from audioflow.errors import AudioflowError
from audioflow.frontend import to_float
from audioflow.frontend.logmel import log_mel
from audioflow.frontend.logmel_settings import LogMelKeys, constants_of
from audioflow.media.patches import Patching, Short, Tail
from audioflow.registry import Settings
from audioflow.weights import RANDOM, WeightsError, WeightsName

LayerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Reduce = Literal["mean", "sequence", "flatten"]


class DeclaredSettings(Settings):
    """weights: the model's file.

    sample_rate_hz, patch_s: rate and length (seconds) of the sound that the model takes. hop_s:
    distance of patches; as long as a patch where it is not given. short: rule for clips shorter
    than a patch. tail: whether what is left after the last patch is dropped, or filled up.
    input_range: full scale of the waveform, 1 for values from -1 to 1. logmel: what the model is
    given in place of the waveform: the log-mel spectrogram of it that these keys declare, such as
    `{preset: yamnet}` (see `LogMelKeys`). bands_first: whether the model takes (M, F) in place of
    (F, M).
    one_by_one: patches go through the model singly; for files that claim to take any number.
    reduce: what becomes of an output of more than one vector per patch: their mean, a sequence of
    them, or one long vector. A vector is the last axis that is longer than 1.
    """

    WITHOUT_EFFECT: ClassVar[frozenset[str]] = frozenset({"one_by_one"})
    """Settings that change the speed and not the vectors."""

    weights: WeightsName
    sample_rate_hz: int = Field(ge=1000, le=384_000)
    patch_s: float = Field(gt=0, le=600)
    hop_s: float | None = Field(None, gt=0, le=600)
    short: Short = "pad"
    tail: Tail = "drop"
    input_range: float = Field(1.0, gt=0)
    logmel: LogMelKeys | None = None
    bands_first: bool = False
    one_by_one: bool = False
    reduce: Reduce = "mean"

    @field_validator("weights")
    @classmethod
    def _a_file(cls, weights: str) -> str:
        if weights == RANDOM:
            raise ValueError("random is not possible: the file is the network; give its path")
        return weights

    @model_validator(mode="after")
    def _agreed(self) -> Self:
        if self.logmel is not None:
            constants_of(self.logmel, self.sample_rate_hz, self.patch_s)
        elif self.bands_first:
            raise ValueError(
                "bands_first says nothing of a waveform: give logmel, or leave bands_first out"
            )
        return self


class FrontEnd:
    """int16 (P, T) -> what the model is given: float32 (P, T), (P, F, M) or (P, M, F)."""

    def __init__(self, settings: DeclaredSettings) -> None:
        self._settings = settings
        self._constants = (
            constants_of(settings.logmel, settings.sample_rate_hz, settings.patch_s)
            if settings.logmel
            else None
        )

    @property
    def patching(self) -> Patching:
        told = self._settings
        hop_s = told.patch_s if told.hop_s is None else told.hop_s
        return Patching(told.sample_rate_hz, told.patch_s, hop_s, told.short, tail=told.tail)

    def __call__(self, batch: Tensor) -> Tensor:
        waveform_PT = to_float(batch)
        if self._settings.input_range != 1.0:
            waveform_PT = waveform_PT.mul_(self._settings.input_range)
        if self._constants is None:
            return waveform_PT
        log_mel_PFM = log_mel(waveform_PT, self._constants)
        return log_mel_PFM.transpose(1, 2) if self._settings.bands_first else log_mel_PFM


class FileModel(Protocol):
    """A loaded model: input by input, arrays by layer name."""

    def __call__(self, features: NDArray[np.float32]) -> Mapping[str, NDArray[Any]]:
        """(P, ...) -> per layer an array with one entry per patch, (P, ...)."""
        ...


def vectors(outputs: Mapping[str, NDArray[Any]], reduce: Reduce) -> dict[str, NDArray[np.float32]]:
    """Arrays of one entry per patch (P, ...) -> (P, D), or (P, L, D) for a `sequence`."""
    found = {}
    for layer, array in outputs.items():
        longer = [length for length in array.shape[1:] if length != 1] or [1]
        vectors_PLD = np.asarray(array, np.float32).reshape(len(array), -1, longer[-1])
        if reduce == "mean":
            found[layer] = vectors_PLD.mean(axis=1)
        elif reduce == "flatten" or vectors_PLD.shape[1] == 1:
            found[layer] = vectors_PLD.reshape(len(array), -1)
        else:
            found[layer] = vectors_PLD
    return found


def embedded(
    model: FileModel, front_end: FrontEnd, batch: Tensor, reduce: Reduce
) -> dict[str, Tensor]:
    """int16 (P, T) through front end and model, on the batch's device again."""
    features = np.ascontiguousarray(front_end(batch).cpu().numpy())
    found = vectors(model(features), reduce)
    return {layer: torch.from_numpy(array).to(batch.device) for layer, array in found.items()}


def widths(model: FileModel, front_end: FrontEnd, reduce: Reduce) -> dict[str, int]:
    """The layers and their widths, found by sending one silent patch through."""
    silence = torch.zeros(1, front_end.patching.patch_samples, dtype=torch.int16)
    found = embedded(model, front_end, silence, reduce)
    return {layer: array.shape[-1] for layer, array in found.items()}


class CallShape:
    """How patches of one shape go into a model's input tensor.

    model: the shape the input tensor has, None where any length goes. patch: the shape of what the
    front end gives of a patch. Axes of length 1 may stand anywhere. one_by_one: see
    `DeclaredSettings`. Raises `WeightsError` where the two do not go together.
    """

    def __init__(
        self,
        model: tuple[int | None, ...],
        patch: tuple[int, ...],
        path: str,
        *,
        one_by_one: bool = False,
    ) -> None:
        self.patch = _filled(model[1:], patch) if model else None
        self.batched = self.patch is not None
        self.at_once: int | None = model[0] if self.batched else 1
        if self.at_once is None and one_by_one:
            self.at_once = 1
        if self.patch is None:
            self.patch = _filled(model, patch)
        if self.patch is None:
            shown = "x".join("any" if length is None else str(length) for length in model)
            given = "x".join(map(str, patch))
            raise WeightsError(
                f"{path}: the model takes {shown}, the front end gives {given} per patch: check "
                "sample_rate_hz, patch_s and logmel"
            )

    def called(
        self,
        call: Callable[[NDArray[np.float32]], Mapping[str, NDArray[Any]]],
        features: NDArray[np.float32],
    ) -> dict[str, NDArray[Any]]:
        """All patches through `call`, as many at once as the model takes; (P, ...) per layer."""
        assert self.patch is not None
        size = self.at_once or len(features)
        parts: dict[str, list[NDArray[Any]]] = {}
        for begin in range(0, len(features), size):
            group = features[begin : begin + size]
            lacking = size - len(group)
            if lacking:
                group = np.concatenate([group, np.zeros((lacking, *group.shape[1:]), np.float32)])
            shape = (size, *self.patch) if self.batched else self.patch
            for layer, array in call(group.reshape(shape)).items():
                parts.setdefault(layer, []).append(_per_patch(layer, array, size)[: size - lacking])
        return {layer: np.concatenate(arrays) for layer, arrays in parts.items()}


def _per_patch(layer: str, array: NDArray[Any], patches: int) -> NDArray[Any]:
    """The output with one entry per patch; of a single patch, all that there is is its own."""
    if patches == 1:
        return array if array.shape[:1] == (1,) else array[None]
    if array.shape[:1] != (patches,):
        raise AudioflowError(
            f"layer {layer} has the shape {array.shape} for {patches} patches: it has no entry per "
            "patch; name only others in outputs, or set one_by_one"
        )
    return array


def _filled(model: tuple[int | None, ...], patch: tuple[int, ...]) -> tuple[int, ...] | None:
    """The model's shape with every free length set for this patch; None where it does not go."""
    if not model:
        return () if all(length == 1 for length in patch) else None
    head, rest = model[0], model[1:]
    if patch and head in (None, patch[0]) and (found := _filled(rest, patch[1:])) is not None:
        return (patch[0], *found)
    if head in (None, 1) and (found := _filled(rest, patch)) is not None:
        return (1, *found)
    return None
