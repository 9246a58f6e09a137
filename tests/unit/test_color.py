"""`color` on pictures made by hand, whose bins are known."""

import numpy as np
import pytest
import torch

from audioflow.backbones import BACKBONES
from audioflow.backbones import color as module

HUES, SATURATIONS, VALUES, DIRECTIONS = 12, 3, 8, 8


def plain(rgb: tuple[int, int, int], size: int = 32) -> np.ndarray:
    return np.broadcast_to(np.array(rgb, np.uint8), (size, size, 3)).copy()


def stripes(period: int = 8, size: int = 32) -> np.ndarray:
    """Horizontal stripes: brightness changes from row to row."""
    rows = 128 + 100 * np.sin(2 * np.pi * np.arange(size) / period)
    return np.broadcast_to(rows[:, None, None], (size, size, 3)).astype(np.uint8)


def parts(*frames: np.ndarray) -> dict[str, np.ndarray]:
    """Shares (the histograms squared) of the first frame."""
    with torch.inference_mode():
        batch = torch.from_numpy(np.stack(frames)[:, None])
        vector = BACKBONES.build("color", {}).embed(batch)["embedding"][0].numpy()
    joint, values, statistics, cells = np.split(vector, np.cumsum([36, 8, 6]))
    return {
        "hue": (joint**2).reshape(HUES, SATURATIONS),
        "value": values**2,
        "mean": statistics[:3],
        "std": statistics[3:],
        "cells": (cells**2).reshape(2, 2, DIRECTIONS),
    }


@pytest.mark.parametrize(
    ("rgb", "hue", "saturation", "value"),
    [
        ((255, 0, 0), 0, 2, 7),
        ((255, 255, 0), 2, 2, 7),
        ((0, 255, 0), 4, 2, 7),
        ((0, 255, 255), 6, 2, 7),
        ((0, 0, 255), 8, 2, 7),
        ((255, 0, 255), 10, 2, 7),
        ((255, 0, 30), 11, 2, 7),  # just below 360 degrees
        ((128, 128, 128), 0, 0, 4),
        ((200, 100, 100), 0, 1, 6),
        ((255, 255, 255), 0, 0, 7),
        ((100, 0, 0), 0, 2, 3),
    ],
)
def test_a_plain_colour_is_in_its_own_bin(rgb, hue, saturation, value):
    found = parts(plain(rgb))
    assert found["hue"][hue, saturation] == pytest.approx(1.0)
    assert found["hue"].sum() == pytest.approx(1.0)
    assert found["value"][value] == pytest.approx(1.0)
    assert found["mean"] == pytest.approx(np.array(rgb) / 255, abs=1e-6)
    assert found["std"] == pytest.approx(0.0, abs=1e-6)
    assert not found["cells"].any()


def test_half_and_half_is_two_halves():
    frame = plain((255, 0, 0))
    frame[16:] = (0, 0, 255)
    found = parts(frame)
    assert (found["hue"][0, 2], found["hue"][8, 2]) == (pytest.approx(0.5), pytest.approx(0.5))
    assert found["std"] == pytest.approx([0.5, 0, 0.5], abs=1e-6)


def test_dark_pixels_have_no_hue():
    frame = plain((20, 0, 0))
    assert not parts(frame)["hue"].any()
    frame[:8] = (0, 255, 0)
    assert parts(frame)["hue"][4, 2] == pytest.approx(1.0)
    assert parts(frame)["value"] == pytest.approx([0.75, 0, 0, 0, 0, 0, 0, 0.25])


def test_stripes_fall_into_the_bin_of_their_direction():
    lying, standing = parts(stripes()), parts(stripes().transpose(1, 0, 2))
    assert lying["cells"][..., 4] == pytest.approx(1.0, abs=1e-5)
    assert standing["cells"][..., 0] == pytest.approx(1.0, abs=1e-5)


def test_a_diagonal_falls_between():
    rows, columns = np.mgrid[:32, :32]
    wave = 128 + 100 * np.sin((rows + columns) / 3)
    frame = np.repeat(wave[..., None], 3, axis=2).astype(np.uint8)
    assert parts(frame)["cells"][..., 2].min() > 0.7
    assert parts(frame[:, ::-1].copy())["cells"][..., 6].min() > 0.7


def test_an_edge_does_not_change_its_bin_by_a_little_noise():
    noise = np.random.default_rng(0).integers(-3, 4, (32, 32, 1))
    frame = (stripes().transpose(1, 0, 2).astype(int) + noise).clip(0, 255).astype(np.uint8)
    assert parts(frame)["cells"][..., 0].min() > 0.9


def test_cells_are_quarters_of_the_picture():
    frame = plain((128, 128, 128))
    frame[16:, :16] = stripes()[16:, :16]
    cells = parts(frame)["cells"].sum(axis=2)
    assert cells[1, 0] == pytest.approx(1.0)
    assert parts(frame)["cells"][1, 0].argmax() == 4
    assert not parts(frame)["cells"][0, 1].any()


def test_many_large_frames_are_described_a_few_at_a_time(monkeypatch):
    frames = np.random.default_rng(0).integers(0, 255, (5, 20, 30, 3), np.uint8)
    backbone = BACKBONES.build("color", {})
    together = backbone.embed(torch.from_numpy(frames[:, None]))["embedding"]
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", 2 * 20 * 30)
    seen = []
    real = module._describe
    monkeypatch.setattr(module, "_describe", lambda part: (seen.append(len(part)), real(part))[1])
    apart = backbone.embed(torch.from_numpy(frames[:, None]))["embedding"]
    assert seen == [2, 2, 1]
    assert torch.allclose(apart, together, atol=1e-6)


@pytest.mark.parametrize("options", [{"num_frames": 0}, {"short_side": 8}, {"frames": 3}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=str(next(iter(options)))):
        BACKBONES.build("color", options)
