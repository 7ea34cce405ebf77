"""A small text, and what `prepare` makes of a corpus; shared by the tests of sources."""

import itertools
import os
from pathlib import Path

import pytest

from w2v_inf.config import CorpusConfig
from w2v_inf.corpus.load import EncodedCorpus, open_corpus
from w2v_inf.corpus.prepare import prepare
from w2v_inf.errors import UserError

TEXT = b"the cat sat\non the mat\n" * 2000


LINES = ["the cat sat", "on the mat"] * 2000


def lines(corpus: CorpusConfig, data_dir: Path) -> list[str]:
    encoded = open_corpus(prepare(corpus, data_dir))
    words = [encoded.vocab.words[i] for i in encoded.tokens]
    return [" ".join(words[a:b]) for a, b in itertools.pairwise(encoded.documents)]


def content(corpus: EncodedCorpus) -> tuple[list[int], list[int], list[str], list[int]]:
    return (
        corpus.tokens.tolist(),
        corpus.documents.tolist(),
        corpus.vocab.words,
        corpus.vocab.counts.tolist(),
    )


def expect_error(corpus: CorpusConfig, data_dir: Path, message: str) -> UserError:
    """The error is one line, and nothing is left in data_dir."""
    before = os.listdir(data_dir) if data_dir.exists() else []
    with pytest.raises(UserError, match=message) as caught:
        prepare(corpus, data_dir)
    assert "\n" not in str(caught.value)
    assert (os.listdir(data_dir) if data_dir.exists() else []) == before
    return caught.value
