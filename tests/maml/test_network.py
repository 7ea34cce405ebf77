"""The batched inner loop against autograd task by task; the limit; the kernel."""

import numpy as np
import pytest
import torch
from torch import nn

from w2v_inf import limit_of
from w2v_inf.maml.experiment import INNER_LR, MAX_NORM, META_LR
from w2v_inf.maml.network import (
    Network,
    Tasks,
    adapt,
    count_right,
    init_limit,
    kernel_right,
    num_right,
    outer_gradients,
    outer_step,
    sample,
)
from w2v_inf.reference import maml as reference
from w2v_inf.theory.exhibit import fit_slope, relative_distance


def tasks(seed: int = 0, num_tasks: int = 6, num_classes: int = 5, d: int = 7) -> Tasks:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, num_tasks, num_classes, d)
    return Tasks(*torch.randn(shape, generator=generator, dtype=torch.float64))


def network(d: int = 7, num_classes: int = 5, width: int = 9) -> Network:
    generator = torch.Generator().manual_seed(1)
    shapes = ((width, d), (num_classes, width), (width,))
    return Network(*(torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes))


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize(("num_classes", "width"), [(5, 9), (2, 1), (3, 30)])
def test_the_batched_steps_are_those_of_the_reference(
    steps: int, num_classes: int, width: int
) -> None:
    net, some = network(7, num_classes, width), tasks(num_classes=num_classes)
    weights = [net.u, net.v, net.b]
    before = [w.clone() for w in weights]
    adapted = adapt(net, some, 0.4, steps)
    right = 0
    for task, (support, query) in enumerate(zip(*some, strict=True)):
        u, v, b = reference.adapt_one(weights, support, 0.4, steps)
        f = reference.logits_of((u, v, b), query)
        right += int((f.argmax(1) == torch.arange(num_classes)).sum())
        for got, expected in zip(adapted, (query @ u.T + b, v, f), strict=True):
            torch.testing.assert_close(got[task], expected, rtol=1e-10, atol=1e-11)
    assert right == num_right(net, some, 0.4, steps)
    gradients = outer_gradients(net, some, 0.4, steps)
    expected = reference.outer_gradients(weights, zip(*some, strict=True), 0.4, steps)
    torch.testing.assert_close(list(gradients), expected, rtol=1e-10, atol=1e-11)
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
    limit = init_limit(7, 5, (1.0, 1 / 32))
    u, b, v = (parameter.detach() for parameter in limit_of(model).parameters())
    for got, expected in ((u, limit.u), (v, limit.v), (b, limit.b)):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9)


def test_wide_networks_approach_the_limit() -> None:
    widths, held_out = [64, 512, 4096], tasks(99)

    def trained_logits(net: Network) -> torch.Tensor:
        for seed in range(20):
            outer_step(net, tasks(seed), INNER_LR, META_LR, MAX_NORM)
        return adapt(net, held_out, INNER_LR, 3).f

    exact = trained_logits(init_limit(7, 5, (1.0, 0.5)))
    distances = np.array(
        [
            [
                relative_distance(
                    trained_logits(
                        sample(
                            init_limit(7, 5, (1.0, 0.5)),
                            width,
                            torch.Generator().manual_seed(97 * seed + width),
                        )
                    ),
                    exact,
                )
                for width in widths
            ]
            for seed in range(6)
        ]
    )
    assert -0.6 < fit_slope(widths, distances).mean < -0.4


def test_the_kernel_is_least_squares_on_the_support() -> None:
    some, right = tasks(d=9), 0
    for support, query in zip(*some, strict=True):
        ones = np.ones((5, 1))
        left = np.hstack([support.numpy(), ones])
        weights = np.linalg.lstsq(left, np.eye(5), rcond=None)[0]
        f = np.hstack([query.numpy(), ones]) @ weights
        right += int((f.argmax(1) == np.arange(5)).sum())
    assert kernel_right(some) == right > 0


def test_a_tie_is_wrong() -> None:
    f = torch.tensor([[[1.0, 1.0], [0.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert count_right(f) == 1
