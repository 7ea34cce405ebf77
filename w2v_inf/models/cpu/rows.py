"""Compiled copies of rows between tables and scratch memory, and arithmetic on rows.

Decisions:
- Random rows are bound by latency. So copies and means move four rows at a time, and updates fetch
  the rows that come next.
- Loops over rows take their slices themselves. A call per row would count references to the table,
  by atomic steps that cost more than a narrow row.
- numba knows no bfloat16, so such tables are uint16 here. They are rounded stochastically on the
  way back: a step below half a unit in the last place would otherwise be lost (1 + 1e-3 = 1 in
  bfloat16). The random bits are a hash of (seed, row, column), so that a step repeats bit for bit
  on any number of threads.
"""

import llvmlite.ir as ir
import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

FAST = {"reassoc", "contract", "nsz", "arcp"}
"""The compiler may reorder sums. NaN and infinity keep their meaning: a diverged loss must show."""
AHEAD = 4
"""Rows between the one that is updated and the one that is fetched."""
GOLDEN_RATIO = np.uint32(0x9E3779B9)
"""2^32 over the golden ratio: the seeds of consecutive columns lie far apart."""
compiled = njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")


def load_rows(table: np.ndarray, ids: np.ndarray, start: int, rows: np.ndarray) -> None:
    """Copy table[ids, start:] into `rows` [R, columns]. The table has their type, or bfloat16."""
    raise NotImplementedError("for compiled callers")


def store_rows(rows: np.ndarray, table: np.ndarray, ids: np.ndarray, start: int, seed: int) -> None:
    """Copy `rows` to table[ids, start:], ids distinct; `seed` is of the rounding to bfloat16."""
    raise NotImplementedError("for compiled callers")


def mean_rows(table, ids, scale, slots, first_slot, start, out) -> None:
    """out[e] = mean of scale[i] table[ids[i], start:] over the slots i of e; [E, columns].

    Example e owns the slots [first_slot[e], first_slot[e + 1]). Only bfloat16 tables have `scale`.
    """
    raise NotImplementedError("for compiled callers")


def update_rows(
    table, ids, factor, unscale, shares, gradients, first_use, users, start, seed
) -> None:
    """table[ids[i], start:] <- factor[i] row + sum of shares[e] gradients[e] over the users e of i.

    Row i has the users [first_use[i], first_use[i + 1]), at least one. Only bfloat16 tables need
    `unscale`, 1 / the row's scale afterwards, and `seed`, of the rounding.
    """
    raise NotImplementedError("for compiled callers")


def _load_float(table, ids, start, rows):
    stop, whole = start + rows.shape[1], len(ids) // 4 * 4
    for k in range(0, whole, 4):
        a, b = table[ids[k], start:stop], table[ids[k + 1], start:stop]
        c, d = table[ids[k + 2], start:stop], table[ids[k + 3], start:stop]
        to_a, to_b, to_c, to_d = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
        for j in range(rows.shape[1]):
            to_a[j], to_b[j], to_c[j], to_d[j] = a[j], b[j], c[j], d[j]
    for k in range(whole, len(ids)):
        rows[k] = table[ids[k], start:stop]


def _store_float(rows, table, ids, start, seed):
    stop, whole = start + rows.shape[1], len(ids) // 4 * 4
    for k in range(0, whole, 4):
        a, b = table[ids[k], start:stop], table[ids[k + 1], start:stop]
        c, d = table[ids[k + 2], start:stop], table[ids[k + 3], start:stop]
        from_a, from_b, from_c, from_d = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
        for j in range(rows.shape[1]):
            a[j], b[j], c[j], d[j] = from_a[j], from_b[j], from_c[j], from_d[j]
    for k in range(whole, len(ids)):
        table[ids[k], start:stop] = rows[k]


def _load_bfloat16(table, ids, start, rows):
    bits = rows.view(np.uint32)
    for k in range(len(ids)):
        row, out = table[ids[k], start : start + rows.shape[1]], bits[k]
        for j in range(len(out)):
            out[j] = np.uint32(row[j]) << np.uint32(16)


