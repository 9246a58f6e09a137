"""Pooling: a clip's patches -> the clip, on embeddings, logits or scores."""

from audioflow.registry import Registry

POOLINGS = Registry(
    "pooling",
    {
        "mean": "audioflow.pooling.fixed:Mean",
        "max": "audioflow.pooling.fixed:Max",
        "mean_max": "audioflow.pooling.fixed:MeanMax",
        "mean_std": "audioflow.pooling.fixed:MeanStd",
        "top_k": "audioflow.pooling.fixed:TopK",
        "attention": "audioflow.pooling.attention:Attention",
        "learned": "audioflow.pooling.learned:Learned",
        "vote": "audioflow.pooling.vote:Vote",
    },
)
