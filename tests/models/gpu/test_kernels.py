"""Triton's kernels against the torch step and the slow twin: interpreted on the CPU, or on a card where there is one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import FACTORS, SHAPES, Twins, toy_batch

from w2v_inf.config import PROJECT_ROOT
from w2v_inf.models.cpu.step import fused_steps
from w2v_inf.models.gpu import step as gpu_step
from w2v_inf.models.gpu.step import kernel_steps, pack_for_kernels
from w2v_inf.models.linear import LinearModel
from w2v_inf.stream import Batch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LARGE = [(150, 70, 6, 45, 35), (140, 90, 1, 60, 30)]
"""More inputs, outputs and hidden vectors than a block holds, CBOW and skip-gram."""


def tables(
    vocab_size: int, width: int, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two tables on the device, with three zeros between rows."""
    generator = torch.Generator().manual_seed(0)
    pair = []
    for _ in "uw":
        table = torch.zeros(vocab_size, width + 3, dtype=dtype, device=DEVICE)
        table[:, :width] = torch.randn(
            vocab_size, width, generator=generator, dtype=torch.float64
        ).mul_(0.8 * width**-0.25)
        pair.append(table[:, :width])
    return pair[0], pair[1]


def kernels(
    u: torch.Tensor,
    w: torch.Tensor,
    batches: list[Batch],
    weight_decay: float,
    *options: object,
    **more: object,
) -> list[float]:
    """Steps by the kernels; losses."""
    packed = pack_for_kernels(batches, weight_decay, len(u), u.dtype)
    assert packed is not None
    return kernel_steps(u, w, batches, packed, *options, **more).tolist()  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("shape", SHAPES + LARGE)
@pytest.mark.parametrize("width", [1, 7, 200])
@pytest.mark.parametrize("narrow", [0, 1024])
@pytest.mark.parametrize(("tp4", "whole"), [(False, False), (False, True), (True, False)])
def test_equal_torch_step_and_twin(
    shape: tuple[int, ...], width: int, narrow: int, tp4: bool, whole: bool
) -> None:
    """Losses and both tables after three steps, in one launch (narrow) and in three a step; zeros between rows stay."""
    u, w = tables(shape[0], width)
    twins = Twins(u, w, tp4, whole)
    batches = [toy_batch(seed, *shape, lr=0.01 if shape in LARGE else 0.1) for seed in range(3)]
    losses = kernels(u, w, batches, 0.2, FACTORS, tp4, whole, narrow=narrow)
    for batch, loss in zip(batches, losses, strict=True):
        twins.step(batch, loss, rel=1e-11)
    twins.compare(u, w, atol=1e-11)
    for table in (u, w):
        assert not table.as_strided((len(table), 3), table.stride(), width).any()


@pytest.mark.parametrize("narrow", [0, 1024])
@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[4], LARGE[0]])
def test_float32(shape: tuple[int, ...], narrow: int) -> None:
    """Three bfloat16 or tf32 halves would be some 1e-3 off; float32 is 1e-6."""
    u, w = tables(shape[0], 200, torch.float32)
    exact_u, exact_w = u.cpu().double(), w.cpu().double()
    batches = [toy_batch(seed, *shape, lr=0.01) for seed in range(3)]
    losses = kernels(u, w, batches, 0.2, narrow=narrow)
    np.testing.assert_allclose(losses, fused_steps(exact_u, exact_w, batches, 0.2), rtol=1e-5)
    for fast, exact in ((u, exact_u), (w, exact_w)):
        assert (fast.cpu().double() - exact).norm() < 2e-6 * exact.norm()


@pytest.mark.parametrize("narrow", [0, 1024])
def test_bfloat16_has_the_bits_of_the_compiled_step(narrow: int) -> None:
    """A step whose numbers float32 holds exactly, so that the order of sums does not show: only the random bits could differ."""
    batches = [toy_batch(seed, 30, 20, 1, 4, 1, lr=2**-4) for seed in range(2)]
    for step, batch in enumerate(batches):
        batch.words_seen = 3_000_000_000 + step  # more than 32 bits once doubled
    u, w = tables(30, 70, torch.bfloat16)
    w.zero_()
    for batch in batches:
        compiled_u, compiled_w = (
            t.cpu().clone(memory_format=torch.contiguous_format) for t in (u, w)
        )
        scales, compiled_scales = (
            (torch.ones(30, device=d), torch.ones(30, device=d)) for d in (DEVICE, "cpu")
        )
        kernels(u, w, [batch], 0.0, scales=scales, narrow=narrow)
        fused_steps(compiled_u, compiled_w, [batch], 0.0, scales=compiled_scales)
        assert torch.equal(w.cpu(), compiled_w) and torch.equal(u.cpu(), compiled_u)
        assert (w.float() != 0).any() and torch.equal(scales[0].cpu(), compiled_scales[0])
        w.zero_()


