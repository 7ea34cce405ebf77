"""`limit_of`: the scalar recursion, word2vec's engines, exact and random finite networks."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus
from toy import toy_batch

from w2v_inf import Scale, Sum, limit_of, network_limit
from w2v_inf.models.linear import init_mup_limit
from w2v_inf.models.ntk_limit import init_ntk_limit
from w2v_inf.stream import Batch
from w2v_inf.theory.exhibit import fit_slope, relative_distance
from w2v_inf.theory.linear_limit import falling_lr, one_dimension, two_scalar_limit

WIDTH = 200
IDS = torch.arange(5)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def initialise(model: nn.Module, scale: float = 1.0) -> nn.Module:
    """Entries N(0, scale^2 / n), where the width is at least `WIDTH`."""
    with torch.no_grad():
        for parameter in model.parameters():
            width = max(parameter.shape)
            parameter.normal_(0, scale / width**0.5 if width >= WIDTH else 0.1)
    return model


def residual(d_in: int, d_out: int, n: int = WIDTH) -> nn.Module:
    """Two residual layers that start at zero."""
    blocks = [Sum(nn.Identity(), nn.Linear(n, n)) for _ in range(2)]
    model = nn.Sequential(nn.Linear(d_in, n), *blocks, nn.Linear(n, d_out))
    initialise(model)
    for block in blocks:
        nn.init.zeros_(block.get_submodule("1").weight)
    return model


def two_branches(n: int = WIDTH) -> nn.Module:
    """Two hidden layers side by side, one of them read twice, and a layer past both."""
    one = nn.Sequential(nn.Linear(4, n), Sum(nn.Linear(n, 3), nn.Linear(n, 3, bias=False)))
    other = nn.Sequential(Scale(0.5), nn.Linear(4, n + 1), Scale(2.0), nn.Linear(n + 1, 3))
    return initialise(Sum(one, other, nn.Linear(4, 3)))


def multipliers(n: int = WIDTH) -> nn.Module:
    """3 V (U x + 2 b), with b alone multiplied by 2."""
    layers = [Scale(0.5), nn.Linear(4, n), Scale(2.0), nn.Linear(n, 3, bias=False), Scale(1.5)]
    return initialise(nn.Sequential(*layers))


def zero_output(model: nn.Module) -> nn.Module:
    nn.init.zeros_(model[-1].weight)
    return model


def bag(n: int = WIDTH) -> nn.Module:
    table = nn.EmbeddingBag(6, n, mode="mean", padding_idx=5)
    model = initialise(nn.Sequential(table, nn.Linear(n, 3)))
    nn.init.zeros_(table.weight[5].detach())
    return model


def two_embeddings(n: int = WIDTH) -> nn.Module:
    tables = Sum(nn.Embedding(5, n), nn.Sequential(nn.Embedding(5, n), Scale(0.5)))
    return initialise(nn.Sequential(tables, nn.Linear(n, 3, bias=False)))


VECTORS: dict[str, Callable[[], nn.Module]] = {
    "no bias": lambda: initialise(
        nn.Sequential(nn.Linear(4, WIDTH, bias=False), nn.Linear(WIDTH, 3, bias=False))
    ),
    "bias": lambda: initialise(nn.Sequential(nn.Linear(4, WIDTH), nn.Linear(WIDTH, 3))),
    "zero output": lambda: zero_output(
        initialise(nn.Sequential(nn.Linear(4, WIDTH), nn.Linear(WIDTH, 3)))
    ),
    "multipliers": multipliers,
    "branches": two_branches,
    "residual": lambda: residual(4, 3),
}
LOOKUPS: dict[str, Callable[[], nn.Module]] = {
    "embedding": lambda: initialise(nn.Sequential(nn.Embedding(5, WIDTH), nn.Linear(WIDTH, 3))),
    "embeddings": two_embeddings,
    "bag": bag,
}
KINDS = VECTORS | LOOKUPS


def inputs_of(kind: str) -> Tensor:
    """All inputs of a kind, or some."""
    if kind == "bag":
        return torch.tensor([[0, 1, 1], [2, 5, 5], [4, 3, 5], [0, 4, 2], [3, 3, 1]])
    return IDS if kind in LOOKUPS else torch.randn(5, 4, generator=torch.manual_seed(1))


Optimizer = Callable[[nn.Module], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.3, weight_decay=0.01),
    "momentum": lambda m: torch.optim.SGD(m.parameters(), 0.05, momentum=0.8, nesterov=True),
}


def train(model: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer, steps: int = 20) -> Tensor:
    """Outputs before each step and after the last, [steps + 1, 5, 3]."""
    labels, outputs = torch.tensor([0, 1, 2, 0, 1]), []
    for step in range(steps):
        some = (torch.arange(3) + step) % 5
        outputs.append(model(x).detach())
        optimizer.zero_grad()
        cross_entropy(model(x[some]), labels[some], reduction="sum").backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return torch.stack([*outputs, model(x).detach()])


def orthonormal_map(hidden: network_limit.Hidden, width: int, generator: object) -> Tensor:
    """In place of n^-1/2 Omega: Omega's columns, made orthonormal."""
    num_units = hidden.tables[0].rows().shape[1]
    return torch.linalg.qr(torch.randn(width, num_units)).Q


