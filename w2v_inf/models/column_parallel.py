"""A linear network whose columns are split over the processes of a job, one shard per process.

Columns are independent given the gradients of the logits. So a step has three parts:
1. each process computes its part of the logits;
2. the processes sum them: B x (S + 1) numbers per step, inputs x outputs on GPUs;
3. each process updates its own columns.
Inner products at evaluation are sums over processes too. This is exact: the processes exchange
nothing else.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from w2v_inf import distributed
from w2v_inf.config import Embedding
from w2v_inf.models.batch_counts import count_share, counts_of, stack, stored_counts
from w2v_inf.models.cpu import column_split, threads
from w2v_inf.models.cpu import step as cpu_step
from w2v_inf.models.cpu.row_steps import row_steps, store_scales
from w2v_inf.models.cpu.sigmoid import logit_gradients
from w2v_inf.models.gpu.step import gpu_steps
from w2v_inf.models.linear import LinearModel, row_blocks
from w2v_inf.models.protocol import Model
from w2v_inf.models.step import UpdateRule, rounding_seed
from w2v_inf.stream import Batch


@dataclass
class ColumnShard(Model):
    """This process's columns, `distributed.shard_range(width)`, of a network of width `width`.

    All processes must call every method but `state` and `whole_shapes` together.
    """

    part: LinearModel
    width: int

    @property
    def rule(self) -> UpdateRule:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The rule of the part."""
        return self.part.rule

    def train_batches(self, batches: Sequence[Batch]) -> list[float]:
        """One SGD step per batch; returns the losses before each, nats per example."""
        if self.part.u.device.type == "cpu":
            return shard_steps(self.part, batches, distributed.all_reduce_sum)
        u, w, rule, scales = self.part.u, self.part.w, self.rule, self.part.scales
        return gpu_steps(u, w, batches, rule, scales, distributed.all_reduce_sum).tolist()

    def gram(
        self, rows: Tensor, columns: Tensor | None = None, embedding: Embedding = Embedding.input
    ) -> Tensor:
        """Inner products of the words `rows` [R] with `columns` [C], or with all V; [R, C]."""
        return distributed.all_reduce_sum(self.part.gram(rows, columns, embedding))

    def squared_norms(self, embedding: Embedding = Embedding.input) -> Tensor:
        """Squared lengths of all embeddings, [V]."""
        return distributed.all_reduce_sum(self.part.squared_norms(embedding))

    def gram_matmul(self, x: Tensor, embedding: Embedding = Embedding.input) -> Tensor:
        """The Gram matrix times x [V, k]; [V, k]."""
        return distributed.all_reduce_sum(self.part.gram_matmul(x, embedding))

    def vectors(self, ids: Tensor | slice, embedding: Embedding = Embedding.input) -> Tensor:
        """Embeddings of some words, [R, width], on every process. Memory: width x R numbers."""
        own = self.part.vectors(ids, embedding)
        columns = distributed.shard_range(self.width)
        whole = own.new_zeros(len(own), self.width)
        whole[:, columns.start : columns.stop] = own
        return distributed.all_reduce_sum(whole)

    def state(self) -> dict[str, Tensor]:
        """This process's tensors by name; not copies."""
        return self.part.state()

    def load(self, state: dict[str, Tensor]) -> None:
        """Copy this process's columns of the tensors of `state`, which are whole.

        Raises: RuntimeError if their sizes differ from the model's.
        """
        columns = distributed.shard_range(self.width)
        own = {
            name: t[:, columns.start : columns.stop] if t.ndim == 2 else t
            for name, t in state.items()
        }
        if any(own[name].shape != tensor.shape for name, tensor in self.state().items()):
            raise RuntimeError("its tables are of other sizes")
        self.part.load(own)

    def whole_shapes(self) -> dict[str, list[int]]:
        """Shapes of the tensors with the columns of all processes."""
        return {name: [len(t), self.width][: t.ndim] for name, t in self.state().items()}

    def whole_blocks(self) -> Iterator[Tensor]:
        """The tensors with the columns of all processes, some rows per block, in order of `state`.

        Other processes than the main one get empty blocks.
        """
        for tensor in self.state().values():
            if tensor.ndim == 1:
                yield tensor.cpu()
                continue
            for rows in row_blocks(len(tensor)):
                yield distributed.gather_columns(tensor[rows], self.width)


