"""Several workers take the steps of one."""

import multiprocessing as mp

import numpy as np
import pytest
import torch

from audioflow.events import EpochRecord
from audioflow.training import Workers
from tests.unit.small_training import network, run, section
from tests.unit.training_workers import CASES, train_as_worker, trained

pytestmark = pytest.mark.usefixtures("one_thread")

CLIPS = 15
DDP = {"epochs": 3, "batch_size": 7}
TOLD = EpochRecord(1, 0.5, 0.25, {"val_accuracy": 0.75}, 0.1, 1.0)


def gradient(case, count: int, workers: Workers) -> torch.Tensor:
    """Of one batch, before any step."""
    options = {"batch_size": 64, "epochs": 1, "lr": 0.0}
    made, _, _ = trained(CASES[case], count, options, workers)
    return torch.cat([parameter.grad.flatten() for parameter in made.parameters()])


def whole_weight(case, count: int) -> float:
    """Of all clips in the loss."""
    found: list[float] = []

    def total(value: float) -> float:
        found.append(value)
        return value

    gradient(case, count, Workers(total=total))
    return sum(found)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("clips", [15, 13, 2, 1])
@pytest.mark.parametrize("case", [name for name in CASES if "clipped" not in name])
def test_the_mean_of_the_workers_gradients_is_that_of_one_worker(case, clips, count):
    """One batch of 15, 13 (uneven shares), 2 and 1 (an empty share) clips."""
    alone = gradient(case, clips, Workers())
    whole = whole_weight(case, clips)
    together = [
        gradient(
            case, clips, Workers(rank, count, lambda net: net, lambda _: whole, lambda _: TOLD)
        )
        for rank in range(count)
    ]
    assert alone.abs().max() > 1e-3
    assert torch.allclose(torch.stack(together).mean(dim=0), alone, atol=1e-6)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two real processes over gloo find, in all cases."""
    given = (2, str(tmp_path_factory.mktemp("gloo") / "store"), CLIPS, DDP)
    with mp.get_context("spawn").Pool(2) as pool:
        jobs = [pool.apply_async(train_as_worker, (rank, *given)) for rank in range(2)]
        return [job.get(timeout=240) for job in jobs]


@pytest.mark.parametrize("case", CASES)
def test_two_ddp_workers_take_the_steps_of_one(case, ranks):
    """15 clips in batches of 7, 7 and 1: uneven and empty shares."""
    _, parameters, losses = trained(CASES[case], CLIPS, DDP)
    assert abs(losses[0] - losses[-1]) > 1e-4
    for rank in ranks:
        told, their_losses = rank[case]
        assert their_losses == pytest.approx(losses, abs=1e-5)
        assert told.keys() == parameters.keys()
        for name, value in told.items():
            assert np.allclose(value, parameters[name], atol=1e-5), name


def test_every_worker_and_epoch_draws_from_a_seed_of_its_own():
    """Or all workers would drop the same hidden values."""
    seeds: list[int] = []
    for rank in (0, 1):
        made = network("mlp", dropout=0.5)
        made.head.register_forward_pre_hook(
            lambda head, _: seeds.append(torch.initial_seed()) if head.training else None
        )
        workers = Workers(rank, 2, agree=lambda _: TOLD)
        run(made, section(epochs=3, batch_size=1000), workers=workers)
    assert len(seeds) == len(set(seeds)) == 6


def test_the_first_worker_decides_what_all_keep():
    """The others judge nothing; they take the record that they are told."""
    seen: list[object] = []

    def agree(value):
        seen.append(value)
        return TOLD

    state = run(network(), section(epochs=1), workers=Workers(1, 2, agree=agree))
    assert seen == [None]
    assert state.records == [TOLD]
