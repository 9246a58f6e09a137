"""`mfcc_bof`: its frames against HTK's formulas, its bags, and learning a codebook.

Shapes: P patches, T samples of a patch, L frames, K clusters.
"""

import numpy as np
import pytest
import torch
import torchaudio.compliance.kaldi
from safetensors.numpy import load_file, save_file

from audioflow import codebook as module
from audioflow import goldens
from audioflow.backbones import BACKBONES
from audioflow.codebook import Codebook, fit_codebook, save_codebook
from audioflow.errors import InputError, StorageError
from audioflow.frontend.mfcc import mfcc_0_d_a
from audioflow.goldens.mfcc_bof import mfcc
from audioflow.media.patches import Stretch, cut_patches
from audioflow.weights import WeightsError

RATE = 16_000


def embed(batch: np.ndarray, **options) -> np.ndarray:
    backbone = BACKBONES.build("mfcc_bof", options)
    backbone.to(torch.device("cpu"))
    with torch.inference_mode():
        found = backbone.embed(torch.from_numpy(batch))
    assert {name: layer.shape[-1] for name, layer in found.items()} == dict(backbone.layers)
    (layer,) = found.values()
    assert layer.dtype == torch.float32
    return layer.numpy()


def frames(samples: np.ndarray) -> np.ndarray:
    return mfcc_0_d_a(torch.from_numpy(samples[None]))[0].numpy()


# Frames


