r"""NTK: logits learn, embeddings stay

**Setting.** Under ntp, $W_1 = \gamma$ has standard normal entries and $W_2 = n^{-1/2} \omega$. Both
have the same learning rate. The logit of input $i$ and output $o$ is
$n^{-1/2} \langle \gamma_i, \omega_o \rangle$. In the model's variables $u = W_1 / \sqrt{n}$,
$w = \sqrt{n}\, W_2$, rows of $u$ have length 1. With $G = -\partial L / \partial f$ a step of SGD
is
    w_o \leftarrow w_o + \eta \sum_i G_{io} u_i, \qquad
      u_i \leftarrow u_i + \frac{\eta}{n} \sum_o G_{io} w_o.

**From $w(0) = 0$.** $w$ is of order one, so $u$ moves by $1/n$. Since
$\langle u_i, u_j \rangle = \delta_{ij} + O(n^{-1/2})$,
    f_{io} = s_i z_{io} + O(n^{-1/2}).
Here $z_{io}$ is the coefficient of $u_i(0)$ in $w_o$, and $s_i$ is the factor that weight decay
leaves of row $i$. This is the NTK limit, a table of $V \times V$ logits.

**From $w(0) \sim N(0, 1)$.** Rows of $w$ have length $\sqrt{n}$, so $u$ moves by $n^{-1/2}$
relative to its length. Yet it moves in $V$ directions $w_o(0)$, exactly those that the logits read:
$\langle du_i, w_o \rangle$ is of order one and doubles the kernel. The initial logits
$\langle u_i(0), w_o(0) \rangle$ are random and of order one. The limit takes them from the finite
network here; otherwise the two would differ by the draw. The remaining terms, inner products of
independent rows, are $n^{-1/2}$.

**Weight decay** multiplies rows of $u$ by numbers that do not depend on $n$. Norms change at every
width, directions do not. So the rotation falls with $n$, and the relative movement falls only
without weight decay:
    \text{rotation } \left\lVert \frac{u_i}{|u_i|} - \frac{u_i(0)}{|u_i(0)|} \right\rVert, \qquad
      \text{movement } \frac{|u_i - u_i(0)|}{|u_i(0)|}.

All exponents hold as $n$ grows at a fixed amount of training. Where rows have rotated by 0.1 and
more, slopes have not reached them yet.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from w2v_inf import config as options
from w2v_inf.config import Config, Finite, Parametrization, StreamConfig, TrainConfig
from w2v_inf.models.ntk_limit import NtkLimit
from w2v_inf.reporting.style import ORANGE, PURPLE, SMALL, TEXT_WIDTH, Drawing, new_axes
from w2v_inf.reporting.typeset import typeset
from w2v_inf.theory.data import Text, read_text
from w2v_inf.theory.exhibit import Exhibit, draw_against_width, measure_grid

WIDTHS, SEEDS, VOCAB, NUM_BATCHES = (256, 1024, 4096, 16384), 5, 200, 30
WEIGHT_DECAY = 0.02
CASES = ((0.0, 0.0), (0.0, WEIGHT_DECAY), (1.0, 0.0), (1.0, WEIGHT_DECAY))
"""(standard deviation of w(0), weight decay)."""
LOOKS: dict[float, dict[str, Any]] = {
    0.0: {"color": PURPLE, "marker": "o"},
    1.0: {"color": ORANGE, "marker": "s"},
}
"""By the standard deviation of w(0)."""
DASHED = {"linestyle": "--", "markerfacecolor": "none"}
"""With weight decay."""
QUANTITIES = (
    "distance of logits to the limit's",
    "rotation of embeddings",
    "movement of embeddings",
)


class Measures(NamedTuple):
    """Measurements of a trained finite network; root mean squares over the vocabulary."""

    distance: float
    """Distance of all logits to the limit's, relative to how far the limit's have moved."""
    rotation: float
    """Distance between the directions of u and of its initialisation."""
    movement: float
    """Movement of u relative to its initialisation."""


def predicted(output_init_scale: float, weight_decay: float) -> Measures:
    """Exponents of width; see the module's docstring."""
    rotation = -0.5 if output_init_scale else -1.0
    return Measures(-0.5, rotation, 0.0 if weight_decay else rotation)


