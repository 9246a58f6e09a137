"""Rows of other programs and the clips they are of: by key, never by order."""

import pyarrow as pa
import pytest
from pydantic import ValidationError

from audioflow.errors import InputError
from audioflow.matching import KeySettings, match, stem


def clips(*uris: str) -> pa.Table:
    return pa.table({"clip_id": [f"c{place}" for place in range(len(uris))], "uri": list(uris)})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("C:\\k600\\val\\playing chess\\v_-abc_d0_000001_000011.wav", "v_-abc_d0_000001_000011"),
        ("/data/a/v_1.mp4", "v_1"),
        ("s3://bucket/a/v_1.3gp?versionId=3", "v_1"),
        ("blues/blues.00029.au", "blues.00029"),
        ("blues.00029", "blues.00029"),
        ("QmFzZTY0==.mp3", "QmFzZTY0=="),
        ("plain", "plain"),
        (".wav", ".wav"),
        ("folder\\", "folder"),
        ("a.w.wav", "a.w"),  # not the letters of '.wav' stripped off
    ],
)
def test_a_stem_is_a_name_without_folders_and_extension(name: str, expected: str) -> None:
    assert stem(name) == expected


def test_rows_find_their_clips_in_any_order_and_from_any_system() -> None:
    manifest = clips("/m/one.mp4", "/m/two.mp4", "/m/three.mp4")
    found = match(["X:\\a\\three.wav", "X:\\a\\other.wav", "one"], manifest, KeySettings(), "x")
    assert found.rows.tolist() == [2, -1, 0]
    assert found.unknown == ["X:\\a\\other.wav"]


def test_a_pattern_is_the_key_by_its_first_group() -> None:
    choice = KeySettings(pattern=r"^(.{4})")
    manifest = clips("/m/v_01_000.mp4", "/m/v_02_000.mp4", "/m/x.mp4")
    found = match(["v_02_999.wav", "v_01_999.wav", "u"], manifest, choice, "x")
    assert found.rows.tolist() == [1, 0, -1]
    assert found.unknown == ["u"], "what the pattern does not match is of no clip"


def test_clip_ids_and_uris_count_as_they_stand() -> None:
    manifest = clips("/m/a.wav", "/m/a.mp4")
    assert match(["c1"], manifest, KeySettings(of="clip_id"), "x").rows.tolist() == [-1, 0]
    assert match(["/m/a.mp4"], manifest, KeySettings(of="uri"), "x").rows.tolist() == [-1, 0]


def test_two_rows_of_one_key_are_refused() -> None:
    with pytest.raises(InputError, match=r"x: .* 'a' \(rows 1 and 3: 'p/a.wav', 'q/a.wav'\)"):
        match(["p/a.wav", "b", "q/a.wav"], clips("/m/a.wav"), KeySettings(), "x")


def test_a_row_that_may_be_of_two_clips_is_refused() -> None:
    manifest = clips("/m/1/a.wav", "/m/2/a.wav")
    with pytest.raises(InputError, match="'a' is that of several clips, 'c0' and 'c1'; give a key"):
        match(["a"], manifest, KeySettings(), "x")
    assert match(["b", "/m/2/a.wav"], manifest, KeySettings(of="uri"), "x").rows.tolist() == [-1, 1]


def test_no_match_at_all_shows_both_keys() -> None:
    with pytest.raises(
        InputError, match=r"'v_1.wav', is 'v_1', that of the first clip 'c0' is 'a'"
    ):
        match(["v_1.wav"], clips("/m/a.wav"), KeySettings(), "x")


def test_a_pattern_has_to_be_one() -> None:
    with pytest.raises(ValidationError, match=r"'\(' is no regular expression"):
        KeySettings(pattern="(")
