"""The SGD step as three Triton kernels: a logits pass, gradients, and an update pass.

With U [I, D] and W [O, D] the rows of a batch, a step needs from the columns only P = U W^T [I, O].
The logits are bag P, and with g, minus the gradient of the loss in them, C = bag^T g [I, O]. The
update is U += lr C W and W += lr C^T U. So hidden vectors are never formed.

Decisions:
- Three launches per step: each kernel reads what the one before wrote, and all columns run at once.
  Partial sums of P are added in a fixed order, so that training repeats bit for bit.
- A program updates the inputs and outputs of its columns together: both updates need the other's
  rows as they were. A thread may store rows that another has loaded. Between the two lies a
  barrier, or a product, whose operands pass through shared memory behind a barrier.
- tf32x3 keeps float32's precision: three products of two halves each. Entries of bfloat16 are tf32
  numbers, whose products are exact.
- The random bits of rounding are those of cpu/rows.py.

Shapes and names as in `packing.Packed`. `step` is the batch; max_o the row length of P in memory.
Blocks are powers of two from 16 up, and BLOCK_I holds all inputs.
"""

# pyright: reportGeneralTypeIssues=false
# It takes functions with @triton.jit for functions that return nothing.

import triton
import triton.language as tl

from w2v_inf.models import step as torch_step

MAX_EXP = tl.constexpr(torch_step.MAX_EXP)
TABLE_SIZE = tl.constexpr(torch_step.TABLE_SIZE)
TABLE_STEP = tl.constexpr(torch_step.TABLE_STEP)
COUNTS = ["step", "num_edges", "num_parts"]
"""Arguments whose divisibility is no reason to compile again."""


@triton.jit
def _part(edges, array: tl.constexpr, step, num_edges):
    """Where the step's part of an array (its row in `edges`) starts, and its length."""
    first = tl.load(edges + array * num_edges + step)
    return first, (tl.load(edges + array * num_edges + step + 1) - first).to(tl.int32)


@triton.jit
def _words(ids, first, number, k):
    """The k-th of a step's `number` words, which of them exist, and their flat indices."""
    return tl.load(ids + first + k, mask=k < number, other=0), k < number, first + k


@triton.jit
def _cells(table, words, exists, columns, num_columns, stride):
    """Pointers to entries of a table's rows, and which of them may be followed."""
    pointers = table + words.to(tl.int64)[:, None] * stride + columns[None, :]
    return pointers, exists[:, None] & (columns < num_columns)[None, :]