def test_the_recursion_is_a_case_of_it() -> None:
    line = one_dimension(50)
    layers = [nn.Linear(1, 64, bias=False), nn.Linear(64, 1, bias=False)]
    for layer in layers:
        layer.weight.data.normal_().div_(layer.weight.data.norm())
    limit = limit_of(nn.Sequential(*layers))
    assert [list(p.shape) for p in limit.parameters()] == [[2, 1], [1, 2]]
    optimizer = torch.optim.SGD(limit.parameters(), lr=1.0, weight_decay=0.02)
    outputs = []
    for step, (x, y) in enumerate(line):
        optimizer.param_groups[0]["lr"] = falling_lr(step)
        optimizer.zero_grad()
        f = limit(x)
        outputs.append(f.item())
        ((f - y) ** 2 / 2).sum().backward()
        optimizer.step()
    points = [(x.item(), y.item()) for x, y in line]
    expected = two_scalar_limit(points, lambda f, y: f - y, falling_lr, 0.02)
    np.testing.assert_allclose(outputs, expected, rtol=1e-11, atol=1e-14)
    assert abs(outputs[-1] / points[-1][0]) > 1  # it has learned


def test_the_general_recursion_with_biases_and_multipliers() -> None:
    """Steps of SGD on coefficients over the initial vectors, written out."""
    model = multipliers()
    limit = limit_of(model)
    x, y = torch.randn(5, 4), torch.randn(5, 3)
    s_in, s_bias, s_out = (
        p.norm() / n**0.5 for p, n in zip(model.parameters(), (4, 1, 3), strict=True)
    )
    u = torch.cat([s_in * torch.eye(4), torch.zeros(4, 4)], 1)  # [4, 8]: rows of W1^T
    b = s_bias * torch.eye(8)[4]
    v = s_out * torch.eye(8)[5:]
    optimizer = torch.optim.SGD(limit.parameters(), lr=0.01, weight_decay=0.5)
    for _ in range(10):
        f = 1.5 * (x @ u + 2 * b) @ v.T
        torch.testing.assert_close(limit(x), f, rtol=1e-11, atol=1e-13)
        optimizer.zero_grad()
        ((limit(x) - y) ** 2 / 2).sum().backward()
        optimizer.step()
        g = 1.5 * (f - y)
        steps = x.T @ g @ v, 2 * g.sum(0) @ v, g.T @ (x @ u + 2 * b)
        u, b, v = (0.995 * old - 0.01 * step for old, step in zip((u, b, v), steps, strict=True))
    for got, expected in zip(limit.parameters(), (u.T, b, v), strict=True):
        torch.testing.assert_close(got.detach(), expected, rtol=1e-11, atol=1e-13)


VOCAB = 7
ENGINES = {
    "mup": (lambda: init_mup_limit(VOCAB, 0.0, torch.float64), 0.0),
    "mup, random output": (lambda: init_mup_limit(VOCAB, 0.7, torch.float64), 0.7),
    "ntk": (
        lambda: init_ntk_limit(VOCAB, 0.0, torch.Generator().manual_seed(0), torch.float64),
        0.0,
    ),
    "ntk, random output": (
        lambda: init_ntk_limit(VOCAB, 0.7, torch.Generator().manual_seed(0), torch.float64),
        0.7,
    ),
}


def cbow_network(output_scale: float, width: int = 64) -> nn.Module:
    """CBOW as torch has it, with an embedding of padding; rows have lengths 1 and the scale."""
    table = nn.EmbeddingBag(VOCAB + 1, width, mode="mean", padding_idx=VOCAB)
    output = nn.Linear(width, VOCAB, bias=False)
    with torch.no_grad():
        table.weight[:VOCAB] = nn.functional.normalize(torch.randn(VOCAB, width))
        output.weight.copy_(output_scale * nn.functional.normalize(torch.randn(VOCAB, width)))
    return nn.Sequential(table, output)