def test_a_model_steps_by_kernels_or_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs of batches one after another; a pack with a batch too large for the kernels goes to torch, and the rest does not."""
    batches = [toy_batch(seed, 40, 9, 6, 4, 3) for seed in range(2 * gpu_step.BATCHES_A_PACK + 3)]
    batches[3] = toy_batch(3, 40, gpu_step.MAX_DRAWN, 6, 4, 3000, lr=1e-4)
    taken = []
    launch = gpu_step.kernel_steps
    monkeypatch.setattr(
        gpu_step,
        "kernel_steps",
        lambda *given, **more: taken.append(len(given[2])) or launch(*given, **more),
    )
    models = [
        LinearModel(*tables(40, 7), FACTORS, 0.2),
        LinearModel(*(t.cpu().contiguous() for t in tables(40, 7)), FACTORS, 0.2),
    ]
    losses = [models[0].update_on_device(batches), models[1].train_batches(batches)]
    assert taken == [gpu_step.BATCHES_A_PACK, 3]
    np.testing.assert_allclose(*losses, rtol=1e-10)
    torch.testing.assert_close(models[0].u.cpu(), models[1].u, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(models[0].w.cpu(), models[1].w, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("inputs", [gpu_step.MAX_INPUTS, gpu_step.MAX_INPUTS + 1])
def test_batches_are_as_large_as_the_kernels_hold(inputs: int) -> None:
    batch = toy_batch(0, 200, inputs, 1, 4, 1)
    batch.context[:, 0] = np.arange(inputs)
    assert (pack_for_kernels([batch], 0.0, 200, torch.float32) is None) == (
        inputs > gpu_step.MAX_INPUTS
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("narrow", [0, 1024])
def test_a_loss_that_is_not_finite_shows(bad: float, narrow: int) -> None:
    batch = toy_batch(0, 7, 5, 4, 3, 1)
    u, w = tables(7, 5)
    u[batch.context[0].max()] = bad
    with np.errstate(invalid="ignore"):  # the interpreter is numpy
        assert not np.isfinite(kernels(u, w, [batch], 0.0, narrow=narrow)[0])


def test_kernels_run_where_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_step.kernels_run_on(DEVICE)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not gpu_step.kernels_run_on(torch.device("cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="kernels can be started here")
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "find_spec",
            lambda name: None,
            r"Triton is not installed \(pip install 'w2v_inf\[gpu\]'\)",
        ),
        ("MIN_TRITON", (99, 0), r"Triton \S+ is older than 99.0"),
        (
            "MIN_CAPABILITY",
            (9, 9),
            r"Triton cannot start kernels here \(.+; it needs a C compiler and Python's headers\)",
        ),  # no driver
    ],
)
def test_a_warning_says_why_kernels_do_not_run(
    name: str,
    value: Any,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once: the first look is remembered."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(gpu_step, name, value)
    gpu_step.can_launch_everywhere.cache_clear()
    assert not gpu_step.kernels_run_on(torch.device("cuda")) and not gpu_step.kernels_run_on(
        torch.device("cuda")
    )
    assert len(caplog.messages) == 1 and re.fullmatch(
        f"{said}: slower steps in torch", caplog.messages[0]
    )
    gpu_step.can_launch_everywhere.cache_clear()


def test_ranks_take_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot start kernels keeps the others from it."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(gpu_step, "why_not", lambda device: "")
    for another_cannot in (0, 1):
        gpu_step.can_launch_everywhere.cache_clear()
        monkeypatch.setattr(
            gpu_step.distributed, "all_reduce_max", lambda mine, worst=another_cannot: (max(mine, worst),)
        )
        assert gpu_step.kernels_run_on(torch.device("cuda")) == (not another_cannot)
    gpu_step.can_launch_everywhere.cache_clear()


@pytest.mark.slow
def test_compile_for_a_card(tmp_path: Path) -> None:
    """For an H100, as without one: everything in registers, products on matrix units, rows copied ahead 16 bytes at a time."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [
        sys.executable,
        PROJECT_ROOT / "benchmarks" / "kernels.py",
        "--json",
        tmp_path / "kernels.json",
    ]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    rows = json.loads((tmp_path / "kernels.json").read_text())["compiled"]
    assert {row["kernel"] for row in rows} == {
        "logits_pass",
        "gradients",
        "update_pass",
        "many_steps",
    }
    assert {(row["architecture"], row["dtype"], row["inputs"]) for row in rows} >= {
        ("cbow", "float32", 128),
        ("skipgram", "bfloat16", 32),
    }
    for row in rows:
        assert row["stack_bytes"] <= 64 and row["programs"] >= 1, row
        if row["kernel"] in ("logits_pass", "update_pass"):
            assert row["products"] > 0 and row["copies"] > 0, row