@threads.serial_blas()  # once, and not for each of the two parts of every step
def shard_steps(
    part: LinearModel,
    batches: Sequence[Batch],
    all_reduce: Callable[[Tensor], Tensor],
    tile: int = cpu_step.TILE,
) -> list[float]:
    """`cpu.step.sgd_steps` on some columns of a network; updates `part` in place.

    Args:
      part: columns of u and w, [V, some], on the CPU.
      all_reduce: sums a tensor of partial logits over all shards, in place.
    Returns: losses of the whole network before each step, nats per example; alike on all shards.
    """
    u, w, scales = cpu_step.numpy_tables(part.u, part.w, part.scales)
    stacked, rule = stack(batches), cpu_step.compiled_rule(part.rule)
    num_threads = cpu_step.num_threads_for(u.shape[1])
    tile = min(tile, -(-u.shape[1] // num_threads))
    stored = stored_counts(batches, len(u))
    count_share(0, 1, stacked, stored, len(u))
    zero = np.zeros(1, np.float64 if u.dtype == np.float64 else np.float32)
    size = column_split.most_scratch_rows(stored) * tile
    scratch = np.empty((num_threads, size), zero.dtype)
    losses = []
    for b, batch in enumerate(batches):
        counts = counts_of(stored, b)
        u_steps, w_steps = row_steps(counts, stacked.lr[b], scales, rule, zero)
        shared = u, w, counts, u_steps, w_steps, tile, scratch
        size = counts.negative_counts.size + len(batch.target)
        parts = np.empty((num_threads, size), zero.dtype)
        threads.run(_logits_of_columns, num_threads, *shared, parts)
        f = parts.sum(axis=0)
        all_reduce(torch.from_numpy(f))
        g, pair_g = column_split.split_logits(f, counts)
        loss = logit_gradients(g.ravel(), pair_g, counts.negative_counts.ravel(), rule.tp4)
        seed = rounding_seed(batch.words_seen)
        threads.run(_update_columns, num_threads, *shared, g, pair_g, rule.whole_gradient, seed)
        store_scales(scales[0], counts.inputs, u_steps)
        store_scales(scales[1], counts.outputs, w_steps)
        losses.append(loss / len(batch.target))
    return losses


@njit(cache=True, nogil=True)
def _logits_of_columns(
    thread_id, num_threads, sync, u, w, counts, u_steps, w_steps, tile, scratch, parts
):
    """Write what one thread's columns add to the logits."""
    start, stop = threads.column_slice(thread_id, num_threads, u.shape[1])
    tile = min(tile, stop - start)
    logits, pair_logits = column_split.split_logits(parts[thread_id], counts)
    column_split.partial_logits(
        u, w, counts, u_steps, w_steps, start, stop, tile, scratch[thread_id], logits, pair_logits
    )


@njit(cache=True, nogil=True)
def _update_columns(
    thread_id,
    num_threads,
    sync,
    u,
    w,
    counts,
    u_steps,
    w_steps,
    tile,
    scratch,
    g,
    pair_g,
    whole_gradient,
    seed,
):
    """Update one thread's columns."""
    start, stop = threads.column_slice(thread_id, num_threads, u.shape[1])
    tile = min(tile, stop - start)
    column_split.update_rows(
        u, w, counts, u_steps, w_steps, start, stop, tile, scratch[thread_id], g, pair_g,
        whole_gradient, seed,
    )  # fmt: skip
