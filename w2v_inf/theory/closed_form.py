"""Closed form: the limit under a quadratic loss

Loss 1/2 |M - u w^T|^2 over all pairs (input, output), full batch, limit's start u(0) = I, w(0) = 0. With E = M - u w^T gradient flow is
u' = E w, w' = E^T u. Let M = P S Q^T. Try u = P cosh(Th) P^T, w = Q sinh(Th) P^T with a diagonal Th, Th(0) = 0 (where M has no
singular value, Th = 0 and u = I). Then u w^T = P (sinh(2 Th) / 2) Q^T, E = P (S - sinh(2 Th) / 2) Q^T, and both equations say
  Th' = S - sinh(2 Th) / 2,   fixed point asinh(2 S) / 2.
Singular values learn apart from each other, and none waits on a saddle: Th'(0) = S, where a small random start waits log(1 / start) / S.
For x = exp(2 Th):  x' = -(x - x+)(x - x-) / 2,  x+- = 2 S +- r,  r = sqrt(1 + 4 S^2),  so (x - x+) / (x - x-) falls as exp(-r t).
For m = tanh(Th) = (x - 1) / (x + 1):  m' = S - m - S m^2, solved at all times by
  Th(t) = artanh( 2 S tanh(r t / 2) / (r + tanh(r t / 2)) ).
u and w of a finite net start with Gram matrices I + O(n^-1/2) and 0, so it lies n^-1/2 away at any fixed time.

Conserved: (u^T u - w^T w)' = 0, so u^T u - w^T w = I at all times. A step eta of gradient descent keeps u = P A P^T, w = Q B P^T and
multiplies A^2 - B^2 by exactly 1 - eta^2 (S - A B)^2. After time t = eta x steps the invariant is P D P^T,
  D = 1 - eta C + O(eta^2),   C = integral of (S - sinh(2 Th) / 2)^2 dt = integral of (S - sinh(2 Th) / 2) dTh
    = S Th - (cosh(2 Th) - 1) / 4:
a drift of first order in the step size, with a known constant: a gauge of whether steps are small.

An untied model from an orthonormal start; Karkada et al. 2025 (arXiv 2502.09863) solve a tied one from a small start.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from w2v_inf.reporting.style import Drawing, new_axes
from w2v_inf.theory.exhibit import Estimate, Exhibit, draw_against_width, draw_reference
from w2v_inf.theory.linear_limit import limit_net, product, random_net, squared, train

SINGULAR_VALUES = (3.0, 1.5, 0.7, 0.3)
D_IN, D_OUT = 8, 6
WIDTHS, SEEDS = (64, 256, 1024, 4096, 16384), 6
SHORT_STEP, TIME = 0.002, 1.0
STEP_SIZES = (0.001, 0.002, 0.004, 0.008, 0.016)
SCALES = (1.0, 0.0)
COLOURS = ("#443a83", "#21908d", "#8fd744", "#e08214")


def theta(s: Tensor, t: float | Tensor) -> Tensor:
    """Th(t) of the module's docstring for singular values `s` [R], float64."""
    r = (1 + 4 * s.square()).sqrt()
    risen = (r * t / 2).tanh()
    return (2 * s * risen / (r + risen)).atanh()


def solution(m: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor]:
    """u [d_in, d_in] and w [d_out, d_in] of the limit at time t for a target `m` [d_in, d_out] of any rank, float64."""
    p, s, qt = torch.linalg.svd(m, full_matrices=False)
    th = theta(s, t)
    u = torch.eye(len(m), dtype=m.dtype) + p @ torch.diag(th.cosh() - 1) @ p.T
    return u, qt.T @ torch.diag(th.sinh()) @ p.T


def drift_constant(m: Tensor, t: float) -> Tensor:
    """Minus the derivative of u^T u - w^T w by the step size at time t, P C P^T, [d_in, d_in]; see the module's docstring."""
    p, s, _ = torch.linalg.svd(m, full_matrices=False)
    th = theta(s, t)
    return p @ torch.diag(s * th - ((2 * th).cosh() - 1) / 4) @ p.T


