"""SGD steps on a GPU: by Triton's kernels (kernels.py) where they can run, otherwise in torch.

Decisions:
- The host packs some batches while the GPU works on the batches before them.
- Three launches per step: each needs all that the one before has written.
- None of the sizes here was tuned on a GPU; benchmarks/kernels.py measures the kernels on one.
"""

import importlib.metadata
import logging
import os
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from subprocess import CalledProcessError
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from w2v_inf import distributed
from w2v_inf.models.cpu.threads import prefetch
from w2v_inf.models.dense_batch_counts import dense_batch_counts
from w2v_inf.models.gpu.packing import Packed, pack
from w2v_inf.models.step import MIN_SCALE, UpdateRule, rounding_seed, sgd_step
from w2v_inf.stream import Batch

log = logging.getLogger(__name__)
BATCHES_PER_PACK = 32
"""Batches that are packed and launched together."""
MAX_INPUTS, MAX_PAIRS = 128, 1 << 15
"""Most distinct inputs, and inputs x outputs, that a program holds; larger batches go to torch."""
MAX_SAMPLES = 4096
"""Most examples and negatives of a batch that is packed."""
MIN_TRITON, MIN_CAPABILITY = (3, 6), (8, 0)
"""Oldest Triton release that the kernels were tested with; oldest GPUs that have tf32 products."""
TRIAL_TOLERANCE = 0.05
"""Largest error of the trial step, relative to its largest change: tf32 and bfloat16 round."""
SMALL_O = 16
"""Outputs per block in the gradients and the update."""
TORCH_DTYPES = {
    np.dtype(np.int32): torch.int32,
    np.dtype(np.int64): torch.int64,
    np.dtype(np.float32): torch.float32,
    np.dtype(np.float64): torch.float64,
}
Scales = tuple[Tensor, Tensor] | None
AllReduce = Callable[[Tensor], Tensor] | None


def gpu_steps(
    u: Tensor,
    w: Tensor,
    batches: Sequence[Batch],
    rule: UpdateRule,
    scales: Scales = None,
    all_reduce: AllReduce = None,
) -> Tensor:
    """One SGD step per batch, as `step.sgd_step`; updates `u`, `w` and `scales` in place.

    Arguments as in `kernel_steps`. A group of batches with one that is too large goes to torch.
    Returns: loss before each step, nats per example, [batches], on the tables' device.
    """
    groups = [batches[k : k + BATCHES_PER_PACK] for k in range(0, len(batches), BATCHES_PER_PACK)]

    def packed(group: Sequence[Batch]) -> Packed | None:
        return pack_for_kernels(group, rule.weight_decay, len(u), u.dtype)

    packs = prefetch(packed, groups) if kernels_run_on(u.device) else [None] * len(groups)
    losses = [
        torch_steps(u, w, group, rule, scales, all_reduce)
        if pack is None
        else kernel_steps(u, w, group, pack, rule, scales, all_reduce)
        for group, pack in zip(groups, packs, strict=True)
    ]
    return torch.cat(losses)


def torch_steps(
    u: Tensor,
    w: Tensor,
    batches: Sequence[Batch],
    rule: UpdateRule,
    scales: Scales = None,
    all_reduce: AllReduce = None,
) -> Tensor:
    """`gpu_steps` by `step.sgd_step`."""
    dtype = torch.float64 if u.dtype is torch.float64 else torch.float32
    generator = torch.Generator(u.device) if scales else None
    losses = []
    for batch in batches:
        if generator:
            generator.manual_seed(rounding_seed(batch.words_seen))
        counts = dense_batch_counts(batch, dtype, u.device)
        losses.append(sgd_step(u, w, counts, batch.lr, rule, scales, generator, all_reduce))
    return torch.stack(losses)


def kernels_run_on(device: torch.device) -> bool:
    """Whether Triton's kernels run on this device.

    They run on Nvidia GPUs, and anywhere if TRITON_INTERPRET=1 has them interpreted.
    """
    if os.environ.get("TRITON_INTERPRET") == "1":
        return find_spec("triton") is not None
    return device.type == "cuda" and torch.version.hip is None and _all_can_launch(device)


@cache
def _all_can_launch(device: torch.device) -> bool:
    """Whether all processes can launch kernels; a warning says why one cannot.

    They take the same path, since the tensors that they sum must have one shape.
    """
    reason = _why_not(device)
    if reason:
        log.warning("%s: slower steps in torch", reason)
    return distributed.all_reduce_max(int(bool(reason)))[0] == 0


def _why_not(device: torch.device) -> str:
    """Why Triton cannot launch kernels on a GPU; empty if it can. Compiles Triton's driver."""
    if find_spec("triton") is None:
        return "Triton is not installed (pip install 'w2v_inf[gpu]')"
    release = importlib.metadata.version("triton")
    if tuple(int(part) for part in release.split(".")[:2]) < MIN_TRITON:
        return f"Triton {release} is older than {'.'.join(map(str, MIN_TRITON))}"
    try:
        from triton.runtime import driver

        driver.active.get_current_target()
    except (RuntimeError, OSError, ImportError, AssertionError, CalledProcessError) as error:
        said = (str(error).splitlines() or [repr(error)])[0]
        needs = "it needs a C compiler and Python's headers"
        return f"Triton cannot launch kernels here ({said}; {needs})"
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < MIN_CAPABILITY:
        return f"GPUs of compute capability {major}.{minor} have no tf32"
    return why_not_trusted(device)


