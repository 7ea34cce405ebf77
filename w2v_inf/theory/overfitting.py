"""Overfitting: infinite width is no guard against it

The limit can give each pair of words its own logit. For skip-gram its training loss is lowest at the logits of the training text's own
counts (see Shifted PMI): minus infinity for a pair that the text does not hold, far up for one seen by chance. CBOW, trained here, sees
bags of words, of which still fewer repeat. So on a small text that is read again and again the limit goes on to learn the text: logits
grow, the training loss falls, and at some time the loss of held-out text turns. A wide net is within n^-1/2 of the limit and does the
same. Weight decay takes a share of each row at each touch and so bounds the logits.
Predicted: where the held-out loss turns, it turns in the limit and in the wide net alike; decay delays or flattens the turn, and much of
it keeps training and held-out loss high. What analogies do is not predicted: they ask for directions, not for losses.
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
from w2v_inf.reporting.style import Drawing, new_axes
from w2v_inf.runs.folder import corpus_label
from w2v_inf.stream import Batch, Stream
from w2v_inf.theory.exhibit import Exhibit

HELD_OUT = 0.1
"""Share of a text that is held out, its end."""
WEIGHT_DECAYS, LR = (0.0, 1e-3, 1e-2), 0.1
MODELS: tuple[tuple[str, ModelConfig, str], ...] = (
    ("muP limit", MupLimit(), "-"),
    ("width 1,024", Finite(width=1024), "--"),
)
"""Name, model, line."""
COLOURS = ("#d6604d", "#21908d", "#443a83")


class SmallText(NamedTuple):
    """The beginning of a corpus, to be read many times."""

    corpus: CorpusConfig
    share: float
    """Of the corpus, from its start, that is trained on."""
    looks_at: tuple[int, ...]
    """Epochs after which the nets are asked; the last ends the training."""


TEXTS = (
    SmallText(Sample(max_vocab=2000), 0.3, (2, 4, 6, 8, 12, 16, 24, 32)),
    SmallText(Planted(), 0.25, (4, 8, 16, 24, 32, 48)),
)


class Learning(NamedTuple):
    """What `learn` saw, one number a look."""

    train_loss: np.ndarray
    """Mean of the epoch, nats an example."""
    held_loss: np.ndarray
    accuracy: np.ndarray
    """Analogies solved, percent."""


def split(config: Config, text: SmallText) -> tuple[Stream, Stream, Vocabulary]:
    """The training stream, and the examples of the corpus's end at a step size of 0; counts are those of what is trained on."""
    encoded, vocab = load_corpus(config)
    tokens, documents = np.asarray(encoded.tokens), np.asarray(encoded.documents)
    last, first_held = np.searchsorted(
        documents, [text.share * documents[-1], (1 - HELD_OUT) * documents[-1]]
    )
    known, rest = tokens[: documents[last]], documents[first_held:]
    counts = np.bincount(known[known < len(vocab)], minlength=len(vocab)).clip(min=1)
    train = Stream(
        known,
        documents[: last + 1],
        counts,
        config.stream,
        text.looks_at[-1],
        config.train.lr,
        config.seed,
    )
    return (
        train,
        Stream(tokens[rest[0] :], rest - rest[0], counts, config.stream, 1, 0.0, config.seed + 1),
        vocab,
    )


def mean_loss(net: Model, batches: Iterable[Batch]) -> float:
    """Update with the batches; nats an example. At a step size of 0 the net stays as it is."""
    batches = list(batches)
    return float(
        np.average(net.train_batches(batches), weights=[len(batch.target) for batch in batches])
    )


def learn(config: Config, text: SmallText) -> Learning:
    """Train `config.model`, with a look at held-out text and analogies after some epochs."""
    train, held, vocab = split(config, text)
    net, questions = build_model(config, len(vocab)), load_questions(vocab)
    looks = []
    for epoch in range(train.epochs):
        loss = mean_loss(net, train.epoch(epoch))
        if epoch + 1 in text.looks_at:
            accuracy = analogy_accuracy(net, questions, ["3cosadd"])["3cosadd"]["total"]["accuracy"]
            looks.append((loss, mean_loss(net, held.epoch(0)), accuracy))
    return Learning(*np.array(looks, float).T)


def show(config: Config) -> Exhibit:
    """Analogies, held-out and training loss by epoch at three weight decays, of the limit and of a wide net, on two small texts."""
    figure, panels = new_axes(17.0, 4.4, 2 * len(TEXTS))
    rows = [
        [
            "text",
            "",
            "weight decay",
            "held-out loss, lowest",
            "at the end",
            "training loss at the end",
            "analogies at the end (%)",
        ]
    ]
    labels: list[str] = []
    for text, (solved, losses) in zip(TEXTS, (panels[:2], panels[2:]), strict=True):
        own = replace(config, corpus=text.corpus, stream=StreamConfig())
        train, _, vocab = split(own, text)
        questions = f"{len(load_questions(vocab)):,} questions"
        labels.append(
            f"{corpus_label(own)}, its first {int((train.tokens < len(vocab)).sum()):,} words, V = {len(vocab):,}, {questions}"
        )
        for name, model, line in MODELS:
            for decay, colour in zip(WEIGHT_DECAYS, COLOURS, strict=True):
                seen = learn(
                    replace(own, train=TrainConfig(weight_decay=decay, lr=LR), model=model), text
                )
                _draw(
                    solved,
                    losses,
                    text,
                    seen,
                    f"{name}, wd {decay:g}",
                    {"color": colour, "linestyle": line},
                )
                rows.append([corpus_label(own), name, f"{decay:g}", *_summary(text, seen)])
        solved.set(
            xlabel="epoch",
            ylabel="analogy accuracy, 3CosAdd (%)",
            title=f"{corpus_label(own)}: analogies",
        )
        losses.set(xlabel="epoch", ylabel="nats per example", title=f"{corpus_label(own)}: loss")
    panels[0].legend(frameon=False, fontsize=7)
    panels[1].plot([], [], color="0.3", linewidth=2, label="held-out")
    panels[1].plot([], [], color="0.3", linewidth=0.8, label="training")
    panels[1].legend(frameon=False, fontsize=8)
    caption = (
        f"The limit and a net of width 1,024 read a small text again and again (CBOW, step size {LR:g} falling to 0, one stream; the last "
        f"{HELD_OUT:.0%} of the corpus held out). {'; '.join(labels)}. "
        f"A standard error of an accuracy on {TEXTS[0].corpus.name} is about a point."
    )
    return Exhibit(Drawing("overfitting", "Overfitting", figure, caption), rows)


def _summary(text: SmallText, seen: Learning) -> list[str]:
    lowest = int(seen.held_loss.argmin())
    turn = f"{seen.held_loss[lowest]:.3f} (epoch {text.looks_at[lowest]})"
    return [
        turn,
        f"{seen.held_loss[-1]:.3f}",
        f"{seen.train_loss[-1]:.3f}",
        f"{seen.accuracy[-1]:.1f}",
    ]


def _draw(
    solved: Axes, losses: Axes, text: SmallText, seen: Learning, label: str, look: dict[str, Any]
) -> None:
    solved.plot(text.looks_at, seen.accuracy, label=label, **look)
    losses.plot(text.looks_at, seen.held_loss, linewidth=2, **look)
    losses.plot(text.looks_at, seen.train_loss, linewidth=0.8, **look)
