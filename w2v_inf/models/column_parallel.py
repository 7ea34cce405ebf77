"""A linear net whose columns are shared out over the ranks of a job: each holds and moves its own, and logits are added up.

Columns are independent given the gradients of the logits. So a step is: this rank's part of the logits, the sum over ranks, the update
of this rank's columns; inner products at evaluation are sums over ranks too. It is exact: nothing else is exchanged but
B x (S + 1) numbers a step (on cards inputs x outputs) and a Gram block an evaluation.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from w2v_inf import distributed
from w2v_inf.config import Embedding
from w2v_inf.models.cpu import step as cpu_step
from w2v_inf.models.cpu import threads
from w2v_inf.models.cpu.sigmoid import logit_gradients
from w2v_inf.models.linear import LinearModel, row_blocks
from w2v_inf.models.step import rounding_seed, tp4_logit
from w2v_inf.stream import Batch, Stream


@dataclass
class ColumnShard:
    """This rank's columns, `ranks.share(width)`, of a `LinearModel` with `width` columns. Every method needs all ranks to call it."""

    part: LinearModel
    width: int

    def prepare(self, stream: Stream, interrupted: Callable[[], bool]) -> None:
        """Nothing to do before the first step."""

    def update(self, batch: Batch) -> float:
        """One SGD step; returns the loss before it, nats per example."""
        return self.train_batches([batch])[0]

    def train_batches(self, batches: Sequence[Batch]) -> list[float]:
        """A step a batch; returns the losses."""
        if self.part.u.device.type == "cpu":
            return shard_steps(self.part, batches, distributed.all_reduce_sum)
        return self.part.update_on_device(batches, distributed.all_reduce_sum)

    def gram(
        self, rows: Tensor, columns: Tensor | None = None, embedding: Embedding = Embedding.input
    ) -> Tensor:
        """Inner products of embeddings, [R, C]; all V words if `columns` is None."""
        return distributed.all_reduce_sum(self.part.gram(rows, columns, embedding))

    def squared_norms(self, embedding: Embedding = Embedding.input) -> Tensor:
        """Squared lengths of all embeddings, [V]."""
        return distributed.all_reduce_sum(self.part.squared_norms(embedding))

    def gram_matmul(self, x: Tensor, embedding: Embedding = Embedding.input) -> Tensor:
        """The Gram matrix of all embeddings times x [V, k]; [V, k]."""
        return distributed.all_reduce_sum(self.part.gram_matmul(x, embedding))

    def vectors(self, ids: Tensor | slice, embedding: Embedding = Embedding.input) -> Tensor:
        """Embeddings of some words, [R, width], on every rank. Memory: width R numbers."""
        own = self.part.vectors(ids, embedding)
        columns = distributed.shard_range(self.width)
        whole = own.new_zeros(len(own), self.width)
        whole[:, columns.start : columns.stop] = own
        return distributed.all_reduce_sum(whole)

    def diagnostics(self) -> dict[str, float]:
        """Nothing: the model approximates nothing."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """This rank's tensors by name; not copies."""
        return self.part.state()

    def load(self, state: dict[str, Tensor]) -> None:
        """Take this rank's columns of the tensors of `state`, which are whole."""
        columns = distributed.shard_range(self.width)
        own = {
            name: t[:, columns.start : columns.stop] if t.ndim == 2 else t
            for name, t in state.items()
        }
        if any(own[name].shape != tensor.shape for name, tensor in self.state().items()):
            raise RuntimeError("its tables are of other sizes")
        self.part.load(own)

    def whole_shapes(self) -> dict[str, list[int]]:
        """The shapes that the tensors have when all ranks' columns are put together."""
        return {name: [len(t), self.width][: t.ndim] for name, t in self.state().items()}

    def whole_blocks(self) -> Iterator[Tensor]:
        """All tensors of `state` one after another, put together, some rows at a time, on the first rank; empty blocks elsewhere."""
        for tensor in self.state().values():
            if tensor.ndim == 2:
                yield from (
                    distributed.gather_columns(tensor[rows], self.width)
                    for rows in row_blocks(len(tensor))
                )
            else:
                yield tensor.cpu()