def why_not_trusted(device: torch.device) -> str:
    """Take one small step by the kernels and in torch; empty if both agree, else what is wrong.

    The kernels were never run on every GPU and release of Triton: they must prove themselves here.
    """
    try:
        for dtype in (torch.float32, torch.bfloat16):
            by_kernels, in_torch = (
                _trial_step(device, dtype, kernels) for kernels in (True, False)
            )
            error = float((by_kernels - in_torch).abs().max() / in_torch.abs().max())
            if not error <= TRIAL_TOLERANCE:
                return f"the kernels' step differs from torch's ({dtype}: error {error:.2g})"
    except Exception as error:  # of compilers, drivers and launches
        said = (str(error).splitlines() or [repr(error)])[0]
        return f"the kernels fail here ({said})"
    return ""


def _trial_step(device: torch.device, dtype: torch.dtype, kernels: bool) -> Tensor:
    """What one step adds to small random tables, [2 V, D] float32."""
    size, generator = 16, torch.Generator().manual_seed(0)
    rows = torch.randn(2 * size, size, generator=generator).to(device, dtype)
    u, w = (table.clone() for table in rows.split(size))
    ids = np.arange(size, dtype=np.int32)
    batch = Batch(ids[:4, None], ids[4:8], ids[None, 8:], np.zeros(4, np.int32), 2.0, 0.5, 0)
    scales = None
    if dtype is torch.bfloat16:
        scales = (torch.ones(size, device=device), torch.ones(size, device=device))
    if kernels:
        packed = pack_for_kernels([batch], 0.0, size, dtype)
        assert packed is not None
        kernel_steps(u, w, [batch], packed, UpdateRule(0.0), scales)
    else:
        torch_steps(u, w, [batch], UpdateRule(0.0), scales)
    after = [table.float() for table in (u, w)]
    if scales:
        after = [scale[:, None] * table for scale, table in zip(scales, after, strict=True)]
    return torch.cat(after) - rows.float()


def pack_for_kernels(
    batches: Sequence[Batch], weight_decay: float, vocab_size: int, dtype: torch.dtype
) -> Packed | None:
    """The batches packed for tables of `dtype`; None if one is too large for the kernels."""
    if max(len(batch.target) + batch.negatives.size for batch in batches) > MAX_SAMPLES:
        return None
    floats = np.float64 if dtype is torch.float64 else np.float32
    packed = pack(batches, weight_decay, vocab_size, floats)
    inputs, outputs, _ = packed.max_sizes()
    return packed if inputs <= MAX_INPUTS and inputs * outputs <= MAX_PAIRS else None


def kernel_steps(
    u: Tensor,
    w: Tensor,
    batches: Sequence[Batch],
    packed: Packed,
    rule: UpdateRule,
    scales: Scales = None,
    all_reduce: AllReduce = None,
) -> Tensor:
    """One SGD step per batch by Triton's kernels; updates `u`, `w` and `scales` in place.

    Args:
      u, w: [V, D] on a GPU, or anywhere if kernels are interpreted: float32, float64, or bfloat16
        with `scales` [V] float32 (sums are then float32). What lies between two rows must be
        zeros, and stays so.
      packed: `batches`, packed with the rule's weight decay.
      all_reduce: sums inner products [1, I, O] over processes in place, where each holds some
        columns.
    Returns: loss before each step, nats per example, [batches], on the tables' device. It does not
      wait for the GPU.
    Cost: 6 I O D FLOP per batch; its I + O rows are read twice and written once.
    """
    arguments = kernel_arguments(u, w, batches, packed, rule, scales)
    logits, gradients, update = passes(arguments)
    for step in range(len(batches)):
        logits.launch(arguments, step)
        summed = {}
        if all_reduce is not None:
            total = all_reduce(arguments["parts"].sum(0, keepdim=True))
            summed = {"parts": total, "num_parts": 1}
        gradients.launch(arguments | summed, step)
        update.launch(arguments, step)
    return arguments["losses"].sum(1) / arguments["num_examples"]


class Pass(NamedTuple):
    """One of the three kernels of a step, its grid of programs, and the warps of a program."""

    kernel: Any
    grid: tuple[int, ...]
    num_warps: int

    def launch(self, arguments: dict[str, Any], step: int) -> None:
        """Launch it for one step, with those of `arguments` that the kernel has."""
        given = {name: arguments[name] for name in self.kernel.arg_names if name != "step"}
        self.kernel[self.grid](**given, step=step, num_warps=self.num_warps)


