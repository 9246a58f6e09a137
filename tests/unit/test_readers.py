"""The readers `folder` and `csv`: what they find, and how they tell what is wrong."""

import os
import re
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from audioflow.clip import Clip
from audioflow.datasets import READERS
from audioflow.datasets.base import clip_id
from audioflow.errors import InputError, MediaError
from audioflow.manifest import build_manifest
from audioflow.recipe import ManifestSection
from audioflow.storage import Folder, local_copy, local_path


def read(reader: str, **options: Any) -> Sequence[Clip]:
    return list(READERS.build(reader, options).read(Folder))


def put(root: str | Path, *names: str) -> str:
    """Files of these names below a local or remote root, each holding its name."""
    for name in names:
        place, _, file = name.rpartition("/")
        (Folder(str(root)) / place if place else Folder(str(root))).write(file, name.encode())
    return str(root)


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    memory = f"memory://{uuid.uuid4().hex}/data"
    return memory if request.param == "memory" else str(tmp_path / "data")


# folder


def test_every_file_in_a_class_folder_is_a_clip_of_that_class(root: str) -> None:
    put(root, "cat/1.wav", "cat/deep/er/2.flac", "dog/1.wav", "dog/.DS_Store", ".git/x/3.wav")
    clips = read("folder", root=root)
    assert {clip.clip_id: clip.labels for clip in clips} == {
        "cat/1.wav": ("cat",),
        "cat/deep/er/2.flac": ("cat",),
        "dog/1.wav": ("dog",),
    }
    for clip in clips:
        assert clip.size_bytes == len(clip.clip_id)
        assert clip.version
        assert clip.start_s is clip.duration_s is None
        with local_copy(clip.uri) as path:
            assert Path(path).read_bytes() == clip.clip_id.encode()


def test_a_pattern_chooses_by_name_whatever_lies_beside(root: str) -> None:
    put(root, "cat/1.wav", "cat/1.txt", "dog/2.wav", "README.md")
    assert [clip.clip_id for clip in read("folder", root=root, pattern="*.wav")] == [
        "cat/1.wav",
        "dog/2.wav",
    ]
    with pytest.raises(
        InputError, match=r"no file under .* matches manifest\.pattern '\*\.mp4'; there are 4, the"
    ):
        read("folder", root=root, pattern="*.mp4")


def test_files_in_no_class_folder_are_told(root: str) -> None:
    put(root, "cat/1.wav", *(f"loose{number}.wav" for number in range(7)))
    with pytest.raises(
        InputError,
        match=r"data holds files that are in no class folder: loose0\.wav, .*loose4\.wav and 2 "
        r"more; move each into a sub-folder named as its class, leave them out by manifest\.pat",
    ):
        read("folder", root=root)


