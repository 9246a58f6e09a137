"""Sounds and pictures of the demo corpus, made with numpy alone.

`rain`, `shower` and `waterfall` sound alike and look different; `ambulance`, `motorbike` and `tram`
are all seen as lights in a dark street and sound different. Either sense alone therefore leaves
half of the classes open, wind and darkness blur the rest, and only both tell all six apart.

Shapes: waveform (samples,) float32 in [-1, 1]; pictures (frames, HEIGHT, WIDTH, 3) uint8 RGB;
canvas (frames, HEIGHT, WIDTH, 3) float32 RGB in [0, 1]; t_s (samples,) or (frames, 1, 1), seconds
from 0.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Reals = NDArray[np.floating[Any]]
Pictures = NDArray[np.uint8]
Maker = Callable[[Reals, np.random.Generator], Reals]

CLASSES = ("ambulance", "motorbike", "rain", "shower", "tram", "waterfall")
WIDTH, HEIGHT, FRAME_RATE_HZ = 160, 120, 12

SNR_DB = (-2.0, 20.0)
"""Level of the sound itself over that of the wind; raise the lower end for an easier corpus."""
LEVEL_DBFS = (-24.0, -16.0)
EXPOSURE = (0.75, 1.1)
"""Brightness as filmed over brightness as painted; a wider range makes a harder corpus."""

LIGHTS = np.array(
    [(0.3, 0.4, 1.0), (1.0, 0.75, 0.2), (1.0, 0.95, 0.85), (1.0, 0.5, 0.1)], np.float32
)
X = np.linspace(0.0, 1.0, WIDTH, dtype=np.float32)[None, None, :]
Y = np.linspace(0.0, 1.0, HEIGHT, dtype=np.float32)[None, :, None]


def make_waveform(
    label: str, duration_s: float, sample_rate_hz: int, rng: np.random.Generator
) -> Floats:
    """The sound of a class, with wind behind it and at a random level: (samples,)."""
    t_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    sound, wind = _SOUNDS[label](t_s, rng), _noise(t_s, rng, tilt_db_per_octave=-3)
    mixture = sound / _rms(sound) + wind * 10 ** (-rng.uniform(*SNR_DB) / 20)
    mixture *= 10 ** (rng.uniform(*LEVEL_DBFS) / 20) / _rms(mixture)
    return np.clip(mixture, -1, 1).astype(np.float32)


def make_pictures(label: str, duration_s: float, rng: np.random.Generator) -> Pictures:
    """The scene of a class as an imperfect camera sees it: (frames, HEIGHT, WIDTH, 3) uint8."""
    frames = np.arange(round(duration_s * FRAME_RATE_HZ), dtype=np.float32)
    t_s = (frames / FRAME_RATE_HZ)[:, None, None]
    return _camera(_SCENES[label](t_s, rng), rng)


def _rms(signal: Reals) -> float:
    return float(np.sqrt(np.mean(signal**2))) + 1e-9


def _noise(
    t_s: Reals, rng: np.random.Generator, tilt_db_per_octave: float, high_hz: float = 20_000
) -> Reals:
    """Noise of unit RMS: its spectrum falls by a tilt above 100 Hz and ends near `high_hz`."""
    spectrum = np.fft.rfft(rng.standard_normal(len(t_s)))
    frequency_hz = np.fft.rfftfreq(len(t_s), t_s[1])
    octaves = np.log2(np.maximum(frequency_hz, 100) / 100)
    gain = 10 ** (tilt_db_per_octave * octaves / 20) / (1 + (frequency_hz / high_hz) ** 4)
    noise = np.fft.irfft(spectrum * gain, len(t_s))
    return noise / _rms(noise)


def _water_sound(t_s: Reals, rng: np.random.Generator) -> Reals:
    """A rush of noise that swells slowly, with drops: clicks that ring for some milliseconds."""
    swell = 1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.5, 1.5) * t_s + rng.uniform(0, 6))
    rush = swell * _noise(t_s, rng, tilt_db_per_octave=rng.uniform(-2.4, -1.8))
    drops = np.zeros_like(t_s)
    for start_s in np.arange(rng.uniform(0, 0.06), t_s[-1], 0.06):
        age_s = np.maximum(t_s - start_s, 0)
        ring = np.sin(2 * np.pi * rng.uniform(900, 4_000) * age_s)
        drops += rng.uniform(0.5, 2) * ring * np.exp(-age_s / 0.004)
    return rush + drops


def _ambulance_sound(t_s: Reals, rng: np.random.Generator) -> Reals:
    """A siren that wails up and down, or steps between two tones, with a few harmonics."""
    swing = np.sin(2 * np.pi * rng.uniform(0.4, 2) * t_s + rng.uniform(0, 6))
    if rng.random() < 0.5:
        swing = np.tanh(8 * swing)
    pitch_hz = rng.uniform(500, 900) * 2 ** (swing * rng.uniform(0.15, 0.5))
    phase = 2 * np.pi * np.cumsum(pitch_hz) * t_s[1]
    fall = rng.uniform(1, 2)
    return np.asarray(sum(np.sin(n * phase) / n**fall for n in range(1, 6)))


def _motorbike_sound(t_s: Reals, rng: np.random.Generator) -> Reals:
    """A pulse train of the firing engine, rising or falling, with its rattle."""
    revs_hz = rng.uniform(35, 110) * (1 + rng.uniform(-0.15, 0.25) * t_s)
    phase = 2 * np.pi * np.cumsum(revs_hz) * t_s[1] + 0.5 * np.sin(2 * np.pi * 7 * t_s)
    firing = np.exp(rng.uniform(3, 9) * (np.cos(phase) - 1))
    rattle = firing * _noise(t_s, rng, -4, 3_000)
    hum = firing - firing.mean()
    return hum / _rms(hum) + rng.uniform(0.3, 1) * rattle / _rms(rattle)


def _tram_sound(t_s: Reals, rng: np.random.Generator) -> Reals:
    """Strokes of a bell with inharmonic partials over the rumble of wheels."""
    bell = np.zeros_like(t_s)
    pitch_hz, gap_s = rng.uniform(900, 1_800), rng.uniform(0.25, 0.7)
    for start_s in np.arange(rng.uniform(0, gap_s), t_s[-1], gap_s):
        age_s = np.maximum(t_s - start_s, 0)
        for ratio in (1.0, 1.51, 2.03, 2.74):
            decay = np.exp(-age_s / rng.uniform(0.06, 0.25)) * (t_s >= start_s)
            bell += rng.uniform(0.3, 1) * decay * np.sin(2 * np.pi * pitch_hz * ratio * age_s)
    rumble = _noise(t_s, rng, -9, 1_500)
    return bell / _rms(bell) + rng.uniform(0.2, 0.7) * rumble


_SOUNDS: dict[str, Maker] = {
    "ambulance": _ambulance_sound,
    "motorbike": _motorbike_sound,
    "rain": _water_sound,
    "shower": _water_sound,
    "tram": _tram_sound,
    "waterfall": _water_sound,
}


def _camera(canvas: Reals, rng: np.random.Generator) -> Pictures:
    """Exposure, white balance, haze and grain, each drawn once per clip; grain per pixel."""
    exposure = rng.uniform(*EXPOSURE)
    white_balance = rng.normal(1, 0.02, 3).astype(np.float32)
    haze = rng.uniform(0, 0.15)
    hazy = (1 - haze) * canvas + haze * canvas.mean(axis=(1, 2), keepdims=True)
    grain = rng.uniform(0.01, 0.02) * rng.standard_normal(canvas.shape, dtype=np.float32)
    seen = np.clip(hazy * exposure * white_balance + grain, 0, 1)
    return np.round(255 * seen).astype(np.uint8)


def _colour(rng: np.random.Generator, red: float, green: float, blue: float) -> Reals:
    """A colour near the given one: (3,) float32 in [0, 1]."""
    near = np.array([red, green, blue]) * rng.normal(1, 0.05, 3)
    return np.clip(near, 0, 1).astype(np.float32)


def _blend(base: Reals, colour: Reals, weight: Reals) -> Reals:
    """`base` (frames, H, W, 3) covered by a colour (3,) to the share `weight` of (frames, H, W)."""
    return base + weight[..., None].astype(np.float32) * (colour - base)


def _flat(t_s: Reals, colour: Reals) -> Reals:
    return np.broadcast_to(colour, (len(t_s), HEIGHT, WIDTH, 3))


def _rain_scene(t_s: Reals, rng: np.random.Generator) -> Reals:
    """A blue-grey sky that darkens downwards, and slanting streaks that fall."""
    sky = _flat(t_s, _colour(rng, 0.38, 0.48, 0.78))
    ground = _blend(sky, _colour(rng, 0.22, 0.27, 0.45), 0.9 * Y**2)
    slant, speed = rng.uniform(0.2, 0.5), rng.uniform(1, 2.5)
    across = rng.uniform(25, 45) * (X + slant * Y)
    along = rng.uniform(2, 4) * (Y - speed * t_s) + np.floor(across) * 0.618
    streaks = (across % 1 < 0.25) * (along % 1 < 0.45)
    return _blend(ground, _colour(rng, 0.8, 0.83, 0.88), rng.uniform(0.5, 0.9) * streaks)


def _shower_scene(t_s: Reals, rng: np.random.Generator) -> Reals:
    """Pale tiles with dark joints, and jets of water that fan out from above."""
    tiles = _flat(t_s, _colour(rng, 0.62, 0.84, 0.8))
    count, shift = rng.uniform(5, 9), rng.uniform(0, 1)
    joints = ((X * count * 4 / 3 + shift) % 1 < 0.08) | ((Y * count + shift) % 1 < 0.08)
    wall = _blend(tiles, _colour(rng, 0.4, 0.55, 0.53), 0.8 * joints)
    angle = (X - rng.uniform(0.3, 0.7)) / (Y + 0.3)
    jets = (np.sin(60 * angle) > 0.7) * ((Y * 6 - 9 * t_s + 5 * np.sin(9 * angle)) % 1 < 0.6)
    return _blend(wall, np.ones(3, np.float32), 0.6 * jets * (np.abs(angle) < 0.45))


def _waterfall_scene(t_s: Reals, rng: np.random.Generator) -> Reals:
    """Green banks, and a white band that shimmers as it falls."""
    banks = _flat(t_s, _colour(rng, 0.25, 0.42, 0.3))
    leaves = np.sin(50 * X + 9 * np.sin(30 * Y)) * np.sin(45 * Y + 7 * np.sin(25 * X)) > 0.3
    banks = _blend(banks, _colour(rng, 0.4, 0.55, 0.3), 0.5 * leaves)
    centre = rng.uniform(0.3, 0.7) + 0.03 * np.sin(9 * Y + 5 * t_s)
    band = np.clip(8 * (rng.uniform(0.12, 0.3) - np.abs(X - centre)), 0, 1)
    shimmer = 0.75 + 0.25 * np.sin(70 * X + 4 * np.sin(14 * Y - 16 * t_s))
    return _blend(banks, _colour(rng, 0.85, 0.9, 0.92), band * shimmer)


def _street_scene(t_s: Reals, rng: np.random.Generator) -> Reals:
    """Lit windows above a road at night, and coloured lights that pass."""
    night = _flat(t_s, _colour(rng, 0.03, 0.03, 0.06))
    road = np.clip(20 * (Y - rng.uniform(0.53, 0.57)), 0, 1)
    scene = _blend(night, _colour(rng, 0.2, 0.24, 0.42), road)
    shift = rng.uniform(0, 1)
    windows = ((X * 10 + shift) % 1 < 0.4) & ((Y * 9 + shift) % 1 < 0.5)
    scene = _blend(scene, _colour(rng, 0.4, 0.3, 0.1), windows * (1 - road))
    for light in rng.permutation(8):
        x = (rng.uniform(0, 1) + rng.uniform(-0.4, 0.4) * t_s) % 1
        distance = np.hypot((X - x) * WIDTH / HEIGHT, Y - rng.uniform(0.1, 0.9))
        scene = _blend(scene, LIGHTS[light % len(LIGHTS)], np.clip(2.5 - distance / 0.02, 0, 1))
    return scene


_SCENES: dict[str, Maker] = {
    "ambulance": _street_scene,
    "motorbike": _street_scene,
    "rain": _rain_scene,
    "shower": _shower_scene,
    "tram": _street_scene,
    "waterfall": _waterfall_scene,
}
