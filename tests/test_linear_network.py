"""Reading a network: what is refused, by name; and the modules Scale and Sum."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from w2v_inf import Scale, Sum, limit_of
from w2v_inf.errors import UserError
from w2v_inf.linear_network import read_network


def two(*between: nn.Module, d_in: int = 5, n: int = 64) -> nn.Sequential:
    return nn.Sequential(nn.Linear(d_in, n), *between, nn.Linear(n, 3))


def frozen() -> nn.Module:
    model = two()
    model[1].bias.requires_grad = False
    return model


def tied() -> nn.Module:
    model = nn.Sequential(nn.Embedding(9, 64), nn.Linear(64, 9))
    model[1].weight = model[0].weight
    return model


def tied_by_transposition() -> nn.Module:
    model = nn.Sequential(nn.Linear(9, 64), nn.Linear(64, 9))
    model[1].weight = nn.Parameter(model[0].weight.detach().T)
    return model


def twice() -> nn.Module:
    layer = nn.Linear(5, 64)
    return nn.Sequential(Sum(layer, nn.Sequential(Scale(2), layer)), nn.Linear(64, 3))


def block_twice() -> nn.Module:
    block = nn.Sequential(nn.Linear(5, 64), Scale(2))
    return nn.Sequential(Sum(block, block), nn.Linear(64, 3))


def hooked() -> nn.Module:
    model = two()
    model[0].register_forward_hook(lambda module, inputs, output: output.relu())
    return model


def own_forward() -> nn.Module:
    model = two()
    model[0].forward = lambda x: x
    return model


def pruned() -> nn.Module:
    model = two()
    prune.l1_unstructured(model[0], "weight", 0.5)
    return model


def normed() -> nn.Module:
    model = two()
    parametrizations.weight_norm(model[0])
    return model


def with_child() -> nn.Module:
    model = two()
    model[0].adapter = nn.Linear(5, 64)
    return model


def with_parameter() -> nn.Module:
    model = two(Scale(2))
    model[1].gain = nn.Parameter(torch.ones(()))
    return model


def filled(value: float) -> nn.Module:
    model = two()
    nn.init.constant_(model[0].weight, value)
    return model


def zeros() -> nn.Module:
    model = two()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def short_bias() -> nn.Module:
    model = two()
    model[0].bias = nn.Parameter(torch.randn(1))
    return model


def uneven() -> nn.Module:
    model = nn.Sequential(nn.Embedding(9, 64), nn.Linear(64, 3))
    with torch.no_grad():
        model[0].weight[3:] *= 0.1
    return model


def trained() -> nn.Module:
    model = two()
    with torch.no_grad():  # one direction has grown
        model[0].weight += 3 * torch.outer(torch.randn(64), torch.ones(5))
    return model


class Residual(nn.Linear):
    def forward(self, x):
        return x + super().forward(x)


ONLY = "is not supported, only Linear, Embedding, EmbeddingBag, Identity, Sequential, and our Scale"
REFUSED = {
    "nonlinear": (lambda: two(nn.ReLU()), f"layer 1 (ReLU) {ONLY}"),
    "nested": (lambda: two(Sum(nn.Identity(), nn.Tanh())), f"layer 1.1 (Tanh) {ONLY}"),
    "dropout": (lambda: two(nn.Dropout(0.1)), f"layer 1 (Dropout) {ONLY}"),
    "subclass": (lambda: two(Residual(64, 64)), f"layer 1 (Residual) {ONLY}"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(64), nn.Linear(64, 3)), "layer 0 (LazyLinear)"),
    "own class": (lambda: nn.Transformer(8, 2, 1, 1, 8, batch_first=True), f"Transformer {ONLY}"),
    "weight norm": (normed, f"layer 0 (ParametrizedLinear) {ONLY}"),
    "frozen": (frozen, "1.bias is frozen: all parameters must be trained"),
    "tied": (tied, "1.weight is 0.weight: tied weights are not supported"),
    "transposed": (tied_by_transposition, "1.weight is 0.weight: tied weights"),
    "twice": (twice, "layer 0.1.1 (Linear) is layer 0.0 again: tied weights"),
    "block twice": (block_twice, "layer 0.1.0 (Linear) is layer 0.0.0 again"),
    "hook": (hooked, "layer 0 (Linear) must compute what its class says: remove its hooks"),
    "forward": (own_forward, "layer 0 (Linear) must compute what its class says"),
    "pruned": (pruned, "layer 0 (Linear) must compute what its class says"),
    "child": (with_child, "layer 0 (Linear) must not contain other modules"),
    "parameter": (with_parameter, "layer 1 (Scale) must have no parameter of its own: ['gain']"),
    "shapes": (
        lambda: nn.Sequential(nn.Linear(5, 64), nn.Linear(32, 3)),
        "layer 1 (Linear) takes 32 numbers, but gets 64",
    ),
    "inputs": (
        lambda: nn.Sequential(Sum(nn.Linear(5, 64), nn.Linear(4, 64)), nn.Linear(64, 3)),
        "layer 0.1 (Linear) takes 4 numbers, but gets 5",
    ),
    "branches": (
        lambda: nn.Sequential(Sum(nn.Linear(5, 64), nn.Linear(5, 1)), nn.Linear(64, 3)),
        "the branches of layer 0 (Sum) must give one size, got 64 and 1",
    ),
    "skip": (
        lambda: nn.Sequential(nn.Linear(5, 64), Sum(nn.Identity(), nn.Linear(64, 3))),
        "the branches of layer 1 (Sum) must give one size, got 64 and 3",
    ),
    "bias": (short_bias, "layer 0 (Linear): weight and bias do not fit together: [64, 5] and [1]"),
    "ids": (lambda: two(nn.Embedding(5, 64)), "layer 1 (Embedding) takes ids, so it must come"),
    "ids, vectors": (
        lambda: nn.Sequential(Sum(nn.Embedding(5, 64), nn.Linear(5, 64)), nn.Linear(64, 3)),
        "layer 0.1 (Linear) and a layer beside it: one takes ids, one vectors",
    ),
    "max": (
        lambda: nn.Sequential(nn.EmbeddingBag(5, 64, mode="max"), nn.Linear(64, 3)),
        "layer 0 (EmbeddingBag) must have mode mean or sum, got max",
    ),
    "max_norm": (
        lambda: nn.Sequential(nn.Embedding(5, 64, max_norm=1.0), nn.Linear(64, 3)),
        "layer 0 (Embedding) must have max_norm=None, got 1",
    ),
    "no hidden layer": (lambda: nn.Linear(5, 3), "the network has no hidden layer"),
    "nothing": (lambda: nn.Sequential(), "the network has no hidden layer"),
    "residual of the input": (
        lambda: nn.Sequential(Sum(nn.Identity(), nn.Linear(5, 5)), nn.Linear(5, 3)),
        "the network has no hidden layer",
    ),
    "deep": (
        lambda: two(nn.Linear(64, 64)),
        "layer 1 (Linear) joins two hidden layers and is not zero, so no finite network is its",
    ),
    "meta": (lambda: two().to("meta"), "0.weight must hold real numbers, got meta"),
    "complex": (lambda: two().to(torch.complex64), "0.weight must hold real numbers, got torch.c"),
    "nan": (lambda: filled(float("nan")), "0.weight must be finite, it has inf or nan"),
    "zero": (zeros, "a hidden layer never learns, since 0.weight, 0.bias, 1.weight are all zero"),
    "equal": (lambda: filled(0.1), "vector 0 of 0.weight and vector 1 of 0.weight have cosine 1"),
    "trained": (trained, "have cosine 1: initial vectors must be drawn independently, with mean 0"),
    "scales": (uneven, "the vectors of 0.weight must share one scale, their entries have root"),
    "not a module": (lambda: [nn.Linear(5, 64)], "limit_of: model must be an nn.Module, got list"),
    "a limit": (lambda: limit_of(two()), "model is a limit itself"),
    "part of a limit": (lambda: limit_of(two(), "ntk").network, "model is a limit itself"),
}


@pytest.mark.filterwarnings("ignore:Complex modules", "ignore:Lazy modules")
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_limit_here_is_refused_by_name(name: str) -> None:
    torch.manual_seed(0)
    make, message = REFUSED[name]
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        limit_of(make())
    assert "\n" not in str(caught.value)


def test_other_mistakes_are_one_line() -> None:
    zero = nn.Linear(64, 64)
    nn.init.zeros_(zero.weight)
    with pytest.raises(UserError, match=r"layer 1 \(Linear\) joins two hidden layers: .*ntk"):
        limit_of(two(zero), "ntk")
    with pytest.raises(UserError, match="parametrization must be mup or ntk, got sp"):
        limit_of(two(), "sp")
    for width in (0, -1, 2.5, True, "8"):
        with pytest.raises(UserError, match="sample: width must be a whole number of at least 1"):
            limit_of(two()).sample(width)
    for factor in (float("inf"), torch.ones(2), "2"):
        with pytest.raises(UserError, match="Scale: factor must be a finite number"):
            Scale(factor)
    with pytest.raises(UserError, match="Sum needs at least one module"):
        Sum()
    with pytest.raises(UserError, match=r"must give one shape, got \[2, 1\] and \[2, 3\]"):
        Sum(nn.Linear(4, 1), nn.Linear(4, 3))(torch.ones(2, 4))


def test_a_limit_that_does_not_fit_is_refused_before_it_is_made() -> None:
    model = nn.Sequential(nn.Embedding(600_000, 1), nn.Linear(1, 600_000, bias=False))
    nn.init.ones_(model[0].weight)
    nn.init.ones_(model[1].weight)
    with pytest.raises(UserError, match=r"1,200,000 hidden units, .* need 5\d{3}.\d GiB, cpu has"):
        limit_of(model)


@pytest.mark.parametrize("width", [1, 2, 3, 8, 64])
def test_chance_is_never_refused(width: int) -> None:
    """Usual initialisations of many vectors, at widths where they look far from orthogonal."""
    torch.manual_seed(width)
    for init in (nn.init.normal_, nn.init.uniform_, nn.init.orthogonal_, nn.init.trunc_normal_):
        model = nn.Sequential(nn.Linear(40, width), nn.Linear(width, 30))
        for layer in model:
            init(layer.weight, -1, 1) if init is nn.init.uniform_ else init(layer.weight)
        assert limit_of(model).network[1].in_features == 71


def test_the_model_stays_and_the_limit_is_an_ordinary_module() -> None:
    torch.manual_seed(0)
    model = two(Scale(2)).to(torch.bfloat16)
    model(torch.ones(1, 5, dtype=torch.bfloat16)).sum().backward()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    limit = limit_of(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model[2].bias.grad is not None and limit.network[2].bias.grad is None
    assert torch.equal(model[2].bias, limit.network[2].bias)
    assert {p.dtype for p in limit.parameters()} == {torch.bfloat16}
    again = copy.deepcopy(limit)
    again.load_state_dict(limit.state_dict())
    drawn = [limit.sample(6, torch.Generator().manual_seed(3)) for _ in range(2)]
    for one, other in zip(*(module.parameters() for module in drawn), strict=True):
        assert torch.equal(one, other) and one.requires_grad
    assert str(drawn[0]) == str(two(Scale(2), n=6))


def test_zero_rows_have_no_unit() -> None:
    model = nn.Sequential(nn.Embedding(9, 64, padding_idx=0), nn.Linear(64, 3, bias=False))
    nn.init.zeros_(model[1].weight)
    limit = limit_of(model)
    table, weight = limit.network[0].weight, limit.network[1].weight
    assert table.shape == (9, 8) and weight.shape == (3, 8)
    assert not table[0].any() and not weight.any()
    scale = float(model[0].weight[1:].detach().square().sum(1).mean().sqrt())
    torch.testing.assert_close(table[1:].detach(), scale * torch.eye(8))


def test_dimensions_follow_the_tree() -> None:
    """A hidden dimension passes Scale and Identity; Sum makes one of several."""
    n = 8
    skip = Sum(nn.Sequential(nn.Linear(4, n), Scale(2)), nn.Linear(4, n))
    model = Sum(nn.Sequential(skip, nn.Identity(), nn.Linear(n, 3)), nn.Linear(4, 3))
    network = read_network(model)
    [hidden] = network.hidden.values()
    labels = ["0.0.0.0.weight", "0.0.0.0.bias", "0.0.1.weight", "0.0.1.bias"]
    assert [table.label for table in hidden.inputs] == labels
    assert [table.label for table in hidden.outputs] == ["0.2.weight"]
    assert not network.between
