r"""The infinite-width limit of a linear network with one hidden layer is a small network

**Setting.** $f(x) = W_2 W_1 x$, with $W_1$ [n, d_in] and $W_2$ [d_out, n]. Their initial entries
are $N(0, s_1^2 / n)$ and $N(0, s_2^2 / n)$. SGD trains both with one learning rate that does not
depend on $n$. This is muP in word2vec's variables $u = W_1^\top$, $w = W_2$ (TP4, Section 6).

**Derivation.** With $g = \partial L / \partial f$, the gradients of an example are
    \frac{\partial L}{\partial W_1} = W_2^\top g \, x^\top, \qquad
      \frac{\partial L}{\partial W_2} = g \, (W_1 x)^\top .
So each row of $W_1^\top$ and of $W_2$ stays a linear combination of the d_in + d_out initial rows.
The coefficients depend on $n$ through the logits alone, and logits are inner products of such
combinations. By the law of large numbers the initial rows become orthogonal, with lengths $s_1$ and
$s_2$: their Gram matrix is $\mathrm{diag}(s_1^2, s_2^2) + O(n^{-1/2})$. So the coefficients
converge. The limit is the network of width d_in + d_out that begins at
    W_1 = \begin{pmatrix} s_1 I \\ 0 \end{pmatrix}, \qquad
      W_2 = \begin{pmatrix} 0 & s_2 I \end{pmatrix}
and follows the same updates (TP4, Corollary 6.2).

**Scope.** Nothing else was used. Any loss of the logits, any schedule, momentum and weight decay
(all linear in the rows) carry over. Adam does not: it is not linear in the rows. docs/limit-of.md
has biases, embeddings, multipliers and sums as well.

**Example** with d_in = d_out = 1. $W_1^\top = a U + b V$ and $W_2 = c U + d V$ over the initial
$U, V$. Training starts at $a = d = 1$, $b = c = 0$. With learning rate $\eta$ and weight decay
$\lambda$:
    f = (a c + b d)\, x,
    (a, b) \leftarrow (1 - \eta \lambda)\, (a, b) - \eta g x\, (c, d),
    (c, d) \leftarrow (1 - \eta \lambda)\, (c, d) - \eta g x\, (a, b).
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from w2v_inf.network_limit import NetworkLimit, limit_of
from w2v_inf.reporting.style import GREEN, PURPLE, SMALL, TEAL, TEXT_WIDTH, Drawing, new_axes
from w2v_inf.theory.exhibit import (
    Exhibit,
    draw_against_width,
    draw_predicted_slope,
    measure_grid,
    relative_distance,
)

Batches = Sequence[tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]
WIDTHS, SEEDS = (64, 256, 1024, 4096, 16384), 8
EXAMPLES = (
    ("40 in, 10 out", 40, 10, 0.0, TEAL),
    ("5 in, 3 out", 5, 3, 0.01, PURPLE),
)
"""Name, d_in, d_out, weight decay, colour."""


def two_scalar_limit(
    data: Iterable[tuple[float, float]],
    derivative: Callable[[float, float], float],
    lr: Callable[[int], float],
    weight_decay: float = 0.0,
) -> list[float]:
    """Outputs f_0, f_1, ... of the limit at d_in = d_out = 1, each before its step.

    Args:
      data: pairs (x, y), one per step.
      derivative: dL/df at (f, y).
      lr: learning rate at step t.
    """
    a, b, c, d, outputs = 1.0, 0.0, 0.0, 1.0, []
    for step, (x, y) in enumerate(data):
        f = (a * c + b * d) * x
        outputs.append(f)
        pull, keep = lr(step) * derivative(f, y) * x, 1 - lr(step) * weight_decay
        a, b, c, d = (
            keep * a - pull * c,
            keep * b - pull * d,
            keep * c - pull * a,
            keep * d - pull * b,
        )
    return outputs


def make_network(w1: Tensor, w2: Tensor) -> nn.Sequential:
    """The network W2 W1 x from copies of its matrices, [n, d_in] and [d_out, n]."""
    network = nn.Sequential(
        *(nn.Linear(w.shape[1], w.shape[0], bias=False, dtype=w.dtype) for w in (w1, w2))
    )
    for layer, w in zip(network, (w1, w2), strict=True):
        assert isinstance(layer, nn.Linear)
        layer.weight = nn.Parameter(w.clone())
    return network


def random_network(
    d_in: int, d_out: int, width: int, scales: tuple[float, float], generator: torch.Generator
) -> nn.Sequential:
    """A finite network of the module's docstring, float64; `scales` are s1 and s2."""
    shapes = ((width, d_in), (d_out, width))
    draws = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return make_network(*(s * draw / width**0.5 for s, draw in zip(scales, draws, strict=True)))


def limit_network(d_in: int, d_out: int, scales: tuple[float, float]) -> nn.Sequential:
    """The untrained limit: width d_in + d_out, diagonal, float64."""
    eye = torch.eye(d_in + d_out, dtype=torch.float64)
    return make_network(scales[0] * eye[:, :d_in], scales[1] * eye[d_in:])


def product(network: nn.Module) -> Tensor:
    """W2 W1, [d_out, d_in], which is all that the network computes."""
    w1, w2 = (weight.detach() for weight in network.parameters())
    return w2 @ w1