def cbow_batches(num_batches: int) -> list[Batch]:
    return [toy_batch(seed, VOCAB, 5, 4, 3, 1) for seed in range(num_batches)]


def sgd_on(limit: nn.Module, batch: Batch) -> float:
    """A step of SGD on the loss of negative sampling; returns the loss per example."""
    context = torch.from_numpy(batch.context).long()
    f = limit(torch.where(context < 0, VOCAB, context))
    loss = torch.zeros(())
    for example, target in enumerate(batch.target):
        loss = loss + softplus(-f[example, target])
        for negative in batch.negatives[batch.negatives_row[example]]:
            if negative != target:
                loss = loss + batch.negative_weight * softplus(f[example, negative])
    limit.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in limit.parameters():
            parameter -= batch.lr * parameter.grad
    return loss.item() / len(batch.target)


@pytest.mark.parametrize("name", ENGINES)
def test_word2vecs_engines_are_cases_of_it(name: str) -> None:
    make, scale = ENGINES[name]
    engine, network = make(), cbow_network(scale)
    is_ntk = name.startswith("ntk")
    limit = limit_of(network, "ntk" if is_ntk else "mup")
    if is_ntk and scale:
        engine.random_output.e.copy_(
            network[0].weight[:VOCAB].detach() @ network[1].weight.T.detach()
        )
    for batch in cbow_batches(6):
        assert sgd_on(limit, batch) == pytest.approx(engine.update(batch), rel=1e-11)
    table, weight = (p.detach() for p in limit.parameters())
    assert table[VOCAB].abs().max() == 0  # padding
    if not is_ntk:
        torch.testing.assert_close(table[:VOCAB], engine.u, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(weight, engine.w, rtol=1e-10, atol=1e-12)
        return
    torch.testing.assert_close(
        weight[:, :VOCAB], engine.z.full(slice(None)), rtol=1e-10, atol=1e-12
    )
    assert torch.equal(table[:VOCAB, :VOCAB], torch.eye(VOCAB))  # embeddings do not move
    if scale:
        p = engine.random_output.p.full(slice(None))
        torch.testing.assert_close(scale * table[:VOCAB, VOCAB:], p, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_finite_network_of_orthogonal_vectors_is_the_limit(
    kind: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_limit, "_draw_map", orthonormal_map)
    limit, x = limit_of(KINDS[kind]()), inputs_of(kind)
    finite = limit.sample(40)
    expected = train(limit, x, OPTIMIZERS[optimizer](limit))
    outputs = train(finite, x, OPTIMIZERS[optimizer](finite))
    torch.testing.assert_close(outputs, expected, rtol=1e-9, atol=1e-11)
    assert (outputs[-1] - outputs[0]).abs().max() > 0.3
    for name, parameter in finite.named_parameters():
        same = limit.network.get_parameter(name)
        torch.testing.assert_close(parameter.norm(), same.norm(), rtol=1e-9, atol=1e-11)


def test_adam_has_another_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_limit, "_draw_map", orthonormal_map)
    limit, x = limit_of(KINDS["bias"]()), inputs_of("bias")
    finite = limit.sample(40)
    outputs = [train(m, x, torch.optim.Adam(m.parameters(), 0.05)) for m in (limit, finite)]
    assert (outputs[0][-1] - outputs[1][-1]).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_wide_networks_approach_the_limit(kind: str) -> None:
    limit, x = limit_of(KINDS[kind]()), inputs_of(kind)
    widths = [32, 128, 512] if kind == "residual" else [64, 512, 4096]  # n x n weights
    distances = np.zeros((8, 3))
    networks = [[limit.sample(n, torch.manual_seed(97 * s + n)) for n in widths] for s in range(8)]
    expected = train(limit, x, OPTIMIZERS["sgd"](limit), 10)[-1]
    for seed, row in enumerate(networks):
        for column, network in enumerate(row):
            outputs = train(network, x, OPTIMIZERS["sgd"](network), 10)[-1]
            distances[seed, column] = relative_distance(outputs, expected)
    assert -0.6 < fit_slope(widths, distances).mean < -0.4


def ntp_network(width: int, output_scale: float) -> nn.Module:
    """Standard normal weights, and n^-1/2 before the output."""
    layers = [nn.Linear(4, width), Scale(width**-0.5), nn.Linear(width, 3)]
    for layer in layers[::2]:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias, std=0.1)
    layers[2].weight.data *= output_scale
    return nn.Sequential(*layers)


