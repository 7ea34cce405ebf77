"""The SGD step on the CPU, compiled: `step.sgd_step` for many batches.

Decisions:
- Negatives are GEMMs, [E, D] x [D, N], by the BLAS that numba calls. Positives and context means
  are sparse, and cost less row by row.
- Threads count the batches of a call together. Then they share the positions of each batch where
  rows are narrow (position_split.py), else its columns (column_split.py). Either way every sum has
  one order, so training repeats bit for bit at a fixed number of threads. See threads.py.
- bfloat16 tables have a float32 scale per row. It takes the weight decay, which is far below the
  precision of 8 bits.
"""

from collections.abc import Sequence

import numpy as np
import torch

from w2v_inf.models.batch_counts import counts_sizes, stack, stored_counts
from w2v_inf.models.cpu import threads
from w2v_inf.models.cpu.column_split import train_columns
from w2v_inf.models.cpu.position_split import train_positions
from w2v_inf.models.cpu.row_steps import NO_SCALES, CompiledRule
from w2v_inf.models.step import UpdateRule, rounding_seed
from w2v_inf.stream import Batch

TILE = 1024
"""Most columns in a tile: hidden vectors and outputs of 4 KiB, about 150 of them."""
MIN_COLUMNS = 64
"""Columns that are worth a thread."""
MIN_EXAMPLES = 4
"""Examples of a batch that are worth a thread."""
COLUMNS_AT_ONCE = 1 << 19
"""Batches x columns per compiled call: about 0.2 s, after which Python can answer Ctrl-C."""
COUNTS_AT_ONCE = 1 << 21
"""Numbers in the counts of the batches of one compiled call: 16 MiB."""


def sgd_steps(
    u: torch.Tensor,
    w: torch.Tensor,
    batches: Sequence[Batch],
    rule: UpdateRule,
    scales: tuple[torch.Tensor, torch.Tensor] | None = None,
    tile: int = TILE,
    kept: list[np.ndarray] | None = None,
) -> np.ndarray:
    """One SGD step per batch, as `step.sgd_step`; updates `u`, `w` and `scales` in place.

    Args:
      u, w: input and output embedding, [V, D], C-contiguous on the CPU: float32, float64, or
        bfloat16 with `scales`.
      batches: of one stream.
      scales: of the rows of u and w, [V] float32 each: the embeddings are scale x row.
      tile: columns at a time.
      kept: if given, gets arrays of the gradients of the logits, for `lowrank.basis`.
    Returns: loss before each step, nats per example, [batches] float64.
    Cost: O((6 N + 4 C + 6) D) FLOP per position; about 3 (I + O) D numbers moved per batch.
    """
    at_once = batches_at_once(batches, u.shape)
    parts = [batches[k : k + at_once] for k in range(0, len(batches), at_once)]
    return np.concatenate([_steps(u, w, part, rule, scales, tile, kept) for part in parts])


def batches_at_once(batches: Sequence[Batch], shape: tuple[int, ...]) -> int:
    """Batches per compiled call on tables of shape [V, D]: little work, and memory for counts."""
    num_ints, num_floats = counts_sizes(batches, shape[0])
    return max(1, min(COLUMNS_AT_ONCE // shape[1], COUNTS_AT_ONCE // (num_ints + num_floats)))


def _steps(u, w, batches, rule, scales, tile, kept) -> np.ndarray:
    """`sgd_steps` in one compiled call per thread."""
    most = max(len(b.target) * (min(b.negatives.size, len(u)) + 1) for b in batches)
    dtype = np.dtype(np.float64 if u.dtype is torch.float64 else np.float32)
    losses = np.empty(len(batches))
    gradients = np.empty(len(batches) * most if kept is not None else 0, dtype)
    num_gradients = np.zeros(1, np.int64)
    u_table, w_table, row_scales = numpy_tables(u, w, scales)
    counted = stack(batches), stored_counts(batches, len(u))
    same = u_table, w_table, *counted, compiled_rule(rule), losses, gradients, num_gradients
    if shares_positions(u, batches):
        memory = memory_of_positions(u, batches, most, dtype)
        threads.run(train_positions, threads.size(), memory, *same)
    else:
        num_threads = num_threads_for(u.shape[1])
        # There is room for two batches, so that a thread may be one ahead.
        parts = np.empty((2, num_threads, most), dtype)
        seeds = np.array([rounding_seed(b.words_seen) for b in batches])
        threads.run(train_columns, num_threads, parts, row_scales, seeds, tile, *same)
    if kept is not None:
        kept.append(gradients[: num_gradients[0]])
    return losses


def shares_positions(u: torch.Tensor, batches: Sequence[Batch]) -> bool:
    """Do threads share the positions of a batch? Otherwise they share its columns."""
    most, num_threads = max(len(b.target) for b in batches), threads.size()
    is_narrow = u.shape[1] <= TILE and u.dtype is not torch.bfloat16
    return is_narrow and num_threads > 1 and most >= MIN_EXAMPLES * num_threads


def memory_of_positions(
    u: torch.Tensor, batches: Sequence[Batch], num_logits: int, dtype: np.dtype
) -> tuple[np.ndarray, ...]:
    """Memory that threads share, as `train_positions` takes it."""
    vocab_size, width = u.shape
    num_hidden, num_threads = max(len(b.target) for b in batches), threads.size()
    num_negatives = min(max(b.negatives.size for b in batches), vocab_size)
    hidden, gradient, parts = (
        np.empty(rows * width, dtype)
        for rows in (num_hidden, num_hidden, num_threads * num_negatives)
    )
    return np.empty(num_logits, dtype), hidden, gradient, parts, np.empty(num_threads)


def numpy_tables(
    u: torch.Tensor, w: torch.Tensor, scales: tuple[torch.Tensor, torch.Tensor] | None
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """u, w (bfloat16 as uint16) and the scales of their rows, as numpy arrays; not copies."""
    u_table, w_table = (
        t.view(torch.uint16).numpy() if t.dtype is torch.bfloat16 else t.numpy() for t in (u, w)
    )
    return u_table, w_table, (scales[0].numpy(), scales[1].numpy()) if scales else NO_SCALES


def compiled_rule(rule: UpdateRule) -> CompiledRule:
    """The rule as plain numbers."""
    u_factor, w_factor = map(float, rule.lr_factors)
    return CompiledRule(float(rule.weight_decay), u_factor, w_factor, rule.tp4, rule.whole_gradient)


def num_threads_for(num_columns: int) -> int:
    """Threads that so many columns are worth, of those to train on."""
    return max(1, min(threads.size(), num_columns // MIN_COLUMNS))
