"""What the report plays and shows of single clips, read from the recordings themselves."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from audioflow.engine.run import Run
from audioflow.media import DECODERS
from audioflow.media.child import DecoderChild
from audioflow.media.parts import Wanted
from audioflow.recipe import EmbedSection
from audioflow.report import Picture, PictureSet
from audioflow.report.excerpts import ClipPlace, Excerpts, read_excerpts
from audioflow.storage import Folder
from audioflow.verify.places import subfolders

EXPLANATIONS = "explanations"
INDEX = "index.json"
MOST_PICTURES, MOST_PICTURE_BYTES = 24, 6_000_000
"""Of all explanations together, so that the page stays light."""


def excerpts_of(run: Run, manifest: pa.Table, clip_ids: Sequence[str]) -> Excerpts:
    """The excerpts of these clips of the manifest, decoded as the job `embed` would."""
    columns = ["clip_id", "uri", "start_s", "duration_s", "size_bytes"]
    asked = pa.array(clip_ids, manifest["clip_id"].type)
    mine = manifest.filter(pc.is_in(manifest["clip_id"], asked))
    places = {row["clip_id"]: ClipPlace(**row) for row in mine.select(columns).to_pylist()}
    wanted, child = _decoding(run)
    try:
        found = [places[clip_id] for clip_id in clip_ids if clip_id in places]
        return read_excerpts(found, child, wanted, run.storage)
    finally:
        child.close()


def _decoding(run: Run) -> tuple[Wanted, DecoderChild]:
    section = run.recipe.embed

    def setting(name: str) -> Any:
        return (
            EmbedSection.model_fields[name].default if section is None else getattr(section, name)
        )

    wanted = Wanted(
        max_duration_s=setting("max_duration_s"),
        sound_track=setting("sound_track"),
        video_track=setting("video_track"),
        decoder=DECODERS.entries[setting("decoder")],
    )
    return wanted, DecoderChild(setting("decode_timeout_s"), setting("decode_memory_gb"))


def picture_sets(folder: Folder) -> tuple[PictureSet, ...]:
    """The pictures that `audioflow explain` left in a run, as many as a page may carry."""
    return tuple(found for found in _picture_sets(folder / EXPLANATIONS) if found.pictures)


def _picture_sets(place: Folder) -> Iterator[PictureSet]:
    left, bytes_left = MOST_PICTURES, MOST_PICTURE_BYTES
    for name in subfolders(place):
        folder = place / name
        if not folder.exists(INDEX):
            continue
        index = json.loads(folder.read(INDEX))
        chosen = index["pictures"][:left]
        left -= len(chosen)
        files = folder.read_many([picture["file"] for picture in chosen])
        pictures = []
        for picture in chosen:
            png = files.get(picture["file"])
            if png is not None and len(png) <= bytes_left:
                bytes_left -= len(png)
                pictures.append(Picture(png, picture["caption"]))
        yield PictureSet(index["title"], index.get("note", ""), tuple(pictures))