def target(seed: int = 0, singular_values: Sequence[float] = SINGULAR_VALUES) -> Tensor:
    """A matrix [D_IN, D_OUT] with these singular values and random singular vectors."""
    generator = torch.Generator().manual_seed(seed)
    p, q = (
        torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q
        for d in (D_IN, D_OUT)
    )
    rank = len(singular_values)
    return (
        p[:, :rank] @ torch.diag(torch.tensor(singular_values, dtype=torch.float64)) @ q[:, :rank].T
    )


def descend(net: nn.Sequential, m: Tensor, lr: float, t: float) -> None:
    """Full-batch gradient descent on 1/2 |M - u w^T|^2 for a time t, in place; u = W1^T, w = W2."""
    batch = (torch.eye(len(m), dtype=m.dtype), m)
    train(net, [batch] * round(t / lr), squared, lambda _: lr)


def embeddings(net: nn.Sequential) -> tuple[Tensor, Tensor]:
    """u [d_in, n] and w [d_out, n]."""
    w1, w2 = (weight.detach() for weight in net.parameters())
    return w1.T, w2


def limit_start() -> nn.Sequential:
    """The limit at its start, u = [I 0], w = 0."""
    return limit_net(D_IN, D_OUT, SCALES)


def distances(widths: Sequence[int] = WIDTHS, seeds: int = SEEDS) -> np.ndarray:
    """Relative distance of finite nets to the formula at TIME, of u w^T and of u u^T, [2, seeds, widths]."""
    m = target()
    u, w = solution(m, TIME)

    def measure(width: int, seed: int) -> list[float]:
        net = random_net(
            D_IN, D_OUT, width, SCALES, torch.Generator().manual_seed(97 * seed + width)
        )
        descend(net, m, SHORT_STEP, TIME)
        own, _ = embeddings(net)
        pairs = ((product(net).T, u @ w.T), (own @ own.T, u @ u.T))
        return [float((mine - exact).norm() / exact.norm()) for mine, exact in pairs]

    return np.moveaxis(
        np.array([[measure(width, seed) for width in widths] for seed in range(seeds)]), 2, 0
    )


def drifts(step_sizes: Sequence[float] = STEP_SIZES, seeds: int = SEEDS) -> np.ndarray:
    """|u^T u - w^T w - I| at TIME in the dense limit, and step size x |C|, Frobenius; [2, seeds, step sizes], a target a seed."""

    def measure(m: Tensor, lr: float) -> list[float]:
        net = limit_start()
        descend(net, m, lr, TIME)
        u, w = embeddings(net)
        invariant = (u.T @ u - w.T @ w)[:D_IN, :D_IN]  # the other columns are never reached
        return [
            float((invariant - torch.eye(D_IN)).norm()),
            lr * float(drift_constant(m, TIME).norm()),
        ]

    # Singular values differ between seeds: the bases alone would change no norm.
    generator = torch.Generator().manual_seed(1)
    spectra = [(4 * torch.rand(4, generator=generator)).tolist() for _ in range(seeds)]
    return np.moveaxis(
        np.array([[measure(target(i, s), lr) for lr in step_sizes] for i, s in enumerate(spectra)]),
        2,
        0,
    )


