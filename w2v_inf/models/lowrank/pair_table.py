"""The pair table of the low-rank engine: a sparse matrix M [V_in, V_out], compiled.

Decisions:
- M is stored by columns, one hash table per output word. Weight decay acts on whole columns, so
  a column has one scale, which takes the decay.
- Hash tables have sizes of powers of two, linear probing, and at most three quarters of the slots
  full. All lie in one arena, whose memory pages count only once they are used. A table that has
  grown leaves its old slots in a free list of its size.
- While batches run, a thread owns the columns of some output words (word id modulo threads). Only
  the end of the arena is shared.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from w2v_inf.models.cpu import rows
from w2v_inf.models.cpu.rows import compiled
from w2v_inf.models.cpu.threads import fetch_add
from w2v_inf.models.step import MIN_SCALE

MIN_LOG2 = 3
NUM_SIZES = 32
EMPTY = -1
FIBONACCI = 2654435769
"""2^32 / golden ratio: spreads neighbouring ids over a hash table."""


class PairTable(NamedTuple):
    """M, where M_io is scale[o] x the value of key i in the hash table of o.

    keys [slots] int32, EMPTY where free; values [slots], float.
    first_slot [V] int64: where the hash table of each output word starts.
    log2_size [V] int64: its slots, -1 for no hash table.    num_pairs [V] int64: its keys.
    scale [V], float.
    free_lists [threads, sizes] int64: first slot of a free hash table of each size, -1 for none.
    end [8] int64, a cache line: slots used so far, and 1 if the arena has overflowed.
    """

    keys: np.ndarray
    values: np.ndarray
    first_slot: np.ndarray
    log2_size: np.ndarray
    num_pairs: np.ndarray
    scale: np.ndarray
    free_lists: np.ndarray
    end: np.ndarray


def empty_pair_table(
    vocab_size: int, num_slots: int, dtype: type = np.float32, num_threads: int = 1
) -> PairTable:
    """M = 0, with room for `num_slots`. In float32 a slot takes 8 bytes, once it is used."""
    return PairTable(
        keys=np.empty(num_slots, np.int32),
        values=np.empty(num_slots, dtype),
        first_slot=np.zeros(vocab_size, np.int64),
        log2_size=np.full(vocab_size, -1, np.int64),
        num_pairs=np.zeros(vocab_size, np.int64),
        scale=np.ones(vocab_size, dtype),
        free_lists=np.full((num_threads, NUM_SIZES), -1, np.int64),
        end=np.zeros(8, np.int64),
    )


@compiled
def lookup(pairs, word, inputs, out):
    """out[k] += M[inputs[k], word]."""
    if pairs.num_pairs[word] == 0:
        return
    keys, values, shift = _hash_table(pairs, word)
    scale = pairs.scale[word]
    for k in range(len(inputs)):
        slot = _find_slot(keys, inputs[k], shift)
        if keys[slot] != EMPTY:
            out[k] += scale * values[slot]


@compiled
def add(pairs, word, inputs, which, factor, x, thread_id):
    """M[inputs[k], word] += factor x[k] for each k of `which`; `thread_id` owns `word`.

    If the arena is full, this adds nothing and sets end[1].
    """
    # A hash table never holds more than all words.
    max_pairs = min(pairs.num_pairs[word] + len(which), len(pairs.scale))
    while pairs.log2_size[word] < 0 or 4 * max_pairs > 3 << pairs.log2_size[word]:
        if not _grow(pairs, word, thread_id):
            pairs.end[1] = 1
            return
    keys, values, shift = _hash_table(pairs, word)
    factor /= pairs.scale[word]
    num_new = 0
    for k in which:
        slot = _find_slot(keys, inputs[k], shift)
        if keys[slot] == EMPTY:
            keys[slot] = inputs[k]
            num_new += 1
        values[slot] += factor * x[k]
    pairs.num_pairs[word] += num_new


@compiled
def decay(pairs, word, factor):
    """Multiply the column of `word` by `factor`; O(1), except where the scale gets small."""
    pairs.scale[word] *= factor
    if pairs.scale[word] < MIN_SCALE:
        if pairs.log2_size[word] >= 0:
            rows.multiply(pairs.scale[word], _hash_table(pairs, word)[1])
        pairs.scale[word] = 1


@njit(inline="always")
def _hash_table(pairs, word):
    """Keys and values of the hash table of `word`, and the shift that makes a slot of a hash."""
    log2_size, first = pairs.log2_size[word], pairs.first_slot[word]
    return (
        pairs.keys[first : first + (1 << log2_size)],
        pairs.values[first : first + (1 << log2_size)],
        np.uint32(32 - log2_size),
    )


@njit(inline="always")
def _find_slot(keys, key, shift):
    """The slot of `key` in a hash table, or the empty slot where it would go."""
    slot = np.int64(np.uint32(np.uint32(key) * np.uint32(FIBONACCI)) >> shift)
    while keys[slot] != EMPTY and keys[slot] != key:
        slot = (slot + 1) & (len(keys) - 1)
    return slot


@compiled
def _grow(pairs, word, thread_id):
    """Move the hash table of `word` to one of twice the size; False if the arena is full."""
    old, old_log2 = pairs.first_slot[word], pairs.log2_size[word]
    log2_size = max(MIN_LOG2, old_log2 + 1)
    new = _allocate(pairs, log2_size, thread_id)
    if new < 0:
        return False
    pairs.keys[new : new + (1 << log2_size)] = EMPTY
    # Values of free slots are saved too: they must be finite, and the same bits in every run.
    pairs.values[new : new + (1 << log2_size)] = 0
    pairs.first_slot[word], pairs.log2_size[word] = new, log2_size
    if old_log2 >= 0:
        keys, values, shift = _hash_table(pairs, word)
        for k in range(old, old + (1 << old_log2)):
            if pairs.keys[k] != EMPTY:
                slot = _find_slot(keys, pairs.keys[k], shift)
                keys[slot], values[slot] = pairs.keys[k], pairs.values[k]
        # A free hash table's first key holds the next one of the list, in units of the least size.
        following = pairs.free_lists[thread_id, old_log2]
        pairs.keys[old] = following >> MIN_LOG2 if following >= 0 else EMPTY
        pairs.free_lists[thread_id, old_log2] = old
    return True


@compiled
def _allocate(pairs, log2_size, thread_id):
    """First of 2^log2_size free slots, or -1."""
    first = pairs.free_lists[thread_id, log2_size]
    if first >= 0:
        key = pairs.keys[first]
        following = np.int64(key) << MIN_LOG2 if key != EMPTY else -1
        pairs.free_lists[thread_id, log2_size] = following
        return first
    first = fetch_add(pairs.end, 1 << log2_size)  # pyright: ignore[reportCallIssue]
    return first if first + (1 << log2_size) <= len(pairs.keys) else -1


@compiled
def entries(pairs, word):
    """Input words and entries of the column of `word`, in the order of their slots."""
    if pairs.num_pairs[word] == 0:
        return pairs.keys[:0], pairs.values[:0]
    keys, values, _ = _hash_table(pairs, word)
    is_used = keys != EMPTY
    return keys[is_used], pairs.scale[word] * values[is_used]


@compiled
def matmul(pairs, x, out):
    """out = M x; x and out [V, columns]."""
    out[:] = 0
    for word in range(len(x)):
        keys, values = entries(pairs, word)
        for j in range(len(keys)):
            rows.add(values[j], x[word], out[keys[j]])


@compiled
def transpose_matmul(pairs, words, x, out):
    """out = M[:, words]^T x; x [V, columns], out [words, columns]."""
    out[:] = 0
    for k in range(len(words)):
        keys, values = entries(pairs, words[k])
        for j in range(len(keys)):
            rows.add(values[j], x[keys[j]], out[k])


@compiled
def squared_norms(pairs, out):
    """out[o] = sum_i M_io^2."""
    for word in range(len(out)):
        _, values = entries(pairs, word)
        out[word] = rows.dot(values, values)


@compiled
def lookup_block(pairs, words, inputs, out):
    """out[k] = M[inputs, words[k]]; [words, inputs]."""
    out[:] = 0
    for k in range(len(words)):
        lookup(pairs, words[k], inputs, out[k])


@compiled
def diagonal(pairs, out):
    """out[o] = M_oo."""
    for word in range(len(out)):
        out[word] = 0
        lookup(pairs, word, np.arange(word, word + 1), out[word : word + 1])


@compiled
def columns(pairs, words, out):
    """out = M[:, words]; [V, words]."""
    out[:] = 0
    for k in range(len(words)):
        keys, values = entries(pairs, words[k])
        for j in range(len(keys)):
            out[keys[j], k] = values[j]


def count_slots(pairs: PairTable) -> int:
    """Slots of all hash tables in use."""
    return int(_table_sizes(pairs.log2_size).sum())


def _table_sizes(log2_size: np.ndarray) -> np.ndarray:
    return np.where(log2_size >= 0, 1 << np.maximum(log2_size, 0), 0)


def pack(pairs: PairTable) -> dict[str, np.ndarray]:
    """Arrays for `unpack`: a copy of all hash tables in the order of their words.

    Slots keep their order within a hash table, and with it the bits of every sum.
    """
    num_slots = count_slots(pairs)
    keys, values = np.empty(num_slots, np.int32), np.empty(num_slots, pairs.values.dtype)
    _copy_tables(pairs, keys, values)
    return {
        "memory_keys": keys,
        "memory_values": values,
        "memory_log2": pairs.log2_size,
        "memory_num_pairs": pairs.num_pairs,
        "memory_scale": pairs.scale,
    }


@compiled
def _copy_tables(pairs, keys, values):
    end = 0
    for word in range(len(pairs.log2_size)):
        if pairs.log2_size[word] >= 0:
            table_keys, table_values, _ = _hash_table(pairs, word)
            keys[end : end + len(table_keys)] = table_keys
            values[end : end + len(table_keys)] = table_values
            end += len(table_keys)


def unpack(packed: dict[str, np.ndarray], num_slots: int, num_threads: int) -> PairTable:
    """The pair table that was packed, in an arena of `num_slots`, or more if it needs more."""
    sizes = _table_sizes(packed["memory_log2"])
    used, dtype = int(sizes.sum()), packed["memory_values"].dtype.type
    pairs = empty_pair_table(len(sizes), max(num_slots, used), dtype, num_threads)
    pairs.keys[:used], pairs.values[:used] = packed["memory_keys"], packed["memory_values"]
    pairs.first_slot[:] = np.cumsum(sizes) - sizes
    pairs.log2_size[:] = packed["memory_log2"]
    pairs.num_pairs[:] = packed["memory_num_pairs"]
    pairs.scale[:] = packed["memory_scale"]
    pairs.end[0] = used
    return pairs
