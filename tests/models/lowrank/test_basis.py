"""The pilot run: its two passes against explicit matrices, and its basis against the best one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from toy import SHAPES, arrays, sample_stream, toy_batch

from w2v_inf.config import Architecture
from w2v_inf.errors import UserError
from w2v_inf.models.cpu.step import sgd_steps
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.linear import init_mup_limit
from w2v_inf.models.lowrank.basis import find_basis, transpose_steps
from w2v_inf.models.step import UpdateRule
from w2v_inf.reference import updates as reference

pytestmark = pytest.mark.slow  # compiles the low-rank kernels

RULES = [
    UpdateRule(0.2, sigmoid=rule.sigmoid, context_gradient=rule.context_gradient)
    for rule in toy.RULES
]
DECAY = UpdateRule(weight_decay=1e-3)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sample corpus is prepared, once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with training_threads(1):
        yield


def tables(num_rows: int, columns: int, seed: int) -> torch.Tensor:
    """[u; w], [2 V, columns] float64; its halves are u and w."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(num_rows, columns)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", RULES)
def test_the_passes_multiply_by_the_steps_and_their_transpose(
    shape: tuple[int, ...], rule: UpdateRule
) -> None:
    """Several batches, and more columns than a tile."""
    vocab_size, batches = shape[0], [toy_batch(seed, *shape) for seed in range(3)]
    options = {"weight_decay": 0.2, "tp4": rule.tp4, "whole": rule.whole_gradient}
    start, kept = tables(2 * vocab_size, 5, 0), []
    fast, slow, product = start.clone(), start.numpy().copy(), np.eye(2 * vocab_size)
    sgd_steps(*fast.split(vocab_size), batches, rule, tile=2, kept=kept)
    for batch in batches:
        u_w = np.split(slow, 2)
        product = reference.step_matrix(*u_w, **arrays(batch), **options) @ product
        slow = np.concatenate(reference.linear_update(*u_w, **arrays(batch), **options)[:2])
    np.testing.assert_allclose(product @ start.numpy(), slow, atol=1e-10)
    np.testing.assert_allclose(fast, slow, atol=1e-10)

    x = tables(2 * vocab_size, 5, 1)
    expected = product.T @ x.numpy()
    transpose_steps(*x.split(vocab_size), batches, np.concatenate(kept), rule, tile=2)
    np.testing.assert_allclose(x, expected, atol=1e-10)


def test_threads_share_the_columns() -> None:
    batches, results = [toy_batch(seed, 11, 9, 4, 5, 3) for seed in range(4)], []
    for num_threads in (1, 2):
        with training_threads(num_threads):
            x, kept = tables(22, 130, 0), []
            sgd_steps(*x.split(11), batches, RULES[0], kept=kept)
            transpose_steps(*x.split(11), batches, np.concatenate(kept), RULES[0])
            results.append(x)
    np.testing.assert_allclose(*results, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("architecture", Architecture)
def test_it_holds_nearly_what_the_best_basis_does(
    architecture: Architecture, data_dir: Path
) -> None:
    """Energy that the dense limit learned on the same stream: u off its diagonal, and w."""
    stream, vocab_size = sample_stream(architecture, data_dir)
    limit = init_mup_limit(vocab_size, 0.0, rule=DECAY)
    limit.train_batches(list(stream.epoch(0)))
    learned = np.concatenate([limit.u - torch.diag(limit.u.diagonal()), limit.w])
    energy, energies = np.square(learned).sum(), np.linalg.svd(learned, compute_uv=False) ** 2
    for rank, ratio in ((16, 1.1), (100, 1.3)):
        basis, residual_energy = find_basis(stream, rank, DECAY) or (None, 0)
        assert basis is not None
        np.testing.assert_allclose(basis.T @ basis, np.eye(rank), atol=1e-5)
        outside = energy - np.square(learned @ basis).sum()
        assert 0.6 < residual_energy / (outside / energy) < 1.2
        least = energies[rank:].sum()
        assert outside < ratio * least, (rank, outside, least)


def test_a_tolerance_takes_the_fewest_directions_that_suffice(data_dir: Path) -> None:
    """They are a multiple of 16, and the first of those at a higher rank; at most `rank`."""
    stream, _ = sample_stream(Architecture.cbow, data_dir)
    whole = find_basis(stream, 96, DECAY)
    assert whole is not None and 0 < whole.residual_energy < 0.1
    for tolerance in (0.02, 0.012):
        found = find_basis(stream, 96, DECAY, tolerance=tolerance)
        assert found is not None and found.residual_energy <= tolerance
        rank = found.b.shape[1]
        assert rank % 16 == 0 and 16 < rank < 96
        np.testing.assert_array_equal(found.b, whole.b[:, :rank])
        fewer = find_basis(stream, rank - 16, DECAY)
        # Its pilot run has fewer columns too, so its estimate differs a little.
        assert fewer is not None and fewer.residual_energy > 0.9 * tolerance
    found = find_basis(stream, 90, DECAY, tolerance=1e-9)
    assert found is not None and found.b.shape[1] == 90 and found.residual_energy > 1e-9


@pytest.mark.parametrize("options", [{"group_size": 1}, {"batch_size": 7, "group_size": 3}])
def test_other_groups_of_negatives(options: dict, data_dir: Path) -> None:
    """Gradients have other shapes then. B depends little on the negatives of a text."""
    streams = [sample_stream(Architecture.cbow, data_dir, **some)[0] for some in (options, {})]
    bases = [found.b for stream in streams if (found := find_basis(stream, 16, DECAY))]
    np.testing.assert_allclose(np.linalg.norm(bases[0].T @ bases[1]), 4, rtol=0.1)


def test_the_pilot_run_ends_when_it_has_kept_enough(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream, _ = sample_stream(Architecture.cbow, data_dir)
    caplog.set_level("INFO")
    assert stream.num_blocks == 2 and find_basis(stream, 4, max_bytes=1) is not None
    assert "pilot run: ends early" in caplog.text


def test_an_interrupted_pilot_run_has_no_basis(data_dir: Path) -> None:
    """At its first call and at its last, in either pass."""
    stream, _ = sample_stream(Architecture.cbow, data_dir)
    calls: list[int] = []
    assert find_basis(stream, 4, interrupted=lambda: bool(calls.append(1))) is not None
    for last in (1, len(calls)):
        answers = iter([False] * (last - 1) + [True])
        assert find_basis(stream, 4, interrupted=lambda answers=answers: next(answers)) is None


def test_a_diverging_pilot_run_says_so(data_dir: Path) -> None:
    stream, _ = sample_stream(Architecture.cbow, data_dir)
    stream.lr = 1e4
    said = (
        r"lowrank diverged in block 1 of epoch 1: lower train.lr \(now 10000\) "
        "or stream.batch_size"
    )
    with pytest.raises(UserError, match=said):
        find_basis(stream, 4)
