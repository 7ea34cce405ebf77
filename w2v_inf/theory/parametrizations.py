r"""Which exponents give which limit

**Setting.** $W_l = n^{-a_l} \omega_l$ with $\omega_l \sim N(0, n^{-2 b_l})$, and learning rate
$\eta n^{-c}$ (TP4, Definition 3.1).

**TP4's theorems** 3.3, 3.4 and 3.6. For one hidden layer, with
    r = \min(a_2 + b_2, \, 2 a_2 + c)
      {} + c + 2 a_1,
training is
- stable if $a_1 + b_1 = 0$, $a_2 + b_2 \ge 1/2$, $r \ge 0$, $2 a_2 + c \ge 1$ and
  $a_2 + b_2 + r \ge 1$;
- nontrivial if it is stable, and $2 a_2 + c = 1$ or $a_2 + b_2 + r = 1$;
- then in the kernel regime if $r > 0$, feature learning if $r = 0$. Embeddings move by $n^{-r}$.

**Our derivation for the linear network** (`linear_sizes`). Write $p = a_1 + b_1$, $q = a_2 + b_2$
and $k_l = 2 a_l + c$. Over standard normal n-vectors $\gamma, \tilde \gamma$, rows of $W_1^\top$
and $W_2$ are
    h = A \gamma + B \tilde \gamma, \qquad
      w = C \gamma + D \tilde \gamma, \qquad
      \text{initially } A = n^{-p}, \; D = n^{-q}, \;
      B = C = 0.
Up to factors of order one, a gradient step adds $n^{-k_1} (C, D)$ to $(A, B)$ and
$n^{-k_2} (A, B)$ to $(C, D)$. The logit is
    \langle h, w \rangle = n\, (A C + B D)
      {} + n^{1/2} (A D + B C),
the second term by the central limit theorem. Sizes as powers of $n$ follow by taking maxima:
    B \sim n^{-k_1 - q}, \qquad
      C \sim n^{-k_2 - p}, \qquad
      A \text{ moves by } n^{-k_1 - k_2 - p},
    \text{logits move by } n^{1 - 2 p - k_2}
      \text{ and } n^{1 - 2 q - k_1}.
With $p = 0$, $B$ and the movement of $A$ together are $n^{-r}$: the same $r$ as in the theorems.
The conditions are the same but one. The theorem wants $q + r \ge 1$, the linear network only
$2 q + k_1 \ge 1$. They differ where $k_2 < q$, and there stability ($k_2 \ge 1$) implies the
theorem's condition. So the verdicts agree on every linear network with $p = 0$ (tested on a grid).

**The theorems do not cover the linear network:**
- Their nonlinearity is tanh or a smooth relu (sigma-gelu). They exclude a linear network, and also
  $w(0) = 0$, which is $b_2 = \infty$ here.
- $W_2(0)\, dh$ can be a sum of $n$ terms without a mean in a linear network ($n^{1/2}$). A
  nonlinearity leaves a mean ($n$).
- $a_1 + b_1 = 0$ asks for coordinates of $h$ of order one, which a linear network does not see.
  $(W_1, W_2) \to (n^s W_1, n^{-s} W_2)$, that is $(a_1, a_2) \to (a_1 - s, a_2 + s)$, changes no
  logit. `classify_linear` is invariant under this map. So it also judges word2vec.c's own
  initialisation: entries of size $1/n$ in place of $n^{-1/2}$ make its limit trivial. (It starts on
  a saddle, and training takes longer the wider the network is.)

**Symmetry.** $(a_1 + t, \, a_2 + t, \, b_1 - t, \, b_2 - t, \, c - 2 t)$ changes nothing in any
network: mup and mfp are one. At $c = 0$, $b_1 = -a_1$, $w(0) = 0$ two exponents are left. Training
is stable where $a_2 \ge 1/2$ and $a_1 + a_2 \ge 0$, and nontrivial on the ray $a_2 = 1/2$. muP is
the end of the ray, the vertex $(-1/2, 1/2)$.
"""

import math
from enum import Enum
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from w2v_inf.config import Parametrization
from w2v_inf.models.parametrization import ABC
from w2v_inf.reporting.style import BESIDE, BLUE, Drawing, new_axes
from w2v_inf.reporting.typeset import typeset
from w2v_inf.theory.exhibit import Exhibit

ROUNDING = 1e-9
Exponents = tuple[float, float, float, float, float]
"""a1, b1, a2, b2, c."""
ZERO_INIT = math.inf
"""b2 of an output layer that is initialised at zero."""


class Regime(Enum):
    unstable = "unstable"
    trivial = "trivial"
    kernel = "kernel regime"
    feature = "feature learning"


COLOURS = dict(zip(Regime, ("#f0b7a4", "#e8e8e8", BLUE, "#111111"), strict=True))
NAMED: dict[str, Exponents] = {
    **{p.value: ABC[p] for p in (Parametrization.mup, Parametrization.mfp, Parametrization.ntp)},
    "sp, c = 1": (0, 0, 0, 0.5, 1),
    "sp, c = 0": ABC[Parametrization.sp],
    "word2vec.c": (0, 1, 0, ZERO_INIT, 0),
}
"""word2vec.c: u uniform, standard deviation about 1/n; w = 0; one learning rate for all n."""


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
    """The regime by TP4's theorems 3.3, 3.4 and 3.6; see the module's docstring."""
    a1, b1, a2, b2, c = exponents
    r = richness(exponents)
    margins = (a2 + b2 - 0.5, r, 2 * a2 + c - 1, a2 + b2 + r - 1)
    stable = abs(a1 + b1) < ROUNDING and all(margin >= -ROUNDING for margin in margins)
    return _regime(stable, min(margins[2:]) < ROUNDING, r)


