"""Networks that both backbones and heads use, and how weights get into any network."""
