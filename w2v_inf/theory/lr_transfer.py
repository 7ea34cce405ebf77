r"""Learning-rate transfer: under muP one learning rate is best at all widths

**muP.** In the variables $u, w$ (rows of $u$ have length 1) a muP network takes the same steps at
every width $n$:
    u \leftarrow u + \eta\, g w, \qquad
      w \leftarrow w + \eta\, g u.
Its training at learning rate $\eta$ is the limit's at $\eta$, plus $n^{-1/2}$ (Convergence). So the
loss as a function of $\eta$ has a limit. Its minimum, and the learning rate above which training
diverges, stay in place as width grows. Predicted: the best learning rate has slope 0.

**sp** ($c = 0$). The same variables step by $n \eta$ in $w$ and by $\eta / n$ in $u$. A step moves
logits by $n \eta$. Above a learning rate that falls as $1/n$ they overshoot, and the loss is large.
Feature learning and divergence come from $u$ and $w$ acting on each other; both go with $\eta^2$,
the product of the two, at any width. At a small width one learning rate serves both. At a large
width every learning rate is too large for the logits or too small for the embeddings. Predicted:
the best learning rate falls, between $n^0$ and $n^{-1}$ while the compromise lasts, and its loss
gets worse with width.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from w2v_inf.config import Config, Finite, Parametrization, StreamConfig, TrainConfig
from w2v_inf.reporting.lr_transfer import best_lr, draw_maps
from w2v_inf.reporting.style import Drawing
from w2v_inf.theory.data import Text, read_text
from w2v_inf.theory.exhibit import Exhibit, fit_slope

WIDTHS, SEEDS, VOCAB, NUM_BATCHES = (32, 128, 512, 2048), 4, 500, 1000
LAST = 0.2
"""Share of the batches, at the end, whose loss is shown."""
LRS = tuple(2.0**k for k in range(-12, -1))
SHOWN = {"mup": Parametrization.mup, "sp, c = 0": Parametrization.sp}
PREDICTED = {"mup": "0", "sp, c = 0": "-1 to 0"}


def final_losses(
    text: Text,
    parametrization: Parametrization,
    widths: Sequence[int],
    lrs: Sequence[float],
    seeds: int,
) -> np.ndarray:
    """Mean loss of the last batches, nats per example, [seeds, widths, lrs].

    The loss is infinite where the training diverged. `text` must be read with train.lr = 1.
    """
    losses = np.empty((seeds, len(widths), len(lrs)))
    for seed, (i, width), (j, lr) in itertools.product(
        range(seeds), enumerate(widths), enumerate(lrs)
    ):
        network = text.build(Finite(width=width, parametrization=parametrization), seed)
        steps = network.train_batches([replace(batch, lr=lr * batch.lr) for batch in text.batches])
        mean = np.mean(steps[-round(LAST * len(steps)) :])
        losses[seed, i, j] = np.nan_to_num(mean, nan=np.inf, posinf=np.inf)
    return losses


def best_lrs(losses: np.ndarray, lrs: Sequence[float]) -> np.ndarray:
    """The best learning rates, [seeds, widths], from losses, [seeds, widths, lrs]."""
    return np.array([[best_lr(lrs, row) for row in table] for table in losses])


def show(config: Config) -> Exhibit:
    """Maps of the loss for mup and sp; slopes of the best learning rate and its loss by width."""
    text = read_text(config, VOCAB, NUM_BATCHES, StreamConfig(), TrainConfig(lr=1.0))
    columns = [f"best, n = {width:,} (lowest loss, nats)" for width in WIDTHS]
    rows = [["", "slope of the best learning rate: predicted", "measured", *columns]]
    maps = []
    for name, parametrization in SHOWN.items():
        losses = final_losses(text, parametrization, WIDTHS, LRS, SEEDS)
        best, mean = best_lrs(losses, LRS), losses.mean(0)
        geometric_mean = np.exp(np.log(best).mean(0))
        cells = [
            f"{lr:.2g} ({row.min():.2f})" for lr, row in zip(geometric_mean, mean, strict=True)
        ]
        rows.append([name, PREDICTED[name], str(fit_slope(WIDTHS, best)), *cells])
        maps.append(mean)
    figure = draw_maps(list(SHOWN), WIDTHS, LRS, np.array(maps))
    caption = (
        f"Mean loss of the last {LAST:.0%} of {NUM_BATCHES:,} CBOW steps ({text.label}), {SEEDS} "
        "seeds. Rings: best learning rate per width. Colours end 1 nat above the best loss; "
        "blank: diverged."
    )
    notes = ["conf/experiment/figure-transfer.yaml draws the same figure from whole runs."]
    return Exhibit(Drawing("transfer", "Learning-rate transfer", figure, caption), rows, notes)
