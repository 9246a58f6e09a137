"""Importers: vectors that other programs computed -> embeddings. One file per format; no torch."""

from audioflow.registry import Registry

IMPORTERS = Registry(
    "importer",
    {
        "npz": "audioflow.importers.npz:NpzImporter",
    },
)