def _store_bfloat16(rows, table, ids, start, seed):
    bits = rows.view(np.uint32)
    for k in range(len(ids)):
        out, row = table[ids[k], start : start + rows.shape[1]], bits[k]
        row_seed = _hash(np.uint32(seed) + _hash(np.uint32(ids[k])))
        row_seed += np.uint32(start) * GOLDEN_RATIO
        for j in range(len(row)):
            random = _hash(np.uint32(row_seed) + np.uint32(j) * GOLDEN_RATIO) >> np.uint32(16)
            out[j] = np.uint16((row[j] + random) >> np.uint32(16))


def _mean_float(table, ids, scale, slots, first_slot, start, out):
    stop = start + out.shape[1]
    for e in range(len(out)):
        first, last = first_slot[e], first_slot[e + 1]
        mean, share, whole = out[e], out.dtype.type(1 / (last - first)), last - (last - first) % 4
        mean[:] = 0
        for k in range(first, whole, 4):  # four at once, since each pass reads and writes `mean`
            a, b = table[ids[slots[k]], start:stop], table[ids[slots[k + 1]], start:stop]
            c, d = table[ids[slots[k + 2]], start:stop], table[ids[slots[k + 3]], start:stop]
            for j in range(len(mean)):
                mean[j] += share * ((a[j] + b[j]) + (c[j] + d[j]))
        for k in range(whole, last):
            row = table[ids[slots[k]], start:stop]
            for j in range(len(mean)):
                mean[j] += share * row[j]


def _mean_bfloat16(table, ids, scale, slots, first_slot, start, out):
    for e in range(len(out)):
        words = slots[first_slot[e] : first_slot[e + 1]]
        rows, share = (
            np.empty((len(words), out.shape[1]), out.dtype),
            out.dtype.type(1 / len(words)),
        )
        load_rows(table, ids[words], start, rows)
        out[e] = 0
        for k in range(len(words)):
            add(share * scale[words[k]], rows[k], out[e])


def _update_float(table, ids, factor, unscale, shares, gradients, first_use, users, start, seed):
    # In place: the mean has just read the row. Its first gradient takes the decay along.
    stop, last = start + gradients.shape[1], len(ids) - 1
    for i in range(len(ids)):
        prefetch_row(table, ids[min(i + AHEAD, last)], start, stop)
        row, decay, first = table[ids[i], start:stop], factor[i], users[first_use[i]]
        gradient, share = gradients[first], shares[first]
        for j in range(len(row)):
            row[j] = decay * row[j] + share * gradient[j]
        for k in range(first_use[i] + 1, first_use[i + 1]):
            another, share = gradients[users[k]], shares[users[k]]
            for j in range(len(row)):
                row[j] += share * another[j]


def _update_bfloat16(table, ids, factor, unscale, shares, gradients, first_use, users, start, seed):
    row = np.empty((1, gradients.shape[1]), gradients.dtype)
    for i in range(len(ids)):
        load_rows(table, ids[i : i + 1], start, row)
        multiply(factor[i], row[0])
        for e in users[first_use[i] : first_use[i + 1]]:
            add(shares[e], gradients[e], row[0])
        multiply(unscale[i], row[0])
        store_rows(row, table, ids[i : i + 1], start, seed)


@overload(mean_rows, jit_options={"nogil": True, "fastmath": FAST, "error_model": "numpy"})
def _choose_mean(table, ids, scale, slots, first_slot, start, out):
    return _mean_bfloat16 if table.dtype == types.uint16 else _mean_float


@overload(update_rows, jit_options={"nogil": True, "fastmath": FAST, "error_model": "numpy"})
def _choose_update(table, ids, factor, unscale, shares, gradients, first_use, users, start, seed):
    return _update_bfloat16 if table.dtype == types.uint16 else _update_float


