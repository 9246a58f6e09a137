"""Exporters: score tables and heads of a run -> the forms of other programs. One file per form."""

from audioflow.registry import Registry

EXPORTERS = Registry(
    "exporter",
    {
        "csv": "audioflow.exporters.csv:Csv",
        "kaggle": "audioflow.exporters.kaggle:Kaggle",
        "probabilities": "audioflow.exporters.probabilities:Probabilities",
        "audacity": "audioflow.exporters.audacity:Audacity",
        "raven": "audioflow.exporters.raven:Raven",
        "onnx": "audioflow.exporters.onnx:Onnx",
    },
)
