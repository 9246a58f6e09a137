"""Importers: vectors that other programs computed -> embeddings. One file per format; no torch."""

from audioflow.registry import Registry

IMPORTERS = Registry(
    "importer",
    {
        "npz": "audioflow.importers.npz:NpzImporter",
        "soundnet_csv": "audioflow.importers.soundnet_csv:SoundNetCsvImporter",
        "mel_npy": "audioflow.importers.mel_npy:MelNpyImporter",
        "hf_dataset": "audioflow.importers.hf_dataset:HfDatasetImporter",
        "number_table": "audioflow.importers.number_table:NumberTableImporter",
    },
)
