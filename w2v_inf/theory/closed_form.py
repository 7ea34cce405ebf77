r"""Closed form: the limit under a quadratic loss

**Setting.** The loss is $\frac{1}{2} \lVert M - u w^\top \rVert^2$ over all pairs (input, output),
with full batches. The limit is initialised at $u(0) = I$, $w(0) = 0$. With $E = M - u w^\top$,
gradient flow is
    \dot u = E w, \qquad
      \dot w = E^\top u.

**Solution.** Let $M = P S Q^\top$ be the singular value decomposition. Try
    u = P \cosh(\Theta) \, P^\top, \qquad
      w = Q \sinh(\Theta) \, P^\top
with a diagonal $\Theta(t)$ and $\Theta(0) = 0$. Where $M$ has no singular value, $\Theta = 0$ and
$u = I$. Then
    u w^\top = \frac{1}{2} P \sinh(2 \Theta) \, Q^\top, \qquad
      E = P \left( S - \frac{1}{2} \sinh(2 \Theta) \right) Q^\top ,
and both equations say
    \dot \Theta = S - \frac{1}{2} \sinh(2 \Theta), \qquad
      \text{with the fixed point } \frac{1}{2} \, \mathrm{arsinh}(2 S).
Singular values learn independently of each other. None waits on a saddle: $\dot \Theta(0) = S$,
where an initialisation of small size $\varepsilon$ waits for a time $\log(1 / \varepsilon) / S$.

**Explicit form.** For $x = e^{2 \Theta}$, with $r = \sqrt{1 + 4 S^2}$ and $x_\pm = 2 S \pm r$,
    \dot x = -\frac{1}{2} (x - x_+)(x - x_-),
so $(x - x_+) / (x - x_-)$ falls as $e^{-r t}$. For $m = \tanh \Theta = (x - 1) / (x + 1)$,
    \dot m = S - m - S m^2,
solved at all times by
    \Theta(t) = \mathrm{artanh}\, \frac{2 S \tanh(r t / 2)}{r + \tanh(r t / 2)}.
In a finite network $u$ and $w$ start with Gram matrices $I + O(n^{-1/2})$ and 0. So the network
lies $n^{-1/2}$ away from the limit at any fixed time.

**Conserved quantity.** $u^\top u - w^\top w$ does not change under gradient flow, so it is $I$ at
all times. Gradient descent with learning rate $\eta$ keeps the form $u = P A P^\top$,
$w = Q B P^\top$. Each step multiplies $A^2 - B^2$ by exactly $1 - \eta^2 (S - A B)^2$. After
$t / \eta$ steps the invariant is $P D P^\top$ with
    D = 1 - \eta C + O(\eta^2),
    C = \int \left( S - \frac{1}{2} \sinh(2 \Theta) \right)^2 dt
      = \int \left( S - \frac{1}{2} \sinh(2 \Theta) \right) d\Theta
      = S \Theta - \frac{1}{4} \left( \cosh(2 \Theta) - 1 \right).
This drift is of first order in the learning rate, with a known constant. It tells whether the
learning rate is small.

**Related work.** This model is untied, with an orthonormal initialisation. Karkada et al. 2025
(arXiv 2502.09863) solve a tied model with a small initialisation.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from w2v_inf.reporting.style import (
    GREEN,
    ORANGE,
    PURPLE,
    SMALL,
    TEAL,
    TEXT_WIDTH,
    Drawing,
    new_axes,
)
from w2v_inf.reporting.typeset import typeset
from w2v_inf.theory.exhibit import (
    Estimate,
    Exhibit,
    draw_against_width,
    draw_predicted_slope,
    measure_grid,
    relative_distance,
)
from w2v_inf.theory.linear_limit import limit_network, product, random_network, squared, train

SINGULAR_VALUES = (3.0, 1.5, 0.7, 0.3)
D_IN, D_OUT = 8, 6
WIDTHS, SEEDS = (64, 256, 1024, 4096, 16384), 6
LR, TIME = 0.002, 1.0
DRIFT_LRS = (0.001, 0.002, 0.004, 0.008, 0.016)
SCALES = (1.0, 0.0)
COLOURS = (PURPLE, TEAL, GREEN, ORANGE)


def theta(s: Tensor, t: float | Tensor) -> Tensor:
    """Th(t) of the module's docstring for singular values `s`, [R], float64."""
    r = (1 + 4 * s.square()).sqrt()
    risen = (r * t / 2).tanh()
    return (2 * s * risen / (r + risen)).atanh()


