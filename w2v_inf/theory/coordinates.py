"""Coordinate check: what grows with width

The sizes that `parametrizations.linear_sizes` predicts, measured on real text: u and w start at random (w at its parametrization's own
deviation), a few steps of SGD, widths over two decades. With h the hidden vector of one word:
  sp, c = 0: logits move like n: a constant step size blows up;   sp, c = 1: logits move by order one, embeddings by n^-3/2: kernel-like;
  ntp: logits of order one from the start, embeddings by n^-1/2;   mup, mfp: flat, and one and the same net.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from w2v_inf.config import Config, Finite, Parametrization, StreamConfig, TrainConfig
from w2v_inf.models.linear import LinearModel
from w2v_inf.reporting.style import Drawing, new_axes
from w2v_inf.theory.data import Text, read_text
from w2v_inf.theory.exhibit import Exhibit, draw_against_width, fit_slope
from w2v_inf.theory.parametrizations import NAMED, Exponents, linear_sizes

WIDTHS, SEEDS, STEPS = (64, 256, 1024, 4096, 16384), 3, 10
SHOWN = ("sp, c = 0", "sp, c = 1", "ntp", "mup", "mfp")
LOOKS = {
    "sp, c = 0": {"color": "#d6604d", "marker": "^"},
    "sp, c = 1": {"color": "#e08214", "marker": "v"},
    "ntp": {"color": "#3b6fb6", "marker": "s"},
    "mup": {"color": "black", "marker": "o"},
    "mfp": {"color": "#8fd744", "marker": ".", "linestyle": "--"},
}


class Coordinates(NamedTuple):
    """Root mean squares over the vocabulary after the steps."""

    hidden: float
    """Coordinates of h = W1 x."""
    moved: float
    """Movement of h relative to its start."""
    start: float
    """Logits before training."""
    logits: float
    """Movement of the logits."""


def measure(text: Text, exponents: Exponents, width: int, seed: int) -> tuple[Coordinates, Tensor]:
    """Train on the text from a random start; the coordinates, and the logits [V, V] at the end."""
    options = Finite(
        width=width,
        parametrization=Parametrization.custom,
        exponents=list(exponents),
        output_init_scale=1.0,
    )
    net = text.build(options, seed)
    assert isinstance(net, LinearModel)
    u, f = net.u.clone(), net.u @ net.w.T
    net.train_batches(text.batches)
    logits = net.u @ net.w.T
    hidden = width**0.5 * _rms(net.u)  # the model holds W1 / sqrt(n)
    return Coordinates(hidden, _rms(net.u - u) / _rms(u), _rms(f), _rms(logits - f)), logits


def _rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def coordinates(
    text: Text, exponents: Exponents, widths: Sequence[int] = WIDTHS, seeds: int = SEEDS
) -> np.ndarray:
    """The fields of `Coordinates`, each [seeds, widths]."""
    values = [
        [measure(text, exponents, width, seed)[0] for width in widths] for seed in range(seeds)
    ]
    return np.moveaxis(np.array(values), 2, 0)


def show(config: Config) -> Exhibit:
    """Three panels: h, its movement, the logits' movement; the table compares slopes with the predicted ones."""
    text = read_text(config, 200, STEPS, StreamConfig(), TrainConfig(weight_decay=0))
    figure, panels = new_axes(14.0, 4.4, 3)
    titles = (
        "coordinates of h after training",
        "movement of h, relative",
        "movement of the logits",
    )
    rows = [["", "quantity", "predicted slope", "measured"]]
    for name in SHOWN:
        values, sizes = coordinates(text, NAMED[name]), linear_sizes(NAMED[name])
        for axes, index in zip(panels, (0, 1, 3), strict=True):
            draw_against_width(axes, WIDTHS, values[index], name, LOOKS[name])
        for quantity, index, predicted in (
            ("h moves", 1, sizes.moved),
            ("logits at the start", 2, sizes.start),
            ("logits move", 3, sizes.logits),
        ):
            rows.append(
                [name, quantity, f"{predicted:+.2f}", str(fit_slope(WIDTHS, values[index]))]
            )
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title)
        axes.legend(frameon=False, fontsize=8)
    one, other = (measure(text, NAMED[name], 1024, 0)[1] for name in ("mup", "mfp"))
    caption = (
        f"After {STEPS} steps of CBOW ({text.label}) from random u and w, {SEEDS} seeds. Legends: measured slopes, 95 % intervals; the "
        "table has the predicted ones. sp at a constant step size blows up; sp with c = 1 and ntp move their logits and, in the limit, no "
        "embedding; mup moves everything alike at every width. mup and mfp coincide: their logits at width 1,024 differ by "
        f"{_rms(one - other) / _rms(one):.1e} of their size (float32). Slopes that miss by about 0.1 come from the small widths: those "
        "curves flatten to the right."
    )
    return Exhibit(Drawing("coordinates", "Coordinate check", figure, caption), rows)
