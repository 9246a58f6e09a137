"""Media in: decoding of sound and pictures, patches, and the child process that isolates decoders.

`decode.py` says what a recording holds, `sound.py` and `pictures.py` read the two, `child.py` runs
them where a crash or a hang costs one recording, `packing.py` carries a shard's media in one Arrow
row, `patches.py` cuts waveforms into patches.
"""