def solution(m: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor]:
    """The limit at time t for the target `m`, [d_in, d_out], of any rank.

    Returns: u, [d_in, d_in], and w, [d_out, d_in], float64.
    """
    p, s, qt = torch.linalg.svd(m, full_matrices=False)
    th = theta(s, t)
    u = torch.eye(len(m), dtype=m.dtype) + p @ torch.diag(th.cosh() - 1) @ p.T
    return u, qt.T @ torch.diag(th.sinh()) @ p.T


def drift_constant(m: Tensor, t: float) -> Tensor:
    """P C P^T of the module's docstring at time t, [d_in, d_in]."""
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
    s = torch.tensor(singular_values, dtype=torch.float64)
    return p[:, : len(s)] @ torch.diag(s) @ q[:, : len(s)].T


def descend(network: nn.Sequential, m: Tensor, lr: float, t: float) -> None:
    """Full-batch gradient descent on 1/2 |M - u w^T|^2 for a time t, in place.

    u is W1^T and w is W2 of `network`.
    """
    batch = (torch.eye(len(m), dtype=m.dtype), m)
    train(network, [batch] * round(t / lr), squared, lambda _: lr)


def embeddings(network: nn.Sequential) -> tuple[Tensor, Tensor]:
    """u, [d_in, n], and w, [d_out, n]."""
    w1, w2 = (weight.detach() for weight in network.parameters())
    return w1.T, w2


def initial_limit() -> nn.Sequential:
    """The untrained limit, u = [I 0], w = 0."""
    return limit_network(D_IN, D_OUT, SCALES)


def distances(widths: Sequence[int] = WIDTHS, seeds: int = SEEDS) -> np.ndarray:
    """Relative distance of finite networks to the formula at TIME, [2, seeds, widths].

    The distance of u w^T comes first, then that of u u^T.
    """
    m = target()
    u, w = solution(m, TIME)

    def measure(width: int, seed: int) -> Iterable[float]:
        generator = torch.Generator().manual_seed(97 * seed + width)
        network = random_network(D_IN, D_OUT, width, SCALES, generator)
        descend(network, m, LR, TIME)
        finite_u, _ = embeddings(network)
        yield relative_distance(product(network).T, u @ w.T)
        yield relative_distance(finite_u @ finite_u.T, u @ u.T)

    return measure_grid(measure, widths, seeds)


def drifts(lrs: Sequence[float] = DRIFT_LRS, seeds: int = SEEDS) -> np.ndarray:
    """Measured and predicted drift of the invariant at TIME, [2, seeds, lrs]; one target per seed.

    Measured: |u^T u - w^T w - I| of the limit (Frobenius). Predicted: learning rate x |C|.
    """
    # Singular values differ between seeds: the bases alone would change no norm.
    generator = torch.Generator().manual_seed(1)
    spectra = [(4 * torch.rand(4, generator=generator)).tolist() for _ in range(seeds)]

    def measure(lr: float, seed: int) -> Iterable[float]:
        m, network = target(seed, spectra[seed]), initial_limit()
        descend(network, m, lr, TIME)
        u, w = embeddings(network)
        invariant = (u.T @ u - w.T @ w)[:D_IN, :D_IN]  # the other columns are never reached
        yield float((invariant - torch.eye(D_IN)).norm())
        yield lr * float(drift_constant(m, TIME).norm())

    return measure_grid(measure, lrs, seeds)


