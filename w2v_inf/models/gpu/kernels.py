"""The update rule in Triton, for a card: a logits pass, gradients, an update pass over tiles of columns.

With U [I, D] and W [O, D] the rows that a batch touches, a step asks the columns for P = U W^T alone: the logits are bag P, and with g
minus the loss's gradient in them and C = bag^T g [I, O] the update is U += lr C W, W += lr C^T U. So hidden vectors are never made.

Decisions:
- Wide nets take three launches a step: what one writes the next may read, and all columns move at once. Partial sums of P are added
  in a fixed order, so that training repeats bit for bit. Narrow nets, whose step is shorter than a launch, are left to one program
  that takes many steps.
- A program moves a column's inputs and outputs at once: both updates need the other's rows as they were. A thread may store rows
  that another has loaded: between the two lies a barrier, or the products, whose operands pass through shared memory behind one.
- tf32x3 keeps float32's precision (three products of two halves each). Entries of bfloat16 are numbers of tf32, whose products are exact.
- Random bits are the hash of `rows.py`.

Shapes and names as in `packing.Packed`; `step`: the batch; most_o: a row of P in memory; blocks are powers of two from 16 up, BLOCK_I
holds all inputs.
"""

# pyright: reportGeneralTypeIssues=false
# To its eyes a function with @triton.jit returns nothing.

import triton
import triton.language as tl

COUNTS = ["step", "num_steps", "num_edges", "num_parts"]
"""Arguments whose divisibility is no reason to compile again."""


@triton.jit
def _part(edges, which: tl.constexpr, step, num_edges):
    """Where the step's part of an array starts, and its length."""
    first = tl.load(edges + which * num_edges + step)
    return first, (tl.load(edges + which * num_edges + step + 1) - first).to(tl.int32)


@triton.jit
def _words(ids, first, number, k):
    """The k-th words of a step's `number` inputs or outputs, which of them exist, and their places in the flat array."""
    return tl.load(ids + first + k, mask=k < number, other=0), k < number, first + k


@triton.jit
def _cells(table, words, known, columns, num_columns, stride):
    """Pointers to rows of a table, and which of them may be followed."""
    pointers = table + words.to(tl.int64)[:, None] * stride + columns[None, :]
    return pointers, known[:, None] & (columns < num_columns)[None, :]


@triton.jit
def _products(
    u, w, u_scale, w_scale, input_words, is_input, output_words, is_output, start, stop, u_stride, w_stride,
    BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_D: tl.constexpr, FLOAT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """U W^T over columns [start, stop), [BLOCK_I, BLOCK_O]."""
    total = tl.zeros([BLOCK_I, BLOCK_O], FLOAT)
    for first in range(start, stop, BLOCK_D):
        columns = first + tl.arange(0, BLOCK_D)
        u_cells, u_mask = _cells(u, input_words, is_input, columns, stop, u_stride)
        w_cells, w_mask = _cells(w, output_words, is_output, columns, stop, w_stride)
        u_rows, w_rows = (
            tl.load(u_cells, mask=u_mask, other=0.0).to(FLOAT),
            tl.load(w_cells, mask=w_mask, other=0.0).to(FLOAT),
        )
        if u_scale is None:
            total = tl.dot(
                u_rows, tl.trans(w_rows), total, input_precision=PRECISION, out_dtype=FLOAT
            )
        else:
            total = tl.dot(u_rows, tl.trans(w_rows), total, input_precision="tf32", out_dtype=FLOAT)
    if u_scale is not None:
        u_factor = tl.load(u_scale + input_words, mask=is_input, other=0.0)
        w_factor = tl.load(w_scale + output_words, mask=is_output, other=0.0)
        total *= u_factor[:, None] * w_factor[None, :]
    return total


@triton.jit
def _table_logit(f):
    """`step.tp4_logit`: sigma as looked up, and the logit that the loss is taken at."""
    inside = tl.abs(f) < 12.0
    looked_up = (2.0 * tl.floor((f + 12.0) * 41.0) / 1000.0 - 1.0) * 12.0
    return tl.where(inside, tl.sigmoid(looked_up), tl.where(f > 0, 1.0, 0.0)), tl.where(
        inside, looked_up, f
    )


@triton.jit
def _logit_gradients(
    f, positives, negatives, first, rows, columns, num_rows, num_columns, TP4: tl.constexpr
):
    """`step.logit_gradient` of some logits; the counts' table [num_rows, num_columns] starts at `first`."""
    places = first + rows[:, None] * num_columns + columns[None, :]
    mask = (rows < num_rows)[:, None] & (columns < num_columns)[None, :]
    drawn = tl.load(positives + places, mask=mask, other=0.0)
    all_counts = drawn + tl.load(negatives + places, mask=mask, other=0.0)
    if TP4:
        p, x = _table_logit(f)
    else:
        p, x = tl.sigmoid(f), f
    softplus = tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x)))
    return (drawn - all_counts * p).to(f.dtype), tl.sum(all_counts * softplus - drawn * x)


