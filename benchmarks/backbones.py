"""`python benchmarks/backbones.py [NAME ...]`: what backbones alone reach, with random weights.

For each backbone and precision: the best batch size, patches per second, seconds of media per
second, and the share of the time that the network itself takes (the rest is the front end).
"""

import sys
import time

import torch

from audioflow.backbones import BACKBONES, tuning
from audioflow.backbones.network import Network
from audioflow.media.patches import Patching

SECONDS = 2.0
DEFAULT = (
    "acoustic logmel vggish soundnet openl3 musicnn yamnet panns_cnn14 edgel3 color resnet18"
    " r2plus1d_18"
).split()


class Timed:
    """Adds up the time spent in networks while it lasts."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._call = Network.__call__

    def __enter__(self) -> "Timed":
        def call(network, *inputs):
            began = time.perf_counter()
            found = self._call(network, *inputs)
            self.seconds += time.perf_counter() - began
            return found

        Network.__call__ = call
        return self

    def __exit__(self, *_) -> None:
        Network.__call__ = self._call


def media_s(backbone) -> float:
    """Seconds of media that a patch stands for: the distance to the next."""
    source = backbone.input
    if isinstance(source, Patching):
        if source.whole:
            return tuning._patch_shape(backbone)[0] / source.sample_rate_hz
        return source.hop_s
    return source.hop_frames / source.sampling.fps if source.sampling.fps else 0.0


def measure(name: str, device: torch.device, precision: str | None) -> str:
    options = {} if precision is None else {"weights": "random", "precision": precision}
    backbone = BACKBONES.build(name, options)
    backbone.to(device)
    curve = tuning.throughputs(backbone, device)
    size = tuning.chosen_size(curve)
    values = tuning._patches(backbone, size, tuning.np.random.default_rng(0))
    batch = torch.from_numpy(values).to(device)
    with torch.inference_mode(), Timed() as timed:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < SECONDS:
            backbone.embed(batch)
            count += size
        took = time.perf_counter() - began
    rate, hop_s = count / took, media_s(backbone)
    real_time = f"{rate * hop_s:10.0f}" if hop_s else "         -"
    share = f"{timed.seconds / took:8.2f}" if precision else "       -"
    return f"{name:14s} {precision or '':9s} {size:5d} {rate:11.1f} {real_time} {share}"


def main() -> None:
    names = sys.argv[1:] or DEFAULT
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    print(f"{tuning.device_name(device)}, one thread; torch {torch.__version__}")
    print(
        f"{'backbone':14s} {'precision':9s} {'batch':>5s} {'patches/s':>11s} {'x real time':>10s}"
        f" {'network':>8s}"
    )
    for name in names:
        network = "precision" in BACKBONES.load(name).Settings.model_fields
        for precision in ("float32", "bfloat16") if network else (None,):
            print(measure(name, device, precision), flush=True)


if __name__ == "__main__":
    main()
