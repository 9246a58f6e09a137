"""Data sets in the layout of their publishers, with files that hold a byte or two.

Every function makes one below a root (local or any url) and gives the options of its reader. The
trees are large enough for the published splits: every class is in every part.
"""

import json
from collections.abc import Callable
from typing import Any

from audioflow.storage import Folder

Options = dict[str, Any]


def put(root: str, name: str, text: str | None = None) -> str:
    """A file below the root; without a text it holds its own name, as media here do."""
    place, _, file = name.rpartition("/")
    folder = Folder(root) / place if place else Folder(root)
    folder.write(file, (name if text is None else text).encode())
    return folder.file(file)


def lines(*rows: str) -> str:
    return "".join(f"{row}\n" for row in rows)


def esc50(root: str) -> Options:
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in (1, 2, 3):
        for target, category, esc10 in ((0, "dog", "True"), (14, "chirping_birds", "False")):
            for take in "AB":
                name = f"{fold}-{fold}00{target}-{take}-{target}.wav"
                rows.append(f"{name},{fold},{target},{category},{esc10},{fold}00{target},{take}")
                put(root, f"audio/{name}")
    put(root, "meta/esc50.csv", lines(*rows))
    put(root, "README.md")
    return {"root": root}


def urbansound8k(root: str) -> Options:
    rows = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for fold in (1, 2, 3):
        for number, name in ((3, "dog_bark"), (8, "siren")):
            for cut in (0, 1):
                source = f"{fold}0{number}"
                file = f"{source}-{number}-0-{cut}.wav"
                rows.append(f"{file},{source},0.0,{cut + 0.5},1,{fold},{number},{name}")
                put(root, f"audio/fold{fold}/{file}")
    put(root, "metadata/UrbanSound8K.csv", lines(*rows))
    return {"root": root}


def gtzan(root: str, folder: str = "genres", ending: str = "wav") -> Options:
    listed: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for genre in ("blues", "jazz"):
        for number, split in enumerate(["train", "train", "valid", "test", ""]):
            put(root, f"{folder}/{genre}/{genre}.{number:05d}.{ending}")
            if split:
                listed[split].append(f"{genre}/{genre}.{number:05d}.wav")
    for split, paths in listed.items():
        put(root, f"{split}_filtered.txt", lines(*paths))
    return {"root": root}


def kinetics(root: str) -> Options:
    for split, count in (("train", 2), ("val", 1)):
        for place, name in enumerate(("abseiling", "playing chess")):
            for number in range(count):
                video = f"{split:_<9}{place}{number}"
                put(root, f"{split}/{name}/v_{video}_000003_000013.mp4")
    put(root, "annotations/notes.txt", "no video")
    return {"root": root}


SEGMENTS = (
    "# Segments csv created Sun Mar  5 10:54:31 2017",
    "# num_ytids=2, num_segs=2, num_unique_labels=2, num_positive_labels=3",
    "# YTID, start_seconds, end_seconds, positive_labels",
)
NAMES = ("index,mid,display_name", "0,/m/05tny_,Bark", '1,/m/04brg2,"Dishes, pots, and pans"')


def audioset(root: str) -> Options:
    media = f"{root}/media"
    one, two, three, four = (
        '--abcdefghi, 30.000, 40.000, "/m/05tny_,/m/04brg2"',
        '_0RWZT-miF_, 7.000, 17.000, "/m/05tny_,/m/04brg2"',
        '-0RWZT-miF_, 0.000, 9.500, "/m/05tny_"',
        'Yabcdefghij, 5.000, 15.000, "/m/04brg2"',
    )
    rows = {"train": (one, two), "test": (three, four)}
    names = ("--abcdefghi_30000.wav", "_0RWZT-miF__7_17.wav", "Y-0RWZT-miF_.wav")
    for name in (*names, "Yabcdefghij.m4a"):
        put(media, name)
    return {
        "root": media,
        "annotations": {
            split: put(root, f"{split}.csv", lines(*SEGMENTS, *each))
            for split, each in rows.items()
        },
        "names": put(root, "class_labels_indices.csv", lines(*NAMES)),
    }


def fsd50k(root: str) -> Options:
    truth = "FSD50K.ground_truth"
    dev = ["fname,labels,mids,split"]
    dev += ['1,"Bark,Dog,Animal","/m/1,/m/2,/m/3",train', "2,Rain,/m/4,train"]
    dev += ["3,Rain,/m/4,val", '4,"Dog,Animal","/m/2,/m/3",val']
    held = ["fname,labels,mids", '5,"Bark,Dog,Animal","/m/1,/m/2,/m/3"', "6,Rain,/m/4"]
    put(root, f"{truth}/dev.csv", lines(*dev))
    put(root, f"{truth}/eval.csv", lines(*held))
    put(
        root,
        f"{truth}/vocabulary.csv",
        lines("0,Bark,/m/1", "1,Dog,/m/2", "2,Animal,/m/3", "3,Rain,/m/4"),
    )
    for name in "1234":
        put(root, f"FSD50K.dev_audio/{name}.wav")
    for name in "56":
        put(root, f"FSD50K.eval_audio/{name}.wav")
    return {"root": root}


