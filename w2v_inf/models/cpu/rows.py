"""Rows on the move and row arithmetic, compiled: what `fused.py` does to the rows that a batch touches.

Decisions:
- Rows are moved four at a time: random rows are bound by latency, and four streams hide three quarters of it.
- bfloat16 tables are uint16 here, rounded stochastically on the way back: a step below half a unit in the last place
  would otherwise be lost for good (1 + 1e-3 = 1 in bfloat16). The random bits are a hash of (salt, row, column), so a step
  repeats bit for bit on any number of threads.
"""

import numpy as np
from numba import njit, types
from numba.extending import overload

FAST = {"reassoc", "contract", "nsz", "arcp"}
"""What the compiler may do to sums; not-a-number and infinity keep their meaning (a loss that is not finite must show)."""
compiled = njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")


def load_rows(table: np.ndarray, ids: np.ndarray, start: int, rows: np.ndarray) -> None:
    """Gather table[ids, start:...] into `rows` [R, columns], float32 or float64; the table like them, or bfloat16."""
    raise NotImplementedError("for compiled callers")


def store_rows(rows: np.ndarray, table: np.ndarray, ids: np.ndarray, start: int, salt: int) -> None:
    """Scatter `rows` to table[ids, start:...], ids distinct; a bfloat16 table rounds with random bits from `salt`."""
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


def _store_float(rows, table, ids, start, salt):
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


def _store_bfloat16(rows, table, ids, start, salt):
    bits = rows.view(np.uint32)
    for k in range(len(ids)):
        out, row = table[ids[k], start : start + rows.shape[1]], bits[k]
        seed = _hash(np.uint32(salt) + _hash(np.uint32(ids[k]))) + np.uint32(start) * np.uint32(
            0x9E3779B9
        )
        for j in range(len(row)):
            random = _hash(np.uint32(seed) + np.uint32(j) * np.uint32(0x9E3779B9)) >> np.uint32(16)
            out[j] = np.uint16((row[j] + random) >> np.uint32(16))


@overload(load_rows, jit_options={"nogil": True, "fastmath": FAST, "error_model": "numpy"})
def _choose_load(table, ids, start, rows):
    return _load_bfloat16 if table.dtype == types.uint16 else _load_float


@overload(store_rows, jit_options={"nogil": True, "fastmath": FAST, "error_model": "numpy"})
def _choose_store(rows, table, ids, start, salt):
    return _store_bfloat16 if table.dtype == types.uint16 else _store_float


@njit(inline="always")
def _hash(x):
    """MurmurHash3's finaliser: 32 well-mixed bits of the 32 lowest of x."""
    x = np.uint32(x)
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x85EBCA6B))
    x = np.uint32(x ^ (x >> np.uint32(13)))
    x = np.uint32(x * np.uint32(0xC2B2AE35))
    return np.uint32(x ^ (x >> np.uint32(16)))


@compiled
def mean_rows(rows, which, out):
    """out = mean of rows[which]; four rows a pass, since each pass reads and writes `out`."""
    share, whole = out.dtype.type(1 / len(which)), len(which) // 4 * 4
    out[:] = 0
    for k in range(0, whole, 4):
        a, b, c, d = rows[which[k]], rows[which[k + 1]], rows[which[k + 2]], rows[which[k + 3]]
        for j in range(len(out)):
            out[j] += share * ((a[j] + b[j]) + (c[j] + d[j]))
    for k in which[whole:]:
        add(share, rows[k], out)


@compiled
def add_to_rows(scale, x, which, rows):
    """rows[k] += scale x for each k of `which`."""
    for k in which:
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