def show() -> Exhibit:
    """Singular values against time; distance of finite nets against width; drift of the invariant against the step size."""
    figure, (curves, against, drift) = new_axes(14.0, 4.4, 3)
    error = _draw_learning(curves)
    slopes: dict[str, Estimate] = {}
    for name, colour, values in zip(
        ("u w^T", "u u^T"), ("#443a83", "#21908d"), distances(), strict=True
    ):
        slopes[f"finite nets' {name}"] = draw_against_width(
            against, WIDTHS, values, name, {"color": colour, "marker": "o"}
        )
    draw_reference(against, WIDTHS, against.get_ylim()[1], -0.5, "slope -1/2")
    against.set(ylabel="relative distance to the formula", title=f"finite nets at time {TIME:g}")

    measured, predicted = drifts()
    slopes["drift of u^T u - w^T w"] = draw_against_width(
        drift, STEP_SIZES, measured, "measured", {"color": "#443a83", "marker": "o"}
    )
    drift.plot(
        STEP_SIZES, np.exp(np.log(predicted).mean(0)), ":", color="0.4", label="predicted, eta |C|"
    )
    drift.set(
        xlabel="step size eta",
        ylabel="|u^T u - w^T w - I|",
        title=f"invariant of the dense limit at time {TIME:g}",
    )
    for axes in (curves, against, drift):
        axes.legend(frameon=False, fontsize=8)

    ratio = measured / predicted
    spectrum = ", ".join(f"{s:g}" for s in SINGULAR_VALUES)
    caption = (
        f"M is {D_IN} x {D_OUT} with singular values {spectrum}. Left: singular values of u w^T, formula as lines; gradient descent with "
        f"steps of {SHORT_STEP:g}, dots: the dense limit (largest deviation from the formula {error:.1e}), rings: one net of width "
        f"{WIDTHS[-1]:,}. Middle: {SEEDS} seeds a width. Right: {SEEDS} random targets; measured over predicted drift is "
        f"{ratio[:, 0].mean():.4f} at eta = {STEP_SIZES[0]:g} and {ratio[:, -1].mean():.3f} at {STEP_SIZES[-1]:g}."
    )
    rows = [["exponent of", "variable", "predicted", "measured"]]
    rows += [
        [
            name,
            "width" if "nets" in name else "step size",
            "-0.50" if "nets" in name else "+1.00",
            str(slope),
        ]
        for name, slope in slopes.items()
    ]
    return Exhibit(Drawing("closed-form", "Closed form", figure, caption), rows)


def _draw_learning(axes: Axes) -> float:
    """Singular values of u w^T until time 3, and how far the dense limit's lie from the formula at most."""
    m, times = target(), np.linspace(0, 3, 16)
    wide = random_net(D_IN, D_OUT, WIDTHS[-1], SCALES, torch.Generator().manual_seed(0))
    looks: list[dict[str, Any]] = [
        {"marker": "."},
        {"marker": "o", "markerfacecolor": "none", "markersize": 7},
    ]
    tracks = []
    for net, look in zip((limit_start(), wide), looks, strict=True):
        track = _learned(net, m, times)
        tracks.append(track)
        for values, colour in zip(track.T, COLOURS, strict=True):
            axes.plot(times, values, linestyle="", color=colour, **look)
    fine, s = np.linspace(0, 3, 200), torch.tensor(SINGULAR_VALUES, dtype=torch.float64)
    for index, (value, colour) in enumerate(zip(SINGULAR_VALUES, COLOURS, strict=True)):
        axes.plot(
            fine,
            [float((2 * theta(s, t)[index]).sinh() / 2) for t in fine],
            color=colour,
            label=f"S = {value:g}",
        )
    axes.set(
        xlabel="time = step size x steps",
        ylabel="singular values of u w^T",
        title="quadratic loss: formula and gradient descent",
    )
    return float(
        np.abs(tracks[0] - np.array([((2 * theta(s, t)).sinh() / 2).numpy() for t in times])).max()
    )


def _learned(net: nn.Sequential, m: Tensor, times: np.ndarray) -> np.ndarray:
    """The leading singular values of u w^T at evenly spaced times from 0, [times, rank]; trains the net."""
    values = []
    for index in range(len(times)):
        if index:
            descend(net, m, SHORT_STEP, times[1])
        values.append(torch.linalg.svdvals(product(net))[: len(SINGULAR_VALUES)].numpy())
    return np.array(values)
