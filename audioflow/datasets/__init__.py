"""Readers: a data set in its own format -> clips. One file per format; no torch, no ray."""

from audioflow.registry import Registry

READERS = Registry(
    "reader",
    {
        "folder": "audioflow.datasets.folder:FolderReader",
        "csv": "audioflow.datasets.csv:CsvReader",
        "list": "audioflow.datasets.list:ListReader",
        "demo": "audioflow.datasets.demo:DemoReader",
        "npz": "audioflow.datasets.npz:NpzReader",
        "noise": "audioflow.datasets.noise:NoiseReader",
        "esc50": "audioflow.datasets.esc50:Esc50Reader",
        "gtzan": "audioflow.datasets.gtzan:GtzanReader",
        "urbansound8k": "audioflow.datasets.urbansound8k:UrbanSound8kReader",
        "kinetics": "audioflow.datasets.kinetics:KineticsReader",
        "audioset": "audioflow.datasets.audioset:AudioSetReader",
        "fsd50k": "audioflow.datasets.fsd50k:Fsd50kReader",
        "dcase": "audioflow.datasets.dcase:DcaseReader",
        "dogs": "audioflow.datasets.dogs:DogsReader",
        "cmu11775": "audioflow.datasets.cmu11775:Cmu11775Reader",
        "hear": "audioflow.datasets.hear:HearReader",
        "glob": "audioflow.datasets.glob:GlobReader",
    },
)
