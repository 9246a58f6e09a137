"""Media in: decoding of sound and pictures, patches, and the child process that isolates decoders.

A decoder (`parts.py` has the contract) gives a recording in parts of bounded size. `pyav.py` and
`ffmpeg.py` are decoders: `container.py` opens the file (unless its media lie elsewhere:
`references.py`) and `claims.py` judges what it says of itself; `reader.py` reads its sound,
`clock.py` says where that lies, `windows.py` cuts it into clips (`spans.py`) and `resampling.py`
brings them to the wanted rates; `pictures.py` takes the frames that `choosing.py` chose, by decord,
or by PyAV with `frames.py`. `child.py` runs all that where a crash or a hang costs one recording.
`packing.py` carries a shard's media in Arrow rows, `patches.py` cuts waveforms into patches,
`augment/` alters copies of them.
"""

from audioflow.registry import Registry

DECODERS = Registry(
    "decoder",
    {
        "pyav": "audioflow.media.pyav:PyAV",
        "ffmpeg": "audioflow.media.ffmpeg:FFmpegProgram",
    },
)
"""Ways to decode; `Wanted.decoder` is an entry of it."""
