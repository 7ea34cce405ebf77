"""Learning-rate transfer: under muP the best step size is one for all widths

In the variables u, w (rows of u of length 1) a muP net takes the same steps at every width: u += lr g w, w += lr g u. Its training at
step size lr is the limit's at lr, plus n^-1/2 (Convergence). So the loss as a function of lr has a limit, and its best step size, and
the step size at which training diverges, stay where they are as width grows: slope 0.
Under sp (c = 0) the same variables step by n lr in w and lr / n in u. A step moves logits by n lr: above a step size that falls as 1/n
they overshoot, and the loss is large. What u and w do to each other, learning features or blowing up, goes with lr^2, the product of
the two, at any width. At a small width one step size serves both; at a large one each is too large for the logits or too small for
the embeddings. The best one falls, between n^0 and n^-1 as long as the compromise lasts, and the loss it reaches gets worse with width.
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

WIDTHS, SEEDS, VOCAB, NUM_BATCHES, LAST = (32, 128, 512, 2048), 4, 500, 1000, 0.2
"""LAST: share of the batches, at the end, whose loss is shown."""
LRS = tuple(2.0**k for k in range(-12, -1))
SHOWN = {"mup": Parametrization.mup, "sp, c = 0": Parametrization.sp}


def final_losses(
    text: Text,
    parametrization: Parametrization,
    widths: Sequence[int],
    lrs: Sequence[float],
    seeds: int,
) -> np.ndarray:
    """Mean loss of the last batches, nats an example, infinite where the training diverged; [seeds, widths, lrs].

    text: read with train.lr = 1.
    """
    losses = np.empty((seeds, len(widths), len(lrs)))
    for seed, (i, width), (j, lr) in itertools.product(
        range(seeds), enumerate(widths), enumerate(lrs)
    ):
        net = text.build(Finite(width=width, parametrization=parametrization), seed)
        steps = net.train_batches([replace(batch, lr=lr * batch.lr) for batch in text.batches])
        losses[seed, i, j] = np.nan_to_num(
            np.mean(steps[-round(LAST * len(steps)) :]), nan=np.inf, posinf=np.inf
        )
    return losses


def best_lrs(losses: np.ndarray, lrs: Sequence[float]) -> np.ndarray:
    """The best step size of each training, [seeds, widths], from losses [seeds, widths, lrs]."""
    return np.array([[best_lr(lrs, row) for row in table] for table in losses])


def show(config: Config) -> Exhibit:
    """A map of losses for mup and for sp; the slopes of the best step size and its loss against width."""
    text = read_text(config, VOCAB, NUM_BATCHES, StreamConfig(), TrainConfig(lr=1.0))
    rows = [
        [
            "",
            "slope of the best step size: predicted",
            "measured",
            *(f"best, n = {width:,} (lowest loss, nats)" for width in WIDTHS),
        ]
    ]
    tables = []
    for name, parametrization in SHOWN.items():
        losses = final_losses(text, parametrization, WIDTHS, LRS, SEEDS)
        best, mean = best_lrs(losses, LRS), losses.mean(0)
        predicted = "0" if parametrization is Parametrization.mup else "-1 to 0"
        at_best = [
            f"{lr:.2g} ({row.min():.2f})"
            for lr, row in zip(np.exp(np.log(best).mean(0)), mean, strict=True)
        ]
        rows.append([name, predicted, str(fit_slope(WIDTHS, best)), *at_best])
        tables.append(mean)
    figure = draw_maps(list(SHOWN), WIDTHS, LRS, np.array(tables))
    caption = (
        f"Loss of the last {LAST:.0%} of {NUM_BATCHES:,} steps of CBOW ({text.label}), mean of {SEEDS} seeds; rings: the best step size "
        "of a width; colours end 1 nat above the best loss, blanks diverged. The same from runs: conf/experiment/figure-transfer.yaml."
    )
    return Exhibit(Drawing("transfer", "Learning-rate transfer", figure, caption), rows)
