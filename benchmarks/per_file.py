"""The way of the systems that audioflow replaces: a process of `ffmpeg` per file, a wav on disk,
and then front end and network, file by file.

    python benchmarks/per_file.py ROOT BACKBONE OPTIONS_AS_JSON COUNT

Prints the seconds that COUNT files took, the network being loaded before.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def main() -> None:
    root, name, options, count = sys.argv[1:5]
    import torch
    from imageio_ffmpeg import get_ffmpeg_exe

    from audioflow.backbones.ready import made_ready
    from audioflow.media.patches import Stretch, cut_patches
    from audioflow.media.resampling import FULL_SCALE

    backbone = made_ready(name, json.loads(options)).backbone
    backbone.to(torch.device("cpu"))
    source = backbone.input
    program = get_ffmpeg_exe()
    paths = sorted(Path(root).rglob("*.*"))[: int(count)]
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        began = time.perf_counter()
        for number, path in enumerate(paths):
            wav = Path(folder, "sound.wav")
            rate = str(source.sample_rate_hz)
            subprocess.run(
                [program, "-v", "error", "-y", "-i", path, "-vn", "-ac", "1", "-ar", rate, wav],
                check=True,
            )
            samples = np.frombuffer(wav.read_bytes()[-_data_bytes(wav) :], np.int16)
            given = samples.astype(np.float32) / FULL_SCALE if source.exact else samples
            patches, _ = cut_patches(Stretch(given), source)
            layers = backbone.embed(torch.from_numpy(np.ascontiguousarray(patches)))
            np.savez(
                Path(folder, f"{number}.npz"),
                **{key: values.numpy() for key, values in layers.items()},
            )
        print(time.perf_counter() - began)


def _data_bytes(wav: Path) -> int:
    data = wav.read_bytes()
    place = data.index(b"data")
    return min(len(data) - place - 8, int.from_bytes(data[place + 4 : place + 8], "little"))


if __name__ == "__main__":
    main()