def test_a_root_that_is_missing_or_empty_is_told(root: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data does not exist"):
        read("folder", root=root)
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(
        InputError, match="empty holds no file; expected one sub-folder per class with media in it"
    ):
        read("folder", root=str(tmp_path / "empty"))


def test_odd_names_become_clips_that_can_be_opened(tmp_path: Path) -> None:
    folder = tmp_path / "chien à 100%"
    folder.mkdir()
    names = [
        b"a b.wav",
        b'it\'s "q".wav',
        b"new\nline.wav",
        b"-rf.wav",
        b"caf\xe9.wav",
        b"\xc3\xa9",
    ]
    for name in names:
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(name)
    clips = read("folder", root=str(tmp_path))
    assert {clip.labels for clip in clips} == {("chien à 100%",)}
    assert len({clip.clip_id for clip in clips}) == len(names)
    found = set()
    for clip in clips:
        clip.clip_id.encode("utf-8")
        with local_copy(clip.uri) as path:
            found.add(Path(path).read_bytes())
    assert found == set(names)
    manifest = build_manifest(
        clips, ManifestSection(reader="folder", splits={"train": 1}), str(tmp_path)
    )
    assert manifest.num_rows == len(names)


def test_a_root_that_is_not_utf8_is_given_as_a_url(tmp_path: Path) -> None:
    root = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9"))
    put(tmp_path, "x")
    (root / "cat").mkdir(parents=True)
    (root / "cat" / "1.wav").write_bytes(b"")
    (clip,) = read("folder", root=f"file://{tmp_path}/caf%E9")
    assert clip.clip_id == "cat/1.wav"
    assert Path(local_path(clip.uri)).exists()


def test_a_file_that_goes_away_stays_a_clip_which_fails(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.wav")
    (tmp_path / "cat" / "2.wav").symlink_to(tmp_path / "gone.wav")
    clips = read("folder", root=str(tmp_path))
    assert [clip.clip_id for clip in clips] == ["cat/1.wav", "cat/2.wav"]
    with pytest.raises(MediaError, match=r"2\.wav does not exist"):
        local_copy(clips[1].uri).__enter__()


def test_links_in_circles_end(tmp_path: Path) -> None:
    put(tmp_path, "cat/1.wav")
    for name in ("a", "b", "c"):
        (tmp_path / "cat" / name).symlink_to(tmp_path)
    begun = time.monotonic()
    assert [clip.clip_id for clip in read("folder", root=str(tmp_path))] == ["cat/1.wav"]
    assert time.monotonic() - begun < 5


# csv

COLUMNS = {"file_column": "file", "label_column": "label"}


def write_list(root: str | Path, text: str | bytes, name: str = "list.csv") -> str:
    Folder(str(root)).write(name, text if isinstance(text, bytes) else text.encode())
    return f"{root}/{name}"


def read_csv(place: str | Path, text: str | bytes, **options: Any) -> Sequence[Clip]:
    return read("csv", list=write_list(place, text), **(COLUMNS | options))


def test_every_line_of_a_list_is_a_clip(root: str) -> None:
    put(root, "a b.wav", "sub/c.wav")
    clips = read_csv(root, "label,file,site\ncat,a b.wav,north\ndog,sub/c.wav,south\n")
    assert [(clip.clip_id, clip.labels, clip.columns["site"]) for clip in clips] == [
        ("a b.wav", ("cat",), "north"),
        ("sub/c.wav", ("dog",), "south"),
    ]
    assert [clip.place.rpartition("/")[2] for clip in clips] == ["list.csv:2", "list.csv:3"]
    for clip in clips:
        assert clip.size_bytes == len(clip.clip_id)
        with local_copy(clip.uri) as path:
            assert Path(path).read_bytes() == clip.clip_id.encode()


def test_the_root_may_be_elsewhere(root: str, tmp_path: Path) -> None:
    put(f"{root}/media", "a.wav")
    (clip,) = read_csv(tmp_path, "file,label\na.wav,cat\n", root=f"{root}/media")
    assert clip.size_bytes == 5
    with local_copy(clip.uri) as path:
        assert Path(path).read_bytes() == b"a.wav"


def test_a_listed_file_that_is_not_there_stays_a_clip(root: str) -> None:
    put(root, "a.wav")
    clips = read_csv(root, "file,label\na.wav,cat\nabsent.wav,cat\n")
    assert [clip.clip_id for clip in clips] == ["a.wav", "absent.wav"]
    assert clips[1].size_bytes is clips[1].version is None
    with pytest.raises(MediaError, match=r"absent\.wav does not exist"):
        local_copy(clips[1].uri).__enter__()


def test_one_file_spelt_in_two_ways_is_one_recording(root: str) -> None:
    put(root, "sub/a.wav")
    text = "file,label,at\nsub/a.wav,cat,0\n./sub/../sub//a.wav,cat,1\n"
    first, second = read_csv(root, text, start_column="at")
    assert first.uri == second.uri
    assert (first.clip_id, second.clip_id) == ("sub/a.wav@0", "sub/a.wav@1")


def test_urls_and_absolute_paths_are_taken_as_they_are(tmp_path: Path) -> None:
    put(tmp_path / "else", "a.wav")
    other = Folder(f"memory://{uuid.uuid4().hex}")
    other.write("b.wav", b"")
    odd = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.wav"))
    odd.write_bytes(b"123")
    text = f"file,label\n{tmp_path}/else/a.wav,x\n{other.file('b.wav')},x\n"
    text += f"file://{tmp_path}/caf%E9.wav,x\nweird://nowhere/c.wav,x\n"
    local, remote, encoded, weird = read_csv(tmp_path, text)
    assert local.uri == f"{tmp_path}/else/a.wav"
    assert local.size_bytes == 5
    assert remote.uri == other.file("b.wav")
    assert encoded.size_bytes == 3
    with local_copy(encoded.uri) as path:
        assert Path(path) == odd
    with pytest.raises(MediaError, match="weird://nowhere"):
        local_copy(weird.uri).__enter__()


@pytest.mark.parametrize(
    "name", ['"a, b.wav"', '"it\'s ""q"".wav"', '"new\nline.wav"', "-rf.wav", "é🎵.wav", "100%.wav"]
)
def test_files_of_every_name_can_be_listed(tmp_path: Path, name: str) -> None:
    plain = name.strip('"').replace('""', '"') if name.startswith('"') else name
    (tmp_path / plain).write_bytes(b"12345")
    first, second = read_csv(tmp_path, f"file,label\n{name},cat\nz.wav,cat\n")
    assert first.clip_id == plain
    assert first.size_bytes == 5
    assert second.place.endswith("list.csv:4" if "\n" in name else "list.csv:3")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (b"\xef\xbb\xbffile,label\na.wav,cat\n", {}),
        (b"file,label\r\na.wav,cat\r\n", {}),
        (b"file,label\ra.wav,cat\r", {}),
        (b"file;label\na.wav;cat\n", {"delimiter": ";"}),
        (b"file\tlabel\na.wav\tcat\n", {"delimiter": "\t"}),
        (b' file , label\n "a.wav", cat \n', {}),
        (b"\n\nfile,label\n\n  ,  \na.wav,cat\n\n", {}),
        (b"file,label,\na.wav,cat,\n", {}),
        (b"file,label\na.wav,cat", {}),
    ],
)
def test_lists_of_every_make_are_read(tmp_path: Path, text: bytes, options: Any) -> None:
    (clip,) = read_csv(tmp_path, text, **options)
    assert (clip.clip_id, clip.labels) == ("a.wav", ("cat",))
    assert clip.columns == {"file": "a.wav", "label": "cat"}


