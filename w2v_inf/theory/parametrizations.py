"""Which exponents give which limit

W_l = n^-a_l w_l, w_l ~ N(0, n^-2b_l), step size lr n^-c (TP4 Definition 3.1). For one hidden layer TP4's theorems 3.3, 3.4 and 3.6 read,
with r = min(a2 + b2, 2 a2 + c) + c + 2 a1:
  stable:      a1 + b1 = 0,  a2 + b2 >= 1/2,  r >= 0,  2 a2 + c >= 1,  a2 + b2 + r >= 1
  nontrivial:  stable, and 2 a2 + c = 1 or a2 + b2 + r = 1
  then:        kernel regime if r > 0, feature learning if r = 0; embeddings move by n^-r.

Our own derivation for the linear net (`linear_sizes`). Write p = a1 + b1, q = a2 + b2, k_l = 2 a_l + c. Rows of W1^T and W2 are
h = A g + B g', w = C g + D g' over standard normal n-vectors g, g', with A = n^-p, D = n^-q, B = C = 0 at the start. Up to factors
of order one, a gradient step adds n^-k1 (C, D) to (A, B) and n^-k2 (A, B) to (C, D); the logit is <h, w> = n (AC + BD) + n^1/2 (AD + BC),
the second by the central limit theorem. Sizes as powers of n follow by maxima: B ~ n^(-k1-q), C ~ n^(-k2-p), A moves by n^(-k1-k2-p),
logits by n^(1-2p-k2) and n^(1-2q-k1). With p = 0, B and the move of A together are n^-r: the same r, and the same conditions but one:
the theorem wants q + r >= 1, the linear net only 2q + k1 >= 1. They differ where k2 < q, and there stability (k2 >= 1) implies the
theorem's. So on every linear net with p = 0 the verdicts agree (tested on a grid), although the theorems do not cover it:
- their nonlinearity is tanh or a smooth relu (sigma-gelu). A linear net is excluded, as is w(0) = 0, which is b2 = infinity here.
- W2(0) . dh can be a sum of n terms without a mean in a linear net (n^1/2), where a nonlinearity leaves a mean (n).
- a1 + b1 = 0 asks for coordinates of h of order one. A linear net does not see it: (W1, W2) -> (n^s W1, n^-s W2), that is
  (a1, a2) -> (a1 - s, a2 + s), changes no logit. `classify_linear` is unmoved by it, and so judges word2vec.c's own start too: entries
  of size 1/n in place of n^-1/2 make its limit trivial (it starts on a saddle, and training takes longer the wider it is).

(a1 + t, a2 + t, b1 - t, b2 - t, c - 2t) changes nothing in any net: mup and mfp are one. At c = 0, b1 = -a1, w(0) = 0 two exponents
are left: stable where a2 >= 1/2 and a1 + a2 >= 0; nontrivial on the ray a2 = 1/2; muP is its end, the vertex (-1/2, 1/2).
"""

import math
from enum import Enum
from typing import NamedTuple

import numpy as np
from matplotlib.colors import ListedColormap

from w2v_inf.config import Parametrization
from w2v_inf.models.parametrization import ABC
from w2v_inf.reporting.style import Drawing, new_axes
from w2v_inf.theory.exhibit import Exhibit

ROUNDING = 1e-9
Exponents = tuple[float, float, float, float, float]
ZERO_START = math.inf
"""b2 of an output layer that starts at zero."""


class Regime(Enum):
    unstable = "unstable"
    trivial = "trivial"
    kernel = "kernel regime"
    feature = "feature learning"


NAMED: dict[str, Exponents] = {
    **{p.value: ABC[p] for p in (Parametrization.mup, Parametrization.mfp, Parametrization.ntp)},
    "sp, c = 1": (0, 0, 0, 0.5, 1),
    "sp, c = 0": ABC[Parametrization.sp],
    "word2vec.c": (0, 1, 0, ZERO_START, 0),
}
"""word2vec.c: u uniform with deviation of about 1/n, w = 0, the same step size at every width."""


def _regime(stable: bool, nontrivial: bool, r: float) -> Regime:
    if not stable:
        return Regime.unstable
    if not nontrivial:
        return Regime.trivial
    return Regime.feature if abs(r) < ROUNDING else Regime.kernel


def richness(exponents: Exponents) -> float:
    """TP4's r (Section 3) for one hidden layer: embeddings move by n^-r."""
    a1, _, a2, b2, c = exponents
    return min(a2 + b2, 2 * a2 + c) + c + 2 * a1


def classify(exponents: Exponents) -> Regime:
    """What TP4's theorems 3.3, 3.4 and 3.6 say of a net with one hidden layer; see the module's docstring."""
    a1, b1, a2, b2, c = exponents
    r = richness(exponents)
    margins = (a2 + b2 - 0.5, r, 2 * a2 + c - 1, a2 + b2 + r - 1)
    stable = abs(a1 + b1) < ROUNDING and all(margin >= -ROUNDING for margin in margins)
    return _regime(stable, min(margins[2:]) < ROUNDING, r)


