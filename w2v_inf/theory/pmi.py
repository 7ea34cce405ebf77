"""What the NTK limit learns: shifted PMI

Skip-gram in the NTK limit from w(0) = 0 without weight decay has one free logit f_io a pair (input i, output o). Let N_io be how often
the pair occurs among the examples and N_i = sum of N_io over o. Each example of input i draws K negatives, output o with probability p(o)
~ count^0.75, and one that equals the example's own target is skipped. So o is a negative of i on average K p(o) (N_i - N_io) times, and
the expected loss of the pair
  N_io (-log sigma(f)) + K p(o) (N_i - N_io) (-log sigma(-f))
is least at
  f_io = log N_io - log[ K p(o) (N_i - N_io) ].
Without the skipping it would be log N_io / (N_i p(o)) - log K, PMI (with smoothed p) shifted by log K, of Levy & Goldberg 2014; skipping
adds -log(1 - N_io / N_i), which counts where one word fills much of another's context. Pairs that never occur go to minus infinity.
Near its optimum a pair approaches it at the rate lr sigma (1 - sigma) (N_io + K p(o)(N_i - N_io)) = lr (1 - sigma) N_io an epoch, and
steps of a constant size leave a noise of variance (lr / 2)(1 + sigma (K - 1) p(o)) if examples are independent (lr x variance of the
gradient / twice its slope; the bracket from negatives drawn twice by one example), which a falling step size takes away. Running
text is not independent: at V = 20 and lr = 0.05 throughout, pairs of 1,000 and more an epoch lie 0.35 from their optimum after two
epochs, and 0.16 if the same examples are shuffled; (lr / 2)^1/2 is 0.16.
Any net of width V or more has the same optimum, its logits being free too; what differs is the way there, and the embeddings.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from w2v_inf.config import Architecture, Config, NtkLimit, StreamConfig, TrainConfig
from w2v_inf.corpus.prepare import load_corpus
from w2v_inf.models.build import build_model
from w2v_inf.models.ntk_limit import NtkLimit as NtkTable
from w2v_inf.reporting.style import Drawing, new_axes
from w2v_inf.runs.folder import corpus_label
from w2v_inf.stream import Stream, negatives_cdf
from w2v_inf.theory.exhibit import Exhibit
from w2v_inf.theory.ntk import limit_logits

VOCAB, EPOCHS, SEEDS, LR = 60, 12, 3, 0.1
OPTIONS = StreamConfig(
    Architecture.skipgram,
    window=2,
    num_negatives=5,
    subsample_threshold=0,
    batch_size=64,
    group_size=1,
)
BINS = ((20, 50), (50, 200), (200, np.inf))
"""Occurrences of a pair an epoch, from and below."""
COLOURS = ("#8fd744", "#21908d", "#443a83")


def shifted_pmi(
    counts: np.ndarray, p: np.ndarray, num_negatives: int, skipped: bool = True
) -> np.ndarray:
    """The optimum of every pair, [V_in, V_out]; minus infinity where the pair does not occur.

    Args:
      counts: N_io, [V_in, V_out].    p: probability of each output as a negative, [V_out].
      skipped: whether negatives equal to the target are skipped; False gives plain shifted PMI.
    """
    total = counts.sum(1, keepdims=True)
    with np.errstate(divide="ignore"):
        return np.log(counts) - np.log(num_negatives * p * (total - counts if skipped else total))


class Learning(NamedTuple):
    """A training of the NTK limit."""

    logits: np.ndarray
    """After each epoch, [epochs, V_in, V_out]."""
    counts: np.ndarray
    """N_io an epoch, the mean over all epochs; [V_in, V_out]."""
    p: np.ndarray
    """Probabilities of the negatives, [V]."""


def learn(config: Config, vocab_size: int = VOCAB, epochs: int = EPOCHS, seed: int = 0) -> Learning:
    """Train the NTK limit by skip-gram on the commonest words of `config.corpus`."""
    options = own_options(config, vocab_size, seed)
    encoded, vocab = load_corpus(options)
    stream = Stream(encoded.tokens, encoded.documents, vocab.counts, OPTIONS, epochs, LR, seed)
    net, counts, logits = build_model(options, len(vocab)), np.zeros((len(vocab), len(vocab))), []
    assert isinstance(net, NtkTable)
    for epoch in range(epochs):
        for batch in stream.epoch(epoch):
            np.add.at(counts, (batch.context[:, 0], batch.target), 1)
            net.update(batch)
        logits.append(limit_logits(net).double().numpy())
    return Learning(
        np.array(logits), counts / epochs, np.diff(negatives_cdf(vocab.counts), prepend=0)
    )


def own_options(config: Config, vocab_size: int, seed: int) -> Config:
    """The corpus and machine of `config` with this item's own model, stream and training."""
    corpus = replace(config.corpus, max_vocab=vocab_size)
    return replace(
        config,
        corpus=corpus,
        stream=OPTIONS,
        train=TrainConfig(weight_decay=0),
        model=NtkLimit(),
        seed=seed,
    )


