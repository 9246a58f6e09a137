"""A system's network against plain formulas, clip by clip.

Shapes: B clips, P patches of a clip, C classes.
"""

import numpy as np
import pytest
import torch

from audioflow.systems import network as networks
from audioflow.systems.examples import Examples
from audioflow.systems.inputs import Pool
from audioflow.systems.network import Batch, SystemNetwork, all_logits
from audioflow.training import normalise
from tests.unit.small_training import clips, network, pictures

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTHS = [1, 3, 2, 5, 1]
EXAMPLES = clips(LENGTHS, spread=2.0)


def softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def of_clips(examples: Examples, values: np.ndarray) -> list[np.ndarray]:
    return np.split(values, examples.offsets[1:-1])


def trained(made: SystemNetwork, seed: int = 1) -> SystemNetwork:
    """Parameters as after training: none is at its first value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in made.parameters():
            value.copy_(torch.randn(value.shape, generator=generator))
    return made.eval()


def patch_logits(made: SystemNetwork, examples: Examples) -> np.ndarray:
    """Logits (sum of P, C) of all patches, by the head alone."""
    with torch.no_grad():
        return made.head(torch.from_numpy(examples.rows[0])).double().numpy()


def largest(values: np.ndarray, k: int) -> np.ndarray:
    return np.sort(values, axis=0)[-k:].mean(axis=0)


def auto_pool(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return (values * softmax((alpha * values).T).T).sum(axis=0)


FORMULAS = {
    "mean": ({}, lambda v, _: v.mean(axis=0)),
    "max": ({}, lambda v, _: v.max(axis=0)),
    "top_k": ({"k": 2}, lambda v, _: largest(v, 2)),
    "learned": ({}, lambda v, made: auto_pool(v, made.pooling.alpha.detach().numpy())),
}


# Pooling of logits and scores


@pytest.mark.parametrize("name", FORMULAS)
def test_logits_of_patches_are_pooled_per_clip(name):
    options, formula = FORMULAS[name]
    made = trained(network(pool=Pool(name, "logits", options)))
    found = all_logits(made, EXAMPLES)[0].numpy()
    patches = of_clips(EXAMPLES, patch_logits(made, EXAMPLES))
    assert found == pytest.approx(np.stack([formula(one, made) for one in patches]), abs=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_of_patches_are_pooled_per_clip(name, multi_label):
    """The scores of the pooled logits are the pooled scores; of one label, up to their sum."""
    options, formula = FORMULAS[name]
    made = trained(network(pool=Pool(name, "scores", options), multi_label=multi_label))
    logits = all_logits(made, EXAMPLES)[0].double().numpy()
    score = sigmoid if multi_label else softmax
    patches = of_clips(EXAMPLES, score(patch_logits(made, EXAMPLES)))
    pooled = np.stack([formula(one, made) for one in patches])
    if not multi_label:
        pooled /= pooled.sum(axis=1, keepdims=True)
    assert score(logits) == pytest.approx(pooled, abs=1e-5)


@pytest.mark.parametrize("on", ["embeddings", "logits", "scores"])
@pytest.mark.parametrize("gated", [False, True])
def test_attention_weighs_patches_by_their_embeddings(on, gated):
    """Ilse et al. 2018: w . tanh(V h), with a gate w . (tanh(V h) * sigmoid(U h))."""
    made = trained(network(pool=Pool("attention", on, {"hidden": 5, "gated": gated})))
    parts = {key: value.double().numpy() for key, value in made.pooling.state_dict().items()}
    vectors = EXAMPLES.rows[0].astype(np.float64)
    hidden = np.tanh(vectors @ parts["hidden.weight"].T + parts["hidden.bias"])
    if gated:
        hidden = hidden * sigmoid(vectors @ parts["gate.weight"].T + parts["gate.bias"])
    marks = of_clips(EXAMPLES, hidden @ parts["weight.weight"].T)
    weights = [softmax(mine.T)[0] for mine in marks]
    values = {
        "embeddings": vectors,
        "logits": patch_logits(made, EXAMPLES),
        "scores": softmax(patch_logits(made, EXAMPLES)),
    }[on]
    pooled = np.stack(
        [weight @ mine for weight, mine in zip(weights, of_clips(EXAMPLES, values), strict=True)]
    )
    found = all_logits(made, EXAMPLES)[0].double().numpy()
    if on == "embeddings":
        with torch.no_grad():
            pooled = made.head(torch.from_numpy(pooled).float()).double().numpy()
    given = softmax(found) if on == "scores" else found
    assert given == pytest.approx(pooled, abs=1e-4)


def test_a_vote_is_the_share_of_patches_and_its_ties_go_to_the_first_class():
    made = network(pool=Pool("vote", "logits", {}), widths=(3,))
    with torch.no_grad():
        made.head.weight.copy_(torch.eye(3))
    said = [[2, 1, 1], [2, 0], [1, 2], [2]]
    rows = np.eye(3, dtype=np.float32)[np.concatenate(said)]
    examples = Examples((rows,), np.array([0, 3, 5, 7, 8]), np.zeros(4, np.int64))
    shares = torch.softmax(all_logits(made, examples)[0], dim=1).numpy()
    expected = [[0, 2 / 3, 1 / 3], [0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]]
    assert shares == pytest.approx(np.array(expected), abs=1e-5)
    assert shares.argmax(axis=1).tolist() == [1, 0, 1, 2]


def test_a_vote_of_several_labels_is_refused():
    with pytest.raises(ValueError, match=r"vote gives every patch one class.* several labels"):
        network(pool=Pool("vote", "logits", {}), multi_label=True)


@pytest.mark.parametrize("name", ["mean", "max", "top_k", "learned", "attention"])
@pytest.mark.parametrize("on", ["logits", "scores"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_clip_of_one_patch_has_the_scores_of_that_patch(name, on, multi_label):
    made = trained(network(pool=Pool(name, on, {}), multi_label=multi_label))
    single = clips([1] * 6, spread=2.0)
    score = sigmoid if multi_label else softmax
    found = score(all_logits(made, single)[0].double().numpy())
    assert found == pytest.approx(score(patch_logits(made, single)), abs=1e-5)


# What has no influence


POOLED = [
    *[Pool(name, on, {}) for name in FORMULAS for on in ("logits", "scores")],
    *[Pool("attention", on, {}) for on in ("logits", "scores", "embeddings")],
    Pool("learned", "embeddings", {}),
    Pool("vote", "logits", {}),
]


@pytest.mark.parametrize("pool", POOLED, ids=lambda pool: f"{pool.name} on {pool.on}")
def test_neither_other_clips_nor_padding_have_an_influence(pool):
    made = trained(network(pool=pool))

    def found(places: list[int]) -> torch.Tensor:
        logits = all_logits(made, EXAMPLES.take(np.array(places)))[0]
        # Those of pooled scores are only known up to a number that all classes share.
        return torch.log_softmax(logits, dim=1) if pool.on == "scores" else logits

    together = found([0, 1, 2, 3, 4])
    assert torch.allclose(torch.cat([found([place]) for place in range(5)]), together, atol=1e-5)
    assert torch.allclose(found([3, 0, 4, 1, 2]), together[[3, 0, 4, 1, 2]], atol=1e-5)


@pytest.mark.parametrize("head", ["attention", "gated_attention"])
def test_heads_that_pool_by_themselves_are_given_a_mask(head):
    made = trained(network(head))
    together = all_logits(made, EXAMPLES)[0]
    apart = [all_logits(made, EXAMPLES.take(np.array([place])))[0] for place in range(5)]
    assert torch.allclose(torch.cat(apart), together, atol=1e-5)
    given = torch.from_numpy(EXAMPLES.rows[0][1:4])[None]  # the second clip
    alone = made.head(given, torch.ones(1, 3, dtype=torch.bool))
    assert torch.allclose(together[1], alone[0], atol=1e-5)


@pytest.mark.parametrize("pool", POOLED[:-1], ids=lambda pool: f"{pool.name} on {pool.on}")
@pytest.mark.parametrize("lengths", [LENGTHS, [1, 1, 1], []], ids=str)
def test_gradients_reach_every_parameter(pool, lengths):
    """Also of clips of one patch, and of no clip: every worker has to reach all of them."""
    made = trained(network(pool=pool)).train()
    examples = clips(LENGTHS, spread=2.0).take(np.arange(0)) if not lengths else clips(lengths)
    made(Batch.of(examples))[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())
    if lengths == LENGTHS:
        assert all(p.grad.abs().max() > 0 for p in made.parameters())


@pytest.mark.parametrize("name", ["attention", "learned"])
def test_learned_poolings_learn_which_patch_counts(name):
    """One patch of each clip is of its class, the others are of a class that none has."""
    made, generator = (
        network(pool=Pool(name, "embeddings", {}), widths=(4,)),
        np.random.default_rng(0),
    )
    targets = np.arange(60) % 3
    rows = np.full((60, 6, 4), [0, 0, 0, 2], np.float32)
    rows[np.arange(60), generator.integers(0, 6, 60)] = 2 * np.eye(3, 4)[targets]
    examples = Examples((rows.reshape(-1, 4),), np.arange(0, 361, 6), targets)
    before = {key: value.clone() for key, value in made.pooling.state_dict().items()}
    optimizer = torch.optim.Adam(made.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        logits = made(Batch.of(examples))[0]
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets)).backward()
        optimizer.step()
    after = made.pooling.state_dict()
    assert all(not after[key].equal(before[key]) for key in before)
    if name == "attention":
        vectors = torch.from_numpy(rows)
        weights = made.pooling.weights(vectors, torch.ones(60, 6, dtype=torch.bool))
        assert (weights.amax(dim=1) > 0.5).all()  # of six
        assert (weights.argmax(dim=1) == vectors[..., 3].argmin(dim=1)).all()
    else:
        assert (after["alpha"][:3] > before["alpha"][:3]).all()  # nearer to the largest


# Several layers


def test_several_layers_are_read_out_each_by_itself():
    made = network("multi_layer", widths=(4, 2), hidden=[3]).eval()
    rows = (EXAMPLES.rows[0], EXAMPLES.rows[0][:, :2])
    examples = Examples(rows, np.arange(13), np.zeros(12, np.int64))
    found = all_logits(made, examples)
    assert found.shape == (2, 12, 3)
    for place, head in enumerate(made.head.heads):
        assert torch.allclose(found[place], head(torch.from_numpy(rows[place])), atol=1e-6)


def test_readouts_of_patches_are_pooled_each_by_itself():
    made = network("multi_layer", widths=(4, 2), hidden=[3], pool=Pool("mean", "logits", {})).eval()
    rows = (EXAMPLES.rows[0], EXAMPLES.rows[0][:, :2])
    examples = Examples(rows, EXAMPLES.offsets, EXAMPLES.targets)
    found = all_logits(made, examples).numpy()
    with torch.no_grad():
        each = [
            head(torch.from_numpy(one)).numpy()
            for head, one in zip(made.head.heads, rows, strict=True)
        ]
    for place in range(2):
        means = np.stack([one.mean(axis=0) for one in of_clips(examples, each[place])])
        assert found[place] == pytest.approx(means, abs=1e-6)


# Pictures


@pytest.mark.parametrize("name", ["mean", "attention"])
def test_pictures_of_clips_are_pooled(name):
    """Attention weighs a picture by all of its values."""
    made = network(
        "resnet18", pool=Pool(name, "logits", {}), widths=(4,), vectors_per_patch=3
    ).eval()
    examples = pictures([2, 1, 3], (3, 4))
    found = all_logits(made, examples)[0].numpy()
    with torch.no_grad():
        each = made.head(torch.from_numpy(examples.rows[0])).numpy()
    means = np.stack([one.mean(axis=0) for one in of_clips(examples, each)])
    assert found == pytest.approx(means, abs=1e-5)  # attention begins as a mean
    if name == "attention":
        assert made.pooling.hidden.in_features == 12


def test_pictures_are_few_at_once(monkeypatch):
    """A convolution makes thousands of times as much of them."""
    monkeypatch.setattr(networks, "_PICTURES_AT_ONCE", 4)
    monkeypatch.setattr(networks, "_ROWS_AT_ONCE", 1000)
    made = network("resnet18", pool=Pool("mean", "logits", {}), widths=(4,), vectors_per_patch=3)
    sizes: list[int] = []
    made.head.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    examples = pictures([2, 1, 3, 6, 1, 3], (3, 4))
    in_blocks = all_logits(made, examples)
    assert sizes == [3, 3, 6, 4]  # no clip is cut in two
    monkeypatch.setattr(networks, "_PICTURES_AT_ONCE", 1000)
    assert torch.allclose(all_logits(made, examples), in_blocks, atol=1e-5)


# Any number of clips


@pytest.mark.parametrize("at_once", [1, 3, 4, 5, 100])
def test_clips_go_through_in_blocks_of_whole_clips(at_once, monkeypatch):
    made = trained(network(pool=Pool("max", "logits", {})))
    whole = all_logits(made, EXAMPLES)
    monkeypatch.setattr(networks, "_ROWS_AT_ONCE", at_once)
    assert torch.allclose(all_logits(made, EXAMPLES), whole, atol=1e-6)
    assert all_logits(made, EXAMPLES.take(np.arange(0))).shape == (1, 0, 3)


def test_scoring_leaves_no_gradient_and_turns_dropout_off():
    made = network("mlp", dropout=0.5).train()
    found = all_logits(made, clips([1] * 5))
    assert not found.requires_grad
    assert not made.training
    assert found.equal(all_logits(made, clips([1] * 5)))


def test_patches_by_themselves_are_told_before_any_pooling():
    made = trained(network(pool=Pool("max", "logits", {}), normalised=True))
    made.set_normalisation([torch.ones(4)], [torch.full((4,), 2.0)])
    with torch.no_grad():
        found = made.patches(Batch.of(EXAMPLES))
        expected = made.head((torch.from_numpy(EXAMPLES.rows[0]) - 1) / 2)
    assert found.shape == (1, 12, 3)
    assert torch.allclose(found[0], expected, atol=1e-6)


# Normalisation


def test_normalised_columns_have_mean_zero_and_deviation_one():
    rows = np.random.default_rng(0).normal(5, [1, 10, 0.1, 1000], (500, 4)).astype(np.float32)
    made = network(normalised=True)
    normalise(made, (rows,))
    given: list[torch.Tensor] = []
    made.head.register_forward_pre_hook(lambda _, vectors: given.append(vectors[0]))
    all_logits(made, Examples((rows,), np.arange(501), np.zeros(500, np.int64)))
    assert given[0].mean(dim=0).tolist() == pytest.approx([0] * 4, abs=1e-3)
    assert given[0].std(dim=0, correction=0).tolist() == pytest.approx([1] * 4, abs=1e-3)


@pytest.mark.parametrize("at_once", [1, 7, 500, 65_536])
def test_deviations_are_exact_however_many_rows_are_summed_at_once(at_once, monkeypatch):
    from audioflow.training import loop

    monkeypatch.setattr(loop, "_ROWS_AT_ONCE", at_once)
    rows = np.random.default_rng(0).normal(100, [1, 10], (500, 2)).astype(np.float32)
    made = network(normalised=True, widths=(2,))
    normalise(made, (rows,))
    exact = rows.astype(np.float64)
    assert made.normalise[0].mean.numpy() == pytest.approx(exact.mean(axis=0), rel=1e-6)
    assert made.normalise[0].std.numpy() == pytest.approx(exact.std(axis=0), rel=1e-6)


@pytest.mark.parametrize("constant", [0.0, 1.0, -100.0, 1e6, 1e-12])
def test_a_constant_column_is_divided_by_one(constant):
    made = network(normalised=True, widths=(2,))
    normalise(made, (np.full((100, 2), constant, np.float32),))
    assert made.normalise[0].std.tolist() == [1.0, 1.0]
    assert made.normalise[0].mean.tolist() == pytest.approx([constant] * 2)


def test_every_layer_has_its_own_normalisation_and_pictures_that_of_their_bands():
    two = network("multi_layer", widths=(4, 2), hidden=[3], normalised=True)
    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    normalise(two, (rows, 7 * rows[:, :2]))
    assert torch.allclose(two.normalise[1].std, 7 * two.normalise[0].std[:2])
    tall = network(
        "resnet18",
        pool=Pool("mean", "logits", {}),
        widths=(4,),
        vectors_per_patch=5,
        normalised=True,
    )
    normalise(tall, (rows.reshape(10, 5, 4),))
    assert torch.allclose(tall.normalise[0].mean, two.normalise[0].mean)
    assert torch.allclose(tall.normalise[0].std, two.normalise[0].std)
    assert all_logits(tall, pictures([1, 2], (5, 4))).isfinite().all()


def test_what_is_not_normalised_is_left_alone():
    made = network(normalised=False)
    normalise(made, (np.ones((5, 4), np.float32),))
    assert list(made.state_dict()) == ["head.weight", "head.bias"]


def test_the_state_of_a_network_has_its_parts_names():
    made = network("mlp", hidden=[5], pool=Pool("attention", "logits", {}), normalised=True)
    assert {name.partition(".")[0] for name in made.state_dict()} == {
        "head",
        "pooling",
        "normalise",
    }
    assert {"normalise.0.mean", "normalise.0.std"} <= set(made.state_dict())
    assert made.rates() == {}


def test_rates_are_those_of_the_head_by_its_name_in_the_network():
    made = network()
    made.head.rates = lambda: {"trunk.": 0.1}
    assert made.rates() == {"head.trunk.": 0.1}