def test_one_cell_may_hold_several_labels(tmp_path: Path) -> None:
    text = "file,label\na.wav,cat; dog ;cat;\nb.wav,dog\n"
    clips = read_csv(tmp_path, text, label_separator=";")
    assert [clip.labels for clip in clips] == [("cat", "dog"), ("dog",)]
    assert read_csv(tmp_path, text)[0].labels == ("cat; dog ;cat;",)


def test_spans_come_from_their_columns(tmp_path: Path) -> None:
    text = "file,label,at,for\na.wav,x,1.5,2\na.wav,x,,\na.wav,x,3,\na.wav,x,,4\na.wav,x,1e1,0.1\n"
    clips = read_csv(tmp_path, text, start_column="at", duration_column="for")
    assert [(clip.clip_id, clip.start_s, clip.duration_s) for clip in clips] == [
        ("a.wav@1.5+2", 1.5, 2.0),
        ("a.wav", None, None),
        ("a.wav@3", 3.0, None),
        ("a.wav@0+4", None, 4.0),
        ("a.wav@10+0.1", 10.0, 0.1),
    ]


def test_spans_that_differ_little_have_ids_of_their_own() -> None:
    assert clip_id("a.wav", 1234.567, 1.0) == "a.wav@1234.567+1"
    assert clip_id("a.wav", 1234.5678901, 1.0) != clip_id("a.wav", 1234.5678902, 1.0)
    assert clip_id("a.wav", None, 1234.5678) == "a.wav@0+1234.5678"
    assert clip_id("a.wav", 0.1 + 0.2, None) == "a.wav@0.3"


def test_ids_may_have_a_column_of_their_own(tmp_path: Path) -> None:
    clips = read_csv(tmp_path, "file,label,key\na.wav,x,k1\na.wav,x,k2\n", id_column="key")
    assert [clip.clip_id for clip in clips] == ["k1", "k2"]