def shard_steps(
    part: LinearModel,
    batches: Sequence[Batch],
    add_up: Callable[[Tensor], Tensor],
    tile: int = cpu_step.TILE,
) -> list[float]:
    """`fused.fused_steps` on some columns of a net; updates `part` in place.

    Args:
      part: columns of u and w, [V, some], on the CPU.
      add_up: sums a tensor of partial logits over all shards, in place.
    Returns: losses of the whole net before each step, nats per example; the same on all shards.
    """
    u, w, u_scale, w_scale = cpu_step.numpy_tables(part.u, part.w, part.scales)
    num_threads = cpu_step.num_threads_for(u.shape[1])
    tile = min(tile, -(-u.shape[1] // num_threads))
    place = np.full(len(u), -1, np.int32)
    zero = np.zeros(1, np.float64 if u.dtype == np.float64 else np.float32)
    losses = []
    for batch in batches:
        arrays = batch.context, batch.target, batch.negatives, batch.negatives_row
        rows, negatives, touches = cpu_step.plan(*arrays, batch.negative_weight, place)
        log_decay = math.log1p(-batch.lr * part.weight_decay)
        u_steps, w_steps = (
            cpu_step.row_steps(scale, ids, log_decay, touched, batch.lr * factor, zero)
            for scale, ids, touched, factor in zip(
                (u_scale, w_scale), rows[:2], touches, part.lr_factors, strict=True
            )
        )
        scratch = np.empty((num_threads, cpu_step.scratch_rows(rows, negatives) * tile), zero.dtype)
        parts = np.empty((num_threads, negatives.size + len(batch.target)), zero.dtype)
        moved = u, w, rows, u_steps, w_steps, tile, scratch
        threads.run(_logits_of_columns, num_threads, *moved, parts, negatives)
        f = parts.sum(axis=0)
        add_up(torch.from_numpy(f))
        g, pair_g = cpu_step.part_of(f, negatives, len(batch.target))
        loss = logit_gradients(g.ravel(), pair_g, negatives.ravel(), part.logit is tp4_logit)
        threads.run(
            _update_columns,
            num_threads,
            *moved,
            g,
            pair_g,
            part.whole_gradient,
            rounding_seed(batch.words_seen),
        )
        cpu_step.keep_scales(u_scale, rows[0], u_steps)
        cpu_step.keep_scales(w_scale, rows[1], w_steps)
        losses.append(loss / len(batch.target))
    return losses


@njit(cache=True, nogil=True)
def _logits_of_columns(
    rank, num_threads, sync, u, w, rows, u_steps, w_steps, tile, scratch, parts, negatives
):
    """What the columns of thread `rank` add to the logits."""
    start, stop = threads.column_slice(rank, num_threads, u.shape[1])
    logits, pair_logits = cpu_step.part_of(parts[rank], negatives, len(rows[4]))
    tile = min(tile, stop - start)
    cpu_step.partial_logits(
        u, w, rows, u_steps, w_steps, start, stop, tile, scratch[rank], logits, pair_logits
    )


@njit(cache=True, nogil=True)
def _update_columns(
    rank,
    num_threads,
    sync,
    u,
    w,
    rows,
    u_steps,
    w_steps,
    tile,
    scratch,
    g,
    pair_g,
    whole_gradient,
    salt,
):
    """The update of the columns of thread `rank`."""
    start, stop = threads.column_slice(rank, num_threads, u.shape[1])
    tile = min(tile, stop - start)
    cpu_step.update_rows(
        u,
        w,
        rows,
        u_steps,
        w_steps,
        start,
        stop,
        tile,
        scratch[rank],
        g,
        pair_g,
        whole_gradient,
        salt,
    )