def train(
    network: nn.Module,
    batches: Batches,
    loss: Loss,
    lr: Callable[[int], float],
    weight_decay: float = 0.0,
) -> list[float]:
    """SGD in place, one step per batch; returns the loss before each step.

    Args:
      batches: (x [B, d_in], y as `loss` takes it).
      loss: of logits [B, d_out] and y; its sum or mean, [].
      lr: learning rate at step t.
      weight_decay: each step multiplies the weights by 1 - lr weight_decay.
    """
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0, weight_decay=weight_decay)
    losses = []
    for step, (x, y) in enumerate(batches):
        optimizer.param_groups[0]["lr"] = lr(step)
        optimizer.zero_grad()
        value = loss(network(x), y)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def train_limit(
    network: nn.Module,
    batches: Batches,
    loss: Loss,
    lr: Callable[[int], float],
    weight_decay: float = 0.0,
) -> tuple[NetworkLimit, list[float]]:
    """`train` the muP limit of an untrained network, which stays as it is; see `limit_of`."""
    limit = limit_of(network)
    return limit, train(limit, batches, loss, lr, weight_decay)


def example(d_in: int, d_out: int, steps: int, seed: int = 0) -> Batches:
    """A synthetic classification: batches of 16 points, labels from a random linear rule.

    Labels lie below max(d_out, 2).
    """
    generator = torch.Generator().manual_seed(seed)
    rule = torch.randn(max(d_out, 2), d_in, generator=generator, dtype=torch.float64)
    points = torch.randn(steps, 16, d_in, generator=generator, dtype=torch.float64)
    return [(x, (x @ rule.T).argmax(1)) for x in points]


def one_dimension(steps: int) -> Batches:
    """Points of the line y = 2 x, one per step."""
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(steps, 1, 1, generator=generator, dtype=torch.float64)
    return [(x, 2 * x) for x in points]


def squared(f: Tensor, y: Tensor) -> Tensor:
    """Half the squared error, summed."""
    return (f - y).square().sum() / 2


def falling_lr(step: int) -> float:
    """The schedule of the example."""
    return 0.5 / (1 + 0.05 * step)


def show() -> Exhibit:
    """Left: training at d_in = d_out = 1. Right: distance of all logits to the limit's by width."""
    figure, (curves, against) = new_axes(TEXT_WIDTH, 4.2, 2)
    _draw_line_fit(curves)
    rows = [["network", "predicted slope", "measured"]]
    for name, d_in, d_out, weight_decay, colour in EXAMPLES:
        distances = distances_to_limit(d_in, d_out, weight_decay)
        look = {"color": colour, "marker": "o"}
        slope = draw_against_width(against, WIDTHS, distances, name, look)
        rows.append([name, "-0.50", str(slope)])
    draw_predicted_slope(against, WIDTHS, 0.15)
    title = "cross-entropy, falling learning rate"
    against.set(ylabel="relative distance of $W_2 W_1$ to the limit's", title=title)
    against.legend(frameon=False, fontsize=SMALL)
    caption = (
        "First: online SGD on y = 2x; networks of three widths approach the recursion in a, b, c, "
        f"d. Second: distance after 100 steps, {SEEDS} seeds per width; points are seeds, lines "
        "geometric means."
    )
    notes = [
        "Weight decay is 0.01 in the first panel and for 5 in, 3 out; 40 in, 10 out has none.",
        "n = 64 is barely above 40 + 10, which steepens the first part of that curve.",
    ]
    return Exhibit(Drawing("linear-limit", "Linear networks", figure, caption), rows, notes)


def _draw_line_fit(axes: Axes) -> None:
    """W2 W1 at every step of fitting y = 2x: finite networks and the two-scalar limit."""
    line = one_dimension(80)
    for width, colour in ((16, GREEN), (256, TEAL), (4096, PURPLE)):
        for seed in range(3):
            network = random_network(1, 1, width, (1, 1), torch.Generator().manual_seed(seed))
            products = []
            for step in line:
                products.append(product(network).item())
                train(network, [step], squared, lambda _: 0.05, 0.01)
            label = None if seed else f"n = {width:,}, 3 seeds"
            axes.plot(products, color=colour, linewidth=1, label=label)
    points = [(x.item(), y.item()) for x, y in line]
    outputs = two_scalar_limit(points, lambda f, y: f - y, lambda _: 0.05, 0.01)
    limit = [f / x for f, (x, _) in zip(outputs, points, strict=True)]
    axes.plot(limit, "k--", label="two-scalar limit, $ac + bd$")
    axes.set(xlabel="step", ylabel="$W_2 W_1$", title="one input, one output, squared loss")
    axes.legend(frameon=False, fontsize=SMALL)


def distances_to_limit(
    d_in: int, d_out: int, weight_decay: float, widths: Sequence[int] = WIDTHS, seeds: int = SEEDS
) -> np.ndarray:
    """Relative distance of W2 W1 to the limit's after the example, [seeds, widths].

    The scales s1, s2 are 1 and 0.5.
    """
    scales, batches = (1.0, 0.5), example(d_in, d_out, 100)

    def trained_product(network: nn.Sequential) -> Tensor:
        train(network, batches, nn.functional.cross_entropy, falling_lr, weight_decay)
        return product(network)

    limit = trained_product(limit_network(d_in, d_out, scales))

    def measure(width: int, seed: int) -> Iterable[float]:
        generator = torch.Generator().manual_seed(97 * seed + width)
        network = random_network(d_in, d_out, width, scales, generator)
        yield relative_distance(trained_product(network), limit)

    return measure_grid(measure, widths, seeds)[0]
