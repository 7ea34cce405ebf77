"""The fused CPU step against the torch step and the slow twin: tiles, threads, bfloat16 rows."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import FACTORS, SHAPES, Twins, arrays, toy_batch

from w2v_inf.models.cpu.step import fused_steps
from w2v_inf.models.cpu.threads import use_threads
from w2v_inf.models.gpu import step as gpu_step
from w2v_inf.models.linear import LinearModel, init_mup_limit
from w2v_inf.reference import updates as reference
from w2v_inf.stream import Batch


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
@pytest.mark.parametrize(("tp4", "whole"), [(False, False), (False, True), (True, False)])
def test_equals_torch_step_and_twin(
    shape: tuple[int, ...], tile: int, tp4: bool, whole: bool
) -> None:
    u, w = tables(shape[0], 7)
    twins = Twins(u, w, tp4, whole)
    for seed in range(3):
        batch = toy_batch(seed, *shape)
        twins.step(
            batch, fused_steps(u, w, [batch], 0.2, FACTORS, tp4, whole, tile=tile)[0], rel=1e-12
        )
        twins.compare(u, w, atol=1e-12)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads; one again afterwards."""
    yield use_threads
    use_threads(1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("num_threads", [2, 3])
def test_threads_share_the_columns(
    num_threads: int, dtype: torch.dtype, threads: Callable[[int], None]
) -> None:
    """200 columns are worth three threads; what they add up in parts differs from one thread's by rounding only.

    In bfloat16 a difference in rounding can land an entry on another neighbour.
    """
    batches = [
        toy_batch(seed, 13, 9, 6, 4, 3) for seed in range(40 if dtype is torch.float64 else 4)
    ]
    runs = []
    for number in (1, num_threads, num_threads):
        threads(number)
        u, w = tables(13, 200, dtype)
        scales = (torch.ones(13), torch.ones(13)) if dtype is torch.bfloat16 else None
        runs.append(
            (u, w, torch.from_numpy(fused_steps(u, w, batches, 0.2, scales=scales)), scales)
        )
    one, many, again = runs
    tolerance = 1e-10 if dtype is torch.float64 else 0.02
    for single, several in zip(one[:3], many[:3], strict=True):
        assert (several.double() - single.double()).norm() <= tolerance * single.double().norm()
    torch.testing.assert_close(one[3], many[3], rtol=1e-6, atol=0)
    torch.testing.assert_close(many, again, rtol=0, atol=0)


def test_many_batches_in_one_call_are_one_after_another() -> None:
    batches = [toy_batch(seed, 13, 9 + seed % 3, 6, 4, 3) for seed in range(7)]
    (u, w), (other_u, other_w) = tables(13, 5), tables(13, 5)
    together = fused_steps(u, w, batches, 0.2)
    one_by_one = [fused_steps(other_u, other_w, [batch], 0.2)[0] for batch in batches]
    assert together.tolist() == one_by_one
    assert torch.equal(u, other_u) and torch.equal(w, other_w)


def test_far_logits_and_a_loss_that_is_not_finite() -> None:
    """Beyond +-40 sigma is flat to double precision and the loss is linear; nan and infinity show in the loss."""
    batch = toy_batch(0, 7, 5, 4, 3, 1)
    u, w = tables(7, 5)
    slow = reference.linear_update(
        20 * u.numpy(), 20 * w.numpy(), **arrays(batch), weight_decay=0.0
    )
    far_u, far_w = 20 * u, 20 * w
    assert fused_steps(far_u, far_w, [batch], 0.0)[0] == pytest.approx(slow[2], rel=1e-12)
    np.testing.assert_allclose(far_u, slow[0], rtol=1e-10, atol=1e-10)
    for bad in (np.nan, np.inf):
        u, w = tables(7, 5)
        u[batch.context[0].max()] = bad
        assert not np.isfinite(fused_steps(u, w, [batch], 0.0)[0])


def bfloat16_steps(engine: str, model: LinearModel, batches: list[Batch]) -> None:
    """Steps, compiled, or as a card takes them: by kernels, or in torch."""
    with pytest.MonkeyPatch.context() as patch:
        if engine == "torch":
            patch.setattr(gpu_step, "kernels_run_on", lambda device: False)
        model.train_batches(batches) if engine == "fused" else model.update_on_device(batches)


ENGINES = ["fused", "torch"] + ["kernels"] * gpu_step.kernels_run_on(torch.device("cpu"))
"""On the CPU kernels are interpreted, where there is no card."""


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_rounds_without_bias(engine: str) -> None:
    """Averaged over salts, one bfloat16 step is the float32 step; each lands on one of the two neighbours."""
    batch = toy_batch(1, 13, 9, 6, 4, 3, lr=1e-3)
    u, w = (t.bfloat16() for t in tables(13, 33))
    exact_u, exact_w = u.float(), w.float()
    fused_steps(exact_u, exact_w, [batch], 0.0)
    total, num_salts = torch.zeros(13, 33, dtype=torch.float64), 400
    for salt in range(num_salts):
        batch.words_seen = 64 * salt
        one_u, one_w = u.clone(), w.clone()
        scales = torch.ones(13), torch.ones(13)
        bfloat16_steps(engine, LinearModel(one_u, one_w, scales=scales), [batch])
        assert (one_u.float() - exact_u).abs().max() <= 2**-7 * exact_u.abs().max()
        total += one_u.double()
    moved = (u.float() != exact_u).any(1)
    assert moved.sum() > 8
    # A rounding error has at most the size of a unit in the last place, 2^-7 |x|, and half that deviation.
    deviations = (total / num_salts - exact_u.double()) / (
        2**-8 * exact_u.abs().double() / num_salts**0.5
    )
    assert deviations[moved].abs().max() < 5 and deviations[moved].abs().mean() > 0.05


@pytest.mark.parametrize("engine", ENGINES)
def test_bfloat16_row_scales_take_the_decay(engine: str) -> None:
    """Rows decay by e^-45 against their steps, a factor at a time that 8 bits hardly hold; scales are folded in when small."""
    num_steps, weight_decay = (500, 3.0) if engine == "kernels" else (5000, 0.3)
    batches = [
        replace(toy_batch(1, 13, 9, 6, 4, 3, lr=0.03), words_seen=step) for step in range(num_steps)
    ]
    model, twin = init_mup_limit(13, 0.0, torch.bfloat16), init_mup_limit(13, 0.0, torch.float64)
    model.weight_decay = twin.weight_decay = weight_decay
    bfloat16_steps(engine, model, batches)
    twin.train_batches(batches)
    assert model.scales is not None
    for scale in model.scales:
        assert float(scale.min()) > 0.9e-3 and float(scale.max()) <= 1 and float(scale.min()) < 0.1
    ids = torch.arange(13)
    torch.testing.assert_close(model.gram(ids), twin.gram(ids).float(), rtol=0.05, atol=0.1)