@triton.jit(do_not_specialize=COUNTS)
def logits_pass(
    u, w, u_scale, w_scale, inputs, outputs, edges, parts, step, num_edges, max_o, num_columns,
    u_stride, w_stride, columns_per_part, BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr,
    BLOCK_D: tl.constexpr, FLOAT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """parts[p] = P over the columns of part p; grid: parts x blocks of outputs."""
    part, i = tl.program_id(0), tl.arange(0, BLOCK_I)
    o = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    first_input, num_inputs = _part(edges, 0, step, num_edges)
    first_output, num_outputs = _part(edges, 1, step, num_edges)
    input_words, is_input, input_index = _words(inputs, first_input, num_inputs, i)
    output_words, is_output, output_index = _words(outputs, first_output, num_outputs, o)
    start = part * columns_per_part
    stop = tl.minimum(start + columns_per_part, num_columns)

    total = tl.zeros([BLOCK_I, BLOCK_O], FLOAT)
    for first in range(start, stop, BLOCK_D):
        columns = first + tl.arange(0, BLOCK_D)
        u_cells, u_mask = _cells(u, input_words, is_input, columns, stop, u_stride)
        w_cells, w_mask = _cells(w, output_words, is_output, columns, stop, w_stride)
        u_rows = tl.load(u_cells, mask=u_mask, other=0.0).to(FLOAT)
        w_rows = tl.trans(tl.load(w_cells, mask=w_mask, other=0.0).to(FLOAT))
        if u_scale is None:
            total = tl.dot(u_rows, w_rows, total, input_precision=PRECISION, out_dtype=FLOAT)
        else:
            total = tl.dot(u_rows, w_rows, total, input_precision="tf32", out_dtype=FLOAT)
    if u_scale is not None:
        u_factor = tl.load(u_scale + input_words, mask=is_input, other=0.0)
        w_factor = tl.load(w_scale + output_words, mask=is_output, other=0.0)
        total *= u_factor[:, None] * w_factor[None, :]
    tl.store(parts + (part * BLOCK_I + i)[:, None] * max_o + o[None, :], total)


@triton.jit(do_not_specialize=COUNTS)
def gradients(
    parts, u_scale, w_scale, u_before, w_before, u_after, w_after, inputs, outputs, edges, u_decay,
    w_decay, num_words, bag, positive_counts, negative_counts, u_lr, w_lr, u_coefficients,
    w_coefficients, losses, step, num_edges, max_o, num_parts,
    BLOCK_I: tl.constexpr, SMALL_O: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_P: tl.constexpr,
    TP4: tl.constexpr, MIN_SCALE: tl.constexpr, FLOAT: tl.constexpr,
):  # fmt: skip
    """C and the losses of a block of outputs; grid: blocks. The first program decays the scales."""
    block, i = tl.program_id(0), tl.arange(0, BLOCK_I)
    o = block * SMALL_O + tl.arange(0, SMALL_O)
    products = tl.zeros([BLOCK_I, SMALL_O], FLOAT)
    for start in range(0, num_parts, BLOCK_P):
        part = start + tl.arange(0, BLOCK_P)
        cells = (part[:, None, None] * BLOCK_I + i[None, :, None]) * max_o + o[None, None, :]
        mask = (part < num_parts)[:, None, None]
        products += tl.sum(tl.load(parts + cells, mask=mask, other=0.0), 0)

    first_input, num_inputs = _part(edges, 0, step, num_edges)
    first_output, num_outputs = _part(edges, 1, step, num_edges)
    first_hidden, num_hidden = _part(edges, 2, step, num_edges)
    first_share, bag_size = _part(edges, 3, step, num_edges)
    first_count, num_counts = _part(edges, 4, step, num_edges)
    if bag is None:
        c, loss = _logit_gradients(
            products, positive_counts, negative_counts, first_count, i, o, num_hidden, num_outputs,
            TP4,
        )  # fmt: skip
        u_c = c
    else:
        c, u_c = tl.zeros([BLOCK_I, SMALL_O], FLOAT), tl.zeros([BLOCK_I, SMALL_O], FLOAT)
        loss = tl.sum(tl.zeros([SMALL_O], FLOAT))
        for start in range(0, num_hidden, BLOCK_E):
            e = start + tl.arange(0, BLOCK_E)
            cells = bag + first_share + e[:, None] * num_inputs + i[None, :]
            mask = (e < num_hidden)[:, None] & (i < num_inputs)[None, :]
            share = tl.load(cells, mask=mask, other=0.0)
            f = tl.dot(share, products, input_precision="ieee", out_dtype=FLOAT)
            g, some_loss = _logit_gradients(
                f, positive_counts, negative_counts, first_count, e, o, num_hidden, num_outputs, TP4
            )
            loss += some_loss
            share = tl.trans(share)
            c = tl.dot(share, g, c, input_precision="ieee", out_dtype=FLOAT)
            if num_words is not None:
                words = tl.load(num_words + first_hidden + e, mask=e < num_hidden, other=0.0)
                u_g = g * words[:, None]
                u_c = tl.dot(share, u_g, u_c, input_precision="ieee", out_dtype=FLOAT)
        if num_words is None:
            u_c = c
    tl.store(losses + step * tl.num_programs(0) + block, loss)
    tl.store(u_coefficients + i[:, None] * max_o + o[None, :], u_c * tl.load(u_lr + step))
    transposed = w_coefficients + o[:, None] * BLOCK_I + i[None, :]
    tl.store(transposed, tl.trans(c) * tl.load(w_lr + step))
    if u_scale is not None:
        if block == 0:
            _decay_scales(
                u_scale, u_before, u_after, u_decay, inputs, first_input, num_inputs, MIN_SCALE,
                BLOCK_I,
            )  # fmt: skip
            _decay_scales(
                w_scale, w_before, w_after, w_decay, outputs, first_output, num_outputs, MIN_SCALE,
                BLOCK_I,
            )  # fmt: skip


@triton.jit
def _logit_gradients(
    f, positive_counts, negative_counts, first, rows, columns, num_rows, num_columns,
    TP4: tl.constexpr,
):  # fmt: skip
    """`step.logit_gradient` of some logits; the tables of counts [E, O] start at `first`."""
    cells = first + rows[:, None] * num_columns + columns[None, :]
    mask = (rows < num_rows)[:, None] & (columns < num_columns)[None, :]
    positive = tl.load(positive_counts + cells, mask=mask, other=0.0)
    both = positive + tl.load(negative_counts + cells, mask=mask, other=0.0)
    if TP4:
        p, x = _table_sigmoid(f)
    else:
        p, x = tl.sigmoid(f), f
    softplus = tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x)))
    return (positive - both * p).to(f.dtype), tl.sum(both * softplus - positive * x)


@triton.jit
def _table_sigmoid(f):
    """Sigma as `step.tp4_logit` looks it up, and the logit that the loss is taken at."""
    inside = tl.abs(f) < MAX_EXP
    index = tl.floor((f + MAX_EXP) * TABLE_STEP)
    looked_up = (2.0 * index / TABLE_SIZE - 1.0) * MAX_EXP
    p = tl.where(inside, tl.sigmoid(looked_up), tl.where(f > 0, 1.0, 0.0))
    return p, tl.where(inside, looked_up, f)


