"""NTK: logits learn, embeddings stay

Under ntp (W1 = g of standard normal entries, W2 = n^-1/2 w, both trained with the same step size) the logit of input i and output o is
n^-1/2 <g_i, w_o>. In the model's variables u = W1 / sqrt(n), w = sqrt(n) W2 rows of u have length 1 and a step of SGD is
  w_o += lr sum of G_io u_i,   u_i += (lr / n) sum of G_io w_o,   G = -dL/df.
From w(0) = 0: w is of order one, so u moves by 1/n. <u_i, u_j> = delta_ij + O(n^-1/2), so f_io = s_i z_io + O(n^-1/2) with z_io the sum
of G_io, s_i what weight decay leaves of row i: the NTK limit, a table of V x V logits.
From w(0) ~ N(0, 1): rows of w have length sqrt(n), so u moves by n^-1/2 relative to its length, yet its V directions w_o(0) are exactly
those that the logits read: <du_i, w_o> is of order one and doubles the kernel. f(0) = <u(0), w(0)> is random and of order one; the
limit is started here from the finite net's own, or the two would differ by the draw. The rest, inner products of independent rows,
is n^-1/2.
Weight decay multiplies rows of u by numbers that do not depend on n: norms move at every width, directions do not. So what falls is
the turning |u_i / |u_i| - u_i(0) / |u_i(0)||, and the relative movement |u_i - u_i(0)| / |u_i(0)| only without weight decay.
All exponents are those of n to infinity at a fixed amount of training: where rows have turned by 0.1 and more, slopes are not yet theirs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from w2v_inf import config as options
from w2v_inf.config import Config, Finite, Parametrization, StreamConfig, TrainConfig
from w2v_inf.models.linear import LinearModel
from w2v_inf.models.ntk_limit import NtkLimit
from w2v_inf.reporting.style import Drawing, new_axes
from w2v_inf.theory.data import Text, read_text
from w2v_inf.theory.exhibit import Exhibit, draw_against_width

WIDTHS, SEEDS, VOCAB, NUM_BATCHES = (256, 1024, 4096, 16384), 5, 200, 30
WEIGHT_DECAY = 0.02
CASES = ((0.0, 0.0), (0.0, WEIGHT_DECAY), (1.0, 0.0), (1.0, WEIGHT_DECAY))
"""(deviation of w(0), weight decay)."""
LOOKS: tuple[dict[str, Any], ...] = (
    {"color": "#443a83", "marker": "o"},
    {"color": "#443a83", "marker": "o", "linestyle": "--", "markerfacecolor": "none"},
    {"color": "#e08214", "marker": "s"},
    {"color": "#e08214", "marker": "s", "linestyle": "--", "markerfacecolor": "none"},
)


class Measures(NamedTuple):
    """What a finite net is asked after training; root mean squares over the vocabulary."""

    distance: float
    """Distance of all logits to the limit's, relative to how far the limit's have moved."""
    turned: float
    """Distance between the directions of u and of its start."""
    moved: float
    """Movement of u relative to its start."""


def predicted(output_init_scale: float, weight_decay: float) -> Measures:
    """Exponents of width; see the module's docstring."""
    turned = -0.5 if output_init_scale else -1.0
    return Measures(-0.5, turned, 0.0 if weight_decay else turned)


def limit_logits(net: NtkLimit) -> Tensor:
    """Logits of all inputs (rows) and outputs, [V, V]."""
    ids, s = torch.arange(len(net.s)), net.s.to(net.z.rows.dtype)
    logits = s[:, None] * net.z.full(ids).T
    return logits if net.random_output is None else logits + net.random_output.logits(ids, ids, s)


def measure(text: Text, output_init_scale: float, width: int, seed: int) -> Measures:
    """Train an ntp net and the limit started from its logits on the text."""
    net = text.build(
        Finite(
            width=width, parametrization=Parametrization.ntp, output_init_scale=output_init_scale
        ),
        seed,
    )
    limit = text.build(options.NtkLimit(output_init_scale=output_init_scale), seed)
    assert isinstance(net, LinearModel) and isinstance(limit, NtkLimit)
    u0, f0 = net.u.double(), net.u @ net.w.T
    if limit.random_output is not None:
        limit.random_output.e.copy_(f0)
    net.train_batches(text.batches)
    limit.train_batches(text.batches)
    u, f, exact = net.u.double(), net.u @ net.w.T, limit_logits(limit)
    turned = (normalize(u) - normalize(u0)).norm() / len(u) ** 0.5
    return Measures(
        *(
            float(x)
            for x in ((f - exact).norm() / (exact - f0).norm(), turned, (u - u0).norm() / u0.norm())
        )
    )


def measures(
    text: Text, output_init_scale: float, widths: Sequence[int] = WIDTHS, seeds: int = SEEDS
) -> np.ndarray:
    """The fields of `Measures`, each [seeds, widths]."""
    values = [
        [measure(text, output_init_scale, width, seed) for width in widths] for seed in range(seeds)
    ]
    return np.moveaxis(np.array(values), 2, 0)


def show(config: Config) -> Exhibit:
    """Distance to the limit, turning and movement against width for both starts, with and without weight decay."""
    figure, panels = new_axes(14.0, 4.4, 3)
    quantities = (
        "distance of logits to the limit's",
        "turning of embeddings",
        "movement of embeddings",
    )
    rows = [
        [
            "w(0)",
            "weight decay",
            "quantity",
            "predicted slope",
            "measured",
            f"at n = {WIDTHS[-1]:,}",
        ]
    ]
    label = ""
    for (scale, decay), look in zip(CASES, LOOKS, strict=True):
        text = read_text(
            config, VOCAB, NUM_BATCHES, StreamConfig(), TrainConfig(weight_decay=decay)
        )
        start, label = "N(0, 1)" if scale else "0", text.label
        for axes, quantity, values, exponent in zip(
            panels, quantities, measures(text, scale), predicted(scale, decay), strict=True
        ):
            slope = draw_against_width(
                axes,
                WIDTHS,
                values,
                f"w(0) ~ {start}, wd {decay:g}" if scale else f"w(0) = 0, wd {decay:g}",
                look,
            )
            rows.append(
                [
                    start,
                    f"{decay:g}",
                    quantity,
                    f"{exponent:+.2f}",
                    str(slope),
                    f"{values[:, -1].mean():.1e}",
                ]
            )
    for axes, quantity in zip(panels, quantities, strict=True):
        axes.set(title=quantity, ylabel="relative")
        axes.set_ylim(top=axes.get_ylim()[1] * 8)  # room for the legend
        axes.legend(frameon=False, fontsize=8, loc="upper right")
    caption = (
        f"Finite ntp nets and the NTK limit after the same {NUM_BATCHES} steps of CBOW ({label}), {SEEDS} seeds; legends: slopes with 95 % "
        "intervals. Left: all V x V logits, relative to how far the limit's have moved. Middle: distance of the embeddings' directions to "
        "those of the start; right: of the embeddings themselves. w(0) = 0 turns them by 1/n, a random start by n^-1/2; weight decay "
        "shrinks them alike at every width (with a random start their turning adds to it at the smallest ones). Longer training needs "
        "wider nets before these slopes show."
    )
    return Exhibit(Drawing("ntk", "NTK", figure, caption), rows)
