"""The fusion rules by name."""

from audioflow.registry import Registry

FUSION_RULES = Registry(
    "fusion rule",
    {
        "borda": "audioflow.fusion.borda:Borda",
        "gated": "audioflow.fusion.gated:Gated",
        "max": "audioflow.fusion.max:Max",
        "product": "audioflow.fusion.product:Product",
        "rank": "audioflow.fusion.rank:Rank",
        "stacked": "audioflow.fusion.stacked:Stacked",
        "weighted": "audioflow.fusion.weighted:Weighted",
    },
)
