"""A little text for the checks: the same first batches for every model."""

from dataclasses import dataclass, replace
from itertools import islice

from w2v_inf.config import Config, Finite, ModelConfig, StreamConfig, TrainConfig
from w2v_inf.corpus.prepare import load_corpus
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.models.build import build_model
from w2v_inf.models.linear import LinearModel
from w2v_inf.models.protocol import Model
from w2v_inf.runs.folder import corpus_label
from w2v_inf.stream import Batch, Stream, build_stream
from w2v_inf.training.train import BATCHES_AT_ONCE


@dataclass(frozen=True)
class Text:
    """The first batches of a corpus and the options that made them.

    Learning rates are those of a training of one epoch.
    """

    config: Config
    vocab: Vocabulary
    batches: list[Batch]

    def build(self, model: ModelConfig, seed: int = 0) -> Model:
        """An untrained model for this text."""
        return build_model(replace(self.config, model=model, seed=seed), len(self.vocab))

    def build_linear(self, model: ModelConfig, seed: int = 0) -> LinearModel:
        """An untrained finite network or muP limit for this text."""
        network = self.build(model, seed)
        assert isinstance(network, LinearModel)
        return network

    @property
    def label(self) -> str:
        """The text's name in a caption."""
        words = f"first {self.batches[-1].words_seen:,} words"
        return f"{corpus_label(self.config)}, V = {len(self.vocab):,}, {words}"


def read_text(
    config: Config, max_vocab: int, num_batches: int, stream: StreamConfig, train: TrainConfig
) -> Text:
    """The commonest words of `config.corpus` and its first batches in the order of the text."""
    corpus, stream = replace(config.corpus, max_vocab=max_vocab), replace(stream, interleave=1)
    config = replace(config, corpus=corpus, stream=stream, train=train, model=Finite())
    encoded, vocab = load_corpus(config)
    examples = Stream(
        encoded.tokens, encoded.documents, vocab.counts, stream, 1, train.lr, config.seed
    )
    return Text(config, vocab, list(islice(examples.epoch(0), num_batches)))


def train_on(config: Config, trained: bool = True) -> Model:
    """The model of `config` after all epochs of its corpus, or untrained. Cost: its training."""
    encoded, vocab = load_corpus(config)
    model = build_model(config, len(vocab))
    if trained:
        stream = build_stream(config, encoded, vocab)
        for batches in map(stream.epoch, range(stream.epochs)):
            while some := list(islice(batches, BATCHES_AT_ONCE)):
                model.train_batches(some)
    return model
