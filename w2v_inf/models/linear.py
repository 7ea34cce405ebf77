"""Linear networks with one hidden layer: finite networks, and the exact infinite-width muP limit.

Both hold their two matrices in full and take the same steps. They differ in width, initialisation
and learning rates only: the feature-learning limit is a network of width V_in + V_out that is
initialised diagonally (TP4 Corollary 6.2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from w2v_inf.config import Embedding
from w2v_inf.models.cpu.step import sgd_steps
from w2v_inf.models.gpu.step import gpu_steps
from w2v_inf.models.parametrization import finite_scales
from w2v_inf.models.protocol import Model
from w2v_inf.models.step import UpdateRule
from w2v_inf.stream import Batch

ROWS_AT_ONCE = 1024
"""Rows of a table per piece of work, so that nothing of the table's size is made beside it."""


@dataclass
class LinearModel(Model):
    """Input embedding `u` [V, D] and output embedding `w` [V, D]; the logit is <h, w_o>.

    scales: of the rows of bfloat16 tables, [V] float32 each: the embeddings are scale x row.
    """

    u: Tensor
    w: Tensor
    rule: UpdateRule = UpdateRule()
    scales: tuple[Tensor, Tensor] | None = None

    def train_batches(self, batches: Sequence[Batch]) -> list[float]:
        """One SGD step per batch; returns the losses before each, nats per example."""
        steps = sgd_steps if self.u.device.type == "cpu" else gpu_steps
        return steps(self.u, self.w, batches, self.rule, self.scales).tolist()

    def gram(
        self, rows: Tensor, columns: Tensor | None = None, embedding: Embedding = Embedding.input
    ) -> Tensor:
        """Inner products of the words `rows` [R] with `columns` [C], or with all V; [R, C]."""
        left = self.vectors(rows, embedding)
        if columns is not None:
            return left @ self.vectors(columns, embedding).T
        blocks = row_blocks(len(self.u))
        return torch.cat([left @ self.vectors(block, embedding).T for block in blocks], dim=1)

    def squared_norms(self, embedding: Embedding = Embedding.input) -> Tensor:
        """Squared lengths of all embeddings, [V]."""
        blocks = row_blocks(len(self.u))
        return torch.cat([self.vectors(block, embedding).square().sum(1) for block in blocks])

    def gram_matmul(self, x: Tensor, embedding: Embedding = Embedding.input) -> Tensor:
        """The Gram matrix times x [V, k]; [V, k]. Cost: 4 V D k FLOP, D x k numbers of memory."""
        return gram_matmul(self.vectors, x, embedding)

    def vectors(self, ids: Tensor | slice, embedding: Embedding = Embedding.input) -> Tensor:
        """Embeddings of some words, [R, D], float32 or float64. A slice of u or w is not a copy."""
        parts = {Embedding.input: (0,), Embedding.output: (1,), Embedding.sum: (0, 1)}[embedding]
        tables = [(self.u, self.w)[part][ids] for part in parts]
        if self.scales is not None:
            tables = [
                self.scales[part][ids, None] * rows.float()
                for part, rows in zip(parts, tables, strict=True)
            ]
        return sum(tables[1:], start=tables[0])

    def state(self) -> dict[str, Tensor]:
        """The two matrices and the scales of their rows, if any, by name; not copies."""
        tables = {"u": self.u, "w": self.w}
        if self.scales is not None:
            tables |= {"u_scale": self.scales[0], "w_scale": self.scales[1]}
        return tables

    def load(self, state: dict[str, Tensor]) -> None:
        """Copy the tensors of `state` into the model."""
        for name, tensor in self.state().items():
            copy_rows(state[name], tensor)


def gram_matmul(
    vectors: Callable[[slice, Embedding], Tensor], x: Tensor, embedding: Embedding
) -> Tensor:
    """v (v^T x) for the embeddings v [V, D] that `vectors` gives; x [V, k] -> [V, k]."""
    blocks = row_blocks(len(x))
    inner = sum(vectors(rows, embedding).T @ x[rows] for rows in blocks)  # [D, k]
    return torch.cat([vectors(rows, embedding) @ inner for rows in blocks])


