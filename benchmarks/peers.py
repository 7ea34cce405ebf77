"""gensim's Word2Vec on our words, with the paper's options; shared by the benchmarks.

It differs from our default in five ways: no weight decay, input vectors initialised uniformly in
+-1/(2n), one position at a time, own negatives per position, and the whole gradient for each
context word (train.context_gradient=whole).
"""

from collections.abc import Iterator

import numpy as np
from gensim.models import Word2Vec

from w2v_inf.config import Architecture, Config
from w2v_inf.corpus.load import EncodedCorpus
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.stream import MAX_SENTENCE


class Sentences:
    """Documents in sentences of 1,000 words, as gensim reads them; again for each epoch."""

    def __init__(self, corpus: EncodedCorpus) -> None:
        self.words, self.tokens, self.documents = (
            corpus.vocab.words,
            np.asarray(corpus.tokens),
            corpus.documents,
        )

    def __iter__(self) -> Iterator[list[str]]:
        for start, end in zip(self.documents[:-1], self.documents[1:], strict=True):
            for i in range(start, end, MAX_SENTENCE):
                yield [self.words[t] for t in self.tokens[i : min(i + MAX_SENTENCE, end)]]


def gensim_model(
    vocab: Vocabulary, config: Config, width: int, seed: int = 0, workers: int = 1
) -> Word2Vec:
    """Untrained."""
    model = Word2Vec(
        vector_size=width,
        sg=int(config.stream.architecture is Architecture.skipgram),
        window=config.stream.window,
        negative=config.stream.num_negatives,
        sample=config.stream.subsample_threshold,
        alpha=config.train.lr,
        min_count=1,
        workers=workers,
        seed=seed + 1,
    )
    model.build_vocab_from_freq(dict(zip(vocab.words, vocab.counts.tolist(), strict=True)))
    return model


def train_gensim(model: Word2Vec, corpus: EncodedCorpus, vocab: Vocabulary, epochs: int) -> None:
    """Passes over the corpus; words outside the vocabulary are left out, as in ours."""
    model.train(Sentences(corpus), total_words=int(vocab.counts.sum()), epochs=epochs)