class Sizes(NamedTuple):
    """Powers of n in a linear network."""

    movement: float
    """Movement of the embeddings relative to their initialisation."""
    initial_logits: float
    logit_movement: float


def linear_sizes(exponents: Exponents, steps: int = 4) -> Sizes:
    """Sizes after a few steps of SGD.

    The recursion of A, B, C, D is followed in the largest power of n (max-plus arithmetic).
    """
    a1, b1, a2, b2, c = exponents
    k1, k2 = 2 * a1 + c, 2 * a2 + c
    initial_a, initial_d = -a1 - b1, -a2 - b2
    a, b, c_, d = initial_a, -math.inf, -math.inf, initial_d
    move_a = move_d = -math.inf
    for _ in range(steps):
        move_a, b, c_, move_d = (
            max(move_a, c_ - k1),
            max(b, d - k1),
            max(c_, a - k2),
            max(move_d, b - k2),
        )
        a, d = max(initial_a, move_a), max(initial_d, move_d)
    central_limit = 0.5 + max(move_a + d, a + move_d, b + c_)
    return Sizes(
        max(b, move_a) - initial_a,
        0.5 + initial_a + initial_d,
        max(1 + a + c_, 1 + b + d, central_limit),
    )


def classify_linear(exponents: Exponents) -> Regime:
    """The regime of the linear network by our own derivation.

    Nothing may grow, logits must move, and the movement of embeddings decides.
    """
    sizes = linear_sizes(exponents)
    nontrivial = abs(sizes.logit_movement) < ROUNDING
    return _regime(max(sizes) < ROUNDING, nontrivial, sizes.movement)


def regime_map(a1: np.ndarray, a2: np.ndarray) -> np.ndarray:
    """Index of each point's regime at c = 0, b1 = -a1, w(0) = 0; [len(a2), len(a1)]."""
    regimes = list(Regime)
    return np.array([[regimes.index(classify((x, -x, y, ZERO_INIT, 0))) for x in a1] for y in a2])


def show() -> Exhibit:
    """The map of the (a1, a2) plane, and a table of the named parametrizations."""
    figure, (axes,) = new_axes(9.0, 5.2)
    _draw_map(axes)
    caption = (
        "Regime of every point of the plane by TP4's theorems, for a zero output layer at first. "
        "Only the ray from muP to the right trains without blowing up."
    )
    notes = [
        "Only the end of the ray, muP, moves the embeddings.",
        typeset("The other edge, $a_1 + a_2 = 0$, moves them but not the logits."),
        typeset("mfp has $c = -1$ and is muP moved along the abc symmetry."),
        "The table adds the random initialisations.",
    ]
    return Exhibit(Drawing("regimes", "Regimes", figure, caption), regime_table(), notes)


def _draw_map(axes: Axes) -> None:
    a1, a2 = np.linspace(-1.25, 1.0, 226), np.linspace(-0.25, 1.5, 176)
    table = regime_map(a1, a2)
    colours = ListedColormap(list(COLOURS.values()))
    axes.pcolormesh(a1, a2, table, cmap=colours, vmin=-0.5, vmax=3.5, rasterized=True)
    # A line and a point have no pixels of their own.
    for regime, size in ((Regime.kernel, 9), (Regime.feature, 90)):
        y, x = np.nonzero(table == list(Regime).index(regime))
        axes.scatter(a1[x], a2[y], size, COLOURS[regime], label=regime.value, zorder=3)
    axes.text(-0.62, 0.15, "unstable: logits or\nembeddings blow up", ha="center")
    axes.text(0.45, 1.05, "trivial: logits do not\nmove in the limit", ha="center")
    for name, x, y in (("muP, mfp", -0.5, 0.5), ("ntp", 0.0, 0.5), ("sp", 0.0, 0.0)):
        font = {"fontsize": 10, "fontweight": "bold", "ha": "right" if x < 0 else "left"}
        axes.annotate(name, (x, y), (-6, -18), textcoords="offset points", **font)
        axes.plot(x, y, "o", color="white", markeredgecolor="black", markersize=5, zorder=4)
    axes.set(xlabel="$a_1$", ylabel="$a_2$", title="$c = 0, b_1 = -a_1, w(0) = 0$")
    axes.grid(visible=False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=BESIDE)


def regime_table() -> list[list[str]]:
    """The named parametrizations: exponents, verdict of the theorems, and our sizes."""
    verdicts = [typeset("$r$"), "theorems", "linear network (ours)"]
    moves = [typeset(f"{part} move by $n$ to the power") for part in ("embeddings", "logits")]
    symbols = typeset("$a_1, b_1, a_2, b_2, c$")
    rows = [["", symbols, *verdicts, *moves]]
    for name, exponents in NAMED.items():
        sizes = linear_sizes(exponents)
        inside = abs(exponents[0] + exponents[1]) < ROUNDING
        verdict = classify(exponents).value if inside else "do not apply"
        rows.append(
            [
                name,
                ", ".join(f"{e:g}" for e in exponents),
                f"{richness(exponents):g}" if inside else "",
                verdict,
                classify_linear(exponents).value,
                f"{sizes.movement:+g}",
                f"{sizes.logit_movement:+g}",
            ]
        )
    return rows
