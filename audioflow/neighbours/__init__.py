"""Nearest clips, or patches, of an embeddings table, read shard by shard; the tool `search`.

    hits = nearest(Source(table, "embedding"), query_D, Asked(top=20))

`streaming.py` reads vectors off the shards, `measuring.py` scales and compares them, `ranking.py`
keeps the best: only a few shards are in memory at a time, whatever the table holds. Nothing is
approximated.
"""
