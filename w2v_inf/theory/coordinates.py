r"""Coordinate check: what grows with width

`parametrizations.linear_sizes` predicts how sizes scale with the width $n$. This check measures
them on real text. $u$ and $w$ are random at first, $w$ with its parametrization's own standard
deviation. A few steps of SGD follow, at widths over two decades. $h$ is the hidden vector of one
word, and $c$ is the exponent of the learning rate, $\eta n^{-c}$.
- sp, $c = 0$: logits move by $n$; a constant learning rate blows up.
- sp, $c = 1$: logits move by order one, embeddings by $n^{-3/2}$: kernel regime.
- ntp: logits are of order one from the initialisation on, embeddings move by $n^{-1/2}$.
- mup, mfp: all movements are flat in $n$; both are the same network.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from w2v_inf.config import Config, Finite, Parametrization, StreamConfig, TrainConfig
from w2v_inf.reporting.style import BLUE, GREEN, ORANGE, RED, SMALL, TEXT_WIDTH, Drawing, new_axes
from w2v_inf.theory.data import Text, read_text
from w2v_inf.theory.exhibit import Exhibit, draw_against_width, fit_slope, measure_grid
from w2v_inf.theory.parametrizations import NAMED, Exponents, linear_sizes

WIDTHS, SEEDS, STEPS, VOCAB = (64, 256, 1024, 4096, 16384), 3, 10, 200
LOOKS = {
    "sp, c = 0": {"color": RED, "marker": "^"},
    "sp, c = 1": {"color": ORANGE, "marker": "v"},
    "ntp": {"color": BLUE, "marker": "s"},
    "mup": {"color": "black", "marker": "o"},
    "mfp": {"color": GREEN, "marker": ".", "linestyle": "--"},
}
TITLES = {
    "hidden": "coordinates of h after training",
    "movement": "movement of h, relative",
    "logit_movement": "movement of the logits",
}
QUANTITIES = {
    "movement": "movement of h",
    "initial_logits": "initial logits",
    "logit_movement": "movement of the logits",
}


class Coordinates(NamedTuple):
    """Root mean squares over the vocabulary after the steps."""

    hidden: float
    """Coordinates of h = W1 x."""
    movement: float
    """Movement of h relative to its initialisation."""
    initial_logits: float
    """Logits before training."""
    logit_movement: float


def measure(text: Text, exponents: Exponents, width: int, seed: int) -> tuple[Coordinates, Tensor]:
    """Train on the text from a random initialisation.

    Returns: the coordinates, and the final logits, [V, V].
    """
    options = Finite(
        width=width,
        parametrization=Parametrization.custom,
        exponents=list(exponents),
        output_init_scale=1.0,
    )
    network = text.build_linear(options, seed)
    initial_u, initial_logits = network.u.clone(), network.u @ network.w.T
    network.train_batches(text.batches)
    logits = network.u @ network.w.T
    coordinates = Coordinates(
        width**0.5 * _rms(network.u),  # the model holds W1 / sqrt(n)
        _rms(network.u - initial_u) / _rms(initial_u),
        _rms(initial_logits),
        _rms(logits - initial_logits),
    )
    return coordinates, logits


def _rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def coordinates(
    text: Text, exponents: Exponents, widths: Sequence[int] = WIDTHS, seeds: int = SEEDS
) -> np.ndarray:
    """The fields of `Coordinates`, each [seeds, widths]."""
    return measure_grid(lambda width, seed: measure(text, exponents, width, seed)[0], widths, seeds)


def show(config: Config) -> Exhibit:
    """h, its movement and the logits' movement; the table has measured and predicted slopes."""
    text = read_text(config, VOCAB, STEPS, StreamConfig(), TrainConfig(weight_decay=0))
    figure, panels = new_axes(TEXT_WIDTH, 4.4, 3)
    rows = [["", "quantity", "predicted slope", "measured"]]
    for name, look in LOOKS.items():
        measured = coordinates(text, NAMED[name])
        values = dict(zip(Coordinates._fields, measured, strict=True))
        for axes, field in zip(panels, TITLES, strict=True):
            draw_against_width(axes, WIDTHS, values[field], name, look)
        for field, predicted in linear_sizes(NAMED[name])._asdict().items():
            slope = fit_slope(WIDTHS, values[field])
            rows.append([name, QUANTITIES[field], f"{predicted:+.2f}", str(slope)])
    for axes, title in zip(panels, TITLES.values(), strict=True):
        axes.set_title(title)
        axes.legend(frameon=False, fontsize=SMALL)
    mup, mfp = (measure(text, NAMED[name], 1024, 0)[1] for name in ("mup", "mfp"))
    caption = (
        f"Root mean squares after {STEPS} steps of CBOW ({text.label}) from random u and w, "
        f"{SEEDS} seeds. Legends: measured slopes with 95 % intervals."
    )
    notes = [
        "sp at a constant learning rate blows up.",
        "sp with c = 1 and ntp move their logits and, in the limit, no embedding.",
        "mup moves everything alike at every width.",
        "mup and mfp coincide: their logits at width 1,024 differ by "
        f"{_rms(mup - mfp) / _rms(mup):.1e} of their size (float32).",
        "Slopes that miss by about 0.1 come from the small widths: those curves flatten to the "
        "right.",
    ]
    return Exhibit(Drawing("coordinates", "Coordinate check", figure, caption), rows, notes)
