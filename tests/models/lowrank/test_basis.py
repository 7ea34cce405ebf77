"""The basis of the low-rank engine: steps taken back against explicit matrices, and what it holds of the limit it was made for."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import SHAPES, arrays, sample_stream, toy_batch

from w2v_inf.config import Architecture
from w2v_inf.errors import UserError
from w2v_inf.models.cpu.step import fused_steps
from w2v_inf.models.cpu.threads import use_threads
from w2v_inf.models.linear import init_mup_limit
from w2v_inf.models.lowrank.basis import find_basis, go_back
from w2v_inf.reference import updates as reference

DECAY = 0.2


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    use_threads(1)
    yield
    use_threads(1)


def tables(vocab_size: int, columns: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(vocab_size, columns)), rng.normal(size=(vocab_size, columns))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("tp4", "whole"), [(False, False), (True, False), (False, True)])
def test_steps_back_are_the_transposed_steps(
    shape: tuple[int, ...], tp4: bool, whole: bool
) -> None:
    """Several batches, more columns than a tile; the twin multiplies by explicit matrices."""
    vocab_size, batches = shape[0], [toy_batch(seed, *shape) for seed in range(3)]
    u, w = tables(vocab_size, 5, 0)
    fast_u, fast_w, kept = torch.from_numpy(u.copy()), torch.from_numpy(w.copy()), []
    fused_steps(fast_u, fast_w, batches, DECAY, tp4=tp4, whole_gradient=whole, tile=2, kept=kept)
    product = np.eye(2 * vocab_size)
    for batch in batches:
        step = reference.step_matrix(
            u, w, **arrays(batch), weight_decay=DECAY, tp4=tp4, whole=whole
        )
        stepped = reference.linear_update(
            u, w, **arrays(batch), weight_decay=DECAY, tp4=tp4, whole=whole
        )
        u, w = stepped[:2]
        product = step @ product
    start = np.concatenate(tables(vocab_size, 5, 0))
    np.testing.assert_allclose(product @ start, np.concatenate([u, w]), atol=1e-10)
    np.testing.assert_allclose(np.concatenate([fast_u, fast_w]), np.concatenate([u, w]), atol=1e-10)

    back_u, back_w = (torch.from_numpy(table) for table in tables(vocab_size, 5, 1))
    go_back(back_u, back_w, batches, np.concatenate(kept), DECAY, whole, tile=2)
    np.testing.assert_allclose(
        np.concatenate([back_u, back_w]),
        product.T @ np.concatenate(tables(vocab_size, 5, 1)),
        atol=1e-10,
    )


def test_threads_share_the_columns() -> None:
    batches = [toy_batch(seed, 11, 9, 4, 5, 3) for seed in range(4)]
    results = []
    for threads in (1, 2):
        use_threads(threads)
        u, w, kept = *map(torch.from_numpy, tables(11, 130, 0)), []
        fused_steps(u, w, batches, DECAY, kept=kept)
        go_back(u, w, batches, np.concatenate(kept), DECAY)
        results.append(np.concatenate([u, w]))
    np.testing.assert_allclose(*results, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("rank", "ratio"), [(16, 1.1), (100, 1.3)])
@pytest.mark.parametrize("architecture", Architecture)
def test_it_holds_nearly_what_the_best_basis_does(
    architecture: Architecture, rank: int, ratio: float, tmp_path: Path
) -> None:
    """Of the energy that the dense limit has learnt on the same stream, off the diagonal of u and in w, at 300 words."""
    stream, vocab_size = sample_stream(architecture, tmp_path)
    limit = init_mup_limit(vocab_size, 0.0)
    limit.weight_decay = 1e-3
    limit.train_batches(list(stream.epoch(0)))
    learnt = np.concatenate([limit.u - torch.diag(limit.u.diagonal()), limit.w])
    basis, missed = find_basis(stream, rank, limit.weight_decay) or (None, 0)
    assert basis is not None
    np.testing.assert_allclose(basis.T @ basis, np.eye(rank), atol=1e-5)
    outside = np.square(learnt).sum() - np.square(learnt @ basis).sum()
    assert 0.6 < missed / (outside / np.square(learnt).sum()) < 1.2
    least = np.square(np.linalg.svd(learnt, compute_uv=False)[rank:]).sum()
    assert outside < ratio * least, (outside, least)


def test_a_tolerance_takes_as_few_directions_as_will_do(tmp_path: Path) -> None:
    """In steps of 16; the first of those that more would have taken. Where `rank` is too few, that many."""
    stream, _ = sample_stream(Architecture.cbow, tmp_path)
    whole = find_basis(stream, 96, 1e-3)
    assert whole is not None and 0 < whole.missed < 0.1
    for tolerance in (0.02, 0.012):
        found = find_basis(stream, 96, 1e-3, tolerance=tolerance)
        assert (
            found is not None
            and found.missed <= tolerance
            and found.b.shape[1] % 16 == 0
            and 16 < found.b.shape[1] < 96
        )
        np.testing.assert_array_equal(found.b, whole.b[:, : found.b.shape[1]])
        fewer = find_basis(stream, found.b.shape[1] - 16, 1e-3)
        assert (
            fewer is not None and fewer.missed > 0.9 * tolerance
        )  # its rehearsal has fewer columns too
    found = find_basis(stream, 90, 1e-3, tolerance=1e-9)
    assert found is not None and found.b.shape[1] == 90 and found.missed > 1e-9


@pytest.mark.parametrize("options", [{"group_size": 1}, {"batch_size": 7, "group_size": 3}])
def test_other_groups_of_negatives(options: dict, tmp_path: Path) -> None:
    """Gradients are of other shapes then; pieces of several batches come back in the order they went."""
    stream, _ = sample_stream(Architecture.cbow, tmp_path, **options)
    usual, _ = sample_stream(Architecture.cbow, tmp_path)
    bases = [found.b for s in (stream, usual) if (found := find_basis(s, 16, 1e-3))]
    np.testing.assert_allclose(
        np.linalg.norm(bases[0].T @ bases[1]), 4, rtol=0.1
    )  # the same text, other negatives


def test_the_rehearsal_ends_when_its_room_is_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream, _ = sample_stream(Architecture.cbow, tmp_path)
    caplog.set_level("INFO")
    assert stream.num_blocks == 2 and find_basis(stream, 4, 0.0, most_bytes=1) is not None
    assert "as many as are kept" in caplog.text


def test_a_rehearsal_that_is_interrupted_has_no_basis(tmp_path: Path) -> None:
    """At any of its pieces, there or back."""
    stream, _ = sample_stream(Architecture.cbow, tmp_path)
    calls: list[int] = []
    assert find_basis(stream, 4, 0.0, interrupted=lambda: bool(calls.append(1))) is not None
    for last in (1, len(calls)):
        left = iter(range(last))
        assert (
            find_basis(
                stream, 4, 0.0, interrupted=lambda left=left, last=last: next(left) == last - 1
            )
            is None
        )


def test_a_rehearsal_that_diverges_says_so(tmp_path: Path) -> None:
    stream, _ = sample_stream(Architecture.cbow, tmp_path)
    stream.lr = 1e4
    with pytest.raises(
        UserError,
        match=r"lowrank diverged in block 1 of epoch 1: lower train.lr \(now 10000\) or stream.batch_size",
    ):
        find_basis(stream, 4, 0.0)
