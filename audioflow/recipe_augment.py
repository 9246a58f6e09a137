"""The part of a recipe that says how training clips are altered: `embed.augment`.

An effect that is left out is off. One that stands there is drawn anew for every variant of every
clip: first whether it happens at all (`probability`), then its strength, evenly between the two
ends of a range (cut-offs of filters evenly in octaves).
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from audioflow.errors import shown
from audioflow.recipe_splits import Split
from audioflow.registry import Settings

Range = tuple[float, float]
"""The ends between which a strength is drawn, low end first."""
Color = Literal["white", "pink", "brown"]
Kind = Literal["high_pass", "low_pass", "band_pass"]

MAX_SEED = 2**32 - 1


def _as_tuple(value: Any) -> Any:
    # What YAML calls a list; a tuple because settings are frozen, and strict checks tell the two
    # apart.
    return tuple(value) if isinstance(value, list) else value


Listed = BeforeValidator(_as_tuple)


def _told(ends: Range) -> str:
    """A range as a recipe has it."""
    return f"[{ends[0]:g}, {ends[1]:g}]"


@dataclass(frozen=True)
class Within:
    """Refuses a range that reaches beyond these ends, or whose own ends are the wrong way round."""

    least: float
    most: float

    def __call__(self, value: Range) -> Range:
        low, high = value
        if low > high:
            raise ValueError(
                f"{_told(value)} begins above its end; allowed: {_told((high, low))}, low end first"
            )
        if low < self.least or high > self.most:
            raise ValueError(
                f"{_told(value)} is out of range; allowed: two numbers from {self.least:g} to "
                f"{self.most:g}"
            )
        return value


def _within(least: float, most: float) -> AfterValidator:
    return AfterValidator(Within(least, most))


CutOff = Annotated[Range, Listed, _within(10, 48_000)]


def _each_once(least: int) -> AfterValidator:
    """Refuses a list of words that is too short or has a word twice."""

    def checked(value: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({word for word in value if value.count(word) > 1})
        if len(value) < least:
            raise ValueError(f"{shown(value)} is too short; allowed: {least} entry or more")
        if twice:
            raise ValueError(f"{shown(value)} names {', '.join(twice)} more than once; keep one")
        return value

    return AfterValidator(checked)


class EffectSection(Settings):
    """What every effect has. probability: in what share of the variants it happens."""

    probability: float = Field(1.0, ge=0, le=1)


class CropSection(EffectSection):
    """A window of the clip. duration_s: its length; where it lies is drawn. Shorter clips stay."""

    duration_s: float = Field(gt=0)


class ShiftSection(EffectSection):
    """The waveform moved in place: later (more than 0) or earlier (less than 0).

    shift_s: by how much. What leaves at one end is lost and zeros enter at the other, at most over
    half of the clip. wrap: what leaves enters again at the other end.
    """

    shift_s: Annotated[Range, Listed, _within(-600, 600)] = (-0.5, 0.5)
    wrap: bool = False


class PolaritySection(EffectSection):
    """The waveform turned upside down. probability: of that."""

    probability: float = Field(0.5, ge=0, le=1)


class NoiseSection(EffectSection):
    """Noise added.

    colors: one of them is drawn. Power per hertz is even (`white`), falls by 10 dB (`pink`) or by
    20 dB (`brown`) per decade of frequency.
    snr_db: mean power of the clip as recorded over that of the noise.
    """

    colors: Annotated[tuple[Color, ...], Listed, _each_once(1)] = ("white",)
    snr_db: Annotated[Range, Listed, _within(-40, 100)] = (15, 35)


class GainSection(EffectSection):
    """Louder or softer. gain_db: by how much; what becomes too loud for 16 bits is clipped."""

    gain_db: Annotated[Range, Listed, _within(-60, 60)] = (-4, 4)


class FilterSection(EffectSection):
    """A Butterworth filter of order 4: 3 dB less at the cut-off, 24 dB per octave beyond it.

    kinds: one of them is drawn; `band_pass` is both others, one after the other.
    high_pass_hz, low_pass_hz: the cut-offs; at a sample rate too low for one it is limited to
    95 % of half that rate.
    """

    kinds: Annotated[tuple[Kind, ...], Listed, _each_once(1)]
    high_pass_hz: CutOff | None = None
    low_pass_hz: CutOff | None = None

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        problems = []
        for kind in ("high_pass", "low_pass"):
            key, cut_off = f"{kind}_hz", getattr(self, f"{kind}_hz")
            users = [each for each in self.kinds if each in (kind, "band_pass")]
            if users and cut_off is None:
                problems.append(
                    f"{key} is missing; {' and '.join(users)} in kinds cannot do without it"
                )
            elif cut_off is not None and not users:
                problems.append(
                    f"{key} is {_told(cut_off)}, and no filter in kinds {shown(self.kinds)} uses "
                    f"it; add {kind} or leave {key} out"
                )
        if not problems and "band_pass" in self.kinds:
            problems = _band_problems(self.high_pass_hz, self.low_pass_hz)
        if problems:
            raise ValueError("\n".join(problems))  # one fault each
        return self


def _band_problems(high_pass_hz: Range | None, low_pass_hz: Range | None) -> list[str]:
    """A band whose lower edge may come to lie above its upper one."""
    if high_pass_hz is None or low_pass_hz is None or high_pass_hz[1] < low_pass_hz[0]:
        return []
    return [
        f"high_pass_hz ends at {high_pass_hz[1]:g} and low_pass_hz begins at {low_pass_hz[0]:g}: a "
        "band_pass of the two might let nothing pass; end the first below the second"
    ]


class DelaySection(EffectSection):
    """Echoes: the sound again and again, every time weaker.

    delay_s: from one to the next. feedback: share of an echo that is in the next one.
    mix: share of the echoes in the result, the rest is the sound itself.
    """

    delay_s: Annotated[Range, Listed, _within(0.01, 10)] = (0.05, 0.2)
    feedback: Annotated[Range, Listed, _within(0, 0.95)] = (0.1, 0.4)
    mix: Annotated[Range, Listed, _within(0, 1)] = (0.2, 0.5)


class StretchSection(EffectSection):
    """Faster or slower at the same pitch. speed: 1.1 makes 10 s of sound last 9.09 s."""

    speed: Annotated[Range, Listed, _within(0.5, 2)] = (0.9, 1.1)


class PitchSection(EffectSection):
    """Higher or lower at the same speed. semitones: 12 are an octave."""

    semitones: Annotated[Range, Listed, _within(-12, 12)] = (-1, 1)


EFFECTS = (
    "crop",
    "shift",
    "polarity",
    "noise",
    "gain",
    "filter",
    "delay",
    "stretch",
    "pitch",
)
"""The effects in the order in which they are applied, whatever their order in the recipe."""


class AugmentSection(Settings):
    """How altered copies of clips are made, by default of those that heads learn from.

    variants: copies of each clip, beside the clip as recorded; 0 for none. splits: which clips have
    copies, those in folds counting as `train`: only `train` learns from them, of others they are
    for `score.variants: mean`.
    seed: another one gives other copies.
    offsets_s: copy k is the clip from the k-th of these seconds on, as well as what else is set; at
    least half of a clip stays.
    """

    variants: int = Field(0, ge=0, le=10_000)
    splits: Annotated[tuple[Split, ...], Listed, _each_once(1)] = ("train",)
    seed: int = Field(0, ge=0, le=MAX_SEED)
    offsets_s: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Listed] = ()
    crop: CropSection | None = None
    shift: ShiftSection | None = None
    polarity: PolaritySection | None = None
    noise: NoiseSection | None = None
    gain: GainSection | None = None
    filter: FilterSection | None = None
    delay: DelaySection | None = None
    stretch: StretchSection | None = None
    pitch: PitchSection | None = None

    @field_validator(*EFFECTS, mode="before")
    @classmethod
    def _not_empty(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("is empty (null); write {} for its defaults, or leave the effect out")
        return value

    @field_validator("stretch", "pitch")
    @classmethod
    def _possible(cls, value: Any) -> Any:
        if value is not None and find_spec("python_stretch") is None:
            raise ValueError(
                "needs the package 'python-stretch', which is not installed; install it, or leave "
                "the effect out"
            )
        return value

    @model_validator(mode="after")
    def _to_some_effect(self) -> Self:
        effects = [name for name in EFFECTS if getattr(self, name) is not None]
        effects += ["offsets_s"] if self.offsets_s else []
        if effects and "variants" not in self.model_fields_set:
            raise ValueError(
                f"variants is missing beside {', '.join(effects)}; say how many copies of each "
                "training clip are made (0 for none)"
            )
        if self.variants and not effects:
            raise ValueError(
                f"variants is {self.variants} and no effect is set, so that every copy would be "
                f"the recording; set some of offsets_s, {', '.join(EFFECTS)}, or variants: 0"
            )
        if self.variants and self.offsets_s and len(self.offsets_s) != self.variants:
            raise ValueError(
                f"offsets_s has {len(self.offsets_s)} of the {self.variants} offsets that variants "
                "asks for; allowed: one for each copy"
            )
        return self
