"""Compile the kernels for an H100, which need not be here; `test_kernels.py` runs this.

The interpreter of the tests is numpy, and takes code that Triton's compiler refuses.
"""

import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.insert(0, str(Path(__file__).parents[2]))
from toy import RULES, toy_batch

from w2v_inf.models.gpu import kernels
from w2v_inf.models.gpu.step import kernel_arguments, pack_for_kernels
from w2v_inf.models.step import UpdateRule

H100 = GPUTarget("cuda", 90, 32)
SHAPES = [(300, 32, 16, 32, 16), (300, 120, 1, 64, 60)]
"""About the default batches, CBOW and skip-gram."""
POINTERS = {
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
}


def source(kernel: Any, arguments: dict[str, Any]) -> ASTSource:
    """The kernel with the types of its arguments, as a launch would find them."""
    constants, signature = {}, {}
    for parameter in kernel.params:
        value = arguments.get(parameter.name, 0)  # `step` changes
        if parameter.is_constexpr or value is None:
            constants[parameter.name], signature[parameter.name] = value, "constexpr"
        else:
            is_tensor = isinstance(value, torch.Tensor)
            signature[parameter.name] = POINTERS[value.dtype] if is_tensor else "i32"
    return ASTSource(kernel, signature, constants)


def check(shape: tuple[int, ...], dtype: torch.dtype, rule: UpdateRule) -> None:
    """Compile the three kernels for tables of `dtype`, and look for products on matrix units."""
    batches = [toy_batch(0, *shape)]
    u, w = (torch.zeros(shape[0], 256, dtype=dtype) for _ in "uw")
    scales = (torch.ones(shape[0]), torch.ones(shape[0])) if dtype is torch.bfloat16 else None
    packed = pack_for_kernels(batches, rule.weight_decay, shape[0], dtype)
    assert packed is not None
    arguments = kernel_arguments(u, w, batches, packed, rule, scales)
    for kernel in (kernels.logits_pass, kernels.gradients, kernels.update_pass):
        ptx = triton.compile(source(kernel, arguments), target=H100).asm["ptx"]
        has_products = "mma" in ptx
        if kernel is not kernels.gradients and dtype is not torch.float64:
            assert has_products, (kernel.__name__, dtype)


if __name__ == "__main__":
    for shape, dtype in product(SHAPES, (torch.float32, torch.bfloat16, torch.float64)):
        check(shape, dtype, RULES[0])
    for rule in RULES[1:]:
        check(SHAPES[0], torch.float32, rule)
