"""Media in: decoding of sound and pictures, patches, and the child process that isolates decoders.

`decode.py` reads one recording for everything that is wanted of it: `container.py` opens it and
`claims.py` judges what it says of its length; `sound.py` reads its sound into `windows.py`, one per
span (`spans.py`); `pictures.py` takes frames by decord, or by PyAV with `frames.py`. `child.py`
runs all that where a crash or a hang costs one recording, `packing.py` carries a shard's media in
one Arrow row, and `patches.py` cuts waveforms into patches.
"""
