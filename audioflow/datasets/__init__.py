"""Readers: a data set in its own format -> clips. One file per format; no torch, no ray."""

from audioflow.registry import Registry

READERS = Registry(
    "reader",
    {
        "folder": "audioflow.datasets.folder:FolderReader",
        "csv": "audioflow.datasets.csv:CsvReader",
        "demo": "audioflow.datasets.demo:DemoReader",
        "npz": "audioflow.datasets.npz:NpzReader",
        "noise": "audioflow.datasets.noise:NoiseReader",
    },
)
