"""Compiled copies of rows between tables and scratch memory, and arithmetic on rows.

Decisions:
- Rows move four at a time. Random rows are bound by latency, and four streams hide three quarters.
- numba knows no bfloat16, so such tables are uint16 here. They are rounded stochastically on the
  way back: a step below half a unit in the last place would otherwise be lost (1 + 1e-3 = 1 in
  bfloat16). The random bits are a hash of (seed, row, column), so that a step repeats bit for bit
  on any number of threads.
"""

import numpy as np
from numba import njit, types
from numba.extending import overload

FAST = {"reassoc", "contract", "nsz", "arcp"}
"""The compiler may reorder sums. NaN and infinity keep their meaning: a diverged loss must show."""
GOLDEN_RATIO = np.uint32(0x9E3779B9)
"""2^32 over the golden ratio: the seeds of consecutive columns lie far apart."""
compiled = njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")


def load_rows(table: np.ndarray, ids: np.ndarray, start: int, rows: np.ndarray) -> None:
    """Copy table[ids, start:] into `rows` [R, columns]. The table has their type, or bfloat16."""
    raise NotImplementedError("for compiled callers")


def store_rows(rows: np.ndarray, table: np.ndarray, ids: np.ndarray, start: int, seed: int) -> None:
    """Copy `rows` to table[ids, start:], ids distinct; `seed` is of the rounding to bfloat16."""
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
def mean_rows(rows, indices, out):
    """out = mean of rows[indices]; four rows per pass, since each pass reads and writes `out`."""
    share, whole = out.dtype.type(1 / len(indices)), len(indices) // 4 * 4
    out[:] = 0
    for k in range(0, whole, 4):
        a, b = rows[indices[k]], rows[indices[k + 1]]
        c, d = rows[indices[k + 2]], rows[indices[k + 3]]
        for j in range(len(out)):
            out[j] += share * ((a[j] + b[j]) + (c[j] + d[j]))
    for k in indices[whole:]:
        add(share, rows[k], out)


@compiled
def add_to_rows(scale, x, indices, rows):
    """rows[k] += scale x for each k of `indices`."""
    for k in indices:
        add(scale, x, rows[k])


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
def decay_and_add(decay, y, scale, x):
    """y = decay y + scale x."""
    for j in range(len(y)):
        y[j] = decay * y[j] + scale * x[j]


@compiled
def dot(x, y):
    """Inner product, summed in the rows' own type."""
    total = x.dtype.type(0)
    for j in range(len(x)):
        total += x[j] * y[j]
    return total