def row_blocks(num_rows: int) -> list[slice]:
    """All rows of a table, `ROWS_AT_ONCE` per slice."""
    starts = range(0, num_rows, ROWS_AT_ONCE)
    return [slice(start, min(start + ROWS_AT_ONCE, num_rows)) for start in starts]


def copy_rows(source: Tensor, target: Tensor) -> Tensor:
    """Copy between devices, some rows at a time, and return `target`.

    Torch copies a tensor with gaps by way of one without; so this is never a whole table.
    """
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
    rule: UpdateRule = UpdateRule(),
) -> LinearModel:
    """A finite network at its random initialisation, or some of its columns.

    All numbers are drawn, on the CPU, so that every device and process starts from the same.

    Args:
      exponents: abc-parametrization (a1, b1, a2, b2, c); its learning-rate factors join the rule's.
      output_init_scale: of w; 0 initialises it to zero and draws nothing for it.
      generator: a CPU generator; u is drawn before w.
      columns: which columns to keep; all if None.
    """
    (u_std, w_std), (u_factor, w_factor) = finite_scales(exponents, width)
    u = torch.randn(vocab_size, width, generator=generator, dtype=dtype).mul_(u_std)
    w = torch.zeros(vocab_size, width, dtype=dtype)
    if output_init_scale:
        w.normal_(0, output_init_scale * w_std, generator=generator)
    columns = range(width) if columns is None else columns
    u, w = (_to_device(table[:, columns.start : columns.stop], device) for table in (u, w))
    lr_factors = (rule.lr_factors[0] * u_factor, rule.lr_factors[1] * w_factor)
    return LinearModel(u, w, replace(rule, lr_factors=lr_factors))


def init_mup_limit(
    vocab_size: int,
    output_init_scale: float,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    columns: range | None = None,
    rule: UpdateRule = UpdateRule(),
) -> LinearModel:
    """The exact muP limit at its initialisation (TP4 Section 6), or some of its columns.

    Columns are coefficients over the initial rows: u = [I 0] and w = [0 scale I]. If w = 0, its
    block is never reached, so V columns are exact; otherwise there are 2 V. bfloat16 tables get
    row scales.
    """
    columns = range(limit_width(vocab_size, output_init_scale)) if columns is None else columns
    u, w = (_zeros(vocab_size, len(columns), dtype, device) for _ in "uw")
    _fill_diagonal(u, columns, 0, 1.0)
    _fill_diagonal(w, columns, vocab_size, output_init_scale)
    if dtype is not torch.bfloat16:
        return LinearModel(u, w, rule)
    ones = torch.ones(vocab_size, device=device)
    return LinearModel(u, w, rule, scales=(ones, ones.clone()))


def limit_width(vocab_size: int, output_init_scale: float) -> int:
    """Columns of the exact muP limit."""
    return vocab_size if output_init_scale == 0 else 2 * vocab_size


def _zeros(vocab_size: int, width: int, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """A table of zeros, [V, width].

    On a GPU rows start at multiples of 16 entries, with zeros between them (`gpu.step`).
    """
    stride = width if torch.device(device).type == "cpu" else -(-width // 16) * 16
    return torch.zeros(vocab_size, stride, dtype=dtype, device=device)[:, :width]


def _to_device(rows: Tensor, device: torch.device | str) -> Tensor:
    """The rows as a table on the device."""
    if torch.device(device).type == "cpu":
        return rows.contiguous()
    return copy_rows(rows, _zeros(len(rows), rows.shape[1], rows.dtype, device))


def _fill_diagonal(table: Tensor, columns: range, first: int, value: float) -> None:
    """Set entry (i, first + i) of each row i to `value`, where the table has that column."""
    start, stop = max(columns.start, first), min(columns.stop, first + len(table))
    diagonal = torch.arange(start, max(start, stop), device=table.device)
    table[diagonal - first, diagonal - columns.start] = value