@intrinsic
def _prefetch(typing_context, table, word, column):
    """Ask for the cache line of table[word, column], to write: another core may have it too."""

    def generate(context, builder, signature, arguments):
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = cgutils.get_item_pointer(
            context, builder, signature.args[0], view, list(arguments[1:])
        )
        pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        i32 = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32]),
            "llvm.prefetch.p0i8",
        )
        builder.call(function, [pointer, i32(1), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(table, types.int64, types.int64), generate


@njit(cache=True, nogil=True)
def prefetch_row(table, word, start, stop):
    """Ask for the cache lines of table[word, start:stop], and go on."""
    for column in range(start, stop, 64 // table.itemsize):
        _prefetch(table, np.int64(word), np.int64(column))  # pyright: ignore[reportCallIssue]


@overload(load_rows, jit_options={"nogil": True, "fastmath": FAST, "error_model": "numpy"})
def _choose_load(table, ids, start, rows):
    return _load_bfloat16 if table.dtype == types.uint16 else _load_float


@overload(store_rows, jit_options={"nogil": True, "fastmath": FAST, "error_model": "numpy"})
def _choose_store(rows, table, ids, start, seed):
    return _store_bfloat16 if table.dtype == types.uint16 else _store_float


@njit(inline="always")
def _hash(x):
    """MurmurHash3's finaliser: mixes the lower 32 bits of x."""
    x = np.uint32(x)
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x85EBCA6B))
    x = np.uint32(x ^ (x >> np.uint32(13)))
    x = np.uint32(x * np.uint32(0xC2B2AE35))
    return np.uint32(x ^ (x >> np.uint32(16)))


@compiled
def add(scale, x, y):
    """y += scale x."""
    for j in range(len(y)):
        y[j] += scale * x[j]


@compiled
def multiply(scale, y):
    """y *= scale."""
    for j in range(len(y)):
        y[j] *= scale


@compiled
def multiply_rows(factor, rows):
    """rows[k] *= factor[k]; nothing where `factor` is empty."""
    for k in range(len(factor)):
        row, scale = rows[k], factor[k]
        for j in range(len(row)):
            row[j] *= scale


@compiled
def decay_and_add_rows(decay, rows, scale, x):
    """rows[k] = decay[k] rows[k] + scale x[k], for each row of x."""
    for k in range(len(x)):
        row, addend, factor = rows[k], x[k], decay[k]
        for j in range(len(row)):
            row[j] = factor * row[j] + scale * addend[j]


@compiled
def add_parts(table, ids, decay, scale, parts, stride):
    """table[ids[k]] <- decay[k] row + scale (parts[k] + parts[k + stride] + ...)."""
    last = len(ids) - 1
    for k in range(len(ids)):
        prefetch_row(table, ids[min(k + AHEAD, last)], 0, table.shape[1])
        row, factor, part = table[ids[k]], decay[k], parts[k]
        for j in range(len(row)):
            row[j] = factor * row[j] + scale * part[j]
        for other in range(k + stride, len(parts), stride):
            part = parts[other]
            for j in range(len(row)):
                row[j] += scale * part[j]


@compiled
def multiply_table_rows(table, ids, factor):
    """table[ids[k]] *= factor[k]."""
    last = len(ids) - 1
    for k in range(len(ids)):
        prefetch_row(table, ids[min(k + AHEAD, last)], 0, table.shape[1])
        row, scale = table[ids[k]], factor[k]
        for j in range(len(row)):
            row[j] *= scale


@compiled
def add_to_row(table, k, scale, source, n):
    """table[k] += scale source[n]."""
    row, addend = table[k], source[n]
    for j in range(len(row)):
        row[j] += scale * addend[j]


@compiled
def add_rows(scale, factors, source, source_ids, target, target_ids):
    """target[target_ids[b]] += scale factors[b] source[source_ids[b]], b by b."""
    for b in range(len(factors)):
        row, addend, factor = target[target_ids[b]], source[source_ids[b]], scale * factors[b]
        for j in range(len(row)):
            row[j] += factor * addend[j]


@compiled
def add_dots(x, x_ids, y, y_ids, out):
    """out[b] += inner product of x[x_ids[b]] and y[y_ids[b]], summed in their own type."""
    for b in range(len(out)):
        left, right, total = x[x_ids[b]], y[y_ids[b]], x.dtype.type(0)
        for j in range(len(left)):
            total += left[j] * right[j]
        out[b] += total


@compiled
def dot(x, y):
    """Inner product, summed in the rows' own type."""
    total = x.dtype.type(0)
    for j in range(len(x)):
        total += x[j] * y[j]
    return total
