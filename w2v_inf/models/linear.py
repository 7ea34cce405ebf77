"""A linear one-hidden-layer net with its two matrices in full: the finite nets and the dense infinite-width limit.

Both are the same arithmetic; they differ in width, start and step sizes only (TP4 Corollary 6.2: the feature-learning
limit is a net of width V_in + V_out started diagonally).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from w2v_inf.config import Embedding
from w2v_inf.models.batch_counts import dense_batch_counts
from w2v_inf.models.cpu import threads
from w2v_inf.models.cpu.step import fused_steps
from w2v_inf.models.gpu import step as gpu_step
from w2v_inf.models.gpu.packing import Packed
from w2v_inf.models.parametrization import finite_scales
from w2v_inf.models.step import exact_logit, rounding_seed, sgd_step, tp4_logit
from w2v_inf.stream import Batch, Stream


@dataclass
class LinearModel:
    """Input embedding `u` [V, D] and output embedding `w` [V, D], logit <h, w_o>; `update` changes both in place.

    lr_factors: multiply the gradients of u and w; weight_decay, `logit` and whole_gradient as in `step.sgd_step`.
    scales: of the rows of bfloat16 tables, [V] float32 each: the embeddings are then scale x row.
    """

    u: Tensor
    w: Tensor
    lr_factors: tuple[float, float] = (1.0, 1.0)
    weight_decay: float = 0.0
    logit: Callable[[Tensor], Tensor] = exact_logit
    whole_gradient: bool = False
    scales: tuple[Tensor, Tensor] | None = None

    def prepare(self, stream: Stream, interrupted: Callable[[], bool]) -> None:
        """Nothing to do before the first step."""

    def update(self, batch: Batch) -> float:
        """One SGD step; returns the loss before it, nats per example."""
        return self.train_batches([batch])[0]

    def train_batches(self, batches: Sequence[Batch]) -> list[float]:
        """A step a batch; returns the losses."""
        if self.u.device.type == "cpu":
            how = self.weight_decay, self.lr_factors, self.logit is tp4_logit, self.whole_gradient
            return fused_steps(self.u, self.w, batches, *how, self.scales).tolist()
        return self.update_on_device(batches)

    def update_on_device(
        self, batches: Sequence[Batch], add_up: Callable[[Tensor], Tensor] | None = None
    ) -> list[float]:
        """`train_batches` by Triton's kernels, or by `step.sgd_step` where there are none or a batch is too large; `add_up` as there."""
        stretches = [
            batches[k : k + gpu_step.BATCHES_A_PACK]
            for k in range(0, len(batches), gpu_step.BATCHES_A_PACK)
        ]
        packs = (
            threads.prefetch(self._pack, stretches)
            if gpu_step.kernels_run_on(self.u.device)
            else [None] * len(stretches)
        )
        losses = [
            self._launch(some, packed, add_up)
            for some, packed in zip(stretches, packs, strict=True)
        ]
        return torch.cat(losses).tolist()  # read at the end: each read would wait for the card

    def _pack(self, batches: Sequence[Batch]) -> Packed | None:
        return gpu_step.pack_for_kernels(batches, self.weight_decay, len(self.u), self.u.dtype)

    def _launch(
        self,
        batches: Sequence[Batch],
        packed: Packed | None,
        add_up: Callable[[Tensor], Tensor] | None,
    ) -> Tensor:
        """Launch the steps of some batches; their losses."""
        if packed is None:
            return torch.stack([self._step(batch, add_up) for batch in batches])
        how = self.lr_factors, self.logit is tp4_logit, self.whole_gradient
        return gpu_step.kernel_steps(self.u, self.w, batches, packed, *how, self.scales, add_up)

    def _step(self, batch: Batch, add_up: Callable[[Tensor], Tensor] | None) -> Tensor:
        counts = dense_batch_counts(
            batch, torch.float64 if self.u.dtype is torch.float64 else torch.float32, self.u.device
        )
        how = self.lr_factors, self.logit, self.whole_gradient
        bits = (
            torch.Generator(self.u.device).manual_seed(rounding_seed(batch.words_seen))
            if self.scales
            else None
        )
        return sgd_step(
            self.u, self.w, counts, batch.lr, self.weight_decay, *how, self.scales, bits, add_up
        )

    def gram(
        self, rows: Tensor, columns: Tensor | None = None, embedding: Embedding = Embedding.input
    ) -> Tensor:
        """Inner products of the embeddings of `rows` [R] with those of `columns` [C], or of all V words; [R, C]."""
        left = self.vectors(rows, embedding)
        if columns is not None:
            return left @ self.vectors(columns, embedding).T
        return torch.cat(
            [left @ self.vectors(block, embedding).T for block in self._blocks()], dim=1
        )

    def squared_norms(self, embedding: Embedding = Embedding.input) -> Tensor:
        """Squared lengths of all embeddings, [V]."""
        return torch.cat(
            [self.vectors(block, embedding).square().sum(1) for block in self._blocks()]
        )

    def gram_matmul(self, x: Tensor, embedding: Embedding = Embedding.input) -> Tensor:
        """The Gram matrix of all embeddings times x [V, k]; [V, k]. Cost: 4 V D k FLOP, D x k memory."""
        return product_by_rows(self.vectors, x, embedding)

    def vectors(self, ids: Tensor | slice, embedding: Embedding = Embedding.input) -> Tensor:
        """Embeddings of some words, [R, D]; float32 or float64, not a copy for a slice of a table without scales."""
        parts = {Embedding.input: (0,), Embedding.output: (1,), Embedding.sum: (0, 1)}[embedding]
        tables = [(self.u, self.w)[part][ids] for part in parts]
        if self.scales is not None:
            tables = [
                self.scales[part][ids, None] * rows.float()
                for part, rows in zip(parts, tables, strict=True)
            ]
        return sum(tables[1:], start=tables[0])

    def diagnostics(self) -> dict[str, float]:
        """Nothing: the model approximates nothing."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """The two matrices, and the scales of their rows if they have some, by name; not copies."""
        scales = (
            {} if self.scales is None else {"u_scale": self.scales[0], "w_scale": self.scales[1]}
        )
        return {"u": self.u, "w": self.w} | scales

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over the tensors of `state`."""
        for name, tensor in self.state().items():
            copy_rows(state[name], tensor)

    def _blocks(self) -> list[slice]:
        """All rows, a stretch at a time, so that no second [V, D] table is made."""
        return row_blocks(len(self.u))


