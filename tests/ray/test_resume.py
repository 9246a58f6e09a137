"""What is committed stays: resume, delta runs, retries, and a job that gives up or stands still."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audioflow.engine.embed import embed
from audioflow.engine.manifest import make_manifest
from audioflow.engine.node_names import this_node
from audioflow.engine.run import Run
from audioflow.engine.score import score
from audioflow.engine.train import train, train_task
from audioflow.engine.train_data import example_sets
from audioflow.errors import AudioflowError, StalledError, StorageError, TooManyFailures
from audioflow.storage import local_path
from tests.media_files import tone, write_wav
from tests.ray.conftest import Register, build_run
from tests.ray.moody import DOWN, LOG, RENEWED


@pytest.fixture
def sounds(tmp_path: Path, ray_session: None) -> Path:
    """Forty short sounds of two classes."""
    root = tmp_path / "sounds"
    for number in range(40):
        path = root / ("high" if number % 2 else "low") / f"{number:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_wav(path, tone(200 + 20 * number, 0.3, 8_000), 8_000)
    return root


@pytest.fixture
def decoder(register: Register) -> Callable[[str], str]:
    """Registers a decoder of `tests.ray.moody` under its own name."""
    return lambda name: register(name, f"tests.ray.moody:{name}")


def sound_run(sounds: Path, *overrides: str) -> Run:
    section = {
        "backbones": {"acoustic": {"patch_s": 0.3}},
        "clips_per_shard": 4,
        "decode_cpus": 0.5,
    }
    systems = {"audio": {"backbone": "acoustic", "head": "linear", "train": {"epochs": 2}}}
    sections = {"embed": section, "systems": systems, "fuse": {}}
    return build_run(sounds, sounds.parent, *overrides, sections=sections)


def embedded(run: Run) -> dict[str, dict]:
    make_manifest(run)
    embed(run)
    return rows_of(run)


def rows_of(run: Run) -> dict[str, dict]:
    return {row["clip_id"]: row for row in run.embeddings("acoustic").read().to_pylist()}


def decoded(sounds: Path) -> list[str]:
    """Names of what was decoded since the last call."""
    names = []
    for log in sounds.rglob(LOG):
        names += log.read_text().split()
        log.unlink()
    return sorted(names)


def files_of(run: Run) -> dict[str, int]:
    folder = Path(local_path(run.embeddings("acoustic").folder.url))
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.*")}


def test_a_delta_run_embeds_only_what_is_new_or_changed(sounds: Path, decoder: Any) -> None:
    logging = decoder("Logging")
    before = embedded(sound_run(sounds, logging))
    assert len(decoded(sounds)) == 40
    files = files_of(sound_run(sounds, logging))

    write_wav(sounds / "low" / "new.wav", tone(500, 0.3, 8_000), 8_000)
    write_wav(sounds / "low" / "00.wav", tone(3_000, 0.4, 8_000), 8_000)
    (sounds / "high" / "01.wav").unlink()
    run = sound_run(sounds, logging)
    after = embedded(run)
    assert decoded(sounds) == ["00.wav", "new.wav"]
    assert after.keys() - before.keys() == {"low/new.wav"}
    assert before.keys() - after.keys() == {"high/01.wav"}
    for clip in before.keys() & after.keys() - {"low/00.wav"}:
        assert before[clip] == after[clip]
    assert before["low/00.wav"] != after["low/00.wav"]
    header = run.embeddings("acoustic").complete_header()
    assert header.stats["clips"] == 2
    now = files_of(run)
    same = [name for name in files if name.endswith(".parquet") and now.get(name) == files[name]]
    assert len(same) >= len([name for name in files if name.endswith(".parquet")]) - 3

    assert embedded(sound_run(sounds, logging)) == after
    assert decoded(sounds) == []


def test_shards_of_another_size_take_everything_over(sounds: Path, decoder: Any) -> None:
    logging = decoder("Logging")
    before = embedded(sound_run(sounds, logging))
    assert len(decoded(sounds)) == 40
    assert embedded(sound_run(sounds, logging, "embed.clips_per_shard=16")) == before
    assert decoded(sounds) == []


def test_an_older_shard_that_is_damaged_is_not_taken_over(sounds: Path, decoder: Any) -> None:
    logging = decoder("Logging")
    run = sound_run(sounds, logging)
    before = embedded(run)
    decoded(sounds)
    folder = Path(local_path(run.embeddings("acoustic").folder.url))
    victim = min(folder.glob("*.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    lost = run.embeddings("acoustic").receipt(victim.stem).clips
    assert embedded(sound_run(sounds, logging, "embed.clips_per_shard=16")) == before
    assert len(decoded(sounds)) == lost > 0


def test_only_failed_clips_are_tried_again(sounds: Path, decoder: Any) -> None:
    moody = decoder("Moody")
    (sounds / "low" / DOWN).touch()
    allowed = "embed.max_failed_share=0.6"
    first = embedded(sound_run(sounds, moody, allowed))
    assert len(first) == 20
    old = sound_run(sounds, moody).embeddings("acoustic").complete_header()

    again = sound_run(sounds, moody, allowed)
    assert embedded(again) == first, "without being asked to, nothing is tried again"
    again.retry_failed = True
    assert embedded(again) == first
    unchanged = again.embeddings("acoustic").complete_header()
    assert unchanged.fingerprint == old.fingerprint, "nothing came of it, so nothing has changed"

    (sounds / "low" / DOWN).unlink()
    after = embedded(again)
    assert len(after) == 40
    assert all(after[clip] == first[clip] for clip in first)
    new = again.embeddings("acoustic").complete_header()
    assert (new.failures, new.rows) == (0, 40)
    assert new.fingerprint != old.fingerprint
    plain = sound_run(sounds, moody, allowed)
    embed(plain)
    assert [event.kind for event in plain.listener] == ["skip"]  # type: ignore[attr-defined]


def test_it_gives_up_at_once_where_all_fail_for_a_reason_that_is_not_theirs(
    sounds: Path, decoder: Any
) -> None:
    moody = decoder("Moody")
    for folder in ("low", "high"):
        (sounds / folder / DOWN).touch()
    run = sound_run(sounds, moody, "embed.give_up_after=6", "embed.max_failed_share=1.0")
    make_manifest(run)
    with pytest.raises(TooManyFailures, match=r"first \d+ clips all failed as 'network'.*answer"):
        embed(run)
    assert run.embeddings("acoustic").header() is None
    for folder in ("low", "high"):
        (sounds / folder / DOWN).unlink()
    assert len(embedded(sound_run(sounds, moody))) == 40


def test_it_gives_up_where_credentials_expire_and_goes_on_where_they_did(
    sounds: Path, decoder: Any
) -> None:
    expiring = decoder("Expiring")
    run = sound_run(sounds, expiring, "embed.give_up_after=6", "embed.max_failed_share=1.0")
    make_manifest(run)
    with pytest.raises(TooManyFailures, match=r"last \d+ recordings all failed as 'perm.*expired"):
        embed(run)
    assert run.embeddings("acoustic").header() is None
    committed = len(run.embeddings("acoustic").committed())
    assert committed
    (sounds / RENEWED).touch()
    again = sound_run(sounds, expiring)
    assert len(embedded(again)) == 40
    assert again.embeddings("acoustic").complete_header().failures == 0
    assert (sounds / LOG).stat().st_size < 20 + 40, "what was read before is kept"


def test_an_error_that_is_not_the_clips_ends_the_job_in_its_own_words(
    sounds: Path, decoder: Any
) -> None:
    run = sound_run(sounds, decoder("FullDisk"))
    make_manifest(run)
    with pytest.raises(StorageError) as told:
        embed(run)
    where, _, what = str(told.value).partition(": ")
    assert where == f"on node {this_node()}"
    assert what == "no room in /tmp; set TMPDIR to another folder"
    run = sound_run(sounds, decoder("Buggy"))
    with pytest.raises(Exception, match="a mistake in the decoder") as error:
        embed(run)
    assert not isinstance(error.value, AudioflowError)


def test_a_job_that_stands_still_names_stage_clip_and_node(sounds: Path, decoder: Any) -> None:
    sleeping = decoder("Sleeping")
    shutil.copy(sounds / "low" / "00.wav", sounds / "low" / "asleep.wav")
    run = sound_run(sounds, sleeping, "embed.stall_timeout_s=12", "embed.decode_timeout_s=600")
    make_manifest(run)
    started = time.monotonic()
    with pytest.raises(StalledError) as error:
        embed(run)
    assert time.monotonic() - started < 60
    message = str(error.value)
    assert "no clip was finished for 12 s (embed.stall_timeout_s)" in message
    assert "decode of clip 'low/asleep.wav' on node " in message
    assert "run the same command again" in message
    (sounds / "low" / "asleep.wav").unlink()
    assert len(embedded(sound_run(sounds, sleeping))) == 40


def test_a_clip_that_hangs_is_cut_off_and_the_others_are_not(sounds: Path, decoder: Any) -> None:
    sleeping = decoder("Sleeping")
    shutil.copy(sounds / "low" / "00.wav", sounds / "low" / "asleep.wav")
    run = sound_run(sounds, sleeping, "embed.decode_timeout_s=2")
    assert len(embedded(run)) == 40
    (failure,) = run.embeddings("acoustic").read_failures().to_pylist()
    assert (failure["clip_id"], failure["error"]) == ("low/asleep.wav", "timeout")
    assert "2 s" in failure["reason"]


def test_variants_are_made_of_training_clips_only_and_used_to_train(sounds: Path) -> None:
    run = sound_run(sounds, "embed.augment={variants: 2, gain: {gain_db: [-12, -6]}}")
    make_manifest(run)
    embed(run)
    columns = run.manifest().read(["clip_id", "split"]).to_pydict()
    split = dict(zip(columns["clip_id"], columns["split"], strict=True))
    rows = run.embeddings("acoustic").read().to_pylist()
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(row["clip_id"], []).append(row["variant"])
    for clip, variants in found.items():
        assert variants == ([0, 1, 2] if split[clip] == "train" else [0])
    trained = [clip for clip in split if split[clip] == "train"]
    header = run.embeddings("acoustic").complete_header()
    assert header.rows == len(rows) == 40 + 2 * len(trained)
    by_key = {(row["clip_id"], row["variant"]): row["embedding"] for row in rows}
    assert not np.allclose(by_key[trained[0], 0], by_key[trained[0], 1])
    sets = example_sets(train_task(run, "audio", run.recipe.systems["audio"]))
    assert len(sets.train) == 3 * len(trained)
    assert len(sets.val) == sum(split[clip] == "val" for clip in split)
    train(run)
    score(run)
    assert run.scores("audio").complete_header().rows == 40