class Sizes(NamedTuple):
    """Powers of n in a linear net."""

    moved: float
    """Movement of the embeddings relative to their start."""
    start: float
    """Logits at the start."""
    logits: float
    """Movement of the logits."""


def linear_sizes(exponents: Exponents, steps: int = 4) -> Sizes:
    """Sizes after a few steps of SGD, from the recursion of A, B, C, D in the largest power of n (max-plus arithmetic)."""
    a1, b1, a2, b2, c = exponents
    k1, k2, start = 2 * a1 + c, 2 * a2 + c, (-a1 - b1, -a2 - b2)
    a, b, c_, d = start[0], -math.inf, -math.inf, start[1]
    move_a = move_d = -math.inf
    for _ in range(steps):
        move_a, b, c_, move_d = (
            max(move_a, c_ - k1),
            max(b, d - k1),
            max(c_, a - k2),
            max(move_d, b - k2),
        )
        a, d = max(start[0], move_a), max(start[1], move_d)
    clt = 0.5 + max(move_a + d, a + move_d, b + c_)
    return Sizes(max(b, move_a) - start[0], 0.5 + sum(start), max(1 + a + c_, 1 + b + d, clt))


def classify_linear(exponents: Exponents) -> Regime:
    """The verdict of our own derivation for the linear net: nothing may grow, logits must move, and do embeddings?"""
    sizes = linear_sizes(exponents)
    return _regime(max(sizes) < ROUNDING, abs(sizes.logits) < ROUNDING, sizes.moved)


def regime_map(a1: np.ndarray, a2: np.ndarray) -> np.ndarray:
    """Index of each point's regime at c = 0, b1 = -a1, w(0) = 0; [len(a2), len(a1)]."""
    regimes = list(Regime)
    return np.array([[regimes.index(classify((x, -x, y, ZERO_START, 0))) for x in a1] for y in a2])


def show() -> Exhibit:
    """The map of the (a1, a2) plane, and a table of the named parametrizations."""
    figure, (axes,) = new_axes(9.0, 5.2)
    colours = dict(zip(Regime, ("#f0b7a4", "#e8e8e8", "#3b6fb6", "#111111"), strict=True))
    a1, a2 = np.linspace(-1.25, 1.0, 226), np.linspace(-0.25, 1.5, 176)
    table = regime_map(a1, a2)
    axes.pcolormesh(
        a1,
        a2,
        table,
        cmap=ListedColormap(list(colours.values())),
        vmin=-0.5,
        vmax=3.5,
        rasterized=True,
    )
    for regime, size in (
        (Regime.kernel, 9),
        (Regime.feature, 90),
    ):  # a line and a point: no pixels of their own
        y, x = np.nonzero(table == list(Regime).index(regime))
        axes.scatter(a1[x], a2[y], size, colours[regime], label=regime.value, zorder=3)
    for text, x, y in (
        ("unstable: logits or\nembeddings blow up", -0.85, 0.15),
        ("trivial: logits do not\nmove in the limit", 0.45, 1.05),
    ):
        axes.text(x, y, text, ha="center")
    for text, x, y in (("muP, mfp", -0.5, 0.5), ("ntp", 0.0, 0.5), ("sp", 0.0, 0.0)):
        axes.annotate(
            text, (x, y), (-10, -22), textcoords="offset points", fontsize=10, fontweight="bold"
        )
        axes.plot(x, y, "o", color="white", markeredgecolor="black", markersize=5, zorder=4)
    axes.set(xlabel="a1", ylabel="a2", title="c = 0, b1 = -a1, w(0) = 0", aspect="equal")
    axes.grid(visible=False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    caption = (
        "The regime of every point (a1, a2), computed from TP4's theorems with b2 = infinity for w(0) = 0. Only the ray a2 = 1/2 from muP "
        "to the right trains at all without blowing up, and only its end, muP, moves the embeddings; the other edge (a1 + a2 = 0) moves "
        "them but not the logits. mfp has c = -1 and is muP moved along the abc symmetry. The table adds the random starts."
    )
    return Exhibit(Drawing("regimes", "Regimes", figure, caption), regime_table())


def regime_table() -> list[list[str]]:
    """The named parametrizations: exponents, what the theorems say, and our sizes."""
    head = [
        "",
        "a1, b1, a2, b2, c",
        "r",
        "theorems",
        "linear net, derived here",
        "embeddings move",
        "logits move",
    ]
    rows = []
    for name, exponents in NAMED.items():
        sizes = linear_sizes(exponents)
        inside = abs(exponents[0] + exponents[1]) < ROUNDING
        verdict = classify(exponents).value if inside else "do not apply (a1 + b1 is not 0)"
        powers = [f"n^{size:+g}" for size in (sizes.moved, sizes.logits)]
        numbers = ", ".join(f"{e:g}" for e in exponents)
        rows.append(
            [
                name,
                numbers,
                f"{richness(exponents):g}" if inside else "",
                verdict,
                classify_linear(exponents).value,
                *powers,
            ]
        )
    return [head, *rows]
