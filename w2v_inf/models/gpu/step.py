"""Steps on a card by Triton's kernels (`kernels.py`): what they are given, and how much of it a program takes."""

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
from w2v_inf.models.gpu.packing import Packed, pack
from w2v_inf.models.step import MIN_SCALE, rounding_seed
from w2v_inf.stream import Batch

log = logging.getLogger(__name__)
BATCHES_A_PACK = 32
"""Batches that are packed and launched together: while the card works on some, the next are packed."""
MAX_INPUTS, MAX_PAIRS = 128, 1 << 15
"""Distinct inputs of a batch, and inputs x outputs, that programs hold; larger batches are products for torch."""
MAX_DRAWN = 4096
"""Examples and negatives of a batch that is worth packing."""
DTYPES = {
    "int32": torch.int32,
    "int64": torch.int64,
    "float32": torch.float32,
    "float64": torch.float64,
}
NARROW = 256
"""Columns up to which one program takes many steps; guessed, `benchmarks/kernels.py` compares the two ways on a card."""
MIN_TRITON, MIN_CAPABILITY = (3, 6), (8, 0)
"""Whose launches and products the kernels are written for."""


def kernels_run_on(device: torch.device) -> bool:
    """Whether Triton is installed and runs here: on an Nvidia card, or anywhere if kernels are interpreted (TRITON_INTERPRET=1)."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return find_spec("triton") is not None
    return device.type == "cuda" and torch.version.hip is None and can_launch_everywhere(device)


@cache
def can_launch_everywhere(device: torch.device) -> bool:
    """Whether all ranks can start kernels: what they add up must have one shape. A warning says why one cannot."""
    reason = why_not(device)
    if reason:
        log.warning("%s: slower steps in torch", reason)
    return distributed.all_reduce_max(int(bool(reason)))[0] == 0


def why_not(device: torch.device) -> str:
    """Why Triton cannot start kernels on a card; nothing if it can. It compiles its driver when that is first used."""
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
        return (
            f"Triton cannot start kernels here ({said}; it needs a C compiler and Python's headers)"
        )
    capability = torch.cuda.get_device_capability(device)
    return (
        ""
        if capability >= MIN_CAPABILITY
        else f"cards of compute capability {capability[0]}.{capability[1]} have no tf32"
    )


def pack_for_kernels(
    batches: Sequence[Batch], weight_decay: float, vocab_size: int, dtype: torch.dtype
) -> Packed | None:
    """The batches in the type that tables of `dtype` are computed in; None if one is too large for the kernels."""
    if max(len(batch.target) + batch.negatives.size for batch in batches) > MAX_DRAWN:
        return None
    packed = pack(
        batches, weight_decay, vocab_size, np.float64 if dtype is torch.float64 else np.float32
    )
    inputs, outputs, _ = packed.most()
    return packed if inputs <= MAX_INPUTS and inputs * outputs <= MAX_PAIRS else None


def kernel_steps(
    u: Tensor,
    w: Tensor,
    batches: Sequence[Batch],
    packed: Packed,
    lr_factors: tuple[float, float] = (1.0, 1.0),
    tp4: bool = False,
    whole_gradient: bool = False,
    scales: tuple[Tensor, Tensor] | None = None,
    add_up: Callable[[Tensor], Tensor] | None = None,
    narrow: int = NARROW,
) -> Tensor:
    """An SGD step for each batch; updates `u`, `w` and `scales` in place. As `step.sgd_step`; launched, not waited for.

    Args:
      u, w: [V, D] on a card, or anywhere if kernels are interpreted: float32, float64, or bfloat16 with `scales` (sums in
        float32). What lies between two rows must be zeros, and stays so.
      packed: `batches`, with the weight decay.
      add_up: where u and w are some columns of a net, sums inner products [1, I, O] over all shards, in place.
      narrow: columns up to which one program takes all steps.
    Returns: loss before each step, nats per example, [batches], on the tables' device.
    Cost: 6 I O D FLOP a batch; its I + O rows are read twice and written once.
    """
    known = arguments(u, w, batches, packed, lr_factors, tp4, whole_gradient, scales)
    many = u.shape[1] <= narrow and known["BLOCK_I"] <= 64 and add_up is None
    losses = (
        _many_steps(known, len(batches)) if many else _step_by_step(known, len(batches), add_up)
    )
    return losses.sum(1) / known["num_examples"]


def arguments(u, w, batches, packed, lr_factors, tp4, whole_gradient, scales) -> dict[str, Any]:
    """What the kernels ask for, by its name there: tables, batches, sizes, and room."""
    u_lr, w_lr = (
        np.array([batch.lr * factor for batch in batches], packed.u_decay.dtype)
        for factor in lr_factors
    )
    arrays = packed._asdict() | {
        "u_lr": u_lr,
        "w_lr": w_lr,
        "num_examples": np.array([len(batch.target) for batch in batches]),
    }
    arrays |= {"salts": np.array([rounding_seed(batch.words_seen) for batch in batches])}
    known = {"u": u, "w": w} | _copies(arrays, u.device) | _room(u, packed, scales)
    # Columns that are a multiple of 16 move in vectors: padding is moved too.
    known |= {
        "u_stride": u.stride(0),
        "w_stride": w.stride(0),
        "num_columns": u.stride(0),
        "num_edges": len(batches) + 1,
    }
    unused = ([] if len(packed.bag) else ["bag"]) + ([] if whole_gradient else ["num_words"])
    return known | {"TP4": tp4} | dict.fromkeys(unused)


def _room(u: Tensor, packed: Packed, scales: tuple[Tensor, Tensor] | None) -> dict[str, Any]:
    """Sizes of blocks, and memory for what kernels leave each other: lr C, and the rows' scales before and after a step."""
    from triton import language as tl

    double = u.dtype is torch.float64
    most_inputs, most_outputs, most_hidden = packed.most()
    block_i, block_o = _block(most_inputs, MAX_INPUTS), _block(most_outputs, 64)
    most_o = -(-most_outputs // block_o) * block_o
    known: dict[str, Any] = {
        "BLOCK_I": block_i,
        "BLOCK_O": block_o,
        "BLOCK_E": _block(most_hidden, 32),
        "most_o": most_o,
    }
    known |= {
        "FLOAT": tl.float64 if double else tl.float32,
        "PRECISION": "ieee" if double else "tf32x3",
        "SMALLEST": MIN_SCALE,
    }

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float64 if double else torch.float32, device=u.device)

    for name, number, scale in zip("uw", (block_i, most_o), scales or (None, None), strict=True):
        room = {
            f"{name}_{when}": None if scale is None else empty(number)
            for when in ("before", "after")
        }
        known |= {f"{name}_scale": scale} | room
    return known | {
        "u_coefficients": empty(block_i, most_o),
        "w_coefficients": empty(most_o, block_i),
    }


