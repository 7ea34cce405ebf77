"""The limit of linear networks: the recursion, the small diagonal network, wide networks."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import softplus
from toy import toy_batch

from w2v_inf.models.batch_counts import dense_batch_counts
from w2v_inf.models.linear import init_mup_limit
from w2v_inf.theory.exhibit import fit_slope
from w2v_inf.theory.linear_limit import (
    distances_to_limit,
    example,
    falling_lr,
    limit_network,
    limit_of,
    one_dimension,
    random_network,
    squared,
    train,
    train_limit,
    two_scalar_limit,
)


def test_the_recursion_is_the_network_of_width_two() -> None:
    line = one_dimension(50)
    points = [(x.item(), y.item()) for x, y in line]
    outputs = two_scalar_limit(points, lambda f, y: f - y, falling_lr, 0.02)
    losses = train(limit_network(1, 1, (1, 1)), line, squared, falling_lr, 0.02)
    np.testing.assert_allclose(
        [(f - y) ** 2 / 2 for f, (_, y) in zip(outputs, points, strict=True)],
        losses,
        rtol=1e-12,
        atol=1e-15,
    )


@pytest.mark.parametrize(("d_in", "d_out", "weight_decay"), [(5, 3, 0.01), (40, 10, 0.0)])
def test_wide_networks_approach_the_limit(d_in: int, d_out: int, weight_decay: float) -> None:
    widths = [64, 512, 4096]
    slope = fit_slope(widths, distances_to_limit(d_in, d_out, weight_decay, widths, seeds=12))
    assert -0.6 < slope.mean < -0.4


def test_widening_a_users_network() -> None:
    """The scales of the limit are those of the network, which itself stays as it is."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 4096, bias=False), nn.Linear(4096, 3, bias=False))
    before = [p.clone() for p in network.parameters()]
    limit, losses = train_limit(
        network,
        [(x.float(), y) for x, y in example(5, 3, 60)],
        nn.functional.cross_entropy,
        lambda _: 0.01,
    )
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))
    own = train(
        network,
        [(x.float(), y) for x, y in example(5, 3, 60)],
        nn.functional.cross_entropy,
        lambda _: 0.01,
    )
    # torch's own initialisation is large, and so are its random logits, of size n^-1/2, which the
    # limit does not have.
    assert limit[0].weight.shape == (8, 5) and own[0] - own[-1] > 0.2
    assert np.abs(np.subtract(losses, own))[10:].max() < 0.01


def test_scales_of_the_initialisation() -> None:
    limit = limit_of(random_network(30, 20, 4000, (1.5, 0.0), torch.Generator().manual_seed(0)))
    torch.testing.assert_close(
        limit[0].weight.detach()[:30], 1.5 * torch.eye(30, dtype=torch.float64), rtol=0.02, atol=0
    )
    assert limit[1].weight.abs().max() == 0


def logistic(f: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Negative sampling's loss; counts of positives and of negatives, [2, B, V]."""
    return (counts[0] * softplus(-f) + counts[1] * softplus(f)).sum()


def test_word2vecs_dense_engine_is_a_case_of_it() -> None:
    """Inputs are bags of words, the loss is logistic on sampled outputs.

    u is W1^T and w is W2.
    """
    model, network = init_mup_limit(7, 0.7, torch.float64), limit_network(7, 7, (1, 0.7))
    for seed in range(4):
        batch = toy_batch(seed, 7, 5, 4, 3, 1)
        counts = dense_batch_counts(batch, torch.float64, torch.device("cpu"))
        x, y = (
            torch.zeros(len(counts.positive_counts), 7).double(),
            torch.zeros(2, len(counts.positive_counts), 7).double(),
        )
        x[:, counts.inputs] = torch.eye(len(x)).double() if counts.bag is None else counts.bag
        y[:, :, counts.outputs] = torch.stack([counts.positive_counts, counts.negative_counts])
        model.update(batch)
        train(network, [(x, y)], logistic, lambda _: 0.1)
    w1, w2 = (weight.detach() for weight in network.parameters())
    torch.testing.assert_close(model.u, w1.T, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(model.w, w2, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "network",
    [nn.Sequential(nn.Linear(3, 4)), nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2))],
)
def test_other_networks_are_refused(network: nn.Sequential) -> None:
    with pytest.raises(ValueError, match="bias=False"):
        limit_of(network)
