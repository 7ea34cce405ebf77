"""Finite muP nets approach the limit as n^-1/2

Both are trained on one stream. The limit's coefficients are functions of the logits alone, and logits of a finite net differ from
the limit's through the Gram matrix of its initial rows, which is I + n^-1/2 G with G of order one (central limit theorem). SGD for
a fixed number of steps is a smooth function of that Gram matrix. So every logit and every cosine is the limit's plus n^-1/2 times
something of order one plus O(1/n): slope -1/2 (TP4 proves that the limit is reached, not how fast). The constant grows
with training, as any difference between two runs does.
"""

from collections.abc import Sequence

import numpy as np
import torch

from w2v_inf.config import Architecture, Config, Finite, MupLimit, StreamConfig, TrainConfig
from w2v_inf.evaluation.limit_distance import limit_distance
from w2v_inf.evaluation.similarity import cosine_table
from w2v_inf.models.linear import LinearModel
from w2v_inf.reporting.style import Drawing, new_axes
from w2v_inf.theory.data import Text, read_text
from w2v_inf.theory.exhibit import Estimate, Exhibit, draw_against_width, draw_reference

WIDTHS, SEEDS, VOCAB = (64, 256, 1024, 4096, 16384), 5, 500
NUM_BATCHES = {Architecture.cbow: 1000, Architecture.skipgram: 600}
NAMES = {Architecture.cbow: "CBOW", Architecture.skipgram: "skip-gram"}
COLOURS = {Architecture.cbow: "#443a83", Architecture.skipgram: "#21908d"}
MEASURES = ("logits", "cosines")


def distances(text: Text, widths: Sequence[int] = WIDTHS, seeds: int = SEEDS) -> np.ndarray:
    """Relative distances of finite nets to the limit after the text, [2, seeds, widths].

    First of all V x V logits (Frobenius norm), then of the embeddings' cosines (`gram_error` of `limit_distance`).
    """
    limit = _train(text, MupLimit())
    errors = [
        [_distance(_train(text, Finite(width=n), seed), limit) for n in widths]
        for seed in range(seeds)
    ]
    return np.moveaxis(np.array(errors), 2, 0)


def _train(text: Text, model: Finite | MupLimit, seed: int = 0) -> LinearModel:
    net = text.build(model, seed)
    assert isinstance(net, LinearModel)
    net.train_batches(text.batches)
    return net


def _distance(net: LinearModel, limit: LinearModel) -> tuple[float, float]:
    logits, exact = net.u @ net.w.T, limit.u @ limit.w.T
    ids = torch.arange(len(net.u))
    cosines = limit_distance(
        *(cosine_table(model, ids, ids).double().cpu() for model in (net, limit))
    )["gram_error"]
    assert cosines is not None
    return float((logits - exact).norm() / exact.norm()), cosines


def show(config: Config) -> Exhibit:
    """Distances of CBOW and skip-gram against width, of logits and of cosines."""
    figure, panels = new_axes(10.0, 4.2, 2)
    slopes: dict[tuple[str, str], Estimate] = {}
    labels = []
    for architecture, name in NAMES.items():
        text = read_text(
            config,
            VOCAB,
            NUM_BATCHES[architecture],
            StreamConfig(architecture=architecture),
            TrainConfig(),
        )
        labels.append(f"{name}: {text.label}")
        for axes, measure, values in zip(panels, MEASURES, distances(text), strict=True):
            look = {"color": COLOURS[architecture], "marker": "o"}
            slopes[name, measure] = draw_against_width(axes, WIDTHS, values, name, look)
    for axes, measure in zip(panels, MEASURES, strict=True):
        draw_reference(axes, WIDTHS, axes.get_ylim()[1], -0.5, "slope -1/2")
        axes.set(title=f"{measure} of all pairs of words", ylabel="relative distance to the limit")
        axes.legend(frameon=False, fontsize=8)
    caption = (
        f"Distance of finite muP nets to the exact limit after training on the same batches, {SEEDS} seeds a width; points are seeds, "
        f"lines geometric means. {'; '.join(labels)}. Predicted slope -1/2; measured: "
        + "; ".join(f"{name}, {measure}: {slope}" for (name, measure), slope in slopes.items())
        + "."
    )
    rows = [
        ["", "distance of", "predicted slope", "measured"],
        *([*key, "-0.50", str(slope)] for key, slope in slopes.items()),
    ]
    return Exhibit(Drawing("convergence", "Convergence", figure, caption), rows)
