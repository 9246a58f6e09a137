"""`audioflow weights codebook RECIPE --out FILE`: learn the codebook of the backbone `mfcc_bof`.

Only clips of the split `train` are heard. They are decoded here, without Ray, one after the other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from numpy.typing import NDArray
from rich.console import Console as RichConsole
from rich.progress import Progress

from audioflow.console import guarded
from audioflow.division import CROSS_VALIDATED
from audioflow.errors import InputError, MediaError
from audioflow.media import DECODERS
from audioflow.media.child import DecoderChild
from audioflow.media.parts import End, SoundPart, Wanted, rate_of
from audioflow.media.spans import Span
from audioflow.plugins import plugins
from audioflow.recipe import EmbedSection, Recipe
from audioflow.recipe_file import load_recipe
from audioflow.storage import local_copy
from audioflow.stores import StorageOptions
from audioflow.verify.text import plural

STRETCH_S = 600
"""A longer clip is heard in stretches, so that its length bounds no one's memory."""

Told = Callable[[int, int], None]
"""Called with how many clips are heard, and how many there are."""


@dataclass(frozen=True)
class CodebookCommand:
    """`audioflow weights codebook` as it was asked for."""

    recipe: str
    out: str
    overrides: Sequence[str] = ()
    clusters: int = 50
    share: float = 0.2
    seed: int = 0


def codebook_command(
    recipe: Annotated[str, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Values that replace those of the recipe.", metavar="[SECTION.KEY=VALUE]..."
        ),
    ] = None,
    *,
    out: Annotated[str, typer.Option(help="The file to write.", metavar="FILE.safetensors")],
    clusters: Annotated[int, typer.Option(min=2, max=65_536, help="Words of the codebook.")] = 50,
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of the frames to use.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of what is drawn.")] = 0,
) -> None:
    """Exit code 0; 2 for a wrong recipe, 4 where there is too little sound to learn from."""
    asked = CodebookCommand(recipe, out, overrides or [], clusters, share, seed)
    raise typer.Exit(guarded(lambda: _codebook(asked)))


def _codebook(asked: CodebookCommand) -> int:
    with Progress(console=RichConsole(stderr=True), transient=True) as progress:
        task = progress.add_task("codebook", total=None)
        lines = run_codebook(
            asked, lambda done, total: progress.update(task, completed=done, total=total)
        )
    for line in lines:
        typer.echo(line)
    return 0


def run_codebook(command: CodebookCommand, told: Told) -> list[str]:
    """Learn and write the codebook; what to tell of it, in lines.

    Raises `RecipeError`, `InputError` where there is no train clip or too little sound, and
    `StorageError` where the file cannot be written.
    """
    from audioflow.codebook import fit_codebook, save_codebook

    if not command.out.endswith(".safetensors"):
        raise InputError(f"--out {command.out}: a codebook is a .safetensors file; name it so")
    recipe = load_recipe(command.recipe, command.overrides, plugins(), "manifest")
    rows = train_clips(_manifest(recipe), command.recipe)
    heard = Heard(rows.num_rows, told)
    sound = waveforms(rows, recipe, heard)
    found = fit_codebook(sound, command.clusters, command.share, command.seed)
    save_codebook(found, command.out)
    lines = [
        f"{command.out}: {command.clusters} clusters of {found.num_frames} frames, from "
        f"{heard.done - len(heard.failed)} of {rows.num_rows} train clips"
    ]
    if heard.failed:
        failed = plural(len(heard.failed), "clip")
        lines.append(f"{failed} gave no sound, {heard.failed[0]} for one")
    return [*lines, f"for the recipe: mfcc_bof: {{codebook: {command.out}{_clusters(command)}}}"]


def _clusters(command: CodebookCommand) -> str:
    from audioflow.backbones.mfcc_bof import MfccBofSettings

    default = MfccBofSettings.model_fields["clusters"].default
    return "" if command.clusters == default else f", clusters: {command.clusters}"


def _manifest(recipe: Recipe) -> pa.Table:
    """The manifest as the job `manifest` made it, or as it would."""
    from audioflow.datasets.sources import read_manifest
    from audioflow.engine.run import Run

    run = Run(recipe)
    if run.manifest().header() is not None:
        return run.manifest().read()
    return read_manifest(recipe.manifest, run.input, run.output).manifest


