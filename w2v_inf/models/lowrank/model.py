"""The low-rank engine of the muP limit: exact on a basis of r directions, first order in the training outside it.

docs/lowrank.md derives it, says where it can fail and what it costs. It holds four tables [V, r] and a memory of the word pairs
that met, never anything V x V, and steps at about the price of a finite net of width 3 r to 4 r.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from w2v_inf.config import Embedding
from w2v_inf.errors import UserError
from w2v_inf.models.cpu import threads
from w2v_inf.models.lowrank.basis import (
    OVERSAMPLING,
    factors_on,
    find_basis,
    first_factors,
    own_weights,
)
from w2v_inf.models.lowrank.pair_table import (
    PairTable,
    expand,
    make_memory,
    pack,
    project,
    project_back,
    recall_block,
    recall_diagonal,
    squared_lengths,
    table_slots,
    unpack,
)
from w2v_inf.models.lowrank.step import Factors, lowrank_steps
from w2v_inf.models.protocol import Model
from w2v_inf.models.step import UpdateRule
from w2v_inf.stream import Batch, Stream

log = logging.getLogger(__name__)
MAX_KEPT_BYTES = 2 << 30
"""Of gradients, in the rehearsal that finds the basis; the same on every machine, since the basis depends on it."""
SLOT_BYTES = 8
DEFAULT_PAIRS = (15_000_000, 1000)
"""A number, and so many a word. Measured on 100 MB of text: 22.7 million at V = 8,000, 58.3 million at V = 67,930."""
DEFAULT_LOAD = 0.5
"""Tables are between three eighths and three quarters full."""
MAX_SLOTS = 2**34
"""That a free list can name."""
ARENA_SHARE = 0.8
"""Of the free memory, that the arena may take."""


@dataclass
class LowRankLimit(Model):
    """The muP limit on `factors`, with the `memory` of word pairs; `lowrank_step` says what they mean.

    tolerance and missed as in `basis.find_basis`.
    """

    factors: Factors
    memory: PairTable
    rule: UpdateRule = UpdateRule()
    tolerance: float = 0.0
    missed: float = 1.0
    """Before `prepare` nothing is known of the basis."""

    def prepare(self, stream: Stream, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Start on the basis that a rehearsal of the first epochs finds (`basis.find_basis`); as it was if that is interrupted.

        Raises: UserError if the rehearsal diverges.
        """
        rank = self.factors.u.shape[1]
        if rank == len(self.factors.u) and not self.tolerance:
            self.missed = 0.0  # all directions are there
            return
        log.info(
            "looking for %s%d directions: a rehearsal of the first epochs",
            "at most " if self.tolerance else "",
            rank,
        )
        basis = find_basis(stream, rank, self.rule, MAX_KEPT_BYTES, interrupted, self.tolerance)
        if basis is None:
            return
        self.factors, self.missed = factors_on(basis.b.astype(self.factors.b.dtype)), basis.missed
        log.info(
            "%d directions miss %.3g of what the rehearsal learnt", basis.b.shape[1], basis.missed
        )
        if self.tolerance and not self._is_tolerated():
            advice = f"raise model.rank (now {rank}) or model.tolerance"
            log.warning(
                "model.tolerance=%g is not reached: %s; the run goes on", self.tolerance, advice
            )

    def _is_tolerated(self) -> bool:
        return self.missed <= self.tolerance

    def train_batches(self, batches: Sequence[Batch]) -> list[float]:
        """A step a batch; returns the losses. Raises: UserError if the memory of pairs is full, saying what to do."""
        losses = lowrank_steps(self.factors, self.memory, batches, self.rule).tolist()
        if self.memory.end[1]:
            raise UserError(_full_message(self.memory))
        return losses

    def gram(
        self, rows: Tensor, columns: Tensor | None = None, embedding: Embedding = Embedding.input
    ) -> Tensor:
        """Inner products of the embeddings of `rows` [R] with those of `columns` [C], or of all V words; [R, C].

        Cost: O(R C r); with the output embedding also a pass over the memory of `columns` with R numbers an entry.
        """
        left = rows.numpy()
        right = np.arange(len(self.factors.s)) if columns is None else columns.numpy()
        if embedding is Embedding.input:
            return torch.from_numpy(self._inputs(left, right))
        if embedding is Embedding.output:
            return torch.from_numpy(self._outputs(left, right))
        crossed = self._crossed(left, right) + self._crossed(right, left).T
        return torch.from_numpy(self._inputs(left, right) + self._outputs(left, right) + crossed)

    def _inputs(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """u_i . u_j = U_i . U_j + s_i s_j ([i = j] - B_i . B_j)."""
        u, b, s = self.factors.u, self.factors.b, self.factors.s
        gram = (
            b[left] @ b[right].T
        )  # in place from here on: [R, V] is the largest table of an evaluation
        gram *= -1
        gram[left[:, None] == right] += 1
        gram *= s[left, None]
        gram *= s[right]
        gram += u[left] @ u[right].T
        return gram

    def _outputs(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """w_o . w_p = W_o . W_p - N_o . N_p + (M^T M)_op."""
        w, n = self.factors.w, self.factors.n
        rows, products = (
            np.empty((len(w), len(left)), w.dtype),
            np.empty((len(right), len(left)), w.dtype),
        )
        expand(self.memory, left, rows)
        project(self.memory, right, rows, products)
        return w[left] @ w[right].T - n[left] @ n[right].T + products.T

    def _crossed(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """u_i . w_o = U_i . W_o + s_i (M_io - B_i . N_o) for i of `left` and o of `right`."""
        u, w, n, b, s, _ = self.factors
        remembered = np.empty((len(right), len(left)), s.dtype)
        recall_block(self.memory, right, left, remembered)
        return u[left] @ w[right].T + s[left, None] * (remembered.T - b[left] @ n[right].T)

    def gram_matmul(self, x: Tensor, embedding: Embedding = Embedding.input) -> Tensor:
        """The Gram matrix of all embeddings times x [V, k], from the factors; [V, k].

        Cost: O(V r k); with the output embedding also two passes over the memory with k numbers an entry.
        """
        u, w, n, b, s, _ = self.factors
        given = np.ascontiguousarray(x.numpy())
        own = s[:, None] * given
        inputs = s[:, None] * (own - b @ (b.T @ own)) + u @ (u.T @ given)
        if embedding is Embedding.input:
            return torch.from_numpy(inputs)
        remembered, back = np.empty_like(given), np.empty_like(given)
        project_back(self.memory, given, remembered)  # M x
        project(self.memory, np.arange(len(s)), remembered, back)  # M^T M x
        outputs = w @ (w.T @ given) - n @ (n.T @ given) + back
        if embedding is Embedding.output:
            return torch.from_numpy(outputs)
        project(self.memory, np.arange(len(s)), own, back)  # M^T S x
        crossed = u @ (w.T @ given) + s[:, None] * (remembered - b @ (n.T @ given))
        crossed += w @ (u.T @ given) + back - n @ (b.T @ own)
        return torch.from_numpy(inputs + outputs + crossed)

    def squared_norms(self, embedding: Embedding = Embedding.input) -> Tensor:
        """Squared lengths of all embeddings, [V]."""
        u, w, n, b, s, _ = self.factors
        inputs = np.square(u).sum(1) + s**2 * (1 - np.square(b).sum(1))
        if embedding is Embedding.input:
            return torch.from_numpy(inputs)
        outputs = np.square(w).sum(1) - np.square(n).sum(1) + self._remembered_squares()
        if embedding is Embedding.output:
            return torch.from_numpy(outputs)
        diagonal = np.empty_like(s)
        recall_diagonal(self.memory, diagonal)
        return torch.from_numpy(
            inputs + outputs + 2 * ((u * w).sum(1) + s * (diagonal - (b * n).sum(1)))
        )

    def _remembered_squares(self) -> np.ndarray:
        squares = np.empty_like(self.factors.s)
        squared_lengths(self.memory, squares)
        return squares

    def vectors(self, ids: Tensor | slice, embedding: Embedding = Embedding.input) -> Tensor:
        """Embeddings over the V initial rows, [R, V]: u_i = B U_i + s_i (e_i - B B_i), w_o = B (W_o - N_o) + M[:, o]."""
        u, w, n, b, s, _ = self.factors
        words = np.arange(len(s))[ids if isinstance(ids, slice) else ids.numpy()]
        rows = np.zeros((len(words), len(s)), s.dtype)
        if embedding is not Embedding.output:
            rows += (u[words] - s[words, None] * b[words]) @ b.T
            rows[np.arange(len(words)), words] += s[words]
        if embedding is not Embedding.input:
            remembered = np.empty((len(s), len(words)), s.dtype)
            expand(self.memory, words, remembered)
            rows += (w[words] - n[words]) @ b.T + remembered.T
        return torch.from_numpy(rows)

    def diagnostics(self) -> dict[str, float]:
        """Rank, pairs remembered, bytes of the tables they are in, the share of w's energy that lies outside the basis, that of
        what the rehearsal learnt; and whether this is tolerated."""
        outside = float(self._remembered_squares().sum() - np.square(self.factors.n).sum())
        energy = float(np.square(self.factors.w).sum()) + outside
        report = {
            "rank": self.factors.u.shape[1],
            "pairs": int(self.memory.num_pairs.sum()),
            "memory_bytes": SLOT_BYTES * table_slots(self.memory.log2),
            "energy_outside": max(0.0, outside / energy) if energy else 0.0,
            "basis_missed": self.missed,
        }
        if self.tolerance:
            report |= {"tolerance": self.tolerance, "tolerance_reached": self._is_tolerated()}
        return report

    def state(self) -> dict[str, Tensor]:
        """All that training goes on from, by name; the memory's tables are copied, one after another."""
        tables = self.factors._asdict() | pack(self.memory) | {"missed": np.array([self.missed])}
        return {name: torch.from_numpy(table) for name, table in tables.items() if name != "own"}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over the tensors of `state`, of any rank and any number of pairs."""
        tables = {name: tensor.numpy() for name, tensor in state.items()}
        factors = {name: tables[name].copy() for name in ("u", "w", "n", "b", "s")}
        self.factors = Factors(**factors, own=own_weights(factors["b"]))
        self.memory = unpack(tables, len(self.memory.keys), len(self.memory.free))
        self.missed = float(
            tables.get("missed", [1.0])[0]
        )  # models written before 2026-11-25 do not say


def init_lowrank(
    vocab_size: int,
    rank: int,
    num_slots: int,
    dtype: type = np.float32,
    rule: UpdateRule = UpdateRule(),
) -> LowRankLimit:
    """The limit at its start, u = I and w = 0, on the directions of the `rank` commonest words until `prepare` finds better ones.

    num_slots: room for word pairs, see `arena_slots`.
    """
    return LowRankLimit(
        first_factors(vocab_size, rank, dtype),
        make_memory(vocab_size, num_slots, dtype, threads.size()),
        rule,
    )


def lowrank_bytes(vocab_size: int, rank: int, pair_table_gib: float) -> int:
    """What the engine takes: its tables, and what is more of the rehearsal's gradients and the word pairs after it.

    Pairs take `pair_table_gib`, or if it is 0 what those of a text of usual length take; never more than all V x V.
    """
    usual = min(vocab_size**2, DEFAULT_PAIRS[0] + DEFAULT_PAIRS[1] * vocab_size)
    given = min(int(pair_table_gib * 2**30), SLOT_BYTES * _max_slots(vocab_size))
    return factors_bytes(vocab_size, rank) + max(
        MAX_KEPT_BYTES, given or int(usual / DEFAULT_LOAD) * SLOT_BYTES
    )


def factors_bytes(vocab_size: int, rank: int) -> int:
    """What the tables [V, r] take, and those of the rehearsal before them."""
    return 4 * vocab_size * (5 * rank + 3 * OVERSAMPLING)


def arena_slots(pair_table_gib: float, vocab_size: int, free: int) -> int:
    """Room for word pairs: `pair_table_gib`, or most of the `free` bytes if it is 0; never more than all V x V pairs can take."""
    allowed = pair_table_gib * 2**30 if pair_table_gib else ARENA_SHARE * free
    return int(min(allowed / SLOT_BYTES, MAX_SLOTS, _max_slots(vocab_size)))


def _max_slots(vocab_size: int) -> int:
    """What all V x V pairs can take: a table of V words is at most 8/3 V slots long, and its predecessors as much again."""
    return int(16 / 3 * vocab_size**2 + 16 * vocab_size)


def _full_message(memory: PairTable) -> str:
    gib = SLOT_BYTES * len(memory.keys) / 2**30
    return (
        f"model.pair_table_gib={gib:.3g} cannot hold more than the {int(memory.num_pairs.sum()):,} word pairs that have met so far: "
        f"model.pair_table_gib={2 * gib:.3g} holds twice as many, "
        "and the run goes on with it; or raise corpus.min_count, or lower corpus.max_vocab"
    )