def passes(arguments: dict[str, Any]) -> tuple[Pass, Pass, Pass]:
    """The logits pass, the gradients and the update pass of steps with these arguments."""
    from w2v_inf.models.gpu import kernels

    max_o, block_o = arguments["max_o"], arguments["BLOCK_O"]
    tiles = -(-arguments["num_columns"] // arguments["TILE_D"])
    logits_grid = (arguments["num_parts"], max_o // block_o)
    return (
        Pass(kernels.logits_pass, logits_grid, 4 if arguments["BLOCK_I"] <= 64 else 8),
        Pass(kernels.gradients, (max_o // SMALL_O,), 8),
        Pass(kernels.update_pass, (tiles,), 4),
    )


def kernel_arguments(
    u: Tensor,
    w: Tensor,
    batches: Sequence[Batch],
    packed: Packed,
    rule: UpdateRule,
    scales: Scales,
) -> dict[str, Any]:
    """All arguments of all kernels by name: tables, batches, sizes and scratch memory."""
    per_batch = {
        "u_lr": np.array([b.lr * rule.lr_factors[0] for b in batches], packed.u_decay.dtype),
        "w_lr": np.array([b.lr * rule.lr_factors[1] for b in batches], packed.u_decay.dtype),
        "num_examples": np.array([len(b.target) for b in batches]),
        "seeds": np.array([rounding_seed(b.words_seen) for b in batches]),
    }
    arguments = {"u": u, "w": w, "TP4": rule.tp4, "num_edges": len(batches) + 1}
    arguments |= _to_device(packed._asdict() | per_batch, u.device)
    # Vector loads and stores need a multiple of 16 columns, so the zeros between rows move too.
    arguments |= {"u_stride": u.stride(0), "w_stride": w.stride(0), "num_columns": u.stride(0)}
    if not len(packed.bag):
        arguments["bag"] = None
    if not rule.whole_gradient:
        arguments["num_words"] = None
    return arguments | _sizes_and_scratch(u, packed, scales)


def _sizes_and_scratch(u: Tensor, packed: Packed, scales: Scales) -> dict[str, Any]:
    """Sizes of blocks, and memory for results that one kernel leaves to another."""
    from triton import language as tl  # an extra, so not everybody has it

    double, num_columns = u.dtype is torch.float64, u.stride(0)
    max_inputs, max_outputs, max_hidden = packed.max_sizes()
    block_i, block_o = _block(max_inputs, MAX_INPUTS), _block(max_outputs, 64)
    max_o = -(-max_outputs // block_o) * block_o
    block_d = 64 if block_i <= 64 else 32
    columns_per_part = -(-num_columns // (_num_parts(u.device) * block_d)) * block_d
    num_parts = -(-num_columns // columns_per_part)

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float64 if double else torch.float32, device=u.device)

    found: dict[str, Any] = {
        "BLOCK_I": block_i,
        "BLOCK_O": block_o,
        "SMALL_O": SMALL_O,
        "BLOCK_E": _block(max_hidden, 32),
        "BLOCK_D": block_d,
        "TILE_D": max(16, min(64, 2048 // block_i)),
        "BLOCK_P": 1024 // block_i,
        "FLOAT": tl.float64 if double else tl.float32,
        "PRECISION": "ieee" if double else "tf32x3",
        "MIN_SCALE": MIN_SCALE,
        "max_o": max_o,
        "columns_per_part": columns_per_part,
        "num_parts": num_parts,
        "parts": empty(num_parts, block_i, max_o),
        "u_coefficients": empty(block_i, max_o),
        "w_coefficients": empty(max_o, block_i),
        "losses": empty(packed.edges.shape[1] - 1, max_o // SMALL_O),
    }
    for name, rows, scale in zip("uw", (block_i, max_o), scales or (None, None), strict=True):
        for when in ("before", "after"):
            found[f"{name}_{when}"] = None if scale is None else empty(rows)
        found[f"{name}_scale"] = scale
    return found


def _block(number: int, most: int) -> int:
    """The power of two that holds so many, at most `most`; at least 16, for matrix products."""
    return min(most, max(16, 1 << (number - 1).bit_length()))


def _num_parts(device: torch.device) -> int:
    """Parts of the columns in a logits pass: one per multiprocessor; a few where interpreted."""
    if device.type != "cuda":
        return 3
    return torch.cuda.get_device_properties(device).multi_processor_count


def _to_device(arrays: dict[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """Flat copies on the device, in one transfer that the host does not wait for."""
    sizes = [array.nbytes for array in arrays.values()]
    starts = np.cumsum([0] + [-(-size // 16) * 16 for size in sizes]).tolist()
    staged = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
    for start, array in zip(starts, arrays.values(), strict=False):
        staged.numpy()[start : start + array.nbytes] = array.ravel().view(np.uint8)
    copied = staged.to(device, non_blocking=True)
    return {
        name: copied[start : start + array.nbytes].view(TORCH_DTYPES[array.dtype])
        for start, (name, array) in zip(starts, arrays.items(), strict=False)
    }
