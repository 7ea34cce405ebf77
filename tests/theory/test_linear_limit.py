"""The limit of linear networks: the recursion, the small diagonal network, wide networks."""

import numpy as np
import pytest
import torch
from torch import nn

from w2v_inf.theory.exhibit import fit_slope
from w2v_inf.theory.linear_limit import (
    distances_to_limit,
    example,
    falling_lr,
    limit_network,
    one_dimension,
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
    assert limit.network[0].weight.shape == (8, 5) and own[0] - own[-1] > 0.2
    assert np.abs(np.subtract(losses, own))[10:].max() < 0.01