def train_clips(manifest: pa.Table, recipe: str) -> pa.Table:
    """The clips that a codebook may be learnt from.

    Raises `InputError` where there is none, such as where clips are cross-validated.
    """
    splits = np.array(manifest["split"].to_pylist())
    rows = manifest.filter(pa.array(splits == "train"))
    if rows.num_rows:
        return rows
    if CROSS_VALIDATED in splits:
        raise InputError(
            f"{recipe}: with manifest.splits.folds every clip is tested once, so none is train "
            "alone; learn the codebook with a recipe (and run_dir) whose splits have shares, such "
            "as manifest.splits={train: 0.6, val: 0.2, test: 0.2}, or on another data set"
        )
    there = ", ".join(sorted(set(splits.tolist())))
    raise InputError(
        f"{recipe}: no clip is of the split train, which a codebook is learnt from (there are "
        f"{there}); give manifest.splits a share for train"
    )


@dataclass
class Heard:
    """How far it is, and what gave no sound."""

    total: int
    told: Told
    done: int = 0
    failed: list[str] = field(default_factory=list)

    def __call__(self, clip_id: str, error: MediaError | None) -> None:
        """One more clip is over."""
        self.done += 1
        if error is not None:
            self.failed.append(f"{clip_id!r} ({error})")
        self.told(self.done, self.total)


def waveforms(rows: pa.Table, recipe: Recipe, heard: Heard) -> Iterator[NDArray[np.int16]]:
    """The sound of clips (rows of a manifest) at 16 kHz, decoded recording by recording.

    Raises `InputError` where no clip gives any.
    """
    wanted, child = _decoding(recipe)
    by_uri: dict[str, list[dict[str, Any]]] = {}
    for row in rows.select(["clip_id", "uri", "start_s", "duration_s"]).to_pylist():
        by_uri.setdefault(row["uri"], []).append(row)
    try:
        for uri, clips in by_uri.items():
            yield from _of_recording(uri, clips, (child, wanted, recipe.storage_options), heard)
    finally:
        child.close()
    if len(heard.failed) == heard.total:
        raise InputError(
            f"none of the {heard.total} train clips gave any sound, {heard.failed[0]} for one; "
            "see to the root of the media, or the credentials"
        )


def _decoding(recipe: Recipe) -> tuple[Wanted, DecoderChild]:
    """As the job `embed` decodes; by its defaults where the recipe has no such section."""
    from audioflow.frontend.mfcc import SAMPLE_RATE_HZ

    names = ("max_duration_s", "sound_track", "decoder", "decode_timeout_s", "decode_memory_gb")
    given = {
        name: getattr(recipe.embed, name)
        if recipe.embed is not None
        else EmbedSection.model_fields[name].default
        for name in names
    }
    wanted = Wanted(
        sample_rates_hz=(SAMPLE_RATE_HZ,),
        max_duration_s=given["max_duration_s"],
        sound_track=given["sound_track"],
        decoder=DECODERS.entries[given["decoder"]],
    )
    return wanted, DecoderChild(given["decode_timeout_s"], given["decode_memory_gb"])


def _of_recording(
    uri: str,
    clips: Sequence[dict[str, Any]],
    how: tuple[DecoderChild, Wanted, StorageOptions],
    heard: Heard,
) -> Iterator[NDArray[np.int16]]:
    child, wanted, storage = how
    stretch = STRETCH_S * rate_of(wanted.sample_rates_hz[0])
    spans = [Span(clip["start_s"], clip["duration_s"]) for clip in clips]
    held: list[list[NDArray[np.int16]]] = [[] for _ in clips]
    try:
        with local_copy(uri, storage) as path:
            for part in chain.from_iterable(child.decode(path, spans, wanted)):
                mine = held[part.clip]
                if isinstance(part, SoundPart):
                    mine.append(part.samples)
                if isinstance(part, End):
                    heard(clips[part.clip]["clip_id"], part.error)
                    if part.error:
                        mine.clear()
                if mine and (isinstance(part, End) or sum(map(len, mine)) >= stretch):
                    yield np.concatenate(mine)
                    mine.clear()
    except MediaError as error:
        for clip in clips:
            heard(clip["clip_id"], error)
