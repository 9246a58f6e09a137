"""`embed.augment`: what it takes, and how what it does not take is told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from audioflow.recipe_augment import EFFECTS, AugmentSection
from audioflow.recipe_faults import faults_of
from audioflow.recipe_yaml import read_document

GENRES = """\
variants: 4
seed: 7
crop: {duration_s: 3.96}
polarity: {}
noise: {snr_db: [15, 35], probability: 0.6}
gain: {gain_db: [-4, 4], probability: 0.4}
filter:
  kinds: [high_pass, low_pass]
  high_pass_hz: [50, 1000]
  low_pass_hz: [2000, 8000]
  probability: 0.5
delay: {delay_s: [0.05, 0.2], feedback: [0.1, 0.4], mix: [0.2, 0.5], probability: 0.3}
stretch: {speed: [0.9, 1.1], probability: 0.2}
"""
DOGS = "{variants: 4, offsets_s: [0.2, 0.4, 0.6, 0.8]}"


Load = Callable[[str], AugmentSection]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Reads the section from YAML as a recipe's is read: strictly."""

    def call(text: str) -> AugmentSection:
        path = tmp_path / "r.yaml"
        path.write_text(text)
        data = json.dumps(read_document(str(path)).data)
        return AugmentSection.model_validate_json(data, strict=True)

    return call


def test_what_two_systems_do_can_be_written(load: Load) -> None:
    genres, dogs = load(GENRES), load(DOGS)
    assert (genres.variants, genres.seed, genres.shift, genres.pitch) == (4, 7, None, None)
    assert (genres.noise.colors, genres.noise.snr_db) == (("white",), (15, 35))
    assert genres.polarity.probability == 0.5
    assert genres.filter.low_pass_hz == (2000, 8000)
    assert dogs.offsets_s == (0.2, 0.4, 0.6, 0.8)


def test_nothing_set_is_nothing_done(load: Load) -> None:
    assert load("{}") == AugmentSection()
    assert AugmentSection().variants == 0


def test_effects_may_stand_there_and_be_switched_off(load: Load) -> None:
    assert load(GENRES.replace("variants: 4", "variants: 0")).variants == 0
    assert load(DOGS.replace("variants: 4", "variants: 0")).variants == 0


def test_every_effect_but_those_that_must_be_told_more_has_defaults(load: Load) -> None:
    told_more = {"crop": "{duration_s: 1}", "filter": "{kinds: [low_pass], low_pass_hz: [99, 99]}"}
    for name in EFFECTS:
        settings = load(f"variants: 1\n{name}: {told_more.get(name, '{}')}\n")
        assert getattr(settings, name) is not None


def test_the_effects_are_all_that_stands_beside_how_many_and_from_where() -> None:
    assert tuple(AugmentSection.model_fields) == (
        "variants",
        "splits",
        "seed",
        "offsets_s",
        *EFFECTS,
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "noise: {snr_db: [35, 15]}",
            "noise.snr_db: [35, 15] begins above its end; allowed: [",
        ),
        (
            "noise: {snr_db: [15, 350]}",
            "noise.snr_db: [15, 350] is out of range; allowed: two numbers from -40 to 100",
        ),
        ("noise: {snr_db: 15}", "noise.snr_db: 15 is a whole number; allowed: a list"),
        ("noise: {snr_db: [15]}", "noise.snr_db.1: is missing; allowed: a number"),
        ("noise: {snr_db: [1, 2, 3]}", "noise.snr_db: [1, 2, 3] is too long; allowed: 2 entries"),
        ("noise: {snr_db: [a, 2]}", "noise.snr_db.0: 'a' is a text; allowed: a number"),
        ("noise: {snr_db: [.nan, 2]}", "noise.snr_db.0: nan is not finite; allowed: a finite num"),
        (
            "noise: {colors: [pnik]}",
            "noise.colors.0: 'pnik' is not allowed; allowed: white, pink, brown; did you mean 'pin",
        ),
        ("noise: {colors: []}", "noise.colors: [] is too short; allowed: 1 entry or more"),
        ("noise: {colors: [pink, pink]}", "noise.colors: ['pink', 'pink'] names pink more than on"),
        ("noise:", "noise: is empty (null); write {} for its defaults, or leave the effect out"),
        ("noise: {probability: 1.5}", "noise.probability: 1.5 is out of range; allowed: 0 to 1"),
        ("noise: {prob: 1}", "noise.prob: unknown key, with the value 1; allowed: probability, c"),
        ("nosie: {}\ngain: {}", "nosie: unknown key, with the value {}; allowed: variants, splits"),
        ("crop: {}", "crop.duration_s: is missing; allowed: a number"),
        ("crop: {duration_s: 0}", "crop.duration_s: 0 is out of range; allowed: more than 0"),
        ("shift: {wrap: yes}", "shift.wrap: 'yes' is a text; allowed: true or false"),
        (
            "filter: {kinds: [low_pass]}",
            "filter: low_pass_hz is missing; low_pass in kinds cannot do without it",
        ),
        (
            "filter: {kinds: [low_pass], low_pass_hz: [9000, 9000], high_pass_hz: [20, 30]}",
            "filter: high_pass_hz is [20, 30], and no filter in kinds ['low_pass'] uses it; a",
        ),
        (
            "filter: {kinds: [band_pass], high_pass_hz: [50, 3000], low_pass_hz: [2000, 8000]}",
            "filter: high_pass_hz ends at 3000 and low_pass_hz begins at 2000: a band_pass of the ",
        ),
        ("filter: {kinds: [low_pass], low_pass_hz: [0, 9]}", "filter.low_pass_hz: [0, 9] is o"),
        ("delay: {feedback: [0.5, 1]}", "delay.feedback: [0.5, 1] is out of range; allowed: two"),
        ("stretch: {speed: [0, 1]}", "stretch.speed: [0, 1] is out of range; allowed: two num"),
        ("seed: -1\ngain: {}", "seed: -1 is out of range; allowed: 0 to 4294967295"),
        ("offsets_s: [0.2, -0.2]", "offsets_s.1: -0.2 is out of range"),
        ("offsets_s: [0.2]", "offsets_s has 1 of the 2 offsets that variants asks for; allowed: o"),
        ("offsets_s: [1, 2, 3]", "offsets_s has 3 of the 2 offsets that variants asks for"),
        ("seed: 1", "variants is 2 and no effect is set, so that every copy would be the recordin"),
    ],
)
def test_what_cannot_be_done_is_told_with_what_can(load: Load, text: str, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        load(f"variants: 2\n{text}\n")
    found = [str(fault).removeprefix(": ") for fault in faults_of(caught.value, AugmentSection)]
    assert len(found) == 1
    assert found[0].startswith(told)


def test_how_many_copies_must_be_said_where_there_are_effects(load: Load) -> None:
    with pytest.raises(
        ValidationError, match="variants is missing beside gain, offsets_s; say how"
    ):
        load("gain: {}\noffsets_s: [0.2]\n")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        AugmentSection().variants = 3  # type: ignore[misc]
