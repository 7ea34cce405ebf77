r"""What the NTK limit learns: shifted PMI

**Setting.** Skip-gram in the NTK limit, from $w(0) = 0$ and without weight decay, has one free
logit $f_{io}$ per pair (input $i$, output $o$). Let $N_{io}$ be how often the pair occurs among the
examples, and $N_i$ the sum of $N_{io}$ over $o$. Each example of input $i$ draws $K$ negatives,
output $o$ with probability $p_o \propto \mathrm{count}_o^{0.75}$. A negative that equals the
example's own target is skipped.

**Optimum.** So $o$ is a negative of $i$ on average $K p_o (N_i - N_{io})$ times. The expected loss
of the pair,
    -N_{io} \log \sigma(f_{io})
      {} - K p_o (N_i - N_{io}) \log \sigma(-f_{io}),
is lowest at
    f_{io} = \log N_{io}
      {} - \log \left[ K p_o (N_i - N_{io}) \right].
Without skipping it would be $\log \frac{N_{io}}{N_i p_o} - \log K$: PMI (with smoothed $p$) shifted
by $\log K$, of Levy & Goldberg 2014. Skipping adds $-\log(1 - N_{io} / N_i)$, which matters where
one word fills much of another's context. Pairs that never occur go to minus infinity.

**Rate and noise.** Near its optimum a pair approaches it at the rate per epoch
    \eta\, \sigma (1 - \sigma) \left[ N_{io} + K p_o (N_i - N_{io}) \right]
      = \eta\, (1 - \sigma) N_{io}, \qquad
      \sigma = \sigma(f_{io}).
A constant learning rate leaves noise of variance
    \frac{\eta}{2} \left[ 1 + \sigma (K - 1) p_o \right]
if examples are independent. (It is $\eta$ times the variance of the gradient over twice its slope;
the bracket comes from negatives drawn twice by one example.) A falling learning rate removes this
noise. Running text is not independent. At $V = 20$ and $\eta = 0.05$ throughout, pairs with at
least 1,000 occurrences per epoch lie 0.35 from their optimum after two epochs. With the same
examples shuffled it is 0.16, and $(\eta / 2)^{1/2}$ is 0.16.

**Scope.** Any network of width $V$ or more has the same optimum, its logits being free too. The
path there and the embeddings differ.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from w2v_inf.config import Architecture, Config, NtkLimit, StreamConfig, TrainConfig
from w2v_inf.corpus.prepare import load_corpus
from w2v_inf.models.build import build_model
from w2v_inf.models.ntk_limit import NtkLimit as NtkTable
from w2v_inf.reporting.findings import format_mean_std
from w2v_inf.reporting.style import GREEN, PURPLE, SMALL, TEAL, TEXT_WIDTH, Drawing, new_axes
from w2v_inf.runs.folder import corpus_label
from w2v_inf.runs.results import mean_std
from w2v_inf.stream import Stream, negatives_cdf
from w2v_inf.theory.exhibit import Exhibit
from w2v_inf.theory.ntk import limit_logits

VOCAB, EPOCHS, SEEDS, LR = 60, 12, 3, 0.1
STREAM = StreamConfig(
    Architecture.skipgram,
    window=2,
    num_negatives=5,
    subsample_threshold=0,
    batch_size=64,
    group_size=1,
)
BINS = {(20, 50): GREEN, (50, 200): TEAL, (200, np.inf): PURPLE}
"""Occurrences of a pair per epoch, from and below, with their colours."""
MIN_COUNT = 20
"""Occurrences per epoch below which a pair is left out: the lower end of the first bin."""


def shifted_pmi(
    counts: np.ndarray, p: np.ndarray, num_negatives: int, skipped: bool = True
) -> np.ndarray:
    """The optimum of every pair, [V_in, V_out]; minus infinity where the pair does not occur.

    Args:
      counts: N_io, [V_in, V_out].
      p: probability of each output as a negative, [V_out].
      skipped: whether negatives equal to the target are skipped; False gives plain shifted PMI.
    """
    total = counts.sum(1, keepdims=True)
    with np.errstate(divide="ignore"):
        return np.log(counts) - np.log(num_negatives * p * (total - counts if skipped else total))


class LogitHistory(NamedTuple):
    """One training of the NTK limit."""

    logits: np.ndarray
    """After each epoch, [epochs, V_in, V_out]."""
    counts: np.ndarray
    """N_io per epoch, the mean over all epochs; [V_in, V_out]."""
    p: np.ndarray
    """Probabilities of the negatives, [V]."""


def learn(
    config: Config, vocab_size: int = VOCAB, epochs: int = EPOCHS, seed: int = 0
) -> LogitHistory:
    """Train the NTK limit by skip-gram on the commonest words of `config.corpus`."""
    options = training_options(config, vocab_size, seed)
    encoded, vocab = load_corpus(options)
    stream = Stream(encoded.tokens, encoded.documents, vocab.counts, STREAM, epochs, LR, seed)
    limit, counts, logits = build_model(options, len(vocab)), np.zeros((len(vocab),) * 2), []
    assert isinstance(limit, NtkTable)
    for epoch in range(epochs):
        for batch in stream.epoch(epoch):
            np.add.at(counts, (batch.context[:, 0], batch.target), 1)
            limit.update(batch)
        logits.append(limit_logits(limit).double().numpy())
    p = np.diff(negatives_cdf(vocab.counts), prepend=0)
    return LogitHistory(np.array(logits), counts / epochs, p)


def training_options(config: Config, vocab_size: int, seed: int) -> Config:
    """Corpus and machine of `config`; model, stream and training of this claim."""
    return replace(
        config,
        corpus=replace(config.corpus, max_vocab=vocab_size),
        stream=STREAM,
        train=TrainConfig(weight_decay=0),
        model=NtkLimit(),
        seed=seed,
    )


def deviations(
    history: LogitHistory, counts: tuple[float, float] = (MIN_COUNT, np.inf), skipped: bool = True
) -> np.ndarray:
    """Root mean square deviation from `shifted_pmi` after each epoch, [epochs].

    counts: occurrences per epoch, from and below, of the pairs that enter.
    """
    chosen = (history.counts >= counts[0]) & (history.counts < counts[1])
    optimum = shifted_pmi(history.counts, history.p, STREAM.num_negatives, skipped)
    return np.sqrt(np.square(history.logits - optimum)[:, chosen].mean(1))


def correlation(history: LogitHistory, epoch: int) -> float:
    """Pearson correlation of the logits after `epoch` with the optimum, over frequent pairs."""
    chosen = history.counts >= MIN_COUNT
    optimum = shifted_pmi(history.counts, history.p, STREAM.num_negatives)
    return float(np.corrcoef(history.logits[epoch][chosen], optimum[chosen])[0, 1])


def show(config: Config) -> Exhibit:
    """Final logits against shifted PMI; the deviation by epoch for rare and common pairs."""
    histories = [learn(config, seed=seed) for seed in range(SEEDS)]
    figure, (scatter, falling) = new_axes(TEXT_WIDTH, 4.4, 2)
    _draw_scatter(scatter, histories[0])
    columns = ["deviation after epoch 1", f"epoch {EPOCHS // 2}", f"epoch {EPOCHS}"]
    rows = [["pairs per epoch", "number", *columns, f"epoch {EPOCHS}, without skipping"]]
    rows += [_draw_deviations(falling, histories, bounds) for bounds in BINS]
    falling.set(
        yscale="log",
        xlabel="epoch",
        ylabel="root mean square deviation of logits",
        title="distance to shifted PMI",
    )
    falling.legend(frameon=False, fontsize=SMALL)
    options = training_options(config, VOCAB, 0)
    text = f"{corpus_label(options)}, V = {VOCAB}, window {STREAM.window}"
    caption = (
        f"The NTK limit trained by skip-gram ({text}, K = {STREAM.num_negatives}). First: pairs "
        f"with at least {MIN_COUNT} occurrences per epoch, one stream. Second: deviation from the "
        f"optimum, mean and range over {SEEDS} streams."
    )
    first, last = ([correlation(history, epoch) for history in histories] for epoch in (0, -1))
    notes = [
        f"{EPOCHS} epochs, learning rate {LR:g} falling to 0. Nothing is fitted.",
        f"Correlation {_format(first)} after epoch 1 and {_format(last, 4)} at the end.",
        "Most of the fall comes from the falling learning rate. Its noise is about "
        f"{(LR / 4) ** 0.5:.2f} half way if examples are independent, and larger for common pairs "
        "of running text.",
        "The table's last column is the final deviation from plain shifted PMI, as if negatives "
        "equal to the target were not skipped.",
    ]
    return Exhibit(Drawing("pmi", "Shifted PMI", figure, caption), rows, notes)


def _draw_deviations(
    axes: Axes, histories: list[LogitHistory], bounds: tuple[float, float]
) -> list[str]:
    """Draw the deviation by epoch of the pairs within `bounds`; returns their row of the table."""
    low, high = bounds
    name = f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} and more"
    values, plain = (
        np.array([deviations(history, bounds, skipped) for history in histories])
        for skipped in (True, False)
    )
    epochs, colour = range(1, EPOCHS + 1), BINS[bounds]
    axes.plot(epochs, values.mean(0), ".-", color=colour, label=f"{name} per epoch")
    axes.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.25, linewidth=0)
    counts = histories[0].counts
    number = int(((counts >= low) & (counts < high)).sum())
    columns = (values[:, 0], values[:, EPOCHS // 2 - 1], values[:, -1], plain[:, -1])
    return [name, f"{number:,}", *map(_format, columns)]


def _draw_scatter(axes: Axes, history: LogitHistory) -> None:
    """Logits after the last epoch against the optimum, coloured by occurrences of the pair."""
    optimum = shifted_pmi(history.counts, history.p, STREAM.num_negatives)
    for (low, high), colour in BINS.items():
        chosen = (history.counts >= low) & (history.counts < high)
        points = (optimum[chosen], history.logits[-1][chosen])
        axes.plot(*points, ".", color=colour, markersize=3, rasterized=True)
    ends = [optimum[history.counts >= MIN_COUNT].min(), optimum.max()]
    axes.plot(ends, ends, "k:", linewidth=0.9, label="equal")
    axes.set(xlabel=r"$\log\, N_{io} - \log [K p_o (N_i - N_{io})]$", ylabel="logit")
    axes.set_title(f"logits after {EPOCHS} epochs")
    axes.legend(frameon=False, fontsize=SMALL)


def _format(values: np.ndarray | list[float], digits: int = 3) -> str:
    """Mean and standard deviation over streams."""
    return format_mean_std(mean_std(map(float, values)), f".{digits}f")
