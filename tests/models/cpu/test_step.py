"""The compiled CPU step against the torch step and the reference: tiles, threads, far logits."""

import numpy as np
import pytest
import torch
from toy import RULES, SHAPES, References, arrays, toy_batch

from w2v_inf.models.cpu import step
from w2v_inf.models.cpu.step import sgd_steps
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.step import UpdateRule
from w2v_inf.reference import updates as reference

DECAY = UpdateRule(0.2)


def tables(
    vocab_size: int, width: int, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    u, w = (
        torch.randn(vocab_size, width, generator=generator, dtype=torch.float64).mul_(0.6).to(dtype)
        for _ in "uw"
    )
    return u, w


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile", [1, 3, 64])
@pytest.mark.parametrize("rule", RULES)
def test_equals_torch_step_and_reference(
    shape: tuple[int, ...], tile: int, rule: UpdateRule
) -> None:
    u, w = tables(shape[0], 7)
    references = References(u, w, rule)
    for seed in range(3):
        batch = toy_batch(seed, *shape)
        references.step(batch, sgd_steps(u, w, [batch], rule, tile=tile)[0], rel=1e-12)
        references.compare(u, w, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_threads", [2, 3])
@pytest.mark.parametrize("rule", RULES)
def test_threads_that_share_positions_equal_torch_step_and_reference(
    shape: tuple[int, ...], num_threads: int, rule: UpdateRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with fewer hidden vectors, inputs or outputs than threads."""
    monkeypatch.setattr(step, "MIN_EXAMPLES", 0)
    u, w = tables(shape[0], 7)
    references = References(u, w, rule)
    with training_threads(num_threads):
        for seed in range(3):
            batch, kept = toy_batch(seed, *shape), []
            loss = sgd_steps(u, w, [batch], rule, kept=kept)[0]
            references.step(batch, loss, rel=1e-12)
            references.compare(u, w, atol=1e-12)


@pytest.mark.parametrize("width", [200, step.TILE + 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("num_threads", [2, 3])
def test_threads_share_positions_or_columns(
    num_threads: int, dtype: torch.dtype, width: int
) -> None:
    """Their sums differ from one thread's by rounding only, and repeat bit for bit.

    In bfloat16 a difference in rounding can land an entry on another neighbour.
    """
    num_batches = 40 if dtype is torch.float64 else 4
    batches = [toy_batch(seed, 13, 12, 6, 4, 3) for seed in range(num_batches)]
    runs, shared = [], []
    for number in (1, num_threads, num_threads):
        u, w = tables(13, width, dtype)
        scales = (torch.ones(13), torch.ones(13)) if dtype is torch.bfloat16 else None
        with training_threads(number):
            shared.append(step.shares_positions(u, batches))
            losses = torch.from_numpy(sgd_steps(u, w, batches, DECAY, scales))
        runs.append((u, w, losses, scales))
    one, many, again = runs
    assert shared == [False, *[width == 200 and dtype is torch.float64] * 2]
    tolerance = 1e-10 if dtype is torch.float64 else 0.02
    for single, several in zip(one[:3], many[:3], strict=True):
        assert (several.double() - single.double()).norm() <= tolerance * single.double().norm()
    torch.testing.assert_close(one[3], many[3], rtol=1e-6, atol=0)
    torch.testing.assert_close(many, again, rtol=0, atol=0)


def test_many_batches_in_one_call_are_one_after_another() -> None:
    batches = [toy_batch(seed, 13, 9 + seed % 3, 6, 4, 3) for seed in range(7)]
    (u, w), (other_u, other_w) = tables(13, 5), tables(13, 5)
    together = sgd_steps(u, w, batches, DECAY)
    one_by_one = [sgd_steps(other_u, other_w, [batch], DECAY)[0] for batch in batches]
    assert together.tolist() == one_by_one
    assert torch.equal(u, other_u) and torch.equal(w, other_w)


def test_kept_gradients_are_those_of_the_logits() -> None:
    """Of each batch the negatives [E, N], then the positives [B]; they sum to the loss's slope."""
    batches, kept = [toy_batch(seed, 13, 9, 6, 4, 3) for seed in range(2)], []
    u, w = tables(13, 5)
    sgd_steps(u, w, batches, UpdateRule(), kept=kept)
    gradients = np.concatenate(kept)
    assert len(gradients) == sum(9 * (len(np.unique(b.negatives)) + 1) for b in batches)
    assert (gradients[-9:] > 0).all() and (gradients[-9:] < 1).all()
    assert (gradients[: 9 * len(np.unique(batches[0].negatives))] <= 0).all()


def test_far_logits_and_a_loss_that_is_not_finite() -> None:
    """Beyond +-40 sigma is flat in float64, and the loss linear; NaN and infinity show in it."""
    batch = toy_batch(0, 7, 5, 4, 3, 1)
    u, w = tables(7, 5)
    slow = reference.linear_update(
        20 * u.numpy(), 20 * w.numpy(), **arrays(batch), weight_decay=0.0
    )
    far_u, far_w = 20 * u, 20 * w
    assert sgd_steps(far_u, far_w, [batch], UpdateRule())[0] == pytest.approx(slow[2], rel=1e-12)
    np.testing.assert_allclose(far_u, slow[0], rtol=1e-10, atol=1e-10)
    for bad in (np.nan, np.inf):
        u, w = tables(7, 5)
        u[batch.context[0].max()] = bad
        assert not np.isfinite(sgd_steps(u, w, [batch], UpdateRule())[0])
