"""Overfitting: infinite width does not prevent it

The limit can give each pair of words its own logit. For skip-gram its training loss is lowest at
the logits of the training text's own counts (see Shifted PMI). They are minus infinity for a pair
that the text does not hold, and far up for one seen by chance. CBOW, trained here, sees bags of
words, which repeat still less.

So on a small text that is read again and again, the limit keeps learning the text. Logits grow, the
training loss falls, and at some time the loss of held-out text begins to rise. A wide network is
within $n^{-1/2}$ of the limit and does the same. Weight decay takes a share of each row at each
update and so bounds the logits.

**Predicted:** where the held-out loss turns upwards, it turns in the limit and in the wide network
alike. Weight decay delays or flattens the turn; much of it keeps both losses high. Analogies are
not predicted: they depend on directions, not on losses.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from w2v_inf.config import (
    Config,
    CorpusConfig,
    Finite,
    ModelConfig,
    MupLimit,
    Planted,
    Sample,
    StreamConfig,
    TrainConfig,
)
from w2v_inf.corpus.prepare import load_corpus
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.evaluation.analogy import analogy_accuracy, load_questions
from w2v_inf.models.build import build_model
from w2v_inf.models.protocol import Model
from w2v_inf.reporting.style import PURPLE, RED, SMALL, TEAL, TEXT_WIDTH, Drawing, new_axes
from w2v_inf.runs.folder import corpus_label
from w2v_inf.stream import Batch, Stream
from w2v_inf.theory.exhibit import Exhibit

HELD_OUT = 0.1
"""Share of a text that is held out, at its end."""
WEIGHT_DECAYS, LR = {0.0: RED, 1e-3: TEAL, 1e-2: PURPLE}, 0.1
"""Weight decays with their colours."""
MODELS: tuple[tuple[str, ModelConfig, str], ...] = (
    ("muP limit", MupLimit(), "-"),
    ("width 1,024", Finite(width=1024), "--"),
)
"""Name, model, line style."""


class SmallText(NamedTuple):
    """The beginning of a corpus, to be read many times."""

    corpus: CorpusConfig
    share: float
    """Share of the corpus, from its start, that is trained on."""
    evaluate_after: tuple[int, ...]
    """Epochs after which the models are evaluated; the last ends the training."""


TEXTS = (
    SmallText(Sample(max_vocab=2000), 0.3, (2, 4, 6, 8, 12, 16, 24, 32)),
    SmallText(Planted(), 0.25, (4, 8, 16, 24, 32, 48)),
)


class LearningCurve(NamedTuple):
    """One value per evaluation."""

    train_loss: np.ndarray
    """Mean of the epoch, nats per example."""
    held_out_loss: np.ndarray
    accuracy: np.ndarray
    """Analogies solved, percent."""


def split_text(config: Config, text: SmallText) -> tuple[Stream, Stream, Vocabulary]:
    """The training stream, the held-out stream and the vocabulary.

    Held-out examples have learning rate 0. Both streams take their word counts from the training
    text.
    """
    encoded, vocab = load_corpus(config)
    tokens, documents = np.asarray(encoded.tokens), np.asarray(encoded.documents)
    ends = [text.share * documents[-1], (1 - HELD_OUT) * documents[-1]]
    last, first_held = np.searchsorted(documents, ends)
    known, rest = tokens[: documents[last]], documents[first_held:]
    counts = np.bincount(known[known < len(vocab)], minlength=len(vocab)).clip(min=1)
    stream, seed = config.stream, config.seed
    epochs, lr = text.evaluate_after[-1], config.train.lr
    train = Stream(known, documents[: last + 1], counts, stream, epochs, lr, seed)
    held_out = Stream(tokens[rest[0] :], rest - rest[0], counts, stream, 1, 0.0, seed + 1)
    return train, held_out, vocab


def mean_loss(model: Model, batches: Iterable[Batch]) -> float:
    """Update with the batches and return their mean loss, nats per example.

    At a learning rate of 0 the model stays as it is.
    """
    batches = list(batches)
    sizes = [len(batch.target) for batch in batches]
    return float(np.average(model.train_batches(batches), weights=sizes))


def learn(config: Config, text: SmallText) -> LearningCurve:
    """Train `config.model`; evaluate held-out text and analogies after some epochs."""
    train, held_out, vocab = split_text(config, text)
    model, questions = build_model(config, len(vocab)), load_questions(vocab)
    values = []
    for epoch in range(train.epochs):
        loss = mean_loss(model, train.epoch(epoch))
        if epoch + 1 in text.evaluate_after:
            analogies = analogy_accuracy(model, questions, ["3cosadd"])["3cosadd"]["total"]
            values.append((loss, mean_loss(model, held_out.epoch(0)), analogies["accuracy"]))
    return LearningCurve(*np.array(values, float).T)


def show(config: Config) -> Exhibit:
    """Analogies and losses by epoch: two models, three weight decays, two small texts."""
    figure, panels = new_axes(TEXT_WIDTH, 4.4, 2 * len(TEXTS))
    columns = ["held-out loss, lowest", "at the end", "training loss at the end"]
    rows = [["text", "", "weight decay", *columns, "analogies at the end (%)"]]
    notes = [
        f"CBOW at learning rate {LR:g}, falling to 0; one stream. The last {HELD_OUT:.0%} of each "
        "corpus is held out."
    ]
    for text, (solved, losses) in zip(TEXTS, (panels[:2], panels[2:]), strict=True):
        text_config = replace(config, corpus=text.corpus, stream=StreamConfig())
        name = corpus_label(text_config)
        notes.append(_describe(text_config, text))
        for model_name, model, line in MODELS:
            for decay, colour in WEIGHT_DECAYS.items():
                train = TrainConfig(weight_decay=decay, lr=LR)
                curve = learn(replace(text_config, train=train, model=model), text)
                look: dict[str, Any] = {"color": colour, "linestyle": line}
                label = f"{model_name}, wd {decay:g}"
                solved.plot(text.evaluate_after, curve.accuracy, label=label, **look)
                _draw_losses(losses, text, curve, look)
                rows.append([name, model_name, f"{decay:g}", *_summary(text, curve)])
        solved.set(xlabel="epoch", ylabel="analogy accuracy, 3CosAdd (%)")
        solved.set_title(f"{name}: analogies")
        losses.set(xlabel="epoch", ylabel="nats per example", title=f"{name}: loss")
    panels[0].legend(frameon=False, fontsize=SMALL)
    for label, width in (("held-out", 2.0), ("training", 0.8)):
        panels[1].plot([], [], color="0.3", linewidth=width, label=label)
    panels[1].legend(frameon=False, fontsize=SMALL)
    notes.append(
        f"A standard error of an accuracy on {TEXTS[0].corpus.name} is about one percentage point."
    )
    caption = (
        "The limit and a network of width 1,024 read a small text again and again. Analogy "
        "accuracy, and held-out and training loss, at three weight decays (wd)."
    )
    return Exhibit(Drawing("overfitting", "Overfitting", figure, caption), rows, notes)


def _describe(config: Config, text: SmallText) -> str:
    train, _, vocab = split_text(config, text)
    words = int((train.tokens < len(vocab)).sum())
    questions = len(load_questions(vocab))
    name = corpus_label(config)
    return f"{name}: its first {words:,} words, V = {len(vocab):,}, {questions:,} questions."


def _summary(text: SmallText, curve: LearningCurve) -> list[str]:
    lowest = int(curve.held_out_loss.argmin())
    return [
        f"{curve.held_out_loss[lowest]:.3f} (epoch {text.evaluate_after[lowest]})",
        f"{curve.held_out_loss[-1]:.3f}",
        f"{curve.train_loss[-1]:.3f}",
        f"{curve.accuracy[-1]:.1f}",
    ]


def _draw_losses(axes: Axes, text: SmallText, curve: LearningCurve, look: dict[str, Any]) -> None:
    axes.plot(text.evaluate_after, curve.held_out_loss, linewidth=2, **look)
    axes.plot(text.evaluate_after, curve.train_loss, linewidth=0.8, **look)
