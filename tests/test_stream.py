"""The stream against its word-by-word twin, and the statistics of what is drawn."""

from typing import Any

import numpy as np
import pytest

from w2v_inf import reference, stream
from w2v_inf.config import Architecture, Config, StreamConfig
from w2v_inf.stream import Stream


def text(seed: int = 0, num_tokens: int = 5000, vocab_size: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Zipfian tokens (some out of vocabulary), uneven documents (an empty one too), counts of the vocabulary."""
    rng = np.random.default_rng(seed)
    p = 1 / np.arange(1, vocab_size + 11)
    tokens = rng.choice(vocab_size + 10, num_tokens, p=p / p.sum()).astype(np.int32)
    cuts = np.sort(rng.choice(num_tokens, 7, replace=False))
    documents = np.concatenate([[0], cuts, cuts[-1:], [num_tokens]])
    return tokens, np.sort(documents), np.bincount(tokens, minlength=vocab_size)[:vocab_size]


def options_of(**kwargs: Any) -> StreamConfig:
    """Options as `Config` completes them."""
    return Config(stream=StreamConfig(**kwargs)).stream


def make(options: StreamConfig, epochs: int = 2, seed: int = 3, **kwargs: int) -> Stream:
    tokens, documents, counts = text(**kwargs)
    return Stream(tokens, documents, counts, options, epochs, 0.05, seed)


def examples_of(batches: list[stream.Batch]) -> list[tuple[list[int], int]]:
    return [([int(i) for i in c if i >= 0], int(t)) for b in batches for c, t in zip(b.context, b.target, strict=True)]


@pytest.mark.parametrize("threshold", [0.0, 1e-2])
@pytest.mark.parametrize("chunk", [5, 1000])
@pytest.mark.parametrize("block", [700, 1 << 18])
def test_equals_word_by_word_twin(threshold: float, chunk: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "CHUNK", chunk)
    monkeypatch.setattr(stream, "BLOCK", block)
    options = options_of(window=3, num_negatives=2, subsample_threshold=threshold, batch_size=7)
    fast = make(options)
    expected, first_words, before = [], [], 0
    for number, start in enumerate(range(0, len(fast.tokens), block)):
        tokens = fast.tokens[start : start + block]
        ends = {int(d) - start for d in fast.documents}
        in_vocab = int((tokens < 40).sum())
        keep_draws = fast._generator("subsample", 1, number).random(in_vocab)
        p_keep = stream.keep_probability(fast.counts, threshold)
        num_kept = int((keep_draws < p_keep[tokens[tokens < 40]]).sum())
        radius = fast._generator("window", 1, number).integers(1, 4, num_kept)
        examples = reference.stream_examples(tokens, ends, 40, p_keep, keep_draws, radius, 3, chunk)
        expected += [(sorted(words), target) for words, target, _ in examples]
        first_words += [fast.words_per_epoch + before + seen for _, _, seen in examples[::7]]
        before += in_vocab
    batches = list(fast.epoch(1))
    assert [(sorted(c), t) for c, t in examples_of(batches)] == expected
    assert [b.words_seen for b in batches] == first_words
    assert before == fast.words_per_epoch


def test_skipgram_is_the_pairs_of_the_same_positions() -> None:
    cbow, skipgram = (make(options_of(window=3, architecture=a, group_size=16, batch_size=32)) for a in Architecture)
    for one, pairs in zip(cbow.epoch(0), skipgram.epoch(0), strict=True):
        expected = [([i], t) for c, t in examples_of([one]) for i in c]
        assert examples_of([pairs]) == expected
        assert one.lr == pairs.lr and (one.noise == pairs.noise).all()
        assert pairs.noise_row.tolist() == [p // 16 for p, c in enumerate(one.context) for i in c if i >= 0]


@pytest.mark.parametrize("architecture", list(Architecture))
def test_own_negatives(architecture: Architecture) -> None:
    for batch in make(options_of(group_size=1, num_negatives=5, architecture=architecture)).epoch(0):
        assert batch.noise.shape == (len(batch.target), 5) and batch.noise_weight == 1
        assert batch.noise_row.tolist() == list(range(len(batch.target)))


def test_shared_negatives_have_the_weight_of_k() -> None:
    for batch in make(options_of(group_size=10, shared_negatives=6, num_negatives=25, batch_size=32)).epoch(0):
        assert batch.noise.shape == (-(-len(batch.target) // 10), 6)
        assert batch.noise_weight == pytest.approx(25 / 6)


def test_noise_follows_the_power_of_the_counts() -> None:
    source = make(options_of(batch_size=64, group_size=1), num_tokens=20_000)
    drawn = np.concatenate([b.noise.numpy().ravel() for b in source.epoch(0)])
    p = source.counts**0.75 / (source.counts**0.75).sum()
    sigma = np.sqrt(p * (1 - p) / len(drawn))
    assert np.abs(np.bincount(drawn, minlength=40) / len(drawn) - p).max() < 5 * sigma.max()


def test_subsampling_keeps_the_expected_share() -> None:
    source = make(options_of(subsample_threshold=0.01, window=2), num_tokens=60_000)
    kept = np.bincount([t for _, t in examples_of(list(source.epoch(0)))], minlength=40)
    expected = stream.keep_probability(source.counts, 0.01) * source.counts
    assert np.abs(kept - expected).max() < 5 * np.sqrt(expected.max())
    assert stream.keep_probability(np.array([100]), 0.01)[0] == pytest.approx(0.1 + 0.01)


def test_repeats_and_changes_with_the_seed_and_epoch() -> None:
    def draw(seed: int, epoch: int) -> list:
        return [b.noise.tolist() + examples_of([b]) for b in make(options_of(), seed=seed).epoch(epoch)]

    assert draw(1, 0) == draw(1, 0)
    assert draw(1, 0) != draw(2, 0) and draw(1, 0) != draw(1, 1)


def test_lr_falls_linearly_to_its_floor() -> None:
    assert stream.scheduled_lr(0.05, 0, 1000) == 0.05
    assert stream.scheduled_lr(0.05, 250, 1000) == pytest.approx(0.0375)
    assert stream.scheduled_lr(0.05, 1000, 1000) == pytest.approx(5e-6)
    lrs = [b.lr for epoch in range(2) for b in make(options_of()).epoch(epoch)]
    assert lrs == sorted(lrs, reverse=True) and lrs[0] == 0.05 and lrs[-1] < 0.002


def test_one_word_documents_give_nothing() -> None:
    tokens = np.arange(6, dtype=np.int32) % 3
    alone = Stream(tokens, np.arange(7), np.array([2, 2, 2]), options_of(subsample_threshold=0), 1, 0.05, 0)
    assert list(alone.epoch(0)) == []