def deviations(
    learning: Learning, counts: tuple[float, float] = (BINS[0][0], np.inf), skipped: bool = True
) -> np.ndarray:
    """Root mean square deviation from `shifted_pmi` after each epoch, over pairs that occur so often an epoch; [epochs]."""
    chosen = (learning.counts >= counts[0]) & (learning.counts < counts[1])
    optimum = shifted_pmi(learning.counts, learning.p, OPTIONS.num_negatives, skipped)
    return np.sqrt(np.square(learning.logits - optimum)[:, chosen].mean(1))


def correlation(learning: Learning, epoch: int) -> float:
    """Pearson's, of logits after an epoch with the optimum, over pairs of the first bin's occurrences and more."""
    chosen = learning.counts >= BINS[0][0]
    optimum = shifted_pmi(learning.counts, learning.p, OPTIONS.num_negatives)
    return float(np.corrcoef(learning.logits[epoch][chosen], optimum[chosen])[0, 1])


def show(config: Config) -> Exhibit:
    """Logits against shifted PMI at the end, and the deviation against epochs for rare and common pairs."""
    runs = [learn(config, seed=seed) for seed in range(SEEDS)]
    figure, (scatter, falling) = new_axes(10.0, 4.4, 2)
    _draw_scatter(scatter, runs[0])
    epochs = range(1, EPOCHS + 1)
    head = [
        "deviation after epoch 1",
        f"epoch {EPOCHS // 2}",
        f"epoch {EPOCHS}",
        f"epoch {EPOCHS}, without skipping",
    ]
    rows = [["pairs an epoch", "number", *head]]
    for (low, high), colour in zip(BINS, COLOURS, strict=True):
        name = f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} and more"
        values, plain = (
            np.array([deviations(run, (low, high), skipped) for run in runs])
            for skipped in (True, False)
        )
        number = int(((runs[0].counts >= low) & (runs[0].counts < high)).sum())
        falling.plot(epochs, values.mean(0), ".-", color=colour, label=f"{name} an epoch")
        falling.fill_between(
            epochs, values.min(0), values.max(0), color=colour, alpha=0.25, linewidth=0
        )
        rows.append(
            [
                name,
                f"{number:,}",
                *(_spread(values[:, e]) for e in (0, EPOCHS // 2 - 1, -1)),
                _spread(plain[:, -1]),
            ]
        )
    falling.set(
        yscale="log",
        xlabel="epoch",
        ylabel="root mean square deviation of logits",
        title="distance to shifted PMI",
    )
    falling.legend(frameon=False, fontsize=8)
    first, last = (np.array([correlation(run, epoch) for run in runs]) for epoch in (0, -1))
    text = f"{corpus_label(own_options(config, VOCAB, 0))}, V = {VOCAB}, window {OPTIONS.window}, K = {OPTIONS.num_negatives}"
    caption = (
        f"The NTK limit trained by skip-gram ({text}, {EPOCHS} epochs, step size {LR:g} falling to 0, {SEEDS} streams). Left: every pair "
        f"that occurs {BINS[0][0]} times an epoch or more, one stream; nothing is fitted. Right: deviation from that optimum, mean and "
        f"range over streams. Correlation {_spread(first)} after epoch 1 and {_spread(last, 4)} at the end. Most of the fall is that of "
        f"the step size: its noise is about {(LR / 4) ** 0.5:.2f} half way if examples are independent, and larger for common pairs of "
        "running text. The table's last column is the deviation at the end from plain shifted PMI, as if negatives equal to the target "
        "were not skipped."
    )
    return Exhibit(Drawing("pmi", "Shifted PMI", figure, caption), rows)


def _draw_scatter(axes: Axes, learning: Learning) -> None:
    """Logits after the last epoch against the optimum, coloured by how often the pair occurs."""
    optimum = shifted_pmi(learning.counts, learning.p, OPTIONS.num_negatives)
    for (low, high), colour in zip(BINS, COLOURS, strict=True):
        chosen = (learning.counts >= low) & (learning.counts < high)
        axes.plot(
            optimum[chosen],
            learning.logits[-1][chosen],
            ".",
            color=colour,
            markersize=3,
            rasterized=True,
        )
    ends = [optimum[learning.counts >= BINS[0][0]].min(), optimum.max()]
    axes.plot(ends, ends, "k:", linewidth=0.9, label="equal")
    axes.set(
        xlabel="log N_io - log[K p(o)(N_i - N_io)]",
        ylabel="logit",
        title=f"logits after {EPOCHS} epochs",
    )
    axes.legend(frameon=False, fontsize=8)


def _spread(values: np.ndarray, digits: int = 3) -> str:
    """Mean and standard deviation over streams."""
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1):.{digits}f}"
