"""A little real text for the checks: the same first batches for every model."""

from dataclasses import dataclass, replace
from itertools import islice

from w2v_inf.config import Config, Finite, ModelConfig, StreamConfig, TrainConfig
from w2v_inf.corpus.prepare import load_corpus
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.models.build import build_model
from w2v_inf.models.protocol import Model
from w2v_inf.runs.folder import corpus_label
from w2v_inf.stream import Batch, Stream, build_stream
from w2v_inf.training.train import BATCHES_AT_ONCE


@dataclass(frozen=True)
class Text:
    """The first `batches` of a corpus and the options that made them; the step size is that of the corpus's first epoch."""

    config: Config
    vocab: Vocabulary
    batches: list[Batch]

    def build(self, model: ModelConfig, seed: int = 0) -> Model:
        """An untrained model for this text."""
        return build_model(replace(self.config, model=model, seed=seed), len(self.vocab))

    @property
    def label(self) -> str:
        """What a caption says of the text."""
        return f"{corpus_label(self.config)}, V = {len(self.vocab):,}, first {self.batches[-1].words_seen:,} words"


def read_text(
    config: Config, max_vocab: int, num_batches: int, stream: StreamConfig, train: TrainConfig
) -> Text:
    """The commonest words of `config.corpus` and its first batches in the order of the text."""
    corpus = replace(config.corpus, max_vocab=max_vocab)
    own = replace(config, corpus=corpus, stream=stream, train=train, model=Finite())
    encoded, vocab = load_corpus(own)
    examples = Stream(
        encoded.tokens, encoded.documents, vocab.counts, own.stream, 1, own.train.lr, own.seed
    )
    return Text(own, vocab, list(islice(examples.epoch(0), num_batches)))


def train_on(config: Config, trained: bool = True) -> Model:
    """The model of `config` after all epochs of its corpus, or as it starts. Cost: its training."""
    encoded, vocab = load_corpus(config)
    net = build_model(config, len(vocab))
    if trained:
        stream = build_stream(config, encoded, vocab)
        for batches in map(stream.epoch, range(stream.epochs)):
            while some := list(islice(batches, BATCHES_AT_ONCE)):
                net.train_batches(some)
    return net
