"""The heads on vectors, on several layers and on sequences of vectors.

Shapes: N vectors, B clips, P patches of a clip, D width of a vector, H of a token, C classes.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from audioflow.heads.attention import Attention
from audioflow.heads.base import HeadShape
from audioflow.heads.gated_attention import GatedAttention
from audioflow.heads.linear import Linear
from audioflow.heads.mlp import Mlp
from audioflow.heads.multi_layer import MultiLayer

D, C, P = 8, 3, 6
ONE = HeadShape(("embedding",), (D,))
TWO = HeadShape(("pool5", "conv6"), (5, D))

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "linear": (Linear, {}),
    "mlp": (Mlp, {}),
    "mlp, batch": (Mlp, {"hidden": [7, 7, 4], "norm": "batch", "residual": True}),
    "mlp, layer": (Mlp, {"hidden": [7, 4], "norm": "layer", "activation": "gelu"}),
    "mlp, leaky": (Mlp, {"hidden": [D], "activation": "leaky_relu", "residual": True}),
    "multi_layer": (MultiLayer, {"hidden": [6, 5, 4]}),
    "multi_layer, no skip": (MultiLayer, {"hidden": [6], "skip_to": 0}),
    "attention": (Attention, {}),
    "attention, residual": (Attention, {"residual": True, "position": "sinusoidal", "hidden": 4}),
    "attention, learned": (Attention, {"position": "learned", "max_patches": P}),
    "gated_attention": (GatedAttention, {}),
    "gated_attention, 3": (GatedAttention, {"heads": 3, "dropout": 0.5, "hidden": 5}),
}
SEQUENCES = [name for name, (plugin, _) in CASES.items() if plugin.takes == "sequences"]
PLUGINS = [Linear, Mlp, MultiLayer, Attention, GatedAttention]


def made(
    plugin: Any, shape: HeadShape = ONE, classes: int = C, seed: int = 0, **options: Any
) -> Any:
    torch.manual_seed(seed)
    return plugin(plugin.Settings.model_validate(options)).build(shape, classes)


def built(name: str, seed: int = 0, classes: int = C) -> Any:
    plugin, options = CASES[name]
    shape = TWO if plugin.takes == "layers" else ONE
    return made(plugin, shape, classes, seed, **options)


def inputs(name: str, count: int, seed: int = 1) -> list[Any]:
    """What the module of a case is called with, of `count` clips."""
    torch.manual_seed(seed)
    takes = CASES[name][0].takes
    if takes == "vectors":
        return [torch.randn(count, D)]
    if takes == "layers":
        return [[torch.randn(count, width) for width in TWO.widths]]
    mask = torch.arange(P) < torch.randint(1, P + 1, (count, 1))
    return [torch.randn(count, P, D), mask]


def of_clips(given: list[Any], chosen: slice) -> list[Any]:
    return [[t[chosen] for t in one] if isinstance(one, list) else one[chosen] for one in given]


def clips_of(logits: Tensor) -> Tensor:
    """Logits with clips first, whether there are several readouts or not."""
    return logits if logits.ndim == 2 else logits.transpose(0, 1)


def numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def counted(plugin: Any, shape: HeadShape, classes: int, **options: Any) -> int:
    with torch.device("meta"):
        return numbers(made(plugin, shape, classes, **options))


def values(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=SEQUENCES)
def sequence_name(request: pytest.FixtureRequest) -> str:
    return request.param


# What all of them promise


@pytest.mark.parametrize("training", [False, True])
def test_a_head_gives_a_logit_per_class_and_readout(name, training):
    module = built(name).train(training)
    readouts = (2,) if name.startswith("multi_layer") else ()
    for count in (0, 1, 7):
        logits = module(*inputs(name, count))
        assert (logits.shape, logits.dtype) == ((*readouts, count, C), torch.float32)
        assert logits.isfinite().all()


@pytest.mark.parametrize("size", [1e6, -1e6])
def test_large_inputs_give_finite_logits(name, size):
    first, *mask = inputs(name, 2)
    if isinstance(first, list):
        large: Any = [torch.full_like(layer, size) for layer in first]
    else:
        large = torch.full_like(first, size)
    assert built(name).eval()(large, *mask).isfinite().all()


def test_clips_do_not_influence_each_other(name):
    module = built(name).eval()
    given = inputs(name, 5)
    apart = [clips_of(module(*of_clips(given, slice(i, i + 1)))) for i in range(5)]
    assert torch.allclose(torch.cat(apart), clips_of(module(*given)), atol=1e-6)


def test_an_empty_share_has_zero_gradients_and_changes_nothing_else(name):
    module = built(name).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    (0.0 * module(*inputs(name, 0)).sum()).backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert not parameter.grad.any(), key
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_a_share_of_one_clip_has_finite_gradients(name):
    module = built(name).train()
    module(*inputs(name, 1)).square().sum().backward()
    grads = [parameter.grad for parameter in module.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in grads)


def test_every_build_is_fresh(name):
    plugin, options = CASES[name]
    shape = TWO if plugin.takes == "layers" else ONE
    head = plugin(plugin.Settings.model_validate(options))
    one, other = head.build(shape, C), head.build(shape, C)
    with torch.no_grad():
        next(one.parameters()).fill_(7.0)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_a_seed_decides_the_first_parameters(name):
    one, same, other = (built(name, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[key], same[key]) for key in one)
    differ = any(not torch.equal(one[key], other[key]) for key in one)
    assert differ == (name != "linear")


@pytest.mark.parametrize("plugin", PLUGINS)
def test_settings_are_frozen_and_strict(plugin):
    with pytest.raises(ValidationError, match="no_such_setting"):
        plugin.Settings.model_validate({"no_such_setting": 1})
    settings = plugin.Settings()
    for field in plugin.Settings.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, field, getattr(settings, field))


def test_settings_come_back_from_plain_values(name):
    plugin, options = CASES[name]
    settings = plugin.Settings.model_validate(options)
    again = plugin.Settings.model_validate_json(settings.model_dump_json(), strict=True)
    assert again == settings


def test_modules_are_called_once_and_never_work_in_place(name):
    """As explanations need it, which hook into modules."""
    module = built(name).eval()
    calls: list[nn.Module] = []
    for part in module.modules():
        part.register_forward_hook(lambda part, *_: calls.append(part))
    module(*inputs(name, 2))
    assert calls
    assert len(calls) == len(set(calls))
    assert not any(getattr(part, "inplace", False) for part in module.modules())


# linear and mlp


def test_a_linear_head_starts_with_equal_logits():
    assert not built("linear")(*inputs("linear", 4)).any()


def test_an_mlp_has_the_hidden_layers_that_it_is_told():
    shapes = [tuple(p.shape) for p in made(Mlp, hidden=[7, 4]).parameters() if p.dim() == 2]
    assert shapes == [(7, D), (4, 7), (C, 4)]


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("leaky_relu", lambda x: np.where(x > 0, x, 0.2 * x)),
        ("gelu", lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))),
    ],
)
def test_an_mlp_computes_its_formula(activation, formula):
    module = made(Mlp, hidden=[7], activation=activation).eval()
    x_ND = torch.randn(4, D)
    w1, b1, w2, b2 = map(values, module.parameters())
    expected = formula(values(x_ND) @ w1.T + b1) @ w2.T + b2
    assert values(module(x_ND)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("width", "added"), [(D, 0), (7, D * 7 + 7)])
def test_a_residual_layer_adds_its_input_mapped_only_where_widths_differ(width, added):
    plain, residual = made(Mlp, hidden=[width]), made(Mlp, hidden=[width], residual=True)
    assert numbers(residual) - numbers(plain) == added
    block = residual.eval()[0]
    with torch.no_grad():
        for parameter in block.layers.parameters():
            parameter.zero_()
    x_ND = torch.randn(4, D)
    expected = F.linear(x_ND, block.skip.weight, block.skip.bias) if added else x_ND
    assert torch.equal(block(x_ND), expected)


def test_batch_norm_takes_one_row_by_the_running_statistics_which_stay():
    module = made(Mlp, hidden=[7], norm="batch", dropout=0).train()
    for _ in range(20):
        module(3 + 2 * torch.randn(32, D))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    one = torch.randn(1, D)
    trained = module(one)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert torch.equal(trained, module.eval()(one))
    assert not torch.equal(before["1.running_mean"], torch.zeros(7))


def test_dropout_of_nothing_is_the_same_in_training():
    module = made(Mlp, dropout=0).train()
    x_ND = torch.randn(4, D)
    assert torch.equal(module(x_ND), module.eval()(x_ND))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": []}, "hidden"),
        ({"hidden": [4, 0]}, "hidden has the width 0; allowed: 1 or more"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": float("nan")}, "dropout"),
        ({"norm": "group"}, "group"),
        ({"activation": "tanh"}, "tanh"),
    ],
)
def test_an_mlp_refuses_settings_out_of_range(options, message):
    with pytest.raises(ValidationError, match=message):
        Mlp.Settings.model_validate(options)


# multi_layer


@pytest.mark.parametrize(
    ("widths", "count"),
    [
        ((256,), 3_559_439),
        ((512,), 4_214_799),
        ((1024,), 5_525_519),
        ((256, 512, 1024), 13_299_757),
    ],
)
def test_multi_layer_has_the_parameters_of_the_course_solution(widths, count):
    shape = HeadShape(tuple(f"layer{width}" for width in widths), widths)
    assert counted(MultiLayer, shape, 15) == count


def test_multi_layer_computes_the_formula_of_the_course_solution():
    """The input, mapped, is added to the third block; every block is Linear, BN, leaky ReLU."""
    shape = HeadShape(("pool5",), (5,))
    module = made(MultiLayer, shape, hidden=[9, 8, 7, 6]).train()
    for _ in range(5):
        module([torch.randn(16, 5) + 1])
    module.eval()
    linears = [part for part in module.modules() if isinstance(part, nn.Linear)]
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm1d)]
    by_shape = {tuple(linear.weight.shape): linear for linear in linears}
    x_ND = torch.randn(4, 5)
    flowing = values(x_ND)
    for norm, (given, width) in zip(norms, [(5, 9), (9, 8), (8, 7), (7, 6)], strict=True):
        flowing = affine(by_shape[width, given], flowing)
        deviation = np.sqrt(values(norm.running_var) + 1e-5)
        flowing = (flowing - values(norm.running_mean)) / deviation
        flowing = flowing * values(norm.weight) + values(norm.bias)
        flowing = np.where(flowing > 0, flowing, 0.2 * flowing)
        if width == 7:
            flowing = flowing + affine(by_shape[7, 5], values(x_ND))
    expected = affine(by_shape[C, 6], flowing)
    assert values(module([x_ND]))[0] == pytest.approx(expected, abs=1e-5)


def affine(linear: nn.Linear, rows: np.ndarray) -> np.ndarray:
    return rows @ values(linear.weight).T + values(linear.bias)


def test_every_layer_has_its_own_readout():
    module = built("multi_layer").eval()
    pool5, conv6 = inputs("multi_layer", 4)[0]
    before, after = module([pool5, conv6]), module([pool5, conv6 + 1])
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])
    with pytest.raises(ValueError, match="shorter"):
        module([pool5])


@pytest.mark.parametrize(
    ("options", "skips"),
    [
        ({"hidden": [9, 8, 7, 6]}, [(7, 5)]),
        ({"hidden": [9]}, [(9, 5)]),
        ({"hidden": [9, 8], "skip_to": 2}, [(8, 5)]),
        ({"hidden": [9, 8], "skip_to": 0}, []),
    ],
)
def test_the_skip_lands_where_it_is_told(options, skips):
    module = made(MultiLayer, HeadShape(("pool5",), (5,)), **options)
    found = [name for name, _ in module.named_parameters() if name.endswith("skip.weight")]
    assert [tuple(module.get_parameter(name).shape) for name in found] == skips


def test_a_skip_beyond_the_layers_is_refused():
    with pytest.raises(ValidationError, match=r"skip_to \(3\) is beyond the 2 layers of hidden"):
        MultiLayer.Settings(hidden=(9, 8), skip_to=3)


# Sequences


def test_what_is_not_in_the_mask_does_not_count(sequence_name):
    module = built(sequence_name).eval()
    vectors, mask = inputs(sequence_name, 6)
    expected, weights = module(vectors, mask), module.weights(vectors, mask)
    assert not mask.all()
    for other in (0.0, 1e30, float("nan"), float("inf")):
        changed = vectors.masked_fill(~mask[..., None], other)
        assert torch.equal(module(changed, mask), expected)
        assert torch.equal(module.weights(changed, mask), weights)


def test_it_does_not_matter_how_much_padding_there_is(sequence_name):
    module = built(sequence_name).eval()
    vectors, mask = inputs(sequence_name, 6)
    longer = torch.cat([vectors, torch.randn(6, 5, D)], dim=1)
    longer_mask = torch.cat([mask, torch.zeros(6, 5, dtype=torch.bool)], dim=1)
    with_gradient = module(longer, longer_mask)
    assert torch.allclose(with_gradient, module(vectors, mask), atol=1e-6)
    with torch.inference_mode():  # torch has another way of computing then
        assert torch.allclose(module(longer, longer_mask), with_gradient, atol=1e-6)


def test_padding_has_no_gradient_and_leaves_no_nan_in_others(sequence_name):
    module = built(sequence_name).train()
    vectors, mask = inputs(sequence_name, 6)
    vectors = vectors.masked_fill(~mask[..., None], float("nan")).requires_grad_()
    module(vectors, mask).sum().backward()
    assert not vectors.grad[~mask].any()
    assert vectors.grad[mask].any()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_weights_sum_to_one_over_the_patches_that_there_are(sequence_name):
    module = built(sequence_name).eval()
    vectors, mask = inputs(sequence_name, 6)
    weights = module.weights(vectors, mask)
    assert weights.shape == (6, P)
    assert torch.allclose(weights.sum(dim=1), torch.ones(6))
    assert not weights[~mask].any()
    assert (weights[mask] > 0).all()
    assert module.weights(vectors[:0], mask[:0]).shape == (0, P)


def test_a_clip_without_patches_gives_finite_logits_and_gradients(sequence_name):
    module = built(sequence_name).train()
    vectors, mask = inputs(sequence_name, 3)
    mask[1] = False
    logits = module(vectors, mask)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())
    assert not module.weights(vectors, mask)[1].any()


def train(module: nn.Module, steps: int, batch: Any) -> float:
    """The share that is right after so many steps on fresh batches."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for step in range(steps):
        vectors, mask, targets = batch(step)
        loss = F.cross_entropy(module.train()(vectors, mask), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    vectors, mask, targets = batch(steps)
    right = module.eval()(vectors, mask).argmax(dim=1) == targets
    return float(right.float().mean())


def needles(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Clips of noise with one patch that tells the class, 8 long in a direction of its own."""
    torch.manual_seed(seed)
    _, mask = inputs("attention", 64, seed)
    targets = torch.randint(C, (64,))
    vectors = torch.randn(64, P, D)
    vectors[:, 0] = 8 * F.one_hot(targets, D)
    return vectors, mask, targets


@pytest.mark.parametrize("plugin", [Attention, GatedAttention])
def test_attention_learns_which_patch_tells_the_class(plugin):
    module = made(plugin)
    assert train(module, 150, needles) > 0.95
    vectors, mask, _ = needles(10_000)
    full = mask.sum(dim=1) >= 4
    weights = module.weights(vectors, mask)[full]
    assert weights[:, 0].mean() > 1.5 * weights[:, 1:4].mean()


# attention


def test_attention_has_the_parameters_of_the_published_head():
    assert counted(Attention, HeadShape(("embedding",), (128,)), 15) == 67_983


def test_attention_computes_its_formula():
    """Of every head softmax(q k / sqrt(d)) v, put side by side and mapped; then the mean."""
    module = built("attention").eval()
    vectors, mask = inputs("attention", 4)
    attention = module.pool.attention
    expected, paid = [], []
    for clip, there in zip(values(vectors), mask.numpy(), strict=True):
        qkv = clip[there] @ values(attention.in_proj_weight).T + values(attention.in_proj_bias)
        parts = []
        maps = []
        for head in range(4):
            q, k, v = (qkv[:, part * D :][:, head * 2 : head * 2 + 2] for part in range(3))
            marks = np.exp(q @ k.T / np.sqrt(2))
            maps.append(marks / marks.sum(axis=1, keepdims=True))
            parts.append(maps[-1] @ v)
        mixed = affine(attention.out_proj, np.concatenate(parts, axis=1))
        expected.append(affine(module.classifier, mixed.mean(axis=0)))
        paid.append(np.mean(maps, axis=(0, 1)))
    assert values(module(vectors, mask)) == pytest.approx(np.array(expected), abs=1e-5)
    for found, there, one in zip(module.weights(vectors, mask), mask, paid, strict=True):
        assert values(found[there]) == pytest.approx(one, abs=1e-6)


def test_a_residual_adds_the_mean_of_the_patches():
    plain, residual = made(Attention), made(Attention, residual=True)
    vectors, mask = inputs("attention", 4)
    mean_BD = (vectors * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    added = F.linear(mean_BD, residual.classifier.weight)
    found = residual.eval()(vectors, mask) - plain.eval()(vectors, mask)
    assert torch.allclose(found, added, atol=1e-5)


def test_without_a_position_the_order_of_patches_does_not_count():
    vectors = torch.randn(2, P, D)
    mask = torch.ones(2, P, dtype=torch.bool)
    turned = vectors.flip(1)
    for name, same in (("attention", True), ("attention, learned", False)):
        module = built(name).eval()
        assert torch.allclose(module(vectors, mask), module(turned, mask), atol=1e-5) == same
    module = made(Attention, position="sinusoidal").eval()
    assert not torch.allclose(module(vectors, mask), module(turned, mask), atol=1e-4)


@pytest.mark.parametrize("width", [8, 7, 1])
def test_sinusoidal_positions_are_those_of_the_paper(width):
    options = {"position": "sinusoidal", "num_heads": 1}
    module = made(Attention, HeadShape(("embedding",), (width,)), **options)
    found = module.position(torch.zeros(1, 50, width), torch.ones(1, 50, dtype=torch.bool))[0]
    for place in (0, 1, 49):
        for column in range(width):
            angle = place / 10_000 ** ((column - column % 2) / width)
            wave = math.cos(angle) if column % 2 else math.sin(angle)
            assert found[place, column].item() == pytest.approx(wave, abs=1e-5)


def test_a_sinusoidal_position_has_no_limit():
    module = made(Attention, position="sinusoidal").eval()
    mask = torch.ones(1, 3000, dtype=torch.bool)
    assert module(torch.randn(1, 3000, D), mask).isfinite().all()


def test_a_clip_longer_than_the_learned_positions_is_an_error_but_padding_is_not():
    module = built("attention, learned").eval()
    vectors, mask = torch.randn(2, P + 4, D), torch.zeros(2, P + 4, dtype=torch.bool)
    mask[:, :P] = True
    assert torch.allclose(module(vectors, mask), module(vectors[:, :P], mask[:, :P]), atol=1e-6)
    mask[1, P] = True
    with pytest.raises(ValueError, match=rf"clip of {P + 1} patches .* max_patches \({P}\)"):
        module(vectors, mask)


def test_a_clip_shorter_than_the_learned_positions_takes_the_first_of_them():
    module = built("attention, learned").eval()
    vectors, mask = torch.randn(2, 2, D), torch.ones(2, 2, dtype=torch.bool)
    before = module(vectors, mask)
    with torch.no_grad():
        module.position.vectors[2:] += 5
    assert torch.equal(module(vectors, mask), before)


def test_hidden_maps_the_vectors_where_it_differs():
    assert isinstance(made(Attention, hidden=D).project, nn.Identity)
    assert made(Attention, hidden=12).project.weight.shape == (12, D)
    odd = HeadShape(("embedding",), (7,))
    assert made(Attention, odd, hidden=8).project.weight.shape == (8, 7)


def test_a_width_that_heads_cannot_share_is_refused():
    odd = HeadShape(("embedding",), (7,))
    with pytest.raises(ValueError, match=r"width 7 .* num_heads \(4\).* hidden"):
        made(Attention, odd)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"position": "learned"}, r"position \(learned\).* give max_patches"),
        ({"max_patches": 9}, r"max_patches \(9\) is for position learned, but position is none"),
        ({"hidden": 10}, r"hidden \(10\) is not divisible by num_heads \(4\)"),
        ({"num_heads": 0}, "num_heads"),
        ({"position": "rotary"}, "rotary"),
    ],
)
def test_attention_refuses_settings_that_make_no_sense(options, message):
    with pytest.raises(ValidationError, match=message):
        Attention.Settings.model_validate(options)


# gated_attention


def test_gated_attention_computes_the_formula_of_the_paper():
    module = built("gated_attention, 3").eval()
    vectors, mask = inputs("gated_attention", 4)
    expected, shares = [], []
    for clip, there in zip(values(vectors), mask.numpy(), strict=True):
        h = clip[there]
        gates = 1 / (1 + np.exp(-affine(module.gate[0], h)))
        scores = (np.tanh(affine(module.value[0], h)) * gates) @ values(module.score.weight).T
        maps = np.exp(scores) / np.exp(scores).sum(axis=0)
        expected.append(affine(module.classifier, (maps.T @ h).reshape(1, -1))[0])
        shares.append(maps.mean(axis=1))
    assert values(module(vectors, mask)) == pytest.approx(np.array(expected), abs=1e-5)
    for found, there, one in zip(module.weights(vectors, mask), mask, shares, strict=True):
        assert values(found[there]) == pytest.approx(one, abs=1e-6)


def test_gated_attention_is_as_large_as_it_is_told():
    assert numbers(made(GatedAttention)) == 2 * (D * 128 + 128) + 128 + D * C + C
    assert made(GatedAttention, heads=3).classifier.weight.shape == (C, 3 * D)