def dcase(root: str) -> Options:
    meta, tested = [], {}
    for fold in (1, 2, 3):
        for scene in ("beach", "bus"):
            recording = f"{scene[0]}0{scene[1] == 'u':d}{fold}"
            for start in (0, 10):
                path = f"audio/{recording}_{start}_{start + 10}.wav"
                put(root, path)
                meta.append(f"{path}\t{scene}\t{recording}")
                tested[path] = (fold, scene)
    put(root, "meta.txt", lines(*meta))
    for fold in (1, 2, 3):
        inside = {path: scene for path, (of, scene) in tested.items() if of == fold}
        outside = {path: scene for path, (of, scene) in tested.items() if of != fold}
        setup = f"evaluation_setup/fold{fold}"
        put(root, f"{setup}_train.txt", lines(*map("\t".join, outside.items())))
        put(root, f"{setup}_test.txt", lines(*inside))
        put(root, f"{setup}_evaluate.txt", lines(*map("\t".join, inside.items())))
    return {"root": root}


KINDS = (
    *((0, "Barking"), (1, "Howling"), (2, "Crying"), (3, "CO_Smoke"), (4, "GlassBreaking")),
    *((5, kind) for kind in ("Blender", "Cat", "Dishes", "Electrics", "", "Vacuum")),
    *((6, "Doorbell"), (7, "Bird"), (8, ""), (9, "Laugh_Shout_Scream")),
)
"""The number and the remark of the 15 kinds of the data set `dogs`."""


def dogs(root: str) -> Options:
    rows = ["Filename,Label,Remark"]
    for number, (label, remark) in enumerate(KINDS * 5, 1):
        rows.append(f"train_{number:05d},{label},{remark}")
        put(root, f"train/train_{number:05d}.wav")
    put(root, "meta_train.csv", lines(*rows))
    return {"root": root}


def cmu11775(root: str, tested: int = 0) -> Options:
    put(root, "labels/cls_map.csv", lines("Label,Category", "tickling,0", "singing,1"))
    rows = [f"{name:=<8},{name in 'kl0123456789':d}" for name in "abcdefghij0123456789"]
    put(root, "labels/train_val.csv", lines("Id,Category", *rows))
    ids = [row.partition(",")[0] for row in rows] + [f"test{number}=" for number in range(tested)]
    if tested:
        last = [f"test{number}=," for number in range(tested)]
        put(root, "labels/test_for_students.csv", lines("Id,Category", *last))
    for name in ids:
        put(root, f"videos/{name}.mp4")
    return {"root": root}


def hear(root: str) -> Options:
    metadata = {"task_name": "esc50", "embedding_type": "scene", "split_mode": "presplit_kfold"}
    put(root, "task_metadata.json", json.dumps(metadata))
    put(root, "labelvocabulary.csv", lines("idx,label", "0,dog", "1,rain"))
    for fold in ("fold00", "fold01", "fold02"):
        told = {f"{fold}-{label}.wav": [label] for label in ("dog", "rain")}
        put(root, f"{fold}.json", json.dumps(told))
        for name in told:
            put(root, f"48000/{fold}/{name}")
    return {"root": root}


def hear_events(root: str) -> Options:
    put(root, "task_metadata.json", json.dumps({"embedding_type": "event"}))
    put(root, "labelvocabulary.csv", lines("idx,label", "0,C4", "1,E4"))
    events = [
        {"label": "C4", "start": 0.0, "end": 510.5},
        {"label": "E4", "start": 0.0, "end": 510.5},
        {"label": "E4", "start": 700.0, "end": 900.0},
    ]
    for part in ("train", "valid", "test"):
        put(root, f"{part}.json", json.dumps({"a.wav": events, "quiet.wav": []}))
        put(root, f"48000/{part}/a.wav")
    return {"root": root}


def glob(root: str) -> Options:
    for site in ("north", "east", "south", "west", "hill"):
        for label in ("owl", "none"):
            put(root, f"{site}/2024-05/{label}_0001.wav")
    put(root, "north/2024-05/owl_0001.txt", "notes")
    return {
        "root": root,
        "pattern": "**/*.wav",
        "match": r"(?P<site>\w+)/.*/(?P<label>[a-z]+)_\d+",
    }


TREES: dict[str, Callable[[str], Options]] = {
    "esc50": esc50,
    "urbansound8k": urbansound8k,
    "gtzan": gtzan,
    "kinetics": kinetics,
    "audioset": audioset,
    "fsd50k": fsd50k,
    "dcase": dcase,
    "dogs": dogs,
    "cmu11775": cmu11775,
    "hear": hear,
    "glob": glob,
}
