"""The options of the stream of examples and of the update."""

from dataclasses import dataclass
from enum import StrEnum

from w2v_inf.config.checks import NULL, FilledFloat, FilledInt, check_finite
from w2v_inf.errors import check, check_range

Architecture = StrEnum("Architecture", {"cbow": "cbow", "skipgram": "skipgram"})
ContextGradient = StrEnum("ContextGradient", {"divided": "divided", "whole": "whole"})
Log = StrEnum("Log", {"jsonl": "jsonl", "tensorboard": "tensorboard"})
Resume = StrEnum("Resume", {"auto": "auto", "never": "never"})
Sigmoid = StrEnum("Sigmoid", {"exact": "exact", "tp4": "tp4"})


@dataclass
class StreamConfig:
    """How the text becomes training examples, the same for every model."""

    architecture: Architecture = Architecture.cbow
    """cbow: the mean of the context predicts the word; skipgram: each context word does."""
    window: int = 8
    """Largest distance of a context word, in kept words. Each position draws from 1 to this."""
    num_negatives: int = 25
    """K: negatives per positive, drawn from count^0.75."""
    subsample_threshold: float = 1e-4
    """t: a word of frequency f is kept with probability min(1, sqrt(t/f) + t/f); 0 keeps all."""
    batch_size: FilledInt = NULL
    """B: positions per SGD step. null: 32. Larger steps overshoot."""
    interleave: FilledInt = NULL
    """Distant places of a block (262,144 words) that a batch takes its positions from; a divisor of
    batch_size. 1: the order of the text. null: batch_size."""
    group_size: FilledInt = NULL
    """Positions that share their negatives. null: batch_size. 1: every example draws its own."""
    shared_negatives: FilledInt = NULL
    """S: negatives per group, each weighted K/S; unused with group_size=1. null: 16 (CBOW), 32
    (skip-gram)."""

    def __post_init__(self) -> None:
        check_range("stream.window", self.window, 1, 100)
        check_range("stream.num_negatives", self.num_negatives, 1, 1000)
        check_range("stream.batch_size", self.batch_size, 1, 65536, "the default")
        check_range("stream.interleave", self.interleave, 1, 65536, "the default")
        check_range("stream.group_size", self.group_size, 1, 65536, "stream.batch_size")
        check_range("stream.shared_negatives", self.shared_negatives, 1, 65536, "the default")
        check_finite("stream", self)
        t = self.subsample_threshold
        check("stream.subsample_threshold", t, t >= 0, "0 (keep all) or more")


@dataclass
class TrainConfig:
    """How long it trains, and by which update."""

    epochs: int = 5
    """Passes over the corpus."""
    lr: FilledFloat = NULL
    """Initial learning rate, dimensionless; falls linearly with the words seen. null: 0.05 (CBOW),
    0.025 (skip-gram), as word2vec.c."""
    weight_decay: float = 0.001
    """A row updated m times in a step is first multiplied by (1 - lr weight_decay)^m."""
    context_gradient: ContextGradient = ContextGradient.divided
    """divided: the gradient of the mean context, as TP4; whole: each context word gets the full
    gradient of the hidden vector, as word2vec.c and gensim (about 9 times larger in CBOW)."""
    sigmoid: Sigmoid = Sigmoid.exact
    """exact, or tp4: the look-up table of the authors' program, off by 0.19 in the logit."""
    resume: Resume = Resume.auto
    """auto: an interrupted run resumes from its last checkpoint; never: it starts again."""
    log: Log = Log.jsonl
    """jsonl: metrics.jsonl; tensorboard: an event file as well (extra tensorboard)."""

    def __post_init__(self) -> None:
        check_range("train.epochs", self.epochs, 1, 10_000)
        check_finite("train", self)
        allowed = "above 0, or null for the architecture's default"
        check("train.lr", self.lr, self.lr is None or self.lr > 0, allowed)
        check("train.weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more")
