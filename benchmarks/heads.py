"""`python benchmarks/heads.py`: many small heads trained together, against one in the usual loop.

Clips are random vectors of two widths, 400 to learn from and 100 to be judged on, 30 epochs; one
thread. Prints seconds and ratios, the best of three.
"""

import time
from collections.abc import Callable

import numpy as np
import torch

from audioflow.recipe_train import TrainSection
from audioflow.systems.examples import Examples
from audioflow.systems.inputs import InputSpec, Pool
from audioflow.systems.network import NetworkSpec, SystemNetwork, network_for
from audioflow.systems.readout import Readout
from audioflow.training import Judge, Material, MemorySource, fit, normalise
from audioflow.training.stacked import StackedSetting, fit_stacked

CLASSES = 10
HEADS = ({"name": "linear"}, {"name": "mlp", "hidden": [64], "dropout": 0.2})


def clips(count: int, width: int, seed: int) -> Examples:
    centres = np.random.default_rng(9).normal(size=(CLASSES, width))
    targets = np.arange(count) % CLASSES
    noise = np.random.default_rng(seed).normal(size=(count, width))
    vectors = (0.4 * centres[targets] + noise).astype(np.float32)
    return Examples((vectors,), np.arange(count + 1), targets.astype(np.int64))


def network(head: dict, train: Examples) -> SystemNetwork:
    width = train.rows[0].shape[1]
    inputs = InputSpec(("embedding",), (width,), "vectors", Pool("mean", "embeddings", {}))
    made = network_for(NetworkSpec(inputs, head, CLASSES, True), 0)
    normalise(made, train.rows)
    return made


def seconds(work: Callable[[], object]) -> float:
    found = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    print("head    width   one, s   1 stacked, s   200 stacked, s   200 / one")
    for head in HEADS:
        for width in (128, 1024):
            train, val = clips(400, width, 1), clips(100, width, 2)
            judge = Judge(Readout(CLASSES), val.targets)
            section = TrainSection(epochs=30)

            def one() -> object:
                material = Material(MemorySource(train, section, CLASSES), val, judge)  # noqa: B023
                made = network(head, train)  # noqa: B023
                return fit(made, material, section, on_epoch=lambda *_: None)  # noqa: B023

            def stacked(count: int) -> object:
                rates = np.geomspace(1e-4, 1e-1, count)
                settings = [StackedSetting(TrainSection(epochs=30, lr=rate)) for rate in rates]
                return fit_stacked(network(head, train), train, val, judge, settings)  # noqa: B023

            alone, single = seconds(one), seconds(lambda: stacked(1))
            many = seconds(lambda: stacked(200))
            print(
                f"{head['name']:7s} {width:5d} {alone:8.2f} {single:14.2f} {many:16.2f} "
                f"{many / alone:11.1f}"
            )


if __name__ == "__main__":
    main()
