"""All plug-ins: the registry of every kind."""

from audioflow.backbones import BACKBONES
from audioflow.datasets import READERS
from audioflow.fusion import FUSION_RULES
from audioflow.heads import HEADS
from audioflow.importers import IMPORTERS
from audioflow.media import DECODERS
from audioflow.pooling import POOLINGS
from audioflow.recipe import Plugins
from audioflow.score_importers import SCORE_IMPORTERS


def plugins() -> Plugins:
    """The registries of all plug-ins."""
    return Plugins(
        READERS,
        DECODERS,
        BACKBONES,
        POOLINGS,
        HEADS,
        FUSION_RULES,
        IMPORTERS,
        SCORE_IMPORTERS,
    )
