"""The stream against its reference implementation, and the statistics of its random draws."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from w2v_inf import stream
from w2v_inf.config import Architecture, Config, StreamConfig
from w2v_inf.reference.stream import interleave, stream_examples
from w2v_inf.stream import Stream


def text(
    seed: int = 0, num_tokens: int = 5000, vocab_size: int = 40
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Zipfian tokens, some out of vocabulary; uneven documents, one empty; counts per word."""
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
    return [
        ([int(i) for i in c if i >= 0], int(t))
        for b in batches
        for c, t in zip(b.context, b.target, strict=True)
    ]


@pytest.mark.parametrize("threshold", [0.0, 1e-2])
@pytest.mark.parametrize("max_sentence", [5, 1000])
@pytest.mark.parametrize("block", [700, 1 << 18])
@pytest.mark.parametrize("places", [1, 2, 8])
def test_equals_reference(
    threshold: float, max_sentence: int, block: int, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_SENTENCE", max_sentence)
    monkeypatch.setattr(stream, "BLOCK", block)
    monkeypatch.setattr(stream, "IDS_PER_CALL", 100)
    options = options_of(
        window=3,
        num_negatives=2,
        subsample_threshold=threshold,
        batch_size=8,
        interleave=places,
    )
    fast = make(options)
    expected, first_words, before = [], [], 0
    for number, start in enumerate(range(0, len(fast.tokens), block)):
        tokens = fast.tokens[start : start + block]
        ends = {int(d) - start for d in fast.documents}
        in_vocab = int((tokens < 40).sum())
        keep_draws = fast._generator("subsample", 1, number).random(in_vocab)
        p_keep = stream.keep_probability(fast.counts, threshold)
        num_kept = int((keep_draws < p_keep[tokens[tokens < 40]]).sum())
        radius = fast._generator("window", 1, number).integers(1, 4, num_kept, np.uint8).tolist()
        examples = stream_examples(tokens, ends, 40, p_keep, keep_draws, radius, max_sentence)
        ordered = interleave(examples, 8, places)
        expected += [(sorted(words), target) for words, target, _ in ordered]
        first_words += [fast.words_per_epoch + before + seen for _, _, seen in examples[::8]]
        before += in_vocab
    batches = list(fast.epoch(1))
    assert [(sorted(c), t) for c, t in examples_of(batches)] == expected
    assert [b.words_seen for b in batches] == first_words
    assert before == fast.words_per_epoch


def test_skipgram_is_the_pairs_of_the_same_positions() -> None:
    cbow, skipgram = (
        make(options_of(window=3, architecture=a, group_size=16, batch_size=32, shared_negatives=8))
        for a in Architecture
    )
    for one, pairs in zip(cbow.epoch(0), skipgram.epoch(0), strict=True):
        expected = [([i], t) for c, t in examples_of([one]) for i in c]
        assert examples_of([pairs]) == expected
        assert one.lr == pairs.lr and (one.negatives == pairs.negatives).all()
        assert pairs.negatives_row.tolist() == [
            p // 16 for p, c in enumerate(one.context) for i in c if i >= 0
        ]


@pytest.mark.parametrize("architecture", list(Architecture))
def test_each_example_draws_its_own_negatives(architecture: Architecture) -> None:
    for batch in make(
        options_of(group_size=1, num_negatives=5, architecture=architecture, batch_size=7)
    ).epoch(0):
        assert batch.negatives.shape == (len(batch.target), 5) and batch.negative_weight == 1
        assert batch.negatives_row.tolist() == list(range(len(batch.target)))


def test_shared_negatives_have_the_weight_of_k() -> None:
    for batch in make(
        options_of(group_size=10, shared_negatives=6, num_negatives=25, batch_size=32)
    ).epoch(0):
        assert batch.negatives.shape == (-(-len(batch.target) // 10), 6)
        assert batch.negative_weight == pytest.approx(25 / 6)


@pytest.mark.parametrize("architecture", list(Architecture))
@pytest.mark.parametrize("group_size", [1, 3, 16])
def test_arrays_have_the_documented_form(architecture: Architecture, group_size: int) -> None:
    options = options_of(
        window=3,
        architecture=architecture,
        group_size=group_size,
        batch_size=16,
        subsample_threshold=0,
    )
    batches = list(make(options).epoch(0))
    assert len(batches) > 100
    for batch in batches:
        arrays = batch.context, batch.target, batch.negatives, batch.negatives_row
        assert all(a.dtype == np.int32 and a.flags.c_contiguous for a in arrays)
        assert len(batch.context) == len(batch.target) == len(batch.negatives_row)
        assert batch.context.shape[1] == (1 if architecture is Architecture.skipgram else 6)
        assert (
            (batch.context >= 0).any(axis=1).all()
            and batch.context.min() >= -1
            and batch.context.max() < 40
        )
        # Every row is used, in order.
        assert np.unique(batch.negatives_row).tolist() == list(range(len(batch.negatives)))
        assert (np.diff(batch.negatives_row) >= 0).all()
        assert {type(batch.lr), type(batch.negative_weight)} == {float} and type(
            batch.words_seen
        ) is int


@pytest.mark.parametrize("architecture", list(Architecture))
@pytest.mark.parametrize("group_size", [1, 5, 7])
def test_does_not_depend_on_how_many_batches_are_expanded_together(
    architecture: Architecture, group_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = options_of(
        window=3, architecture=architecture, group_size=group_size, batch_size=7, shared_negatives=4
    )
    expected = list(make(options).epoch(0))
    for ids_per_call in (1, 2000):
        monkeypatch.setattr(stream, "IDS_PER_CALL", ids_per_call)
        for one, other in zip(make(options).epoch(0), expected, strict=True):
            assert all(
                np.array_equal(getattr(one, f.name), getattr(other, f.name))
                for f in dataclasses.fields(one)
            )


def test_a_block_is_drawn_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text before a block changes its `words_seen` only; no two blocks draw the same."""
    monkeypatch.setattr(stream, "BLOCK", 2000)
    one, other = (make(options_of(batch_size=7, subsample_threshold=0.01)) for _ in range(2))
    other.tokens[:2000] = 0
    last, other_last = (
        [(b.negatives.tolist(), examples_of([b])) for b in s.epoch(0)][-20:] for s in (one, other)
    )
    assert last == other_last
    negatives = [b.negatives.tobytes() for b in one.epoch(0)]
    assert len(set(negatives)) == len(negatives)


@pytest.mark.parametrize(
    ("batch_size", "places"), [(1, 1), (6, 1), (6, 2), (6, 3), (6, 6), (64, 64)]
)
def test_every_position_is_taken_once(batch_size: int, places: int) -> None:
    """From fewer positions than a batch to several batches; the reference gives the same order."""
    for num_positions in [*range(40), 383, 384, 385]:
        order = stream.interleaved(num_positions, batch_size, places)
        assert order.tolist() == interleave(range(num_positions), batch_size, places)
        assert sorted(order.tolist()) == list(range(num_positions))


def test_a_batch_takes_distant_positions() -> None:
    """4,096 apart in a block of 131,072 positions, and each batch the next ones."""
    order = stream.interleaved(131_072, 32, 32).reshape(-1, 32)
    assert (np.diff(order, axis=1) == 4096).all() and (np.diff(order, axis=0) == 1).all()
    runs = stream.interleaved(131_072, 32, 8).reshape(-1, 8, 4)
    assert (np.diff(runs, axis=2) == 1).all() and (np.diff(runs, axis=1) == 16_384).all()


def test_a_text_shorter_than_a_batch_is_one_batch() -> None:
    """One document of five words, with more places than positions."""
    tokens = np.arange(5, dtype=np.int32) % 3
    options = options_of(subsample_threshold=0, batch_size=64)
    counts = np.bincount(tokens)
    short = Stream(tokens, np.array([0, 5]), counts, options, 2, 0.05, 0)
    (batch,) = short.epoch(1)
    assert batch.target.tolist() == tokens.tolist() and batch.words_seen == 5


def test_interleaving_only_changes_the_order() -> None:
    """The learning rates, and the examples of an epoch."""
    ordered, interleaved = (
        list(make(options_of(batch_size=8, interleave=places)).epoch(1)) for places in (1, 8)
    )
    assert [b.lr for b in ordered] == [b.lr for b in interleaved]
    assert sorted(examples_of(ordered)) == sorted(examples_of(interleaved))
    assert examples_of(ordered) != examples_of(interleaved)


def test_windows_shrink_uniformly() -> None:
    tokens = np.zeros(20_000, dtype=np.int32)
    one = Stream(
        tokens,
        np.array([0, len(tokens)]),
        np.array([len(tokens)]),
        options_of(window=5, subsample_threshold=0),
        1,
        0.05,
        0,
    )
    context = np.concatenate([b.context for b in one.epoch(0)])
    distance = np.array([5, 4, 3, 2, 1, 1, 2, 3, 4, 5])
    # Windows d to 5 reach a word at distance d. Sentence ends cost less than 2 x 5 words in 1,000.
    assert np.abs((context >= 0).mean(axis=0) - (6 - distance) / 5).max() < 0.01 + 4 * np.sqrt(
        0.25 / len(context)
    )


def test_words_seen_pass_32_bits() -> None:
    tokens, documents, counts = text()
    long = Stream(tokens, documents, counts * 2**20, options_of(batch_size=7), 2, 0.05, 3)
    short = Stream(tokens, documents, counts, options_of(batch_size=7), 2, 0.05, 3)
    shift = long.words_per_epoch - short.words_per_epoch
    assert shift > 2**31
    assert [b.words_seen for b in long.epoch(1)] == [b.words_seen + shift for b in short.epoch(1)]


@pytest.mark.parametrize("vocab_size", [1, 2, 3, 64, 65, 1000])
def test_guide_table_gives_the_binary_search(vocab_size: int) -> None:
    """On, just below and just above each step and bin edge; words of probability 0 never occur."""
    rng = np.random.default_rng(vocab_size)
    counts = rng.zipf(1.3, vocab_size).clip(max=10**9)
    counts[1::3] = 0
    cdf = stream.negatives_cdf(counts)
    guide = stream.guide_table(cdf)
    edges = np.concatenate([cdf, np.arange(len(guide)) / len(guide)])
    draws = np.concatenate(
        [edges, np.nextafter(edges, 0), np.nextafter(edges, 1), rng.random(10_000)]
    )
    draws = draws[draws < 1][None]
    drawn = stream.invert_cdf(cdf, guide, draws)
    assert (drawn == np.searchsorted(cdf, draws, side="right")).all()
    assert (counts[drawn] > 0).all()


def test_negatives_cdf_ends_at_one() -> None:
    """However the sum is rounded, the largest float below 1 falls inside the vocabulary."""
    rng = np.random.default_rng(0)
    for vocab_size in (*range(1, 200), 70_000):
        cdf = stream.negatives_cdf(rng.integers(1, 1000, vocab_size))
        assert cdf[-1] == 1 and (np.diff(cdf) > 0).all()
        last = stream.invert_cdf(cdf, stream.guide_table(cdf), np.array([[np.nextafter(1, 0)]]))
        assert last == vocab_size - 1


def test_negatives_follow_the_power_of_the_counts() -> None:
    source = make(options_of(batch_size=64, group_size=1), num_tokens=20_000)
    drawn = np.concatenate([b.negatives.ravel() for b in source.epoch(0)])
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
        return [
            b.negatives.tolist() + examples_of([b])
            for b in make(options_of(), seed=seed).epoch(epoch)
        ]

    assert draw(1, 0) == draw(1, 0)
    assert draw(1, 0) != draw(2, 0) and draw(1, 0) != draw(1, 1)


def test_lr_falls_linearly_to_its_floor() -> None:
    assert stream.scheduled_lr(0.05, 0, 1000) == 0.05
    assert stream.scheduled_lr(0.05, 250, 1000) == pytest.approx(0.0375)
    assert stream.scheduled_lr(0.05, 1000, 1000) == pytest.approx(5e-6)
    lrs = [b.lr for epoch in range(2) for b in make(options_of()).epoch(epoch)]
    assert lrs == sorted(lrs, reverse=True) and lrs[0] == 0.05 and lrs[-1] < 0.002


def test_one_word_documents_have_no_examples() -> None:
    tokens = np.arange(6, dtype=np.int32) % 3
    alone = Stream(
        tokens, np.arange(7), np.array([2, 2, 2]), options_of(subsample_threshold=0), 1, 0.05, 0
    )
    assert list(alone.epoch(0)) == []


@pytest.mark.parametrize("architecture", list(Architecture))
@pytest.mark.parametrize("group_size", [1, 4])
def test_an_epoch_can_start_anywhere(
    architecture: Architecture, group_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BLOCK", 100)
    source = make(
        options_of(architecture=architecture, group_size=group_size, num_negatives=5, batch_size=8)
    )
    everything = [batch_bytes(batch) for batch in source.epoch(1)]
    for skip in (0, 1, 5, 17, len(everything) - 1, len(everything), len(everything) + 3):
        assert [batch_bytes(batch) for batch in source.epoch(1, skip)] == everything[skip:]


def test_blocks_together_are_the_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK", 700)
    whole = make(options_of(window=3, batch_size=7), epochs=2)
    assert (
        list(whole.blocks()) == [(epoch, block) for epoch in (0, 1) for block in range(8)]
        and whole.num_blocks == 8
    )
    alone = [batch_bytes(batch) for place in whole.blocks() for batch in whole.block(*place)]
    assert alone == [batch_bytes(batch) for epoch in (0, 1) for batch in whole.epoch(epoch)]


def batch_bytes(batch: stream.Batch) -> tuple:
    ids = (batch.context, batch.target, batch.negatives, batch.negatives_row)
    return *(a.tobytes() for a in ids), batch.negative_weight, batch.lr, batch.words_seen
