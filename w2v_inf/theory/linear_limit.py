"""The infinite-width limit of a linear one-hidden-layer net is a small net

f(x) = W2 W1 x, W1 [n, d_in] and W2 [d_out, n] with entries N(0, s1^2 / n) and N(0, s2^2 / n), both trained by SGD with one
step size that does not depend on n (muP in the variables u = W1^T, w = W2 of word2vec; TP4 Section 6).

Every gradient of W1 is W2^T (d_out-vector) x^T, every one of W2 is (d_out-vector) (W1 x)^T. So each row of W1^T and of W2 stays
a linear combination of the d_in + d_out initial rows, with coefficients that depend on n through the logits alone. Logits are
inner products of such combinations. By the law of large numbers the initial rows become orthogonal, of lengths s1 and s2:
their Gram matrix is diag(s1^2, s2^2) + O(n^-1/2). The coefficients therefore converge, and the limit is the net of width
d_in + d_out with W1 = [s1 I; 0], W2 = [0 s2 I] under the same updates (TP4 Corollary 6.2). Nothing else was used: any loss of the
logits, any schedule, momentum and weight decay (linear in the rows) carry over. Adam does not: it is not linear in the rows.

d_in = d_out = 1: W1 = a U + b V, W2 = c U + d V over the initial U, V, started at a = d = 1, b = c = 0. With g = dL/df:
  f = (a c + b d) x,   (a, b) <- (1 - lr wd)(a, b) - lr g x (c, d),   (c, d) <- (1 - lr wd)(c, d) - lr g x (a, b).
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from w2v_inf.reporting.style import Drawing, new_axes
from w2v_inf.theory.exhibit import Exhibit, draw_against_width, draw_reference

Batches = Sequence[tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]
WIDTHS, SEEDS = (64, 256, 1024, 4096, 16384), 8


def two_scalar_limit(
    data: Iterable[tuple[float, float]],
    derivative: Callable[[float, float], float],
    lr: Callable[[int], float],
    weight_decay: float = 0.0,
) -> list[float]:
    """Outputs f_0, f_1, ... of the limit at d_in = d_out = 1, each before its step.

    Args:
      data: pairs (x, y), one a step.    derivative: dL/df at (f, y).    lr: step size at step t.
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


def make_net(w1: Tensor, w2: Tensor) -> nn.Sequential:
    """The net W2 W1 x from its matrices, [n, d_in] and [d_out, n], which are copied."""
    net = nn.Sequential(
        *(nn.Linear(w.shape[1], w.shape[0], bias=False, dtype=w.dtype) for w in (w1, w2))
    )
    for layer, w in zip(net, (w1, w2), strict=True):
        assert isinstance(layer, nn.Linear)
        layer.weight = nn.Parameter(w.clone())
    return net


def random_net(
    d_in: int, d_out: int, width: int, scales: tuple[float, float], generator: torch.Generator
) -> nn.Sequential:
    """A finite net of the module's docstring, float64; `scales` are s1 and s2."""
    shapes = ((width, d_in), (d_out, width))
    draws = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return make_net(*(s * draw / width**0.5 for s, draw in zip(scales, draws, strict=True)))


def limit_net(d_in: int, d_out: int, scales: tuple[float, float]) -> nn.Sequential:
    """The limit at its start: width d_in + d_out, diagonal; float64."""
    eye = torch.eye(d_in + d_out, dtype=torch.float64)
    return make_net(scales[0] * eye[:, :d_in], scales[1] * eye[d_in:])


def limit_of(net: nn.Sequential) -> nn.Sequential:
    """The limit, at its start, of widening an untrained net under muP: variances as 1/n, one constant step size.

    The scales s1, s2 are n^1/2 times the root mean squares of its two weights (a start at zero stays one).
    Raises: ValueError unless the net is Linear, Linear without biases.
    """
    layers = list(net)
    if len(layers) != 2 or not all(
        isinstance(layer, nn.Linear) and layer.bias is None for layer in layers
    ):
        raise ValueError(
            f"net must be Sequential(Linear(bias=False), Linear(bias=False)), got {net}"
        )
    w1, w2 = (weight.detach() for weight in net.parameters())
    s1, s2 = (float((len(w1) * w.double().square().mean()).sqrt()) for w in (w1, w2))
    return limit_net(w1.shape[1], w2.shape[0], (s1, s2)).to(w1.dtype)


def product(net: nn.Sequential) -> Tensor:
    """W2 W1, [d_out, d_in]: all that the net computes."""
    w1, w2 = (weight.detach() for weight in net.parameters())
    return w2 @ w1


def train(
    net: nn.Sequential,
    batches: Batches,
    loss: Loss,
    lr: Callable[[int], float],
    weight_decay: float = 0.0,
) -> list[float]:
    """SGD in place, one step a batch; returns the loss before each step.

    Args:
      batches: (x [B, d_in], y as `loss` takes it).    loss: of logits [B, d_out] and y; its sum or mean, [].
      lr: step size at step t.    weight_decay: each step multiplies the weights by 1 - lr weight_decay.
    """
    optimizer, losses = torch.optim.SGD(net.parameters(), lr=1.0, weight_decay=weight_decay), []
    for step, (x, y) in enumerate(batches):
        optimizer.param_groups[0]["lr"] = lr(step)
        optimizer.zero_grad()
        value = loss(net(x), y)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def train_limit(
    net: nn.Sequential,
    batches: Batches,
    loss: Loss,
    lr: Callable[[int], float],
    weight_decay: float = 0.0,
) -> tuple[nn.Sequential, list[float]]:
    """Train the infinite-width limit of an untrained linear net; `net` is left as it is. See `limit_of` and `train`.

    Example: train_limit(nn.Sequential(nn.Linear(5, 64, bias=False), nn.Linear(64, 3, bias=False)), [(x, y)], nn.CrossEntropyLoss(),
      lambda step: 0.1) gives the net of width 8 that the trained nets approach as 64 grows.
    """
    limit = limit_of(net)
    return limit, train(limit, batches, loss, lr, weight_decay)


