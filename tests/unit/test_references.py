"""Data references of mov and mp4: which of them lead elsewhere."""

from pathlib import Path

import pytest

from audioflow.media.references import external_reference

ALIAS = b"Macintosh HD:other.mov"


def box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + kind + content


def movie(path: Path, *entries: tuple[bytes, int, bytes]) -> str:
    """What `external_reference` says of a file with a track that has these references."""
    inner = b"".join(box(kind, flags.to_bytes(4, "big") + name) for kind, flags, name in entries)
    content = box(b"dref", bytes(4) + len(entries).to_bytes(4, "big") + inner)
    for kind in (b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        content = box(kind, content)
    data = box(b"ftyp", b"qt  " + bytes(4)) + box(b"mdat", b"moov" * 9) + content
    path.write_bytes(data)
    return external_reference(str(path), data[:4096])


@pytest.mark.parametrize("kind", [b"alis", b"url ", b"urn ", b"rsrc"])
def test_a_reference_that_names_something_leads_elsewhere(tmp_path: Path, kind: bytes) -> None:
    inside = (b"url ", 1, b"")
    assert movie(tmp_path / "a.mov", inside, (kind, 0, ALIAS)) == kind.decode().strip()


@pytest.mark.parametrize(
    "entry", [(b"url ", 1, b""), (b"alis", 1, ALIAS), (b"alis", 0, b""), (b"url ", 0, b"")]
)
def test_the_file_itself_and_nothing_do_not(
    tmp_path: Path, entry: tuple[bytes, int, bytes]
) -> None:
    assert movie(tmp_path / "a.mov", entry) == ""


def test_boxes_that_lie_about_their_size_are_left_to_ffmpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    movie(path, (b"alis", 0, ALIAS))
    whole = path.read_bytes()
    for size in (0, 1, 7, 2**31, 2**32 - 1):
        place = whole.index(b"trak") - 4
        data = whole[:place] + size.to_bytes(4, "big") + whole[place + 4 :]
        path.write_bytes(data)
        assert external_reference(str(path), data) in ("", "alis")
        path.write_bytes(data[: len(data) // 2])
        external_reference(str(path), data)
