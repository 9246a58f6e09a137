"""A served system: found in the folders of a run, and its scores those of the tables there."""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import ray
import s3fs
from typer.testing import CliRunner

from audioflow.backbones.ready import made_ready
from audioflow.cli import app
from audioflow.engine.serve_model import Model
from audioflow.engine.serve_save import save
from audioflow.engine.serve_system import Served, find_served
from audioflow.errors import InputError, MediaError, TableError
from audioflow.media.parts import End, Part
from audioflow.scores import score_matrix
from audioflow.serving.answers import Scored
from audioflow.serving.decoding import Decoders
from audioflow.serving.limits import Limits
from audioflow.storage import Folder
from audioflow.tables import Table
from audioflow.weights import WeightsError
from tests.unit.heard_run import CLASSES, make_heard_run, tone, write_wav

FUSED = {
    "systems": ["tiles", "rows"],
    "rule": "weighted",
    "calibrate": "none",
    "missing": "fallback",
    "fused": True,
    "multi_label": False,
    "params": {"weights": {"tiles": 0.25, "rows": 0.75}},
}


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Two heads on two backbones, and a table fused from both in another order of classes."""
    run = make_heard_run(tmp_path_factory.mktemp("heard"))
    header = Table(run / "scores" / "rows").complete_header()
    classes = CLASSES[::-1]
    told = replace(header, name="both", settings=FUSED, classes=classes, shards=[], rows=0)
    Table(run / "scores" / "both").finish(told)
    return run


@pytest.fixture
def run(heard: Folder, tmp_path: Path) -> Folder:
    """A copy to damage."""
    shutil.copytree(heard.url, tmp_path / "run")
    return Folder(str(tmp_path / "run"))


def change(folder: Folder, name: str, **values: object) -> None:
    """Replace settings in a header, or keys of any other JSON file."""
    told = json.loads(folder.read(name))
    (told["settings"] if name == "_header.json" else told).update(values)
    folder.write(name, json.dumps(told).encode())


@pytest.fixture(scope="module")
def media(heard: Folder) -> Iterator[dict[str, list[Part]]]:
    """What is decoded of the first four clips, with what both backbones want."""
    decoders = Decoders(find_served(heard, "both").wanted, Limits(decoders=1))
    paths = sorted(Path(heard.url).parent.glob("media/*.wav"))[:4]
    yield {path.stem: decoders.decode(str(path), time.monotonic() + 60) for path in paths}
    decoders.close()


def table_scores(run: Folder, system: str, ids: list[str]) -> np.ndarray:
    rows = Table(run / "scores" / system).read(["clip_id", "scores"])
    places = {clip_id: place for place, clip_id in enumerate(rows["clip_id"].to_pylist())}
    return score_matrix(rows)[[places[clip_id] for clip_id in ids]]


def wanted(served: Served, media: dict[str, list[Part]]) -> dict[str, list[Part]]:
    """What is decoded for this system alone."""
    sources = served.wanted.sources
    return {one: [part for part in parts if part.source in sources] for one, parts in media.items()}


def served_scores(served: Served, media: dict[str, list[Part]]) -> np.ndarray:
    found = Model(served).scores(wanted(served, media))
    assert list(found) == list(media)
    return np.stack([one.scores for one in found.values() if isinstance(one, Scored)])


# Scores


@pytest.mark.parametrize("system", ["tiles", "rows"])
def test_scores_are_those_of_the_table_alone_and_together(heard, media, system) -> None:
    served = find_served(heard / "heads" / system, None)
    expected = table_scores(heard, system, list(media))
    assert served_scores(served, media) == pytest.approx(expected, abs=2e-6)
    for number, (clip_id, parts) in enumerate(media.items()):
        alone = served_scores(served, {clip_id: parts})
        assert alone[0] == pytest.approx(expected[number], abs=2e-6)


def test_fused_scores_are_those_of_the_rule_in_the_order_of_its_classes(heard, media) -> None:
    served = find_served(heard, "both")
    assert served.about.classes == tuple(CLASSES[::-1])
    parts = [table_scores(heard, name, list(media))[:, ::-1] for name in ("tiles", "rows")]
    expected = 0.25 * parts[0] + 0.75 * parts[1]
    found = Model(served).scores(media)
    for number, one in enumerate(found.values()):
        assert isinstance(one, Scored)
        assert one.scores == pytest.approx(expected[number], abs=2e-6)
        assert one.systems == ["tiles", "rows"]


def test_a_clip_that_cannot_be_scored_does_not_harm_the_others(heard, media) -> None:
    served = find_served(heard, "rows")
    clips, mine = list(media), wanted(served, media)
    failed = [replace(mine[clips[1]][-1], error=MediaError("no_audio", "none is there"))]
    found = Model(served).scores(mine | {clips[1]: failed})
    told = found[clips[1]]
    assert isinstance(told, MediaError)
    assert (told.error, told.reason) == ("no_audio", "none is there")
    good = [found[clip_id] for clip_id in clips if clip_id != clips[1]]
    assert all(isinstance(one, Scored) for one in good)


@pytest.mark.parametrize(("missing", "scored"), [("fallback", True), ("drop", False)])
def test_where_a_system_is_missing_the_fusion_does_as_its_table_says(run, media, missing, scored):
    change(run / "scores" / "both", "_header.json", missing=missing)
    served = find_served(run, "both")
    clip_id = next(iter(media))
    rate = served.specs["acoustic"].input.source
    assert len(served.wanted.sample_rates_hz) == 2, "logmel takes another one"
    lost = End(0, rate, error=MediaError("truncated", "most of it is lost"))
    parts = [part for part in media[clip_id] if part.source != rate] + [lost]
    found = Model(served).scores({clip_id: parts})[clip_id]
    if scored:
        assert isinstance(found, Scored)
        assert found.systems == ["tiles"]
        alone = table_scores(run, "tiles", [clip_id])[0, ::-1]
        assert found.scores == pytest.approx(alone, abs=2e-6)
    else:
        assert isinstance(found, MediaError)
        assert found.reason == "rows: truncated: most of it is lost"


def test_too_short_for_a_backbone_is_told(run, tmp_path) -> None:
    header = Table(run / "embeddings" / "acoustic").complete_header()
    settings = header.settings["settings"] | {"short": "fail"}
    change(run / "embeddings" / "acoustic", "_header.json", settings=settings)
    served = find_served(run, "rows")
    write_wav(tmp_path / "short.wav", tone(500, 0.3, 0))
    decoders = Decoders(served.wanted, Limits(decoders=1))
    parts = decoders.decode(str(tmp_path / "short.wav"), time.monotonic() + 30)
    decoders.close()
    told = Model(served).scores({"short": parts})["short"]
    assert isinstance(told, MediaError)
    assert told.error == "too_short"
    assert "0.300 s of sound" in told.reason


# Finding


def test_what_is_saved_is_served_by_itself(heard, media, tmp_path) -> None:
    served = find_served(heard, "both")
    saved = save(served, Folder(str(tmp_path / "model")))
    there = sorted(
        str(path.relative_to(tmp_path / "model"))
        for path in (tmp_path / "model").rglob("*")
        if path.is_file()
    )
    assert there == sorted(saved.files)
    assert not any(name.endswith((".parquet", "epochs.json")) for name in there)
    again = find_served(Folder(str(tmp_path / "model")), "both")
    assert again.about == served.about
    assert np.array_equal(served_scores(again, media), served_scores(served, media))


@pytest.mark.parametrize(
    ("place", "system", "says"),
    [
        ("heads/rows", "tiles", "is the head 'rows', and --system says 'tiles'"),
        ("", None, "has 2 heads: say which by --system, rows or tiles or both"),
        ("", "row", "no system 'row'; there are: rows, tiles, both; did you mean 'rows'"),
        ("manifest", None, "neither a head .* nor a run with heads/"),
        ("nowhere", "rows", "has no system 'rows'; there are: none"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(heard, place, system, says) -> None:
    with pytest.raises(InputError, match=says):
        find_served(Folder(f"{heard.url}/{place}".rstrip("/")), system)


def test_a_head_away_from_its_run_is_told_how_to_copy_it(heard, tmp_path) -> None:
    shutil.copytree(f"{heard.url}/heads/rows", tmp_path / "alone")
    with pytest.raises(InputError, match="does not lie in the folder heads/ of a run"):
        find_served(Folder(str(tmp_path / "alone")), None)
    shutil.copytree(f"{heard.url}/heads/rows", tmp_path / "heads" / "rows")
    with pytest.raises(InputError, match=r"no embeddings/acoustic/_header\.json, .*--save"):
        find_served(Folder(str(tmp_path / "heads" / "rows")), None)


def test_a_head_on_other_vectors_is_refused(run) -> None:
    change(run / "embeddings" / "acoustic", "_header.json", vectors="beef")
    with pytest.raises(TableError, match=r"embeddings/acoustic in .* has beef; train it again"):
        find_served(run, "rows")


def test_a_backbone_that_is_not_what_it_was_is_refused(run) -> None:
    change(run / "embeddings" / "acoustic", "_header.json", revision=0)
    with pytest.raises(InputError, match="revision was 0, is 1"):
        find_served(run, "rows")


def test_settings_that_no_backbone_has_are_told(run) -> None:
    header = Table(run / "embeddings" / "acoustic").complete_header()
    settings = header.settings["settings"] | {"short": "stretch"}
    change(run / "embeddings" / "acoustic", "_header.json", settings=settings)
    with pytest.raises(InputError, match=r"embeddings/acoustic was made .* short: Input should be"):
        find_served(run, "rows")


def test_vectors_of_other_programs_cannot_be_heard(run) -> None:
    told = json.loads((run / "embeddings" / "acoustic").read("_header.json"))
    del told["settings"]["backbone"]
    (run / "embeddings" / "acoustic").write("_header.json", json.dumps(told).encode())
    with pytest.raises(InputError, match="embeddings/acoustic was imported: there is no backbone"):
        find_served(run, "rows")


def test_scores_of_other_programs_cannot_be_fused_here(run) -> None:
    change(run / "scores" / "both", "_header.json", systems=["tiles", "theirs"])
    with pytest.raises(InputError, match="fused from tiles, theirs, and theirs has no head"):
        find_served(run, "both")


def test_variants_that_were_never_made_are_refused(heard) -> None:
    with pytest.raises(InputError, match="--variants mean: embeddings/acoustic was made without"):
        find_served(heard, "rows", "mean")


def test_a_damaged_head_is_told(run) -> None:
    (run / "heads" / "rows").write("weights.safetensors", b"not at all")
    with pytest.raises(TableError, match="heads/rows holds a damaged head bundle"):
        find_served(run, "rows")


def test_tables_of_two_sound_tracks_are_not_decoded_at_once(run) -> None:
    change(run / "embeddings" / "acoustic", "_header.json", sound_track=1)
    with pytest.raises(InputError, match=r"several settings of embed\.sound_track"):
        find_served(run, "both")


def test_weights_go_along_by_their_hash(run, tmp_path) -> None:
    path = tmp_path / "edge.safetensors"
    path.write_bytes(b"any bytes: nothing is computed here")
    options = {"weights": str(path), "precision": "float32"}
    ready = made_ready("edgel3", options)
    change(
        run / "embeddings" / "acoustic",
        "_header.json",
        backbone="edgel3",
        revision=ready.backbone.revision,
        settings=ready.what_counts(),
        weights={key: used.to_json() for key, used in ready.weights.items()},
    )
    served = find_served(run, "rows")
    assert served.specs["acoustic"].ready.places == {"weights": str(path)}
    model = Folder(str(tmp_path / "model"))
    assert f"weights/{ready.hashes['weights']}.safetensors" in save(served, model).files
    path.unlink()
    with pytest.raises(WeightsError, match=r"edge\.safetensors does not exist"):
        find_served(run, "rows")
    again = find_served(model, "rows").specs["acoustic"].ready
    assert again.hashes == ready.hashes
    assert again.places["weights"].startswith(model.url)


def test_a_head_in_a_bucket_is_served(heard, media, s3_server) -> None:
    bucket = f"serving-{uuid4().hex[:8]}"
    s3fs.S3FileSystem().mkdir(bucket)
    served = find_served(heard, "rows")
    save(served, Folder(f"s3://{bucket}/model"))
    again = find_served(Folder(f"s3://{bucket}/model/heads/rows"), None)
    assert again.about == served.about
    assert np.array_equal(served_scores(again, media), served_scores(served, media))


# The command


def serve(*arguments: str, code: int) -> str:
    done = CliRunner().invoke(app, ["serve", *arguments])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def test_the_command_saves_what_is_served_and_says_how(heard, tmp_path) -> None:
    told = serve(heard.url, "--system", "both", "--save", str(tmp_path / "model"), code=0)
    assert "files for serving both in" in told
    assert told.endswith(f"audioflow serve {tmp_path / 'model'} --system both")
    assert not ray.is_initialized()


def test_what_cannot_be_served_ends_the_command_before_any_ray_starts(heard, tmp_path) -> None:
    told = serve(str(tmp_path), code=4)
    assert "is neither a head" in told
    assert "did you mean 'rows'" in serve(heard.url, "--system", "row", code=4)
    assert "--port" in serve(heard.url, "--port", "70000", code=2)
    told = serve(heard.url, "--system", "rows", "--route-prefix", "sounds/", code=4)
    assert "--route-prefix 'sounds/' is no begin of a path" in told
    assert not ray.is_initialized()


def test_the_extra_is_named_where_it_is_missing(heard, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.serve", None)
    told = serve(heard.url, "--system", "rows", code=4)
    assert "Ray Serve is not installed" in told
    assert "pip install 'audioflow[serve]'" in told
