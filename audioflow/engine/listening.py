"""Media decoded and embedded in this process, as a table's own settings say; for the tools.

Shapes: N samples of a waveform, P patches.
"""

import weakref
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audioflow.backbones.ready import Ready, made_ready
from audioflow.backbones.running import ClipPart, Heard, embed_pictures, embed_sound
from audioflow.backbones.tuning import limits_for
from audioflow.embeddings import ClipEmbedding, joined
from audioflow.errors import InputError, MediaError
from audioflow.media import DECODERS
from audioflow.media.child import DecoderChild
from audioflow.media.packing import ClipEnd, PicturesWindow
from audioflow.media.parts import End, Part, PicturesPart, SoundPart, Wanted
from audioflow.media.patches import FrameStretch, Patching, Stretch
from audioflow.media.spans import Span
from audioflow.places import input_url
from audioflow.recipe import EmbedSection
from audioflow.storage import StorageOptions, local_copy
from audioflow.tables import Header

STRETCH_S = 300
"""A longer clip goes through the backbone in stretches: its length bounds no one's memory."""

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Listening:
    """What made an embeddings table, made again from its header, on the CPU of this process."""

    header: Header
    storage: StorageOptions

    @cached_property
    def ready(self) -> Ready:
        """The backbone, its weights loaded. Networks compute in float32, whatever the table's did.

        Raises `InputError` where the table was imported, or where the backbone or its weights are
        not what they were; `WeightsError` where weights are not on this machine.
        """
        told = self.header.settings
        if "backbone" not in told:
            raise InputError(
                f"embeddings/{self.header.name} was imported: there is no backbone that could hear "
                "anything else; name a clip of the table, or another backbone"
            )
        found = made_ready(told["backbone"], self._options(), self.storage, input_url)
        refuse_others(self.header, found, but={"precision"})
        found.backbone.to(CPU)
        return found

    def _options(self) -> dict[str, Any]:
        told = self.header.settings
        options = dict(told["settings"])
        options |= {name: used["given"] for name, used in told["weights"].items()}
        return options | ({"precision": "float32"} if "precision" in options else {})

    def embedding(self, uri: str, span: Span) -> ClipEmbedding:
        """The embedding of a span of a recording, as the job `embed` would make it.

        Raises `InputError` where it gives none.
        """
        backbone = self.ready.backbone
        limits = limits_for(self.ready, CPU)
        found: list[ClipEmbedding] = []
        if isinstance(backbone.input, Patching):
            for heard in self.heard(uri, span):
                (part,) = embed_sound(backbone, [heard], CPU, limits)
                if not isinstance(part, ClipPart):
                    raise InputError(f"{uri} cannot be embedded: {part[1]}")
                found.append(part.embedding)
        else:
            window = self._pictures(uri, span)
            found = [part.embedding for part in embed_pictures(backbone, [window], CPU, limits)]
        if not found or not len(found[0].patch_start_s):
            raise InputError(f"{uri} gives no patch to the backbone of {self.header.name}")
        return joined([one for one in found if len(one.patch_start_s)])

    def heard(self, uri: str, span: Span) -> Iterator[Heard]:
        """The sound of a span as the backbone takes it, in stretches that can be embedded singly.

        Raises `InputError` where it cannot be decoded.
        """
        source: Patching = self.ready.backbone.input
        held: list[NDArray[Any]] = []
        first = done_to = 0
        begins_s: float | None = None
        for part in self._decoded(uri, span, Wanted(sample_rates_hz=(source.source,))):
            assert isinstance(part, SoundPart)
            begins_s = part.begins_s if begins_s is None else begins_s
            held.append(part.samples)
            if sum(map(len, held)) < STRETCH_S * source.sample_rate_hz:
                continue
            samples = np.concatenate(held)
            yield Heard(0, Stretch(samples, first, done_to, whole=False), offset_s=begins_s)
            done_to = first + samples.size
            kept = samples[-source.run_up_samples :]
            first, held = done_to - kept.size, [kept]
        if not held:
            raise InputError(f"{uri} has no sample of sound in the span that was asked for")
        samples = np.concatenate(held)
        yield Heard(0, Stretch(samples, first, done_to), offset_s=begins_s or 0.0)

    def waveform(self, uri: str, span: Span) -> NDArray[Any]:
        """The sound (N,) of a span that is short enough to be held, as the backbone takes it."""
        found = list(self.heard(uri, span))
        if len(found) > 1:
            raise InputError(
                f"{uri} is longer than {STRETCH_S} s, which is too much to explain at once: name "
                "a part of it (--start, --duration)"
            )
        samples: NDArray[Any] = found[0].stretch.samples
        return samples

    def _pictures(self, uri: str, span: Span) -> PicturesWindow:
        source = self.ready.backbone.input
        parts = [
            part
            for part in self._decoded(uri, span, Wanted(samplings=(source.sampling,)))
            if isinstance(part, PicturesPart)
        ]
        if not parts:
            raise InputError(f"{uri} has no picture in the span that was asked for")
        frames = np.concatenate([part.frames for part in parts])
        times = np.concatenate([part.time_s for part in parts])
        return PicturesWindow(0, FrameStretch(frames, times), ClipEnd(0.0, 1.0))

    def _decoded(self, uri: str, span: Span, wanted: Wanted) -> Iterator[Part]:
        """The parts of a span; raises `InputError` where they do not come to a good end."""
        told: Mapping[str, Any] = self.header.settings
        wanted = replace(
            wanted,
            max_duration_s=told["max_duration_s"],
            sound_track=told.get("sound_track"),
            video_track=told.get("video_track"),
            decoder=DECODERS.entries[told.get("decoder", "pyav")],
        )
        try:
            with local_copy(input_url(uri), self.storage) as path:
                for parts in self._child.decode(path, [span], wanted):
                    for part in parts:
                        if not isinstance(part, End):
                            yield part
                        elif part.error is not None:
                            raise part.error
        except MediaError as error:
            raise InputError(f"{uri} cannot be decoded: {error}") from error

    @cached_property
    def _child(self) -> DecoderChild:
        """It ends with this object."""
        fields = EmbedSection.model_fields
        child = DecoderChild(fields["decode_timeout_s"].default, fields["decode_memory_gb"].default)
        weakref.finalize(self, child.close)
        return child


def refuse_others(header: Header, found: Ready, but: Collection[str] = ()) -> None:
    """Raise `InputError` for a backbone that is not the one that made a table.

    but: settings that may differ.
    """
    told = header.settings
    now = {"revision": found.backbone.revision} | found.what_counts()
    then = {"revision": told["revision"]} | told["settings"]
    wrong = [key for key in now if now[key] != then.get(key) and key not in but]
    if wrong:
        listed = ", ".join(f"{key} was {then.get(key)}, is {now[key]}" for key in wrong)
        raise InputError(
            f"the backbone of embeddings/{header.name} cannot be made again as it was "
            f"({listed}): put the same weights in the same place, or run the job embed again"
        )
