"""The pair memory of the low-rank engine: a sparse matrix [V_out, V_in], a hash table for each output word, compiled.

Decisions:
- Weight decay acts on whole columns of w, so entries of one output word stand together under one scale.
- Tables are powers of two with linear probing, at most three quarters full. They lie in one arena that is reserved at once
  and touched as it is used: pages that no table has reached take no memory. An outgrown table goes to a free list of its size.
- A table belongs to one thread (output word modulo threads) while batches run; only the end of the arena is shared.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from w2v_inf.models.cpu.rows import add, compiled, dot, multiply
from w2v_inf.models.cpu.threads import fetch_add
from w2v_inf.models.step import MIN_SCALE

MIN_LOG2 = 3
NUM_SIZES = 32
EMPTY = -1
FIBONACCI = 2654435769
"""2^32 / golden ratio: spreads neighbouring ids over a table."""


class PairTable(NamedTuple):
    """Entry (o, i) is scale[o] x the value of key i in table o.

    keys [slots] int32, EMPTY where free; values [slots] float; first [V] int64: first slot of a table; log2 [V] int64: its size, -1 for
    none; num_pairs [V] int64: its entries; scale [V] float; free [threads, sizes] int64: first table of a free list, -1 for none;
    end [8] int64, a cache line: slots used so far, and whether the arena overflowed.
    """

    keys: np.ndarray
    values: np.ndarray
    first: np.ndarray
    log2: np.ndarray
    num_pairs: np.ndarray
    scale: np.ndarray
    free: np.ndarray
    end: np.ndarray


def make_memory(
    vocab_size: int, num_slots: int, dtype: type = np.float32, num_threads: int = 1
) -> PairTable:
    """An empty memory with room for `num_slots`; 8 bytes a slot in float32, taken as they are used."""
    return PairTable(
        keys=np.empty(num_slots, np.int32),
        values=np.empty(num_slots, dtype),
        first=np.zeros(vocab_size, np.int64),
        log2=np.full(vocab_size, -1, np.int64),
        num_pairs=np.zeros(vocab_size, np.int64),
        scale=np.ones(vocab_size, dtype),
        free=np.full((num_threads, NUM_SIZES), -1, np.int64),
        end=np.zeros(8, np.int64),
    )


@njit(inline="always")
def _place(keys, key, shift):
    """Place of `key` in the table `keys`, or the empty one where it would go."""
    place = np.int64(np.uint32(np.uint32(key) * np.uint32(FIBONACCI)) >> shift)
    while keys[place] != EMPTY and keys[place] != key:
        place = (place + 1) & (len(keys) - 1)
    return place


@compiled
def recall(memory, word, inputs, out):
    """out[i] += entry (word, inputs[i])."""
    if memory.num_pairs[word] == 0:
        return
    keys, values, shift = _table(memory, word)
    scale = memory.scale[word]
    for i in range(len(inputs)):
        place = _place(keys, inputs[i], shift)
        if keys[place] != EMPTY:
            out[i] += scale * values[place]


@compiled
def remember(memory, word, inputs, which, factor, shares, rank):
    """Entry (word, inputs[i]) += factor shares[i] for each i of `which`; `rank`: the calling thread.

    An arena that is full is noted in `end`, and nothing added.
    """
    most = min(
        memory.num_pairs[word] + len(which), len(memory.scale)
    )  # a table never holds more than all words
    while memory.log2[word] < 0 or 4 * most > 3 << memory.log2[word]:
        if not _grow(memory, word, rank):
            memory.end[1] = 1
            return
    keys, values, shift = _table(memory, word)
    factor /= memory.scale[word]
    new = 0
    for i in which:
        place = _place(keys, inputs[i], shift)
        if keys[place] == EMPTY:
            keys[place] = inputs[i]
            new += 1
        values[place] += factor * shares[i]
    memory.num_pairs[word] += new


@njit(inline="always")
def _table(memory, word):
    """Keys and values of a table, and how far a hash is shifted to be a place in it."""
    log2, first = memory.log2[word], memory.first[word]
    return (
        memory.keys[first : first + (1 << log2)],
        memory.values[first : first + (1 << log2)],
        np.uint32(32 - log2),
    )


@compiled
def decay(memory, word, factor):
    """Multiply all entries of `word`; O(1) but for the rare call that multiplies the scale into them."""
    memory.scale[word] *= factor
    if memory.scale[word] < MIN_SCALE:
        if memory.log2[word] >= 0:
            multiply(memory.scale[word], _table(memory, word)[1])
        memory.scale[word] = 1


@compiled
def _grow(memory, word, rank):
    """Move the table of `word` to one of twice the size; False if the arena has no room for it."""
    old, log2 = memory.first[word], memory.log2[word]
    new_log2 = max(MIN_LOG2, log2 + 1)
    new = _take(memory, new_log2, rank)
    if new < 0:
        return False
    memory.keys[new : new + (1 << new_log2)] = EMPTY
    memory.values[new : new + (1 << new_log2)] = (
        0  # of free slots too: the state must be the same bits, and finite
    )
    memory.first[word], memory.log2[word] = new, new_log2
    if log2 >= 0:
        keys, values, shift = _table(memory, word)
        for k in range(old, old + (1 << log2)):
            if memory.keys[k] != EMPTY:
                place = _place(keys, memory.keys[k], shift)
                keys[place], values[place] = memory.keys[k], memory.values[k]
        # The list is threaded through the tables themselves, in units of the smallest table.
        memory.keys[old] = (
            memory.free[rank, log2] >> MIN_LOG2 if memory.free[rank, log2] >= 0 else EMPTY
        )
        memory.free[rank, log2] = old
    return True


@compiled
def _take(memory, log2, rank):
    """First slot of a free table of size 2^log2, or -1."""
    first = memory.free[rank, log2]
    if first >= 0:
        following = memory.keys[first]
        memory.free[rank, log2] = np.int64(following) << MIN_LOG2 if following != EMPTY else -1
        return first
    first = fetch_add(memory.end, 1 << log2)  # pyright: ignore[reportCallIssue]
    return first if first + (1 << log2) <= len(memory.keys) else -1


@compiled
def entries(memory, word):
    """Keys and values of all entries of `word`, in the order of their slots."""
    if memory.num_pairs[word] == 0:
        return memory.keys[:0], memory.values[:0]
    keys, values, _ = _table(memory, word)
    held = keys != EMPTY
    return keys[held], memory.scale[word] * values[held]


@compiled
def project(memory, words, basis, out):
    """out[k] = sum_i entry (words[k], i) basis[i]; basis [V, columns], out [words, columns]."""
    out[:] = 0
    for k in range(len(words)):
        keys, values = entries(memory, words[k])
        for j in range(len(keys)):
            add(values[j], basis[keys[j]], out[k])


@compiled
def project_back(memory, rows, out):
    """out[i] = sum_o entry (o, i) rows[o]; rows, out [V, columns]."""
    out[:] = 0
    for word in range(len(rows)):
        keys, values = entries(memory, word)
        for j in range(len(keys)):
            add(values[j], rows[word], out[keys[j]])


@compiled
def squared_lengths(memory, out):
    """out[o] = sum_i entry (o, i)^2."""
    for word in range(len(out)):
        _, values = entries(memory, word)
        out[word] = dot(values, values)


@compiled
def recall_block(memory, words, inputs, out):
    """out[k] = entries (words[k], inputs); [words, inputs]."""
    out[:] = 0
    for k in range(len(words)):
        recall(memory, words[k], inputs, out[k])


@compiled
def recall_diagonal(memory, out):
    """out[o] = entry (o, o)."""
    for word in range(len(out)):
        out[word] = 0
        recall(memory, word, np.arange(word, word + 1), out[word : word + 1])


@compiled
def expand(memory, words, out):
    """out[i, k] = entry (words[k], i) for all i; [V, words]."""
    out[:] = 0
    for k in range(len(words)):
        keys, values = entries(memory, words[k])
        for j in range(len(keys)):
            out[keys[j], k] = values[j]


def table_slots(log2: np.ndarray) -> int:
    """Slots of all tables in use."""
    return int(_table_sizes(log2).sum())


def _table_sizes(log2: np.ndarray) -> np.ndarray:
    return np.where(log2 >= 0, 1 << np.maximum(log2, 0), 0)


def pack(memory: PairTable) -> dict[str, np.ndarray]:
    """What `unpack` needs: all tables as they are, one after another. Slots keep their order, and with it the bits of every sum."""
    used = table_slots(memory.log2)
    keys, values = np.empty(used, memory.keys.dtype), np.empty(used, memory.values.dtype)
    _copy_tables(memory, keys, values)
    return {
        "memory_keys": keys,
        "memory_values": values,
        "memory_log2": memory.log2,
        "memory_num_pairs": memory.num_pairs,
        "memory_scale": memory.scale,
    }


@compiled
def _copy_tables(memory, keys, values):
    """All tables, in the order of their words."""
    end = 0
    for word in range(len(memory.log2)):
        if memory.log2[word] >= 0:
            start, size = memory.first[word], 1 << memory.log2[word]
            keys[end : end + size] = memory.keys[start : start + size]
            values[end : end + size] = memory.values[start : start + size]
            end += size


def unpack(packed: dict[str, np.ndarray], num_slots: int, num_threads: int) -> PairTable:
    """The memory that was packed, in an arena of at least `num_slots`."""
    sizes = _table_sizes(packed["memory_log2"])
    used = int(sizes.sum())
    memory = make_memory(
        len(sizes), max(num_slots, used), packed["memory_values"].dtype.type, num_threads
    )
    memory.keys[:used], memory.values[:used] = packed["memory_keys"], packed["memory_values"]
    memory.first[:] = np.cumsum(sizes) - sizes
    memory.log2[:], memory.num_pairs[:], memory.scale[:] = (
        packed["memory_log2"],
        packed["memory_num_pairs"],
        packed["memory_scale"],
    )
    memory.end[0] = used
    return memory