@triton.jit
def _decay_scales(
    scale, before, after, decays, ids, first, number, MIN_SCALE: tl.constexpr, BLOCK: tl.constexpr
):
    """Decay the scales of a batch's rows; `before` and `after` get them for the update pass.

    A small scale becomes 1, and its row takes it over.
    """
    for start in range(0, number, BLOCK):
        k = start + tl.arange(0, BLOCK)
        words, exists, index = _words(ids, first, number, k)
        old = tl.load(scale + words, mask=exists, other=1.0)
        new = old * tl.load(decays + index, mask=exists, other=1.0)
        new = tl.where(new > MIN_SCALE, new, 1.0)
        tl.store(before + k, old, mask=exists)
        tl.store(after + k, new, mask=exists)
        tl.store(scale + words, new, mask=exists)


@triton.jit(do_not_specialize=COUNTS)
def update_pass(
    u, w, u_before, w_before, u_after, w_after, inputs, outputs, edges, u_decay, w_decay,
    u_coefficients, w_coefficients, seeds, step, num_edges, max_o, num_columns, u_stride, w_stride,
    BLOCK_I: tl.constexpr, SMALL_O: tl.constexpr, TILE_D: tl.constexpr, FLOAT: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """U = decay U + lr C W and W = decay W + lr C^T U, with the rows before the step on the right.

    Grid: tiles of columns.
    """
    columns = tl.program_id(0) * TILE_D + tl.arange(0, TILE_D)
    seed, i = tl.load(seeds + step), tl.arange(0, BLOCK_I)
    first_input, num_inputs = _part(edges, 0, step, num_edges)
    first_output, num_outputs = _part(edges, 1, step, num_edges)
    input_words, is_input, input_index = _words(inputs, first_input, num_inputs, i)
    u_cells, u_mask = _cells(u, input_words, is_input, columns, num_columns, u_stride)
    u_rows = _load(u_cells, u_mask, u_before, is_input, i, FLOAT)
    u_gains = tl.zeros([BLOCK_I, TILE_D], FLOAT)
    for start in range(0, num_outputs, SMALL_O):
        o = start + tl.arange(0, SMALL_O)
        output_words, is_output, output_index = _words(outputs, first_output, num_outputs, o)
        w_cells, w_mask = _cells(w, output_words, is_output, columns, num_columns, w_stride)
        w_rows = _load(w_cells, w_mask, w_before, is_output, o, FLOAT)
        c = tl.load(u_coefficients + i[:, None] * max_o + o[None, :])
        u_gains = tl.dot(c, w_rows, u_gains, input_precision=PRECISION, out_dtype=FLOAT)
        w_rows *= tl.load(w_decay + output_index, mask=is_output, other=1.0)[:, None]
        transposed = tl.load(w_coefficients + o[:, None] * BLOCK_I + i[None, :])
        w_rows = tl.dot(transposed, u_rows, w_rows, input_precision=PRECISION, out_dtype=FLOAT)
        _store(w_cells, w_mask, w_rows, w_after, output_words, is_output, o, columns, 2 * seed)
    tl.debug_barrier()
    u_rows *= tl.load(u_decay + input_index, mask=is_input, other=1.0)[:, None]
    u_rows += u_gains
    _store(u_cells, u_mask, u_rows, u_after, input_words, is_input, i, columns, 2 * seed + 1)


@triton.jit
def _load(cells, mask, before, exists, k, FLOAT: tl.constexpr):
    """Rows to compute with, times their scales before the step."""
    rows = tl.load(cells, mask=mask, other=0.0).to(FLOAT)
    if before is not None:
        rows *= tl.load(before + k, mask=exists, other=0.0)[:, None]
    return rows


@triton.jit
def _store(cells, mask, rows, after, words, exists, k, columns, seed):
    """Store rows; those with scales over them, rounded up or down at random to bfloat16."""
    if after is None:
        tl.store(cells, rows, mask=mask)
    else:
        unscaled = rows / tl.load(after + k, mask=exists, other=1.0)[:, None]
        row_seeds = _hash(seed.to(tl.uint32) + _hash(words.to(tl.uint32)))
        random = _hash(row_seeds[:, None] + (columns.to(tl.uint32) * 0x9E3779B9)[None, :]) >> 16
        bits = (unscaled.to(tl.uint32, bitcast=True) + random) >> 16
        # A GPU's NaN has all bits set, and would wrap around.
        bits = tl.where(unscaled == unscaled, bits, 0x7FC0)
        tl.store(cells, bits.to(tl.uint16).to(tl.bfloat16, bitcast=True), mask=mask)


@triton.jit
def _hash(x):
    """The hash of cpu/rows.py."""
    x = x ^ (x >> 16)
    x = x * 0x85EBCA6B
    x = x ^ (x >> 13)
    x = x * 0xC2B2AE35
    return x ^ (x >> 16)
