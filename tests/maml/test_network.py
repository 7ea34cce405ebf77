"""The batched inner loop against autograd task by task; the limit."""

import numpy as np
import pytest
import torch
from few_shot import pairs, tasks
from torch import nn

from w2v_inf import limit_of
from w2v_inf.maml.experiment import INNER_LR, MAX_NORM
from w2v_inf.maml.network import (
    Network,
    adapt,
    count_right,
    init_limit,
    num_right,
    outer_gradients,
    outer_step,
    sample,
)
from w2v_inf.reference import maml as reference
from w2v_inf.theory.exhibit import fit_slope, relative_distance


def network(d: int = 7, num_classes: int = 5, width: int = 9) -> Network:
    generator = torch.Generator().manual_seed(1)
    shapes = ((width, d), (num_classes, width), (width,))
    weights = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return Network(*weights, alpha=0.7, beta=1.5)


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize(("num_classes", "width"), [(5, 9), (2, 1), (3, 30)])
def test_the_batched_steps_are_those_of_the_reference(
    steps: int, num_classes: int, width: int
) -> None:
    net, some = network(7, num_classes, width), tasks(num_tasks=103, num_classes=num_classes)
    weights, scales = [net.u, net.v, net.b], (0.7, 1.5)
    before = [w.clone() for w in weights]
    adapted = adapt(net, some, 0.4, steps)
    right = 0
    for task, (support, query) in enumerate(pairs(some)):
        u, v, b = reference.adapt_one(weights, scales, support, 0.4, steps)
        f = reference.logits_of((u, v, b), scales, query)
        right += int((f.argmax(1) == torch.arange(num_classes)).sum())
        for got, expected in zip(adapted, (query @ u.T + 1.5 * b, v, f), strict=True):
            torch.testing.assert_close(got[task], expected, rtol=1e-10, atol=1e-11)
    assert right == num_right(net, some, 0.4, steps)
    gradients = outer_gradients(net, some, 0.4, steps)
    expected = reference.outer_gradients(weights, scales, pairs(some), 0.4, steps)
    torch.testing.assert_close(list(gradients), expected, rtol=1e-10, atol=1e-10)
    assert all(torch.equal(w, old) for w, old in zip(weights, before, strict=True))


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_a_step_is_clipped_by_the_norm_of_all_gradients(max_norm: float) -> None:
    net, some = network(), tasks()
    expected = [nn.Parameter(w.clone()) for w in (net.u, net.v, net.b)]
    for parameter, gradient in zip(expected, outer_gradients(net, some, 0.4, 1), strict=True):
        parameter.grad = gradient.clone()
    norm = nn.utils.clip_grad_norm_(expected, max_norm)
    torch.optim.SGD(expected, lr=0.1).step()
    outer_step(net, some, 0.4, 0.1, max_norm)
    assert norm > 0.5  # so that one of the two clips
    for got, parameter in zip((net.u, net.v, net.b), expected, strict=True):
        torch.testing.assert_close(got, parameter.detach(), rtol=1e-5, atol=1e-6)


def test_the_limit_is_that_of_the_torch_network() -> None:
    """Rows of length 1 and 1/32, no initial bias: `limit_of` has the same units."""
    model = nn.Sequential(nn.Linear(7, 64), nn.Linear(64, 5, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(nn.functional.normalize(torch.randn(64, 7), dim=0))
        model[0].bias.zero_()
        model[1].weight.copy_(nn.functional.normalize(torch.randn(5, 64)) / 32)
    limit = init_limit(7, 5, 1.0, 1 / 32)
    u, b, v = (parameter.detach() for parameter in limit_of(model).parameters())
    for got, expected in ((u, limit.u), (v, limit.v), (b, limit.b)):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9)


def test_wide_networks_approach_the_limit() -> None:
    widths, held_out = [64, 512, 4096], tasks(99)
    limit = init_limit(7, 5, 1.0, 0.5, alpha=1.2, beta=2.0)

    def trained_logits(net: Network) -> torch.Tensor:
        for seed in range(20):
            outer_step(net, tasks(seed), INNER_LR, 0.1, MAX_NORM)
        return adapt(net, held_out, INNER_LR, 3).f

    exact = trained_logits(limit.copy())
    distances = np.array(
        [
            [
                relative_distance(
                    trained_logits(
                        sample(limit, width, torch.Generator().manual_seed(97 * seed + width))
                    ),
                    exact,
                )
                for width in widths
            ]
            for seed in range(6)
        ]
    )
    assert -0.6 < fit_slope(widths, distances).mean < -0.4


def test_a_tie_is_wrong() -> None:
    f = torch.tensor([[[1.0, 1.0], [0.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert count_right(f) == 1