def show() -> Exhibit:
    """Singular values against time, distance against width, drift against the learning rate."""
    figure, (curves, against, drift) = new_axes(TEXT_WIDTH, 4.4, 3)
    error = _draw_learning(curves)
    rows = [["exponent of", "variable", "predicted", "measured"]]
    names = (r"$u w^\top$", r"$u u^\top$")
    for name, colour, values in zip(names, (PURPLE, TEAL), distances(), strict=True):
        look = {"color": colour, "marker": "o"}
        slope = draw_against_width(against, WIDTHS, values, name, look)
        rows.append([typeset(f"finite networks' {name}"), "width", "-0.50", str(slope)])
    draw_predicted_slope(against, WIDTHS, against.get_ylim()[1])
    title = f"finite networks at time {TIME:g}"
    against.set(ylabel="relative distance to the formula", title=title)
    slope, ratio = _draw_drift(drift)
    rows.append([typeset(r"drift of $u^\top u - w^\top w$"), "learning rate", "+1.00", str(slope)])
    for axes in (curves, against, drift):
        axes.legend(frameon=False, fontsize=SMALL)
    caption = (
        "First: singular values of the logits; lines: formula; dots: gradient descent on the "
        f"limit; rings: a network of width {WIDTHS[-1]:,}. Second: distance to the formula. "
        "Third: drift of the invariant, measured and predicted."
    )
    spectrum = ", ".join(f"{s:g}" for s in SINGULAR_VALUES)
    notes = [
        f"The target is {D_IN} x {D_OUT} with singular values {spectrum}.",
        f"Gradient descent has learning rate {LR:g}. On the limit it deviates from the formula by "
        f"at most {error:.1e}.",
        f"{SEEDS} seeds per width; {SEEDS} random targets for the drift.",
        f"Measured over predicted drift is {ratio[0]:.4f} at learning rate {DRIFT_LRS[0]:g} and "
        f"{ratio[-1]:.3f} at {DRIFT_LRS[-1]:g}.",
    ]
    return Exhibit(Drawing("closed-form", "Closed form", figure, caption), rows, notes)


def _draw_drift(axes: Axes) -> tuple[Estimate, np.ndarray]:
    """Draw the drift; its exponent in the learning rate, and measured over predicted, [lrs]."""
    measured, predicted = drifts()
    look = {"color": PURPLE, "marker": "o"}
    slope = draw_against_width(axes, DRIFT_LRS, measured, "measured", look)
    mean = np.exp(np.log(predicted).mean(0))
    axes.plot(DRIFT_LRS, mean, ":", color="0.4", label=r"predicted, $\eta |C|$")
    title = f"invariant of the limit at time {TIME:g}"
    axes.set(xlabel=r"learning rate $\eta$", ylabel=r"$|u^\top u - w^\top w - I|$", title=title)
    return slope, (measured / predicted).mean(0)


def _draw_learning(axes: Axes) -> float:
    """Singular values of u w^T until time 3; returns the limit's largest deviation."""
    m, times = target(), np.linspace(0, 3, 16)
    wide = random_network(D_IN, D_OUT, WIDTHS[-1], SCALES, torch.Generator().manual_seed(0))
    rings: dict[str, Any] = {"marker": "o", "markerfacecolor": "none", "markersize": 7}
    limit_values, wide_values = (_learned(network, m, times) for network in (initial_limit(), wide))
    dots: dict[str, Any] = {"marker": "."}
    for values, look in ((limit_values, dots), (wide_values, rings)):
        for value, colour in zip(values.T, COLOURS, strict=True):
            axes.plot(times, value, linestyle="", color=colour, **look)
    fine = np.linspace(0, 3, 200)
    for name, curve, colour in zip(SINGULAR_VALUES, _formula(fine).T, COLOURS, strict=True):
        axes.plot(fine, curve, color=colour, label=f"S = {name:g}")
    axes.set(
        xlabel=r"time = learning rate $\times$ steps",
        ylabel=r"singular values of $u w^\top$",
        title="quadratic loss: formula and gradient descent",
    )
    return float(np.abs(limit_values - _formula(times)).max())


def _formula(times: np.ndarray) -> np.ndarray:
    """Singular values of u w^T by the formula, [times, rank]."""
    s = torch.tensor(SINGULAR_VALUES, dtype=torch.float64)
    return np.array([((2 * theta(s, t)).sinh() / 2).numpy() for t in times])


def _learned(network: nn.Sequential, m: Tensor, times: np.ndarray) -> np.ndarray:
    """The leading singular values of u w^T at evenly spaced times from 0, [times, rank].

    Trains `network`.
    """
    values = []
    for index in range(len(times)):
        if index:
            descend(network, m, LR, times[1])
        values.append(torch.linalg.svdvals(product(network))[: len(SINGULAR_VALUES)].numpy())
    return np.array(values)
