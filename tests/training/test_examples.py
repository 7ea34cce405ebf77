"""Texts that give no example to train on, or few: the reason is the real one."""

import logging

import numpy as np
import pytest

from w2v_inf.config import Config, StreamConfig, TextFile
from w2v_inf.errors import UserError
from w2v_inf.stream import Stream
from w2v_inf.training.examples import check_examples


def stream_of(lines: list[list[int]], vocab_size: int, threshold: float) -> Stream:
    tokens = np.array([word for line in lines for word in line], np.int32)
    documents = np.cumsum([0, *map(len, lines)])
    counts = np.bincount(tokens, minlength=vocab_size)[:vocab_size]
    stream = StreamConfig(subsample_threshold=threshold)
    config = Config(corpus=TextFile(path="x"), stream=stream)
    return Stream(tokens, documents, counts, config.stream, 1, 0.05, 0)


@pytest.mark.parametrize(
    ("lines", "vocab_size", "threshold", "message"),
    [
        ([[0], [1]] * 50, 2, 0.0, "each line is a document, and no line has two words: put the"),
        ([[0], [1]] * 50, 2, 1e-4, "each line is a document, and no line has two words: put the"),
        ([[0, 5], [1, 6]] * 50, 2, 0.0, "no line .* has two words of the vocabulary of 2: lower"),
        ([[0, 1]] * 50, 2, 1e-9, "subsampling keeps 0.0045 % .*stream.subsample_threshold"),
    ],
)
def test_the_reason_for_no_example(
    lines: list[list[int]], vocab_size: int, threshold: float, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check_examples(stream_of(lines, vocab_size, threshold))
    assert "\n" not in str(caught.value)
    assert ("subsample" in str(caught.value)) == ("subsample" in message)


def test_few_examples_are_said(caplog: pytest.LogCaptureFixture) -> None:
    text = [[word for word in range(18)] for _ in range(200)]  # 3,600 words
    check_examples(stream_of(text, 18, 2e-5))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.messages == [
        "subsampling keeps 1.9 % of the words, about 70 of 3,600 per epoch: "
        "raise stream.subsample_threshold (now 2e-05; 0 keeps all)"
    ]


def test_words_alone_on_their_line_are_said(caplog: pytest.LogCaptureFixture) -> None:
    check_examples(stream_of([[0, 1], *[[0], [1]] * 50], 2, 0.0))
    assert "100 of 102 words stand alone on their line" in caplog.text


def test_nothing_is_said_of_an_ordinary_text(caplog: pytest.LogCaptureFixture) -> None:
    check_examples(stream_of([[0, 1, 2], [1], [2, 0]] * 20, 3, 0.1))
    assert not caplog.records