def _block(number: int, most: int) -> int:
    """The power of two that holds so many, from 16, below which matrix units have no products, to `most`."""
    return min(most, max(16, 1 << (number - 1).bit_length()))


class Launch:
    """A kernel with its arguments but those that change. Calls after the first go past what Triton does to find the compiled code."""

    def __init__(
        self,
        kernel: Any,
        grid: tuple[int, int, int],
        known: dict[str, Any],
        *,
        num_warps: int,
        num_stages: int = 3,
        **own: Any,
    ) -> None:
        known = known | own
        self.kernel, self.grid, self.how = (
            kernel,
            grid,
            {"num_warps": num_warps, "num_stages": num_stages},
        )
        self.arguments = {
            name: known.get(name) for name in kernel.arg_names
        }  # in the kernel's order
        self.compiled: Any = None

    def __call__(self, **changed: Any) -> None:
        arguments = self.arguments | changed
        if self.compiled is None:  # always, if interpreted
            self.compiled = self.kernel[self.grid](**arguments, **self.how)
        else:
            self.compiled[self.grid](*arguments.values())


def _columns_a_tile(known: dict[str, Any]) -> int:
    """Columns that a program moves at once: 2,048 entries of the inputs."""
    return max(16, min(64, 2048 // known["BLOCK_I"]))


def _many_steps(known: dict[str, Any], num_steps: int) -> Tensor:
    """All steps in one launch of one program; losses, [steps, 1]."""
    from w2v_inf.models.gpu.kernels import many_steps

    losses = known["u_lr"].new_empty(num_steps, 1)
    launch = Launch(
        many_steps,
        (1, 1, 1),
        known,
        num_warps=8,
        BLOCK_D=_columns_a_tile(known),
        BLOCK_O=16,
        losses=losses,
    )
    launch(num_steps=num_steps)
    return losses


class Launches(NamedTuple):
    """The three launches of a step, each to be called with `step`, and what they leave: products over parts of the columns, losses."""

    logits: Launch
    gradients: Launch
    update: Launch
    parts: Tensor
    losses: Tensor


def launches(known: dict[str, Any], num_steps: int, add_up: bool) -> Launches:
    """The launches of some steps. Blocks and warps are the largest that leave everything in registers (benchmarks/kernels.py).

    add_up: whether the parts come summed.
    """
    from w2v_inf.models.gpu.kernels import gradients, logits_pass, update_pass

    num_columns, block_i, block_o, most_o = (
        known[name] for name in ("num_columns", "BLOCK_I", "BLOCK_O", "most_o")
    )
    block_d, warps = (64, 4) if block_i <= 64 else (32, 8)
    columns_a_part = -(-num_columns // (_num_programs(known["u"].device) * block_d)) * block_d
    parts = known["u_lr"].new_empty(-(-num_columns // columns_a_part), block_i, most_o)
    losses = known["u_lr"].new_empty(num_steps, most_o // 16)
    tile = _columns_a_tile(known)
    known = known | {
        "parts": parts,
        "losses": losses,
        "columns_a_part": columns_a_part,
        "num_parts": 1 if add_up else len(parts),
    }
    return Launches(
        Launch(
            logits_pass, (len(parts), most_o // block_o, 1), known, num_warps=warps, BLOCK_D=block_d
        ),
        Launch(
            gradients, (most_o // 16, 1, 1), known, num_warps=8, BLOCK_O=16, AT_ONCE=1024 // block_i
        ),
        # With 5 stages the next rows are on their way while these move: words, places and rows hang together.
        Launch(
            update_pass,
            (-(-num_columns // tile), 1, 1),
            known,
            num_warps=4,
            num_stages=5,
            BLOCK_O=16,
            BLOCK_D=tile,
        ),
        parts,
        losses,
    )


def _step_by_step(
    known: dict[str, Any], num_steps: int, add_up: Callable[[Tensor], Tensor] | None
) -> Tensor:
    """Three launches a step; losses, [steps, blocks of outputs]."""
    logits, gradients, update, parts, losses = launches(known, num_steps, add_up is not None)
    for step in range(num_steps):
        logits(step=step)
        if add_up is None:
            gradients(step=step)
        else:
            gradients(step=step, parts=add_up(parts.sum(0, keepdim=True)))
        update(step=step)
    return losses


def _num_programs(device: torch.device) -> int:
    """Parts of the columns in a logits pass: one a multiprocessor; interpreted, some."""
    return (
        torch.cuda.get_device_properties(device).multi_processor_count
        if device.type == "cuda"
        else 3
    )


def _copies(arrays: dict[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """Copies on the device, flat, in one transfer that the host does not wait for."""
    starts = np.cumsum([0] + [-(-array.nbytes // 16) * 16 for array in arrays.values()]).tolist()
    staged = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
    for start, array in zip(starts, arrays.values(), strict=False):
        staged.numpy()[start : start + array.nbytes] = array.ravel().view(np.uint8)
    copied = staged.to(device, non_blocking=True)
    parts = [
        copied[start : start + array.nbytes]
        for start, array in zip(starts, arrays.values(), strict=False)
    ]
    return {
        name: part.view(DTYPES[array.dtype.name])
        for part, (name, array) in zip(parts, arrays.items(), strict=True)
    }