@triton.jit
def _coefficients(
    products, edges, num_words, bag, positives, negatives, u_lr, w_lr, u_coefficients, w_coefficients, o, step, num_edges, most_o,
    BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_E: tl.constexpr, TP4: tl.constexpr, FLOAT: tl.constexpr,
):  # fmt: skip
    """Store lr C [I, O] for u and lr C^T [O, I] for w, of the outputs `o`; returns their share of the loss."""
    i = tl.arange(0, BLOCK_I)
    num_inputs, num_outputs = (
        _part(edges, 0, step, num_edges)[1],
        _part(edges, 1, step, num_edges)[1],
    )
    first_hidden, num_hidden = _part(edges, 2, step, num_edges)
    first_share, first_count = (
        _part(edges, 3, step, num_edges)[0],
        _part(edges, 4, step, num_edges)[0],
    )
    if bag is None:
        c, loss = _logit_gradients(
            products, positives, negatives, first_count, i, o, num_hidden, num_outputs, TP4
        )
        u_c = c
    else:
        c, u_c = tl.zeros([BLOCK_I, BLOCK_O], FLOAT), tl.zeros([BLOCK_I, BLOCK_O], FLOAT)
        loss = tl.sum(tl.zeros([BLOCK_O], FLOAT))
        for start in range(0, num_hidden, BLOCK_E):
            e = start + tl.arange(0, BLOCK_E)
            mask = (e < num_hidden)[:, None] & (i < num_inputs)[None, :]
            share = tl.load(
                bag + first_share + e[:, None] * num_inputs + i[None, :], mask=mask, other=0.0
            )
            f = tl.dot(share, products, input_precision="ieee", out_dtype=FLOAT)
            g, some_loss = _logit_gradients(
                f, positives, negatives, first_count, e, o, num_hidden, num_outputs, TP4
            )
            loss += some_loss
            c = tl.dot(tl.trans(share), g, c, input_precision="ieee", out_dtype=FLOAT)
            if num_words is not None:
                words = tl.load(num_words + first_hidden + e, mask=e < num_hidden, other=0.0)
                u_c = tl.dot(
                    tl.trans(share),
                    g * words[:, None],
                    u_c,
                    input_precision="ieee",
                    out_dtype=FLOAT,
                )
        if num_words is None:
            u_c = c
    tl.store(u_coefficients + i[:, None] * most_o + o[None, :], u_c * tl.load(u_lr + step))
    tl.store(w_coefficients + o[:, None] * BLOCK_I + i[None, :], tl.trans(c) * tl.load(w_lr + step))
    return loss