@pytest.mark.parametrize("output_scale", [0.0, 1.0])
def test_wide_ntp_networks_approach_their_ntk_limits(output_scale: float) -> None:
    x, widths, distances = inputs_of("bias"), [64, 512, 4096], np.zeros((8, 3))
    for seed in range(8):
        for column, width in enumerate(widths):
            torch.manual_seed(97 * seed + width)
            network = ntp_network(width, output_scale)
            pair = (network, limit_of(network, "ntk"))
            outputs = [train(m, x, OPTIMIZERS["sgd"](m), 10) for m in pair]
            torch.testing.assert_close(outputs[0][0], outputs[1][0], rtol=0.3, atol=0.1)
            moved = outputs[1][-1] - outputs[1][0]
            distances[seed, column] = (outputs[0][-1] - outputs[1][-1]).norm() / moved.norm()
    assert -0.6 < fit_slope(widths, distances).mean < -0.4


def test_samples_of_an_ntk_limit_approach_it() -> None:
    """Also when the limit has been trained for some steps."""
    x, widths = inputs_of("bias"), [64, 512, 4096]
    limit = limit_of(ntp_network(50, 0.0), "ntk")
    train(limit, x, OPTIMIZERS["sgd"](limit), 5)
    networks = [[limit.sample(n) for n in widths] for _ in range(8)]
    expected = train(limit, x, OPTIMIZERS["sgd"](limit), 5)[-1]
    distances = np.array(
        [
            [relative_distance(train(m, x, OPTIMIZERS["sgd"](m), 5)[-1], expected) for m in row]
            for row in networks
        ]
    )
    assert -0.6 < fit_slope(widths, distances).mean < -0.4


def chains(length: int) -> nn.Module:
    """The deep network of docs/limit-of.md with d_in = d_out = 1, W of scale 0.8, cut chains."""
    n = 2 * length
    model = nn.Sequential(*(nn.Linear(*d, bias=False) for d in ((1, n), (n, n), (n, 1))))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        model[0].weight[0] = 1
        model[2].weight[0, length] = 1
        middle = torch.eye(n)
        for k in range(length - 1):
            middle[k, k + 1] = 1  # W p_{k+2} has q_{k+1}: the chain from the first layer
            middle[length + k + 1, length + k] = 1
        model[1].weight.copy_(0.8 * middle)
    return model


def deep_outputs(model: nn.Module, steps: int, lr: float) -> list[float]:
    """f at x = 1 before each step of fitting 2, and after the last."""
    optimizer, outputs = torch.optim.SGD(model.parameters(), lr=lr), []
    for _ in range(steps + 1):
        f = model(torch.ones(1, 1))
        outputs.append(f.item())
        optimizer.zero_grad()
        ((f - 2) ** 2 / 2).sum().backward()
        optimizer.step()
    return outputs


@pytest.mark.parametrize("length", [1, 2, 3])
def test_deep_networks_need_a_unit_per_vector_for_each_two_steps(length: int) -> None:
    exact, cut = (deep_outputs(chains(k), 2 * length, 0.3) for k in (length + 3, length))
    np.testing.assert_allclose(cut[:-1], exact[:-1], rtol=1e-12, atol=1e-15)
    assert abs(cut[-1] - exact[-1]) > 1e-12


def test_wide_deep_networks_approach_the_chains() -> None:
    widths, gaps = [32, 96, 288], np.zeros((32, 3, 6))
    exact = deep_outputs(chains(3), 5, 0.1)
    for seed in range(32):
        for column, n in enumerate(widths):
            torch.manual_seed(97 * seed + n)
            model = nn.Sequential(*(nn.Linear(*d, bias=False) for d in ((1, n), (n, n), (n, 1))))
            for layer, scale in zip(model, (1.0, 0.8, 1.0), strict=True):
                nn.init.normal_(layer.weight, std=scale / n**0.5)
            gaps[seed, column] = np.subtract(deep_outputs(model, 5, 0.1), exact)
    distances = np.sqrt((gaps**2).sum(2).mean(0))  # one number per network, so the mean is first
    assert -0.6 < np.polyfit(np.log(widths), np.log(distances), 1)[0] < -0.4