def test_frames_are_those_of_the_htk_book():
    samples = goldens.sound(1, 12_345, 7)[0]
    found = frames(samples)
    assert found.shape == (1 + (12_345 - 400) // 160, 39)
    assert found == pytest.approx(mfcc(samples.astype(np.float64)), abs=1e-4)


def test_frames_are_those_of_kaldi_in_its_htk_form():
    samples = goldens.sound(1, 12_345, 8)
    static = torchaudio.compliance.kaldi.mfcc(
        torch.from_numpy(samples.astype(np.float32)),
        sample_frequency=RATE,
        window_type="hamming",
        num_mel_bins=26,
        low_freq=0.0,
        high_freq=8000.0,
        num_ceps=13,
        cepstral_lifter=22.0,
        htk_compat=True,
        remove_dc_offset=False,
    )
    delta = torchaudio.functional.compute_deltas(static.T)
    expected = torch.cat([static.T, delta, torchaudio.functional.compute_deltas(delta)]).T
    assert frames(samples[0]) == pytest.approx(expected.numpy(), abs=0.01)


def test_silence_is_at_the_floor():
    assert frames(np.zeros(8000, np.int16)) == pytest.approx(np.zeros((48, 39)), abs=1e-12)


def test_twice_as_loud_moves_c0_alone():
    samples = goldens.sound(1, 8000)[0] // 4
    quiet, loud = frames(samples), frames(samples * 2)
    moved = loud - quiet
    step = np.sqrt(2 / 26) * 26 * np.log(4)  # every band gains ln 4, cosine 0 is 1
    assert moved[:, 12] == pytest.approx(np.full(48, step), abs=1e-6)
    assert np.delete(moved, 12, axis=1) == pytest.approx(np.zeros((48, 38)), abs=1e-6)


def test_deltas_are_slopes():
    """Loudness that grows by a factor per frame makes c0 rise by a constant."""
    noise = np.random.default_rng(0).integers(-3, 4, 160)
    growth = 1.03 ** (np.arange(160 * 60) / 160)
    samples = np.rint(300 * np.tile(noise, 60) * growth).astype(np.int16)
    found = frames(samples)[8:-8]
    step = np.sqrt(2 / 26) * 26 * 2 * np.log(1.03)
    assert found[:, 25] == pytest.approx(np.full(len(found), step), rel=0.02)
    assert found[:, 38] == pytest.approx(np.zeros(len(found)), abs=0.02)


def test_a_long_clip_is_computed_in_pieces_that_show_nowhere(monkeypatch):
    samples = goldens.sound(3, 20_000)
    expected = mfcc_0_d_a(torch.from_numpy(samples))
    monkeypatch.setattr("audioflow.frontend.mfcc._FRAMES_AT_ONCE", 50)
    assert torch.allclose(mfcc_0_d_a(torch.from_numpy(samples)), expected, rtol=0, atol=1e-9)


def test_frames_come_out_where_no_codebook_is_wanted():
    batch = goldens.sound(2, 8000)
    found = embed(batch, output="frames")
    assert found.shape == (2, 48, 39)
    assert found[1] == pytest.approx(frames(batch[1]), abs=1e-5)


# Bags


@pytest.fixture
def book(tmp_path) -> tuple[str, np.ndarray]:
    """A codebook of eight frames of the sound below, far apart in time."""
    centres = frames(SOUND[0])[5::37][:8].astype(np.float32)
    path = str(tmp_path / "book.safetensors")
    save_file({"centres": centres}, path)
    return path, centres


SOUND = goldens.sound(2, 3 * RATE + 77, 3)


def test_a_bag_is_the_share_of_frames_nearest_to_each_centre(book):
    path, centres = book
    found = embed(SOUND, codebook=path, clusters=8)
    for bag, samples in zip(found, SOUND, strict=True):
        distance = ((frames(samples)[:, None] - centres[None]) ** 2).sum(axis=2)
        counts = np.bincount(distance.argmin(axis=1), minlength=8)
        assert bag == pytest.approx(counts / len(distance), abs=1e-7)
    assert found.sum(axis=1) == pytest.approx([1, 1])
    assert (found[0] > 0).sum() == 8


def test_a_bag_does_not_depend_on_what_is_beside_it(book):
    together = embed(SOUND, codebook=book[0], clusters=8)
    alone = [
        embed(SOUND[number : number + 1], codebook=book[0], clusters=8)[0] for number in (0, 1)
    ]
    assert np.array_equal(together, np.stack(alone))


def test_a_clip_is_one_bag_of_at_least_one_frame():
    patching = BACKBONES.build("mfcc_bof", {"output": "frames"}).input
    assert cut_patches(Stretch(SOUND[0]), patching)[0].shape == (1, 3 * RATE + 77)
    assert cut_patches(Stretch(SOUND[0][:100]), patching)[0].shape == (1, 400)


def test_a_bag_without_a_codebook_says_how_to_make_one():
    with pytest.raises(ValueError, match="audioflow weights codebook RECIPE --out"):
        BACKBONES.build("mfcc_bof", {})


def test_a_codebook_that_would_not_be_used_is_refused():
    with pytest.raises(ValueError, match=r"codebook \(b\.npz\) says nothing with output: frames"):
        BACKBONES.build("mfcc_bof", {"codebook": "b.npz", "output": "frames"})


def test_a_codebook_of_another_size_is_refused(book):
    with pytest.raises(WeightsError, match=r"centres is \(8, 39\), expected \(50, 39\)"):
        embed(SOUND, codebook=book[0])


# Learning


def clouds(count: int) -> list[np.ndarray]:
    """Waveforms of three kinds: silence, a low tone and hiss."""
    random = np.random.default_rng(5)
    t = np.arange(RATE // 2)
    kinds = [0 * t, 8000 * np.sin(t * 0.05), random.normal(0, 3000, t.size)]
    return [np.rint(kinds[number % 3]).astype(np.int16) for number in range(count)]


def test_a_codebook_finds_the_kinds_of_sound_there_are(tmp_path):
    found = fit_codebook(clouds(9), clusters=3, share=0.5, seed=1)
    assert found.centres.shape == (3, 39)
    assert 0.4 < found.num_frames / (9 * 48) < 0.6
    path = str(tmp_path / "kinds.safetensors")
    save_codebook(found, path)
    assert np.array_equal(load_file(path)["centres"], found.centres)
    bags = embed(np.stack(clouds(3)), codebook=path, clusters=3)
    assert bags.max(axis=1) == pytest.approx([1, 1, 1], abs=0.1)
    assert sorted(bags.argmax(axis=1)) == [0, 1, 2]


def test_a_codebook_is_that_of_its_seed():
    sound = list(goldens.sound(4, RATE))
    first, again, other = (fit_codebook(sound, 5, 0.5, seed).centres for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_centres_are_means_of_the_frames_nearest_to_them():
    samples = goldens.sound(1, 4 * RATE)[0]
    centres = fit_codebook([samples], clusters=6, share=1.0).centres
    every = frames(samples)
    words = ((every[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
    means = np.stack([every[words == word].mean(axis=0) for word in range(6)])
    assert centres == pytest.approx(means, abs=0.05)


def test_of_very_many_frames_a_fair_part_is_kept(monkeypatch):
    monkeypatch.setattr(module, "MOST_FRAMES", 300)
    found = fit_codebook(clouds(60), clusters=3, share=1.0)
    assert (found.num_frames, found.num_drawn) == (300, 60 * 48)
    all_there = fit_codebook(clouds(6), clusters=3, share=1.0).centres
    ordered, expected = (np.sort(centres[:, 12]) for centres in (found.centres, all_there))
    assert ordered == pytest.approx(expected, abs=2.0)


def test_too_little_sound_to_learn_from_is_refused():
    with pytest.raises(InputError, match=r"give 0 frames to cluster .*50 clusters need as many"):
        fit_codebook([np.zeros(399, np.int16)])
    with pytest.raises(InputError, match="3 clusters need as many that differ"):
        fit_codebook([np.zeros(RATE, np.int16)], clusters=3, share=1.0)


def test_a_codebook_that_cannot_be_written_is_told(tmp_path):
    book = Codebook(np.zeros((2, 39), np.float32), 2, 2)
    with pytest.raises(StorageError, match=r"nowhere/b\.safetensors cannot be written: No such"):
        save_codebook(book, str(tmp_path / "nowhere" / "b.safetensors"))
