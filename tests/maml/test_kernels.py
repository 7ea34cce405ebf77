"""Kernels against networks of finite width, and the fit to the support images."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from few_shot import pairs, tasks

from w2v_inf.maml.kernels import KERNELS, kernel_right, linear, relu_ntk


def sampled_kernels(x: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gram matrices of one network of this width by autograd: of the readout, of all weights."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((width, x.shape[1]), (width,), (width,))
    u, b, v = (
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    )
    rows = []
    for image in x:
        f = v @ (u @ image + b).relu() / width**0.5
        rows.append([gradient.flatten() for gradient in torch.autograd.grad(f, (v, u, b))])
    readout = torch.stack([row[0] for row in rows])
    everything = torch.stack([torch.cat(row) for row in rows])
    return readout @ readout.T, everything @ everything.T


def test_relu_kernels_are_those_of_wide_networks() -> None:
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = torch.cat([x, x[:1]])  # an image twice: the angle is 0
    s = x @ x.T + 1
    norms = s.diagonal()
    sampled = dict(zip(("ReLU GP", "ReLU NTK"), sampled_kernels(x, 200_000), strict=True))
    for name, expected in sampled.items():
        got = KERNELS[name](s, norms, norms)
        assert (got - expected).norm() < 0.01 * expected.norm()
        assert torch.linalg.eigvalsh(got[:6, :6]).min() > 0


def test_the_linear_kernel_is_least_squares_on_the_support() -> None:
    some, right = tasks(d=9), 0
    for support, query in pairs(some):
        ones = np.ones((5, 1))
        left = np.hstack([support.numpy(), ones])
        weights = np.linalg.lstsq(left, np.eye(5), rcond=None)[0]
        f = np.hstack([query.numpy(), ones]) @ weights
        right += int((f.argmax(1) == np.arange(5)).sum())
    assert kernel_right(linear, some) == right > 0


@pytest.mark.parametrize("kernel", [linear, relu_ntk])
def test_a_task_is_fitted_alone(kernel: Callable) -> None:
    """Every task with its own images, in loops."""
    some, right = tasks(d=9), 0
    for support, query in pairs(some):
        x = torch.cat([support, query])
        s = x @ x.T + 1
        whole = kernel(s, s.diagonal(), s.diagonal())
        f = whole[5:, :5] @ torch.linalg.inv(whole[:5, :5])
        right += int((f.argmax(1) == torch.arange(5)).sum())
    assert kernel_right(kernel, some) == right > 0
