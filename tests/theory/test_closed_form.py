"""The quadratic loss: the formula solves its equations, and gradient descent finds it."""

import numpy as np
import torch

from w2v_inf.theory.closed_form import (
    D_IN,
    descend,
    distances,
    drift_constant,
    drifts,
    embeddings,
    initial_limit,
    solution,
    target,
    theta,
)
from w2v_inf.theory.exhibit import fit_slope

S = torch.tensor([0.0, 1e-6, 0.3, 1.0, 4.0], dtype=torch.float64)


def test_the_solution_in_x_is_the_same() -> None:
    r, t = (1 + 4 * S**2).sqrt(), 0.7
    high, low = 2 * S + r, 2 * S - r
    ratio = (1 - high) / (1 - low) * (-r * t).exp()
    x = (high - ratio * low) / (1 - ratio)
    torch.testing.assert_close(theta(S, t), x.log() / 2, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(theta(S, 60.0), (2 * S).asinh() / 2, rtol=1e-10, atol=1e-14)
    assert theta(S, 0.0).abs().max() == 0


def test_the_formula_solves_gradient_flow() -> None:
    """Derivatives by time (automatic) of u and w are the negative gradients of the loss."""
    m = target()
    for t in (0.0, 0.4, 2.0):
        u, w = solution(m, t)
        u_rate, w_rate = torch.autograd.functional.jacobian(
            lambda time: solution(m, time), torch.tensor(t, dtype=torch.float64)
        )
        error = m - u @ w.T
        torch.testing.assert_close(u_rate, error @ w, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(w_rate, error.T @ u, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(
            u.T @ u - w.T @ w, torch.eye(D_IN).double(), rtol=1e-10, atol=1e-12
        )


def test_small_steps_of_the_limit_find_it() -> None:
    """The error halves with the learning rate; extrapolated to zero it is of second order."""
    m, found = target(), []
    for lr in (0.01, 0.005):
        network = initial_limit()
        descend(network, m, lr, 1.0)
        u, w = embeddings(network)
        found.append((u @ w.T, u @ u.T))
    u, w = solution(m, 1.0)
    for rough, fine, exact in zip(*found, (u @ w.T, u @ u.T), strict=True):
        assert 1.8 < (rough - exact).norm() / (fine - exact).norm() < 2.2
        assert (2 * fine - rough - exact).norm() < 0.05 * (fine - exact).norm()


def test_each_step_multiplies_the_invariant() -> None:
    m, lr = target(), 0.05
    p, s, _ = torch.linalg.svd(m, full_matrices=False)
    a, b, factors = torch.ones_like(s), torch.zeros_like(s), torch.ones_like(s)
    for _ in range(20):
        error = s - a * b
        factors *= 1 - lr**2 * error**2
        a, b = a + lr * error * b, b + lr * error * a
    network = initial_limit()
    descend(network, m, lr, 1.0)
    u, w = embeddings(network)
    invariant = (u.T @ u - w.T @ w)[:D_IN, :D_IN]
    torch.testing.assert_close(
        invariant,
        torch.eye(D_IN).double() + p @ torch.diag(factors - 1) @ p.T,
        rtol=1e-10,
        atol=1e-12,
    )


def test_the_drift_is_of_first_order_with_the_predicted_constant() -> None:
    lrs = [0.002, 0.004, 0.008]
    measured, predicted = drifts(lrs, seeds=3)
    assert abs(fit_slope(lrs, measured).mean - 1) < 0.02
    assert np.abs(measured[:, 0] / predicted[:, 0] - 1).max() < 0.02
    assert torch.linalg.eigvalsh(drift_constant(target(), 1.0)).min() > -1e-12


def test_finite_networks_approach_it_with_the_root_of_the_width() -> None:
    widths = [64, 512, 4096]
    for values in distances(widths, seeds=6):
        assert -0.6 < fit_slope(widths, values).mean < -0.4