@triton.jit
def _move_scales(
    scale, before, after, decays, ids, first, number, SMALLEST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Decay the scales of touched rows; `before` and `after` get them for the update. A small one becomes 1: its row takes it."""
    for start in range(0, number, BLOCK):
        k = start + tl.arange(0, BLOCK)
        words, known, places = _words(ids, first, number, k)
        old = tl.load(scale + words, mask=known, other=1.0)
        new = old * tl.load(decays + places, mask=known, other=1.0)
        new = tl.where(new > SMALLEST, new, 1.0)
        tl.store(before + k, old, mask=known)
        tl.store(after + k, new, mask=known)
        tl.store(scale + words, new, mask=known)


@triton.jit
def _hash(x):
    """`rows._hash`."""
    x = x ^ (x >> 16)
    x = x * 0x85EBCA6B
    x = x ^ (x >> 13)
    x = x * 0xC2B2AE35
    return x ^ (x >> 16)


@triton.jit
def _store(cells, mask, rows, after, words, known, places, columns, salt):
    """Store rows; those with scales over them, rounded up or down at random to bfloat16."""
    if after is None:
        tl.store(cells, rows, mask=mask)
    else:
        unscaled = rows / tl.load(after + places, mask=known, other=1.0)[:, None]
        seeds = _hash(salt.to(tl.uint32) + _hash(words.to(tl.uint32)))
        random = _hash(seeds[:, None] + (columns.to(tl.uint32) * 0x9E3779B9)[None, :]) >> 16
        bits = (unscaled.to(tl.uint32, bitcast=True) + random) >> 16
        bits = tl.where(
            unscaled == unscaled, bits, 0x7FC0
        )  # a card's not-a-number has all bits set, and would wrap around
        tl.store(cells, bits.to(tl.uint16).to(tl.bfloat16, bitcast=True), mask=mask)


@triton.jit
def _load_scaled(cells, mask, before, known, places, FLOAT: tl.constexpr):
    """Rows to compute with."""
    rows = tl.load(cells, mask=mask, other=0.0).to(FLOAT)
    if before is not None:
        rows *= tl.load(before + places, mask=known, other=0.0)[:, None]
    return rows


@triton.jit
def _update_tile(
    u, w, u_before, w_before, u_after, w_after, inputs, outputs, edges, u_decay, w_decay, u_coefficients, w_coefficients, salts,
    columns, step, num_edges, most_o, num_columns, u_stride, w_stride,
    BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_D: tl.constexpr, FLOAT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """U = decay U + lr C W and W = decay W + lr C^T U over some columns, with the rows before the step on the right."""
    salt = tl.load(salts + step)
    i = tl.arange(0, BLOCK_I)
    first_input, num_inputs = _part(edges, 0, step, num_edges)
    first_output, num_outputs = _part(edges, 1, step, num_edges)
    input_words, is_input, input_places = _words(inputs, first_input, num_inputs, i)
    u_cells, u_mask = _cells(u, input_words, is_input, columns, num_columns, u_stride)
    u_rows = _load_scaled(u_cells, u_mask, u_before, is_input, i, FLOAT)
    u_gains = tl.zeros([BLOCK_I, BLOCK_D], FLOAT)
    for start in range(0, num_outputs, BLOCK_O):
        o = start + tl.arange(0, BLOCK_O)
        output_words, is_output, output_places = _words(outputs, first_output, num_outputs, o)
        w_cells, w_mask = _cells(w, output_words, is_output, columns, num_columns, w_stride)
        w_rows = _load_scaled(w_cells, w_mask, w_before, is_output, o, FLOAT)
        c = tl.load(u_coefficients + i[:, None] * most_o + o[None, :])
        u_gains = tl.dot(c, w_rows, u_gains, input_precision=PRECISION, out_dtype=FLOAT)
        w_rows *= tl.load(w_decay + output_places, mask=is_output, other=1.0)[:, None]
        transposed = tl.load(w_coefficients + o[:, None] * BLOCK_I + i[None, :])
        w_rows = tl.dot(transposed, u_rows, w_rows, input_precision=PRECISION, out_dtype=FLOAT)
        _store(w_cells, w_mask, w_rows, w_after, output_words, is_output, o, columns, 2 * salt)
    tl.debug_barrier()
    u_rows = u_rows * tl.load(u_decay + input_places, mask=is_input, other=1.0)[:, None] + u_gains
    _store(u_cells, u_mask, u_rows, u_after, input_words, is_input, i, columns, 2 * salt + 1)


@triton.jit(do_not_specialize=COUNTS)
def logits_pass(
    u, w, u_scale, w_scale, inputs, outputs, edges, parts, step, num_edges, most_o, num_columns, u_stride, w_stride, columns_a_part,
    BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_D: tl.constexpr, FLOAT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """parts[p] = P over the columns of part p; grid: parts x blocks of outputs."""
    part, i, o = (
        tl.program_id(0),
        tl.arange(0, BLOCK_I),
        tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O),
    )
    first_input, num_inputs = _part(edges, 0, step, num_edges)
    first_output, num_outputs = _part(edges, 1, step, num_edges)
    input_words, is_input, input_places = _words(inputs, first_input, num_inputs, i)
    output_words, is_output, output_places = _words(outputs, first_output, num_outputs, o)
    start = part * columns_a_part
    stop = tl.minimum(start + columns_a_part, num_columns)
    total = _products(
        u, w, u_scale, w_scale, input_words, is_input, output_words, is_output, start, stop, u_stride, w_stride,
        BLOCK_I, BLOCK_O, BLOCK_D, FLOAT, PRECISION,
    )  # fmt: skip
    tl.store(parts + (part * BLOCK_I + i)[:, None] * most_o + o[None, :], total)


@triton.jit(do_not_specialize=COUNTS)
def gradients(
    parts, u_scale, w_scale, u_before, w_before, u_after, w_after, inputs, outputs, edges, u_decay, w_decay, num_words, bag, positives,
    negatives, u_lr, w_lr, u_coefficients, w_coefficients, losses, step, num_edges, most_o, num_parts,
    BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_E: tl.constexpr, AT_ONCE: tl.constexpr, TP4: tl.constexpr,
    SMALLEST: tl.constexpr, FLOAT: tl.constexpr,
):  # fmt: skip
    """C, and the losses of blocks of outputs; grid: blocks of outputs. The first program moves the scales."""
    block, i = tl.program_id(0), tl.arange(0, BLOCK_I)
    o = block * BLOCK_O + tl.arange(0, BLOCK_O)
    products = tl.zeros([BLOCK_I, BLOCK_O], FLOAT)
    for start in range(0, num_parts, AT_ONCE):
        part = start + tl.arange(0, AT_ONCE)
        places = (part[:, None, None] * BLOCK_I + i[None, :, None]) * most_o + o[None, None, :]
        products += tl.sum(
            tl.load(parts + places, mask=(part < num_parts)[:, None, None], other=0.0), 0
        )
    loss = _coefficients(
        products, edges, num_words, bag, positives, negatives, u_lr, w_lr, u_coefficients, w_coefficients, o, step, num_edges, most_o,
        BLOCK_I, BLOCK_O, BLOCK_E, TP4, FLOAT,
    )  # fmt: skip
    tl.store(losses + step * tl.num_programs(0) + block, loss)
    if u_scale is not None:
        if block == 0:
            first_input, num_inputs = _part(edges, 0, step, num_edges)
            first_output, num_outputs = _part(edges, 1, step, num_edges)
            _move_scales(
                u_scale,
                u_before,
                u_after,
                u_decay,
                inputs,
                first_input,
                num_inputs,
                SMALLEST,
                BLOCK_I,
            )
            _move_scales(
                w_scale,
                w_before,
                w_after,
                w_decay,
                outputs,
                first_output,
                num_outputs,
                SMALLEST,
                BLOCK_I,
            )


@triton.jit(do_not_specialize=COUNTS)
def update_pass(
    u, w, u_before, w_before, u_after, w_after, inputs, outputs, edges, u_decay, w_decay, u_coefficients, w_coefficients, salts,
    step, num_edges, most_o, num_columns, u_stride, w_stride,
    BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_D: tl.constexpr, FLOAT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The update of a tile of columns a program; grid: tiles."""
    columns = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    _update_tile(
        u, w, u_before, w_before, u_after, w_after, inputs, outputs, edges, u_decay, w_decay, u_coefficients, w_coefficients, salts,
        columns, step, num_edges, most_o, num_columns, u_stride, w_stride, BLOCK_I, BLOCK_O, BLOCK_D, FLOAT, PRECISION,
    )  # fmt: skip


@triton.jit(do_not_specialize=COUNTS)
def many_steps(
    u, w, u_scale, w_scale, u_before, w_before, u_after, w_after, inputs, outputs, edges, u_decay, w_decay, num_words, bag, positives,
    negatives, u_lr, w_lr, u_coefficients, w_coefficients, salts, losses, num_steps, num_edges, most_o, num_columns, u_stride, w_stride,
    BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_D: tl.constexpr, TP4: tl.constexpr,
    SMALLEST: tl.constexpr, FLOAT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """All steps of all columns; one program, whose barriers order what it writes and reads."""
    i = tl.arange(0, BLOCK_I)
    for step in range(num_steps):
        first_input, num_inputs = _part(edges, 0, step, num_edges)
        first_output, num_outputs = _part(edges, 1, step, num_edges)
        input_words, is_input, input_places = _words(inputs, first_input, num_inputs, i)
        loss = tl.sum(tl.zeros([BLOCK_O], FLOAT))
        for start in range(0, num_outputs, BLOCK_O):
            o = start + tl.arange(0, BLOCK_O)
            output_words, is_output, output_places = _words(outputs, first_output, num_outputs, o)
            products = _products(
                u, w, u_scale, w_scale, input_words, is_input, output_words, is_output, 0, num_columns, u_stride, w_stride,
                BLOCK_I, BLOCK_O, BLOCK_D, FLOAT, PRECISION,
            )  # fmt: skip
            loss += _coefficients(
                products, edges, num_words, bag, positives, negatives, u_lr, w_lr, u_coefficients, w_coefficients, o, step, num_edges,
                most_o, BLOCK_I, BLOCK_O, BLOCK_E, TP4, FLOAT,
            )  # fmt: skip
        tl.store(losses + step, loss)
        tl.debug_barrier()
        if u_scale is not None:
            _move_scales(
                u_scale,
                u_before,
                u_after,
                u_decay,
                inputs,
                first_input,
                num_inputs,
                SMALLEST,
                BLOCK_I,
            )
            _move_scales(
                w_scale,
                w_before,
                w_after,
                w_decay,
                outputs,
                first_output,
                num_outputs,
                SMALLEST,
                BLOCK_I,
            )
            tl.debug_barrier()
        for first in range(0, num_columns, BLOCK_D):
            columns = first + tl.arange(0, BLOCK_D)
            _update_tile(
                u, w, u_before, w_before, u_after, w_after, inputs, outputs, edges, u_decay, w_decay, u_coefficients, w_coefficients,
                salts, columns, step, num_edges, most_o, num_columns, u_stride, w_stride,
                BLOCK_I, BLOCK_O, BLOCK_D, FLOAT, PRECISION,
            )  # fmt: skip
        tl.debug_barrier()
