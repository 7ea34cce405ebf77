"""Finite muP networks approach the limit as $n^{-1/2}$

The network and the limit are trained on one stream. The limit's coefficients are functions of the
logits alone (see the previous sections). Logits of a finite network differ from the limit's through
the Gram matrix of its initial rows. By the central limit theorem that matrix is $I + n^{-1/2} G$,
with $G$ of order one. SGD for a fixed number of steps is a smooth function of this Gram matrix.

**Predicted:** every logit and every cosine is the limit's, plus $n^{-1/2}$ times something of order
one, plus $O(1/n)$. The slope is $-1/2$. (TP4 proves that the limit is reached, not how fast.) The
constant grows with training, as any difference between two runs does.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from w2v_inf.config import Architecture, Config, Finite, MupLimit, StreamConfig, TrainConfig
from w2v_inf.evaluation.limit_distance import limit_distance
from w2v_inf.evaluation.similarity import cosine_table
from w2v_inf.models.linear import LinearModel
from w2v_inf.reporting.style import PURPLE, SMALL, TEAL, TEXT_WIDTH, Drawing, new_axes
from w2v_inf.theory.data import Text, read_text
from w2v_inf.theory.exhibit import (
    Exhibit,
    draw_against_width,
    draw_predicted_slope,
    measure_grid,
    relative_distance,
)

WIDTHS, SEEDS, VOCAB = (64, 256, 1024, 4096, 16384), 5, 500
NUM_BATCHES = {Architecture.cbow: 1000, Architecture.skipgram: 600}
STREAMS = {
    Architecture.cbow: StreamConfig(),
    Architecture.skipgram: StreamConfig(Architecture.skipgram, batch_size=16, shared_negatives=64),
}
"""Small batches for skip-gram: in the order of the text, 500 words are met again all the time."""
NAMES = {Architecture.cbow: "CBOW", Architecture.skipgram: "skip-gram"}
COLOURS = {Architecture.cbow: PURPLE, Architecture.skipgram: TEAL}
QUANTITIES = ("logits", "cosines")


def distances(text: Text, widths: Sequence[int] = WIDTHS, seeds: int = SEEDS) -> np.ndarray:
    """Relative distances of finite networks to the limit after the text, [2, seeds, widths].

    First of all V x V logits (Frobenius norm), then of the embeddings' cosines (`gram_error` of
    `limit_distance`).
    """
    limit = _train(text, MupLimit())
    return measure_grid(
        lambda width, seed: _distances(_train(text, Finite(width=width), seed), limit),
        widths,
        seeds,
    )


def _train(text: Text, model: Finite | MupLimit, seed: int = 0) -> LinearModel:
    network = text.build_linear(model, seed)
    network.train_batches(text.batches)
    return network


def _distances(network: LinearModel, limit: LinearModel) -> Iterable[float]:
    yield relative_distance(network.u @ network.w.T, limit.u @ limit.w.T)
    ids = torch.arange(len(network.u))
    cosines = (cosine_table(model, ids, ids).double().cpu() for model in (network, limit))
    error = limit_distance(*cosines)["gram_error"]
    assert error is not None
    yield error


def show(config: Config) -> Exhibit:
    """Distances of CBOW and skip-gram against width, of logits and of cosines."""
    figure, panels = new_axes(TEXT_WIDTH, 4.2, 2)
    rows, texts = [["", "distance of", "predicted slope", "measured"]], []
    for architecture, name in NAMES.items():
        stream, num_batches = STREAMS[architecture], NUM_BATCHES[architecture]
        text = read_text(config, VOCAB, num_batches, stream, TrainConfig())
        texts.append(f"{name}: {text.label}")
        look = {"color": COLOURS[architecture], "marker": "o"}
        for axes, quantity, values in zip(panels, QUANTITIES, distances(text), strict=True):
            slope = draw_against_width(axes, WIDTHS, values, name, look)
            rows.append([name, quantity, "-0.50", str(slope)])
    for axes, quantity in zip(panels, QUANTITIES, strict=True):
        draw_predicted_slope(axes, WIDTHS, axes.get_ylim()[1])
        title = f"{quantity} of all pairs of words"
        axes.set(title=title, ylabel="relative distance to the limit")
        axes.legend(frameon=False, fontsize=SMALL)
    caption = (
        "Distance of finite muP networks to the exact limit after training on the same batches, "
        f"{SEEDS} seeds per width. Points are seeds, lines geometric means."
    )
    drawing = Drawing("convergence", "Convergence", figure, caption)
    return Exhibit(drawing, rows, [f"Texts: {'; '.join(texts)}."])