def limit_logits(limit: NtkLimit) -> Tensor:
    """Logits of all inputs (rows) and outputs, [V, V]."""
    ids, s = torch.arange(len(limit.s)), limit.s.to(limit.z.rows.dtype)
    logits = s[:, None] * limit.z.full(ids).T
    if limit.random_output is None:
        return logits
    return logits + limit.random_output.logits(ids, ids, s)


def measure(text: Text, output_init_scale: float, width: int, seed: int) -> Measures:
    """Train an ntp network on the text, and the limit from the network's initial logits."""
    finite = Finite(
        width=width, parametrization=Parametrization.ntp, output_init_scale=output_init_scale
    )
    network = text.build_linear(finite, seed)
    limit = text.build(options.NtkLimit(output_init_scale=output_init_scale), seed)
    assert isinstance(limit, NtkLimit)
    initial_u, initial_logits = network.u.double(), network.u @ network.w.T
    if limit.random_output is not None:
        limit.random_output.e.copy_(initial_logits)
    network.train_batches(text.batches)
    limit.train_batches(text.batches)
    u, logits, exact = network.u.double(), network.u @ network.w.T, limit_logits(limit)
    rotation = (normalize(u) - normalize(initial_u)).norm() / len(u) ** 0.5
    return Measures(
        float((logits - exact).norm() / (exact - initial_logits).norm()),
        float(rotation),
        float((u - initial_u).norm() / initial_u.norm()),
    )


def measures(
    text: Text, output_init_scale: float, widths: Sequence[int] = WIDTHS, seeds: int = SEEDS
) -> np.ndarray:
    """The fields of `Measures`, each [seeds, widths]."""
    return measure_grid(
        lambda width, seed: measure(text, output_init_scale, width, seed), widths, seeds
    )


def show(config: Config) -> Exhibit:
    """Distance to the limit, rotation and movement by width, for each of `CASES`."""
    figure, panels = new_axes(TEXT_WIDTH, 4.4, 3)
    measured = ["predicted slope", "measured", f"at n = {WIDTHS[-1]:,}"]
    rows, text_label = [["w(0)", "weight decay", "quantity", *measured]], ""
    for scale, decay in CASES:
        train = TrainConfig(weight_decay=decay)
        text = read_text(config, VOCAB, NUM_BATCHES, StreamConfig(), train)
        text_label, initial = text.label, "N(0, 1)" if scale else "0"
        label = f"w(0) {'~' if scale else '='} {initial}, wd {decay:g}"
        look = LOOKS[scale] | (DASHED if decay else {})
        for axes, quantity, values, exponent in zip(
            panels, QUANTITIES, measures(text, scale), predicted(scale, decay), strict=True
        ):
            slope = draw_against_width(axes, WIDTHS, values, label, look)
            cells = [f"{exponent:+.2f}", str(slope), f"{values[:, -1].mean():.1e}"]
            rows.append([initial, f"{decay:g}", quantity, *cells])
    for axes, quantity in zip(panels, QUANTITIES, strict=True):
        axes.set(title=quantity, ylabel="relative")
        axes.set_ylim(top=axes.get_ylim()[1] * 8)  # room for the legend
        axes.legend(frameon=False, fontsize=SMALL, loc="upper right")
    caption = (
        f"Finite ntp networks and the NTK limit after the same {NUM_BATCHES} steps of CBOW "
        f"({text_label}), {SEEDS} seeds. Legends: slopes with 95 % intervals; wd: weight decay."
    )
    notes = [
        "First panel: all logits, relative to how far the limit's have moved. Second: distance of "
        "the embeddings' directions to the initial ones. Third: distance of the embeddings "
        "themselves.",
        typeset("$w(0) = 0$ rotates embeddings by $1/n$, a random $w(0)$ by $n^{-1/2}$."),
        "Weight decay shrinks them alike at every width. With a random w(0) their rotation adds "
        "to the movement at the smallest widths.",
        "After longer training, only wider networks show these slopes.",
    ]
    return Exhibit(Drawing("ntk", "NTK", figure, caption), rows, notes)