def example(d_in: int, d_out: int, steps: int, seed: int = 0) -> Batches:
    """Made-up classification, batches of 16 points with labels below max(d_out, 2) from a random linear rule."""
    generator = torch.Generator().manual_seed(seed)
    rule = torch.randn(max(d_out, 2), d_in, generator=generator, dtype=torch.float64)
    points = torch.randn(steps, 16, d_in, generator=generator, dtype=torch.float64)
    return [(x, (x @ rule.T).argmax(1)) for x in points]


def one_dimension(steps: int) -> Batches:
    """Points of a line, y = 2 x, one a step."""
    points = torch.randn(
        steps, 1, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    return [(x, 2 * x) for x in points]


def squared(f: Tensor, y: Tensor) -> Tensor:
    """Half the squared error, summed."""
    return (f - y).square().sum() / 2


def falling_lr(step: int) -> float:
    """The schedule of the example."""
    return 0.5 / (1 + 0.05 * step)


def show() -> Exhibit:
    """Left: what nets learn at d = 1. Right: distance of all logits to the limit's against width, for general nets."""
    figure, (curves, against) = new_axes(10.0, 4.2, 2)
    _draw_line_fit(curves)
    slopes = {}
    for name, d_in, d_out, weight_decay, colour in (
        ("40 in, 10 out", 40, 10, 0.0, "#21908d"),
        ("5 in, 3 out", 5, 3, 0.01, "#443a83"),
    ):
        distances = distances_to_limit(d_in, d_out, weight_decay)
        slopes[name] = draw_against_width(
            against, WIDTHS, distances, name, {"color": colour, "marker": "o"}
        )
    draw_reference(against, WIDTHS, 0.15, -0.5, "slope -1/2")
    against.set(
        ylabel="relative distance of W2 W1 to the limit's", title="cross-entropy, falling step size"
    )
    against.legend(frameon=False, fontsize=8)
    caption = (
        "Left: online SGD on y = 2x with weight decay 0.01; nets of three widths close in on the recursion in a, b, c, d. "
        f"Right: {SEEDS} seeds a width, 100 steps (weight decay 0.01 for 5 in, 3 out; none for the other); points are "
        "seeds, lines geometric means; n = 64 is barely above 40 + 10, which steepens the start. Predicted slope -1/2; measured: "
        + "; ".join(f"{name}: {slope}" for name, slope in slopes.items())
        + "."
    )
    rows = [
        ["net", "predicted slope", "measured"],
        *([name, "-0.50", str(slope)] for name, slope in slopes.items()),
    ]
    return Exhibit(Drawing("linear-limit", "Linear nets", figure, caption), rows)


def _draw_line_fit(axes: Axes) -> None:
    """W2 W1 at every step of fitting y = 2x, finite nets and the two-scalar limit."""
    line = one_dimension(80)
    for width, colour in ((16, "#8fd744"), (256, "#21908d"), (4096, "#443a83")):
        for seed in range(3):
            net, products = random_net(1, 1, width, (1, 1), torch.Generator().manual_seed(seed)), []
            for step in line:
                products.append(product(net).item())
                train(net, [step], squared, lambda _: 0.05, 0.01)
            axes.plot(
                products,
                color=colour,
                linewidth=1,
                label=None if seed else f"n = {width:,}, 3 seeds",
            )
    points = [(x.item(), y.item()) for x, y in line]
    outputs = two_scalar_limit(points, lambda f, y: f - y, lambda _: 0.05, 0.01)
    axes.plot(
        [f / x for f, (x, _) in zip(outputs, points, strict=True)],
        "k--",
        label="two-scalar limit, ac + bd",
    )
    axes.set(xlabel="step", ylabel="W2 W1", title="d_in = d_out = 1, squared loss")
    axes.legend(frameon=False, fontsize=8)


def distances_to_limit(
    d_in: int, d_out: int, weight_decay: float, widths: Sequence[int] = WIDTHS, seeds: int = SEEDS
) -> np.ndarray:
    """Relative distance of W2 W1 after the example to the limit's, [seeds, widths]; scales (1, 0.5)."""
    scales, batches = (1.0, 0.5), example(d_in, d_out, 100)
    tables = []
    for net in (limit_net(d_in, d_out, scales), *_nets(d_in, d_out, widths, seeds, scales)):
        train(net, batches, nn.functional.cross_entropy, falling_lr, weight_decay)
        tables.append(product(net))
    limit, *finite = tables
    return np.array([float((table - limit).norm() / limit.norm()) for table in finite]).reshape(
        seeds, len(widths)
    )


def _nets(
    d_in: int, d_out: int, widths: Sequence[int], seeds: int, scales: tuple[float, float]
) -> Iterable[nn.Sequential]:
    return (
        random_net(d_in, d_out, n, scales, torch.Generator().manual_seed(97 * s + n))
        for s in range(seeds)
        for n in widths
    )
