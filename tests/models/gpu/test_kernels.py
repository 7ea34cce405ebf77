"""Triton's kernels against the torch step and the reference: interpreted, or on a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import PLAIN, RULES, SHAPES, References, toy_batch

from w2v_inf.models.cpu.step import sgd_steps
from w2v_inf.models.gpu.step import kernel_steps, pack_for_kernels
from w2v_inf.models.step import UpdateRule
from w2v_inf.stream import Batch

pytestmark = pytest.mark.slow  # interprets the kernels

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LARGE = [(150, 70, 6, 45, 35), (140, 90, 1, 60, 30)]
"""More inputs, outputs and hidden vectors than a block holds, CBOW and skip-gram."""


def tables(
    vocab_size: int, width: int, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two tables on the device, with three zeros between rows."""
    generator, scale, pair = torch.Generator().manual_seed(0), 0.8 * width**-0.25, []
    for _ in "uw":
        table = torch.zeros(vocab_size, width + 3, dtype=dtype, device=DEVICE)
        rows = torch.randn(vocab_size, width, generator=generator, dtype=torch.float64)
        table[:, :width] = rows.mul_(scale)
        pair.append(table[:, :width])
    return pair[0], pair[1]


def kernels(
    u: torch.Tensor,
    w: torch.Tensor,
    batches: list[Batch],
    rule: UpdateRule,
    scales: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> list[float]:
    """Steps by the kernels; losses."""
    packed = pack_for_kernels(batches, rule.weight_decay, len(u), u.dtype)
    assert packed is not None
    return kernel_steps(u, w, batches, packed, rule, scales).tolist()


@pytest.mark.parametrize("shape", SHAPES + LARGE)
@pytest.mark.parametrize("width", [1, 7, 200])
@pytest.mark.parametrize("rule", RULES)
def test_equal_torch_step_and_reference(
    shape: tuple[int, ...], width: int, rule: UpdateRule
) -> None:
    """Losses and both tables after three steps; zeros between rows stay."""
    u, w = tables(shape[0], width)
    references = References(u, w, rule)
    batches = [toy_batch(seed, *shape, lr=0.01 if shape in LARGE else 0.1) for seed in range(3)]
    losses = kernels(u, w, batches, rule)
    for batch, loss in zip(batches, losses, strict=True):
        references.step(batch, loss, rel=1e-11)
    references.compare(u, w, atol=1e-11)
    for table in (u, w):
        assert not table.as_strided((len(table), 3), table.stride(), width).any()


@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[4], LARGE[0]])
def test_float32(shape: tuple[int, ...]) -> None:
    """Three bfloat16 or tf32 halves would be some 1e-3 off; float32 is 1e-6."""
    u, w = tables(shape[0], 200, torch.float32)
    exact_u, exact_w = u.cpu().double(), w.cpu().double()
    batches, rule = [toy_batch(seed, *shape, lr=0.01) for seed in range(3)], UpdateRule(0.2)
    losses = kernels(u, w, batches, rule)
    np.testing.assert_allclose(losses, sgd_steps(exact_u, exact_w, batches, rule), rtol=1e-5)
    for fast, exact in ((u, exact_u), (w, exact_w)):
        assert (fast.cpu().double() - exact).norm() < 2e-6 * exact.norm()


def test_bfloat16_has_the_bits_of_the_compiled_step() -> None:
    """Float32 holds the numbers of this step exactly, so only the random bits could differ."""
    batches = [toy_batch(seed, 30, 20, 1, 4, 1, lr=2**-4) for seed in range(2)]
    for step, batch in enumerate(batches):
        batch.words_seen = 3_000_000_000 + step  # more than 32 bits once doubled
    u, w = tables(30, 70, torch.bfloat16)
    w.zero_()
    for batch in batches:
        cpu_u, cpu_w = (t.cpu().clone(memory_format=torch.contiguous_format) for t in (u, w))
        scales, cpu_scales = (
            (torch.ones(30, device=device), torch.ones(30, device=device))
            for device in (DEVICE, "cpu")
        )
        kernels(u, w, [batch], UpdateRule(), scales)
        sgd_steps(cpu_u, cpu_w, [batch], UpdateRule(), cpu_scales)
        assert torch.equal(w.cpu(), cpu_w) and torch.equal(u.cpu(), cpu_u)
        assert (w.float() != 0).any() and torch.equal(scales[0].cpu(), cpu_scales[0])
        w.zero_()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_shows(bad: float) -> None:
    batch = toy_batch(0, 7, 5, 4, 3, 1)
    u, w = tables(7, 5)
    u[batch.context[0].max()] = bad
    with np.errstate(invalid="ignore"):  # the interpreter is numpy
        assert not np.isfinite(kernels(u, w, [batch], PLAIN)[0])


@pytest.mark.slow
def test_compile_for_a_gpu() -> None:
    """For an H100, without one: every kernel as training launches it, in every type."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("compile_kernels.py")
    subprocess.run([sys.executable, script], env=environment, check=True, timeout=600)
