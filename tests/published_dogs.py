"""The dogs' challenge as its entrants have it on disk: clips, their AudioSet, new clips."""

from pathlib import Path

from tests.published import write_lines, write_sound
from tests.trees import KINDS

NEW = ("public_00003", "public_00001", "public_00002")
"""New clips, in the order of the submission's template, which is not that of their names."""
NAMES = {
    "/m/05tny_": "Bark",
    "/m/0d31p": "Vacuum cleaner",
    "/m/01y3hg": "Smoke detector, smoke alarm",
    "/m/01j3sz": "Laughter",
    "/m/03qc9zr": "Screaming",
    "/m/015p6": "Bird",
    "/m/04rlf": "Music",
}
"""Classes of AudioSet: those of the dogs and one that they have not."""


def dogs(root: Path, *, takes: int = 3, seconds: float = 1.4) -> Path:
    """`meta_train.csv` and `raw/train_NNNNN.wav` at 8 kHz: so many of each of the 15 kinds."""
    rows = ["Filename,Label,Remark"]
    for number, (label, remark) in enumerate(KINDS * takes):
        name = f"train_{number + 1:05d}"
        kind, take = number % len(KINDS), number // len(KINDS)
        write_sound(root / "raw" / f"{name}.wav", kind, seconds, 8000, take)
        rows.append(f"{name},{label},{remark}")
    write_lines(root / "meta_train.csv", *rows)
    return root


def audioset_list(root: Path, seconds: float = 1.4) -> Path:
    """What `gen_meta_train_audioset.py` leaves: the same list, of events cut from AudioSet at
    16 kHz; some ids begin with `_`, and there are dogs among them."""
    rows = ["Filename,Label,Remark"]
    kinds = [(0, "Barking"), (1, "Howling"), (2, "Crying"), (5, "Vacuum"), (7, "Bird")]
    for take, (label, remark) in enumerate(kinds):
        name = f"_{take}ABCDEFGH-_{take % 2}"
        kind = KINDS.index((label, remark))
        write_sound(root / "raw" / f"{name}.wav", kind, seconds, 16_000, 50 + take)
        rows.append(f"{name},{label},{remark}")
    write_lines(root / "meta_train.csv", *rows)
    return root


def audioset_events(root: Path) -> Path:
    """The publisher's lists of strong labels and names, and segments of 10 s in `raw/`: one event
    each that is longer than 5 s, that is two classes at once, that is a dog, that is not there."""
    rows = ["segment_id\tstart_time_seconds\tend_time_seconds\tlabel"]
    rows += ["-_aBCDEFGHI_30000\t0.000\t9.000\t/m/0d31p", "-_aBCDEFGHI_30000\t2.5\t3.5\t/m/05tny_"]
    rows += [f"_0bCDEFGHIJ_0\t1.0\t2.0\t{mid}" for mid in ("/m/01j3sz", "/m/03qc9zr", "/m/04rlf")]
    rows += [f"_0bCDEFGHIJ_0\t4.0\t5.5\t{mid}" for mid in ("/m/01y3hg", "/m/015p6")]
    rows += ["goneGONEgon_5000\t0.0\t2.0\t/m/015p6", "_0bCDEFGHIJ_0\t6.0\t7.5\t/m/015p6"]
    write_lines(root / "audioset_train_strong.tsv", *rows)
    write_lines(
        root / "mid_to_display_name.tsv", *(f"{mid}\t{name}" for mid, name in NAMES.items())
    )
    write_sound(root / "raw" / "-_aBCDEFGHI_30000.wav", 10, 10.0, 16_000)
    write_sound(root / "raw" / "_0bCDEFGHIJ_0.wav", 14, 10.0, 16_000)
    return root


def new_clips(root: Path, seconds: float = 1.4) -> Path:
    """Clips without a label, and `sample_submission.csv`, which asks for them in its own order."""
    for number, name in enumerate(NEW):
        write_sound(root / "clips" / f"{name}.wav", number, seconds, 8000, take=90)
    header = "Filename,Barking,Howling,Crying,COSmoke,GlassBreaking,Other,Doorbell,Bird"
    blank = ",0" * 10
    write_lines(
        root / "sample_submission.csv",
        f"{header},Music_Instrument,Laugh_Shout_Scream",
        *(f"{name}{blank}" for name in NEW),
    )
    return root