def product_by_rows(
    vectors: Callable[[slice, Embedding], Tensor], x: Tensor, embedding: Embedding
) -> Tensor:
    """u (u^T x) for the embeddings that `vectors` gives; x [V, k] -> [V, k]."""
    blocks = row_blocks(len(x))
    inner = sum(vectors(rows, embedding).T @ x[rows] for rows in blocks)  # [D, k]
    return torch.cat([vectors(rows, embedding) @ inner for rows in blocks])


def row_blocks(num_rows: int) -> list[slice]:
    """All rows of a table, 1,024 at a time."""
    return [slice(start, min(start + 1024, num_rows)) for start in range(0, num_rows, 1024)]


def copy_rows(source: Tensor, target: Tensor) -> Tensor:
    """Copy between devices and return `target`; some rows at a time, since what has gaps goes by way of a copy without."""
    for rows in row_blocks(len(source)):
        target[rows].copy_(source[rows])
    return target


def init_finite(
    vocab_size: int,
    width: int,
    exponents: tuple[float, float, float, float, float],
    output_init_scale: float,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    columns: range | None = None,
) -> LinearModel:
    """A finite net at its random start, or some of its columns. All numbers are drawn, on the CPU: every device and shard starts alike."""
    (u_std, w_std), lr_factors = finite_scales(exponents, width)
    u = torch.randn(vocab_size, width, generator=generator, dtype=dtype).mul_(u_std)
    w = torch.zeros(vocab_size, width, dtype=dtype)
    if output_init_scale:
        w.normal_(0, output_init_scale * w_std, generator=generator)
    columns = range(width) if columns is None else columns
    u, w = (_table(table[:, columns.start : columns.stop], device) for table in (u, w))
    return LinearModel(u, w, lr_factors)


def _zeros(vocab_size: int, width: int, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """A table of zeros; on a card rows start at multiples of 16 entries, with zeros between them (`card.kernel_steps`)."""
    apart = width if torch.device(device).type == "cpu" else -(-width // 16) * 16
    return torch.zeros(vocab_size, apart, dtype=dtype, device=device)[:, :width]


def _table(rows: Tensor, device: torch.device | str) -> Tensor:
    """The rows as a table of the device."""
    if torch.device(device).type == "cpu":
        return rows.contiguous()
    return copy_rows(rows, _zeros(len(rows), rows.shape[1], rows.dtype, device))


def init_mup_limit(
    vocab_size: int,
    output_init_scale: float,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    columns: range | None = None,
) -> LinearModel:
    """The exact muP limit at its start (TP4 Section 6), or some of its columns: rows u = [I 0], w = [0 scale I] over the initial rows.

    With w = 0 at the start its block is never reached: V columns are exact. Otherwise there are 2 V. bfloat16 tables get
    row scales.
    """
    columns = range(limit_width(vocab_size, output_init_scale)) if columns is None else columns
    u, w = (_zeros(vocab_size, len(columns), dtype, device) for _ in "uw")
    _add_unit_block(u, columns, 0, 1.0)
    _add_unit_block(w, columns, vocab_size, output_init_scale)
    if dtype is not torch.bfloat16:
        return LinearModel(u, w)
    ones = torch.ones(vocab_size, device=device)
    return LinearModel(u, w, scales=(ones, ones.clone()))


def limit_width(vocab_size: int, output_init_scale: float) -> int:
    """Columns of the exact muP limit."""
    return vocab_size if output_init_scale == 0 else 2 * vocab_size


def _add_unit_block(table: Tensor, columns: range, first: int, value: float) -> None:
    """Put `value` where row i of the table, which holds `columns`, meets column first + i."""
    start, stop = max(columns.start, first), min(columns.stop, first + len(table))
    own = torch.arange(start, max(start, stop), device=table.device)
    table[own - first, own - columns.start] = value
