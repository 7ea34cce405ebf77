"""The low-rank engine of the muP limit: exact inside a basis of r directions, first order outside.

docs/lowrank.md derives it and says where it can fail. It holds four tables [V, r] and a sparse
table of word pairs, never anything V x V. A step costs about as much as that of a finite network
of width 3 r to 4 r.
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
from w2v_inf.models.lowrank import pair_table
from w2v_inf.models.lowrank.basis import (
    OVERSAMPLING,
    find_basis,
    inverse_own_energy,
    start_on,
    start_on_commonest_words,
)
from w2v_inf.models.lowrank.pair_table import PairTable, count_slots, empty_pair_table, pack, unpack
from w2v_inf.models.lowrank.step import Factors, lowrank_steps
from w2v_inf.models.protocol import Model
from w2v_inf.models.step import UpdateRule
from w2v_inf.stream import Batch, Stream

log = logging.getLogger(__name__)
MAX_GRADIENT_BYTES = 2 << 30
"""Gradients that the pilot run keeps; the same on every machine, since the basis depends on it."""
SLOT_BYTES = 8
DEFAULT_PAIRS, DEFAULT_PAIRS_PER_WORD = 15_000_000, 1000
"""100 MB of text have 22.7 million pairs at V = 8,000, and 58.3 million at V = 67,930."""
DEFAULT_LOAD = 0.5
"""Hash tables are between three eighths and three quarters full."""
MAX_SLOTS = 2**34
"""The most that a free list can address."""
ARENA_SHARE = 0.4
"""Of the free memory: a checkpoint copies the pair table."""


@dataclass
class LowRankLimit(Model):
    """The muP limit on `factors` and the pair table `pairs`; docs/lowrank.md defines both.

    tolerance: above 0, the residual energy that `prepare` may leave with fewer directions.
    residual_energy: share of the learned energy outside the basis, as far as the pilot run knows.
    """

    factors: Factors
    pairs: PairTable
    rule: UpdateRule = UpdateRule()
    tolerance: float = 0.0
    residual_energy: float = 1.0

    def prepare(self, stream: Stream, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Start on the basis that a pilot run of the first epochs finds; unchanged if interrupted.

        Raises: UserError if the pilot run diverges.
        """
        rank = self.factors.u.shape[1]
        if rank == len(self.factors.u) and not self.tolerance:
            self.residual_energy = 0.0  # the basis is the whole space
            return
        at_most = "at most " if self.tolerance else ""
        log.info("pilot run: the first epochs, to find %s%d directions", at_most, rank)
        basis = find_basis(stream, rank, self.rule, MAX_GRADIENT_BYTES, interrupted, self.tolerance)
        if basis is None:
            return
        self.factors = start_on(basis.b.astype(self.factors.b.dtype))
        self.residual_energy = basis.residual_energy
        log.info("%d directions, residual energy %.3g", basis.b.shape[1], basis.residual_energy)
        if self.tolerance and not self._tolerance_reached():
            log.warning(
                "model.tolerance=%g is not reached: raise model.rank (now %d) or model.tolerance; "
                "training continues",
                self.tolerance,
                rank,
            )

    def _tolerance_reached(self) -> bool:
        return self.residual_energy <= self.tolerance

    def train_batches(self, batches: Sequence[Batch]) -> list[float]:
        """One SGD step per batch; returns the losses before each, nats per example.

        Raises: UserError if the pair table is full, with a size that suffices for twice the pairs.
        """
        losses = lowrank_steps(self.factors, self.pairs, batches, self.rule).tolist()
        if self.pairs.end[1]:
            raise UserError(_full_message(self.pairs))
        return losses

    def gram(
        self, rows: Tensor, columns: Tensor | None = None, embedding: Embedding = Embedding.input
    ) -> Tensor:
        """Inner products of the words `rows` [R] with `columns` [C], or with all V; [R, C].

        Cost: O(R C r). The output embedding adds R numbers per pair of the `columns`.
        """
        left = rows.numpy()
        right = np.arange(len(self.factors.s)) if columns is None else columns.numpy()
        if embedding is Embedding.input:
            return torch.from_numpy(self._input_gram(left, right))
        if embedding is Embedding.output:
            return torch.from_numpy(self._output_gram(left, right))
        cross = self._cross_gram(left, right) + self._cross_gram(right, left).T
        gram = self._input_gram(left, right) + self._output_gram(left, right) + cross
        return torch.from_numpy(gram)

    def _input_gram(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """u_i . u_j = U_i . U_j + s_i s_j ([i = j] - B_i . B_j)."""
        u, b, s = self.factors.u, self.factors.b, self.factors.s
        # In place from here on: [R, V] is the largest table of an evaluation.
        gram = b[left] @ b[right].T
        gram *= -1
        gram[left[:, None] == right] += 1
        gram *= s[left, None]
        gram *= s[right]
        gram += u[left] @ u[right].T
        return gram

    def _output_gram(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """w_o . w_p = W_o . W_p - N_o . N_p + (M^T M)_op."""
        w, n = self.factors.w, self.factors.n
        m_left = np.empty((len(w), len(left)), w.dtype)
        products = np.empty((len(right), len(left)), w.dtype)
        pair_table.columns(self.pairs, left, m_left)
        pair_table.transpose_matmul(self.pairs, right, m_left, products)
        return w[left] @ w[right].T - n[left] @ n[right].T + products.T

    def _cross_gram(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """u_i . w_o = U_i . W_o + s_i (M_io - B_i . N_o) for i of `left` and o of `right`."""
        u, w, n, b, s, _ = self.factors
        m = np.empty((len(right), len(left)), s.dtype)
        pair_table.lookup_block(self.pairs, right, left, m)
        return u[left] @ w[right].T + s[left, None] * (m.T - b[left] @ n[right].T)

    def gram_matmul(self, x: Tensor, embedding: Embedding = Embedding.input) -> Tensor:
        """The Gram matrix of all embeddings times x [V, k]; [V, k].

        Cost: O(V r k). The output embedding adds 2 k numbers per pair, the sum 3 k.
        """
        u, w, n, b, s, _ = self.factors
        x_ = np.ascontiguousarray(x.numpy())
        sx = s[:, None] * x_
        inputs = s[:, None] * (sx - b @ (b.T @ sx)) + u @ (u.T @ x_)
        if embedding is Embedding.input:
            return torch.from_numpy(inputs)
        mx, product, words = np.empty_like(x_), np.empty_like(x_), np.arange(len(s))
        pair_table.matmul(self.pairs, x_, mx)
        pair_table.transpose_matmul(self.pairs, words, mx, product)  # M^T M x
        outputs = w @ (w.T @ x_) - n @ (n.T @ x_) + product
        if embedding is Embedding.output:
            return torch.from_numpy(outputs)
        pair_table.transpose_matmul(self.pairs, words, sx, product)  # M^T S x
        cross = u @ (w.T @ x_) + s[:, None] * (mx - b @ (n.T @ x_))
        cross += w @ (u.T @ x_) + product - n @ (b.T @ sx)
        return torch.from_numpy(inputs + outputs + cross)

    def squared_norms(self, embedding: Embedding = Embedding.input) -> Tensor:
        """Squared lengths of all embeddings, [V]."""
        u, w, n, b, s, _ = self.factors
        inputs = np.square(u).sum(1) + s**2 * (1 - np.square(b).sum(1))
        if embedding is Embedding.input:
            return torch.from_numpy(inputs)
        outputs = np.square(w).sum(1) - np.square(n).sum(1) + self._pair_squared_norms()
        if embedding is Embedding.output:
            return torch.from_numpy(outputs)
        diagonal = np.empty_like(s)
        pair_table.diagonal(self.pairs, diagonal)
        cross = (u * w).sum(1) + s * (diagonal - (b * n).sum(1))
        return torch.from_numpy(inputs + outputs + 2 * cross)

    def _pair_squared_norms(self) -> np.ndarray:
        """|M[:, o]|^2 of each output word o, [V]."""
        squares = np.empty_like(self.factors.s)
        pair_table.squared_norms(self.pairs, squares)
        return squares

    def vectors(self, ids: Tensor | slice, embedding: Embedding = Embedding.input) -> Tensor:
        """Embeddings over the V initial directions, [R, V].

        u_i = B U_i + s_i (e_i - B B_i),  w_o = B (W_o - N_o) + M[:, o].
        """
        u, w, n, b, s, _ = self.factors
        words = np.arange(len(s))[ids if isinstance(ids, slice) else ids.numpy()]
        vectors = np.zeros((len(words), len(s)), s.dtype)
        if embedding is not Embedding.output:
            vectors += (u[words] - s[words, None] * b[words]) @ b.T
            vectors[np.arange(len(words)), words] += s[words]
        if embedding is not Embedding.input:
            m = np.empty((len(s), len(words)), s.dtype)
            pair_table.columns(self.pairs, words, m)
            vectors += (w[words] - n[words]) @ b.T + m.T
        return torch.from_numpy(vectors)

    def diagnostics(self) -> dict[str, float]:
        """Rank, pairs, bytes of the pair table in use, and two shares of energy.

        energy_outside: of w, outside the basis. residual_energy: of what the pilot run learned.
        With a tolerance also tolerance and tolerance_reached.
        """
        outside = float(self._pair_squared_norms().sum() - np.square(self.factors.n).sum())
        energy = float(np.square(self.factors.w).sum()) + outside
        diagnostics = {
            "rank": self.factors.u.shape[1],
            "pairs": int(self.pairs.num_pairs.sum()),
            "pair_table_bytes": SLOT_BYTES * count_slots(self.pairs),
            "energy_outside": max(0.0, outside / energy) if energy else 0.0,
            "residual_energy": self.residual_energy,
        }
        if self.tolerance:
            reached = self._tolerance_reached()
            diagnostics |= {"tolerance": self.tolerance, "tolerance_reached": reached}
        return diagnostics

    def state(self) -> dict[str, Tensor]:
        """All tensors by name. The pair table is a copy, in the order of its words.

        Names are those of earlier versions, so that older files load.
        """
        residual_energy = np.array([self.residual_energy])
        arrays = self.factors._asdict() | pack(self.pairs) | {"missed": residual_energy}
        return {name: torch.from_numpy(x) for name, x in arrays.items() if name != "own"}

    def load(self, state: dict[str, Tensor]) -> None:
        """Copy the tensors of `state`, of any rank and any number of pairs."""
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        factors = {name: arrays[name].copy() for name in ("u", "w", "n", "b", "s")}
        self.factors = Factors(**factors, own=inverse_own_energy(factors["b"]))
        self.pairs = unpack(arrays, len(self.pairs.keys), len(self.pairs.free_lists))
        # Files from before 2026-11-25 do not hold it.
        self.residual_energy = float(arrays.get("missed", [1.0])[0])


def init_lowrank(
    vocab_size: int,
    rank: int,
    num_slots: int,
    dtype: type = np.float32,
    rule: UpdateRule = UpdateRule(),
    tolerance: float = 0.0,
) -> LowRankLimit:
    """The limit at u = I, w = 0, on the `rank` commonest words until `prepare` finds a basis.

    num_slots: room for word pairs, see `arena_slots`.
    """
    pairs = empty_pair_table(vocab_size, num_slots, dtype, threads.size())
    factors = start_on_commonest_words(vocab_size, rank, dtype)
    return LowRankLimit(factors, pairs, rule, tolerance)


def lowrank_bytes(
    vocab_size: int, rank: int, pair_table_gib: float | None, loading: bool = False
) -> int:
    """Memory for a training, or with `loading` for a trained model.

    A training needs the factors and the pilot run's networks; beside them first the pilot run's
    gradients, then the pair table and the copy of it that a checkpoint makes.
    pair_table_gib: of the pair table. None or 0 stands for the pairs of a text of usual length.
    """
    num_pairs = min(vocab_size**2, DEFAULT_PAIRS + DEFAULT_PAIRS_PER_WORD * vocab_size)
    given = min(int((pair_table_gib or 0) * 2**30), SLOT_BYTES * _max_slots(vocab_size))
    pair_bytes = given or int(num_pairs / DEFAULT_LOAD) * SLOT_BYTES
    if loading:
        return factors_bytes(vocab_size, rank, loading) + pair_bytes
    return factors_bytes(vocab_size, rank) + max(MAX_GRADIENT_BYTES, 2 * pair_bytes)


def factors_bytes(vocab_size: int, rank: int, loading: bool = False) -> int:
    """Memory of the tables [V, r], and without `loading` of the pilot run's networks too."""
    return 4 * vocab_size * (5 * rank + (0 if loading else 3 * OVERSAMPLING))


def arena_slots(pair_table_gib: float | None, vocab_size: int, free: int) -> int:
    """Slots for word pairs: `pair_table_gib`, or if None or 0 a share of the `free` bytes.

    Never more than V x V pairs can take.
    """
    allowed = pair_table_gib * 2**30 if pair_table_gib else ARENA_SHARE * free
    return int(min(allowed / SLOT_BYTES, MAX_SLOTS, _max_slots(vocab_size)))


def _max_slots(vocab_size: int) -> int:
    """Slots for V x V pairs: at most 8/3 V per hash table, and as many for those it grew out of."""
    return int(16 / 3 * vocab_size**2 + 16 * vocab_size)


def _full_message(pairs: PairTable) -> str:
    gib = SLOT_BYTES * len(pairs.keys) / 2**30
    return (
        f"model.pair_table_gib={gib:.3g} cannot hold more than the {int(pairs.num_pairs.sum()):,} "
        f"word pairs so far: model.pair_table_gib={2 * gib:.3g} holds twice as many, and the run "
        "resumes with it; or raise corpus.min_count, or lower corpus.max_vocab"
    )
