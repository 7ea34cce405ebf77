"""The limit of linear nets: the recursion, the small diagonal net, and what wide nets do."""

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
    limit_net,
    limit_of,
    one_dimension,
    random_net,
    squared,
    train,
    train_limit,
    two_scalar_limit,
)


def test_the_recursion_is_the_net_of_width_two() -> None:
    line = one_dimension(50)
    points = [(x.item(), y.item()) for x, y in line]
    outputs = two_scalar_limit(points, lambda f, y: f - y, falling_lr, 0.02)
    losses = train(limit_net(1, 1, (1, 1)), line, squared, falling_lr, 0.02)
    np.testing.assert_allclose(
        [(f - y) ** 2 / 2 for f, (_, y) in zip(outputs, points, strict=True)],
        losses,
        rtol=1e-12,
        atol=1e-15,
    )


@pytest.mark.parametrize(("d_in", "d_out", "weight_decay"), [(5, 3, 0.01), (40, 10, 0.0)])
def test_wide_nets_approach_the_limit(d_in: int, d_out: int, weight_decay: float) -> None:
    widths = [64, 512, 4096]
    slope = fit_slope(widths, distances_to_limit(d_in, d_out, weight_decay, widths, seeds=12))
    assert -0.6 < slope.mean < -0.4


def test_widening_a_users_net() -> None:
    """The limit of a net is read off its own variances; the net itself is left alone."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 4096, bias=False), nn.Linear(4096, 3, bias=False))
    before = [p.clone() for p in net.parameters()]
    limit, losses = train_limit(
        net,
        [(x.float(), y) for x, y in example(5, 3, 60)],
        nn.functional.cross_entropy,
        lambda _: 0.01,
    )
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    own = train(
        net,
        [(x.float(), y) for x, y in example(5, 3, 60)],
        nn.functional.cross_entropy,
        lambda _: 0.01,
    )
    # torch's own start is large, and with it the random logits, of size n^-1/2, that the limit starts without.
    assert limit[0].weight.shape == (8, 5) and own[0] - own[-1] > 0.2
    assert np.abs(np.subtract(losses, own))[10:].max() < 0.01


def test_scales_of_the_start() -> None:
    start = limit_of(random_net(30, 20, 4000, (1.5, 0.0), torch.Generator().manual_seed(0)))
    torch.testing.assert_close(
        start[0].weight.detach()[:30], 1.5 * torch.eye(30, dtype=torch.float64), rtol=0.02, atol=0
    )
    assert start[1].weight.abs().max() == 0


def logistic(f: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Negative sampling's loss; counts of positives and of negatives, [2, B, V]."""
    return (counts[0] * softplus(-f) + counts[1] * softplus(f)).sum()


def test_word2vecs_dense_engine_is_a_case_of_it() -> None:
    """Bags of words in, the logistic loss of sampled outputs: u and w are the columns of W1 and the rows of W2."""
    model, net = init_mup_limit(7, 0.7, torch.float64), limit_net(7, 7, (1, 0.7))
    for seed in range(4):
        batch = toy_batch(seed, 7, 5, 4, 3, 1)
        counts = dense_batch_counts(batch, torch.float64, torch.device("cpu"))
        x, y = (
            torch.zeros(len(counts.positives), 7).double(),
            torch.zeros(2, len(counts.positives), 7).double(),
        )
        x[:, counts.inputs] = torch.eye(len(x)).double() if counts.bag is None else counts.bag
        y[:, :, counts.outputs] = torch.stack([counts.positives, counts.negatives])
        model.update(batch)
        train(net, [(x, y)], logistic, lambda _: 0.1)
    w1, w2 = (weight.detach() for weight in net.parameters())
    torch.testing.assert_close(model.u, w1.T, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(model.w, w2, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "net",
    [nn.Sequential(nn.Linear(3, 4)), nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2))],
)
def test_other_nets_are_refused(net: nn.Sequential) -> None:
    with pytest.raises(ValueError, match="bias=False"):
        limit_of(net)


def test_slopes_are_the_exponents_and_intervals_hold_them() -> None:
    rng = np.random.default_rng(0)
    widths = [64, 256, 1024]
    inside = 0
    for _ in range(200):
        values = np.array(widths) ** -0.5 * np.exp(0.2 * rng.standard_normal((5, 3)))
        slope = fit_slope(widths, values)
        inside += slope.low < -0.5 < slope.high
    assert 180 <= inside <= 199
    with pytest.raises(ValueError, match="positive"):
        fit_slope(widths, np.zeros((5, 3)))
