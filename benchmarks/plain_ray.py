"""What a user writes by the templates of Ray Data: decode in tasks, embed in an actor, write.

    python benchmarks/plain_ray.py ROOT OUT BACKBONE OPTIONS_AS_JSON CPUS

One decode task per CPU that is left, one actor with a CPU of its own (two would leave none to
decode with on two), batches of 32 clips, decoders, networks and front ends as audioflow has them.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np


def main() -> None:
    root, out, name, options, cpus = sys.argv[1:6]
    import ray

    ray.init(num_cpus=int(cpus), include_dashboard=True, log_to_driver=False)
    paths = [str(path) for path in sorted(Path(root).rglob("*.*"))]
    if int(cpus) == 1:
        actor_cpus, decode_cpus = 0.5, 0.5
    else:
        actor_cpus, decode_cpus = 1.0, 1.0
    dataset = (
        ray.data.from_items([{"path": path} for path in paths])
        .map(Decode(name, json.loads(options)), num_cpus=decode_cpus)
        .map_batches(
            Embed,
            fn_constructor_args=(name, json.loads(options)),
            batch_size=32,
            num_cpus=actor_cpus,
            compute=ray.data.ActorPoolStrategy(size=1),
        )
    )
    dataset.write_parquet(out)
    print("done", time.time())


class Decode:
    """A file to a waveform (N,) at the rate of the backbone, or to its sampled frames."""

    def __init__(self, name: str, options: dict) -> None:
        self._name, self._options = name, options

    def __call__(self, row: dict) -> dict:
        from audioflow.backbones.ready import made_ready
        from audioflow.media.packing import Sources
        from audioflow.media.parts import PicturesPart, SoundPart, Wanted
        from audioflow.media.pyav import PyAV
        from audioflow.media.spans import Span

        source = made_ready(self._name, self._options).backbone.input
        sources = Sources.of([source])
        wanted = Wanted(tuple(sources.run_up), sources.samplings)
        parts = list(PyAV(PyAV.Settings()).decode(row["path"], [Span()], wanted))
        sound = [part.samples for part in parts if isinstance(part, SoundPart)]
        frames = [part.frames for part in parts if isinstance(part, PicturesPart)]
        return {"path": row["path"], "media": np.concatenate(sound or frames)}


class Embed:
    """Waveforms or frames of a batch of clips to their embeddings, clip by clip."""

    def __init__(self, name: str, options: dict) -> None:
        import torch

        from audioflow.backbones.ready import made_ready

        self._backbone = made_ready(name, options).backbone
        self._backbone.to(torch.device("cpu"))

    def __call__(self, batch: dict) -> dict:
        import torch

        from audioflow.media.patches import FrameStretch, Patching, Stretch, cut_frames, cut_patches

        source = self._backbone.input
        cut = []
        for media in batch["media"]:
            if isinstance(source, Patching):
                cut.append(cut_patches(Stretch(np.array(media)), source)[0])
            else:
                times = np.arange(len(media), dtype=np.float64)
                cut.append(cut_frames(FrameStretch(np.array(media), times), source)[0])
        counts = [len(patches) for patches in cut]
        with torch.inference_mode():
            layers = self._backbone.embed(torch.from_numpy(np.concatenate(cut)))
        first = next(iter(layers.values())).flatten(1).numpy()
        bounds = np.cumsum(counts)[:-1]
        return {
            "path": batch["path"],
            "embedding": [part.reshape(-1) for part in np.split(first, bounds)],
        }


if __name__ == "__main__":
    main()
