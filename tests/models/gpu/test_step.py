"""Where steps on a GPU go: to the kernels or to torch, and why."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from toy import PLAIN, toy_batch

from w2v_inf.models.gpu import step as gpu_step
from w2v_inf.models.gpu.step import gpu_steps, pack_for_kernels
from w2v_inf.models.linear import LinearModel

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def tables() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    u, w = torch.randn(2, 40, 7, generator=generator, dtype=torch.float64).mul_(0.5)
    return u, w


def test_groups_of_batches_go_to_kernels_or_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group with a batch too large for the kernels goes to torch, and the others do not."""
    size, taken = gpu_step.BATCHES_PER_PACK, []
    batches = [toy_batch(seed, 40, 9, 6, 4, 3) for seed in range(2 * size + 3)]
    batches[3] = toy_batch(3, 40, gpu_step.MAX_SAMPLES, 6, 4, 3000, lr=1e-4)
    launch = gpu_step.kernel_steps
    monkeypatch.setattr(
        gpu_step,
        "kernel_steps",
        lambda *given: taken.append(len(given[2])) or launch(*given),
    )
    u, w = (table.to(DEVICE, copy=True) for table in tables())
    losses, model = gpu_steps(u, w, batches, PLAIN), LinearModel(*tables(), PLAIN)
    np.testing.assert_allclose(losses.cpu(), model.train_batches(batches), rtol=1e-10)
    assert taken == [size, 3]
    torch.testing.assert_close(u.cpu(), model.u, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(w.cpu(), model.w, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("inputs", [gpu_step.MAX_INPUTS, gpu_step.MAX_INPUTS + 1])
def test_batches_are_as_large_as_the_kernels_hold(inputs: int) -> None:
    batch = toy_batch(0, 200, inputs, 1, 4, 1)
    batch.context[:, 0] = np.arange(inputs)
    packed = pack_for_kernels([batch], 0.0, 200, torch.float64)
    assert (packed is None) == (inputs > gpu_step.MAX_INPUTS)


def test_kernels_run_where_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_step.kernels_run_on(DEVICE)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not gpu_step.kernels_run_on(torch.device("cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="kernels can be launched here")
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
            r"Triton cannot launch kernels here \(.+; it needs a C compiler and Python's headers\)",
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
    """Once: the first answer is kept."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(gpu_step, name, value)
    gpu_step._all_can_launch.cache_clear()
    assert not gpu_step.kernels_run_on(torch.device("cuda"))
    assert not gpu_step.kernels_run_on(torch.device("cuda"))
    assert len(caplog.messages) == 1
    assert re.fullmatch(f"{said}: slower steps in torch", caplog.messages[0])
    gpu_step._all_can_launch.cache_clear()


def test_processes_take_the_same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot launch kernels keeps the others from it."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(gpu_step, "_why_not", lambda device: "")
    for another_cannot in (0, 1):
        gpu_step._all_can_launch.cache_clear()
        monkeypatch.setattr(
            gpu_step.distributed,
            "all_reduce_max",
            lambda mine, worst=another_cannot: (max(mine, worst),),
        )
        assert gpu_step.kernels_run_on(torch.device("cuda")) == (not another_cannot)
    gpu_step._all_can_launch.cache_clear()


def test_kernels_that_have_not_proved_themselves_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They take a small step beside torch's; a difference or a failure is a reason against them."""
    assert gpu_step.why_not_trusted(DEVICE) == ""
    launch = gpu_step.kernel_steps

    def wrong(u: torch.Tensor, *given: Any) -> torch.Tensor:
        losses = launch(u, *given)
        u[2] *= 1.5
        return losses

    def ruined(u: torch.Tensor, *given: Any) -> torch.Tensor:
        u[2] = torch.nan
        return launch(u, *given)

    def fail(*given: Any) -> torch.Tensor:
        raise RuntimeError("no image for this device\nand more")

    for stand_in, said in (
        (wrong, "the kernels' step differs from torch's .torch.float32: error"),
        (ruined, "the kernels' step differs from torch's .torch.float32: error nan"),
        (fail, "the kernels fail here .no image for this device.$"),
    ):
        monkeypatch.setattr(gpu_step, "kernel_steps", stand_in)
        assert re.match(said, gpu_step.why_not_trusted(DEVICE))