def test_a_line_that_is_there_twice_is_told_with_both_places(tmp_path: Path) -> None:
    clips = read_csv(tmp_path, "file,label\na.wav,x\nb.wav,x\na.wav,x\n")
    with pytest.raises(InputError, match=r"'a\.wav' \(.*list\.csv:2 and .*list\.csv:4\)"):
        build_manifest(clips, ManifestSection(reader="csv", splits={"train": 1}), "list.csv")


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ("", {}, "list.csv is empty; its first line has to name the columns"),
        ("\n\n", {}, "list.csv is empty"),
        (
            "fil,label\na.wav,x\n",
            {},
            "list.csv has the columns 'fil', 'label', but manifest.file_column is 'file' (did you "
            "mean 'fil'?)",
        ),
        (
            "file,label\n",
            {"id_column": "key", "start_column": "at"},
            "but manifest.id_column is 'key', manifest.start_column is 'at'",
        ),
        ("file;label\na;x\n", {}, "is manifest.delimiter ',' right?"),
        ("file,label,file\na,x,b\n", {}, "list.csv has two columns named 'file'; rename one"),
        (b"file,label\ncaf\xe9.wav,x\n", {}, "is not UTF-8 text (byte 14 is 0xe9); save it as UT"),
        ("file,label\na,x\n".encode("utf-16"), {}, "is not UTF-8 text (byte 0 is 0xff)"),
        (
            'file,label\na.wav,x\n"b.wav,x\nc.wav,x\n',
            {},
            "list.csv:3 is not CSV: unexpected end of data; a cell with a quote in it stands in qu",
        ),
        ('file,label\n"a" b.wav,x\n', {}, "list.csv:2 is not CSV: "),
    ],
)
def test_a_list_that_cannot_be_read_is_told(
    tmp_path: Path, text: str | bytes, options: Any, told: str
) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        read_csv(tmp_path, text, **options)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (",x,1,1", "line 3: file is empty"),
        ("a.wav,,1,1", "line 3: label is empty"),
        ("a.wav,;,1,1", "line 3: label is ';', which has no label in it"),
        ("a.wav,x,one,1", "line 3: at is 'one', not a number of seconds"),
        ("a.wav,x,'1,5',1", "line 3: 5 cells, but there are 4 columns; a cell with the delimiter"),
        ("a.wav,x,-1,1", "line 3: at is '-1'; allowed: 0 seconds or more"),
        ("a.wav,x,nan,1", "line 3: at is 'nan'; allowed: 0 seconds or more"),
        ("a.wav,x,1,inf", "line 3: for is 'inf'; allowed: 0 seconds or more"),
        ("a.wav,x,1,0", "line 3: for is 0; allowed: more than 0 seconds"),
        ("a.wav,x", "line 3: 2 cells, but there are 4 columns"),
        ("a\0.wav,x,1,1", "line 3: file is 'a\\x00.wav', which no file can be named"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(tmp_path: Path, line: str, told: str) -> None:
    options = {"start_column": "at", "duration_column": "for", "label_separator": ";"}
    with pytest.raises(InputError, match=r"list\.csv: 1 line is wrong\n  " + re.escape(told)):
        read_csv(tmp_path, f"file,label,at,for\nok.wav,x,1,1\n{line}\n", **options)


def test_all_wrong_lines_are_told_at_once(tmp_path: Path) -> None:
    lines = "".join(f"{number}.wav,\n" for number in range(13))
    with pytest.raises(
        InputError,
        match=r"13 lines are wrong\n  line 2: label is empty\n(.*\n){9}  and 3 more",
    ):
        read_csv(tmp_path, "file,label\n" + lines)


def test_a_missing_id_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 3: key is empty"):
        read_csv(tmp_path, "file,label,key\na.wav,x,1\nb.wav,x,\n", id_column="key")


def test_a_list_that_is_not_there_is_told(root: str) -> None:
    with pytest.raises(InputError, match=r"data/absent\.csv does not exist \(manifest\.list\)"):
        read("csv", list=f"{root}/absent.csv", **COLUMNS)


def test_a_folder_in_place_of_the_list_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read("csv", list=str(tmp_path), **COLUMNS)


def test_a_root_in_a_bucket_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"memory://nowhere does not exist, or nothing is in it"):
        read_csv(tmp_path, "file,label\na.wav,x\n", root="memory://nowhere")


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n"])
def test_a_delimiter_is_one_character_that_delimits(tmp_path: Path, delimiter: str) -> None:
    with pytest.raises(ValidationError, match="delimiter"):
        read_csv(tmp_path, "file,label\na.wav,x\n", delimiter=delimiter)


# demo


def test_the_demo_corpus_is_local_and_its_settings_are_checked() -> None:
    with pytest.raises(
        InputError, match=r"manifest\.root is memory://demo; the demo corpus is made"
    ):
        read("demo", root="memory://demo")
    for wrong in ({"clips": 3}, {"corpus_seed": -1}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            READERS.build("demo", {"root": "x", **wrong})
