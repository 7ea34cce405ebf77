"""Batches that no memory holds are refused before they are drawn."""

from typing import Any

import numpy as np
import pytest

from w2v_inf.config import Architecture, Config, Finite, Sample, StreamConfig
from w2v_inf.errors import UserError
from w2v_inf.stream import Stream
from w2v_inf.training import batch_memory
from w2v_inf.training.batch_memory import batch_bytes, check_batch_memory
from w2v_inf.training.train import group_batches


def stream_of(**options: Any) -> Stream:
    """A text of 20,000 words in one document."""
    stream = StreamConfig(subsample_threshold=0, **options)
    config = Config(corpus=Sample(), stream=stream, model=Finite()).stream
    tokens = np.random.default_rng(0).integers(0, 50, 20_000, np.int32)
    counts = np.bincount(tokens)
    return Stream(tokens, np.array([0, len(tokens)]), counts, config, 1, 0.1, 0)


@pytest.mark.parametrize("architecture", Architecture)
@pytest.mark.parametrize("group_size", [1, 64])
def test_the_estimate_covers_what_a_batch_holds(
    architecture: Architecture, group_size: int
) -> None:
    stream = stream_of(architecture=architecture, batch_size=4096, group_size=group_size)
    batch = next(stream.epoch(0))
    arrays = batch.context, batch.target, batch.negatives, batch.negatives_row
    held = sum(array.nbytes for array in arrays) + 8 * batch.negatives.size  # and the draws
    assert held <= 1.1 * batch_bytes(stream) < 3 * held


def test_what_does_not_fit_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    large = stream_of(batch_size=65536, group_size=1, num_negatives=1000, window=100)
    monkeypatch.setattr(batch_memory, "free_bytes", lambda device: 2**20)
    with pytest.raises(UserError, match=r"stream.batch_size=65536 .* takes 0.2 GiB, .*: lower"):
        check_batch_memory(large)
    monkeypatch.setattr(batch_memory, "free_bytes", lambda device: 2**40)
    check_batch_memory(large)


def test_large_batches_come_in_short_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = stream_of(batch_size=32)
    whole = [len(some) for some in group_batches(stream.epoch(0), prefetch=False)]
    monkeypatch.setattr("w2v_inf.training.train.MAX_BYTES_AT_ONCE", 1)
    short = [len(some) for some in group_batches(stream.epoch(0), prefetch=False)]
    assert max(whole) == 128 and set(short) == {1} and sum(whole) == sum(short)
