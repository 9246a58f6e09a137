"""A system: a head and a pooling on the embeddings of one backbone, as a network and a bundle."""
