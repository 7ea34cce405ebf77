"""The NTK limit of word2vec: logits move, embeddings do not.

With w(0) = 0 the kernel between (context bag x, output o) and (x', o') is delta_oo' h.h', and initial rows are
orthonormal in the limit. So f_o = sum_i x_i s_i z_io, where s_i is what weight decay leaves of input row i and z_io
the coefficient of u_i(0) in w_o.

With w(0) ~ N(0, scale^2) entries (the ntp start) three terms make the logit of input i and output o:
  f_io = s_i z_io + t_o p_io + s_i t_o e_io
e_io ~ N(0, scale^2) are the random inner products of the start, t_o what decay leaves of w_o(0), and p_io what the
O(n^-1/2) movement of row i adds along w_o(0): the kernel's second half. All of it is O(1) while directions stay put.

Decay multiplies whole rows of z and p. They are held with a scale a row, multiplied through before it gets small.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from w2v_inf.config import Embedding
from w2v_inf.models.batch_counts import dense_batch_counts
from w2v_inf.models.linear import product_by_rows
from w2v_inf.models.step import exact_logit, logit_gradient, row_decay
from w2v_inf.stream import Batch, Stream

MIN_SCALE = 1e-3


@dataclass
class ScaledRows:
    """A matrix [V, V] whose rows are `scale` [V] x `rows`, so that decaying a row costs O(1)."""

    rows: Tensor
    scale: Tensor

    def block(self, row_ids: Tensor, column_ids: Tensor) -> Tensor:
        """Entries at `row_ids` [R] x `column_ids` [C]; [R, C]."""
        return self.rows[row_ids[:, None], column_ids] * self.scale[row_ids, None]

    def decay_and_add(
        self, row_ids: Tensor, column_ids: Tensor, decay: Tensor, addition: Tensor
    ) -> None:
        """Multiply whole rows by `decay` [R, 1], then add `addition` [R, C] at the block."""
        scale = self.scale[row_ids] * decay[:, 0]
        small = row_ids[scale < MIN_SCALE]
        self.rows[small] *= scale[scale < MIN_SCALE, None]
        scale = torch.where(scale < MIN_SCALE, 1.0, scale)
        self.scale[row_ids] = scale
        self.rows[row_ids[:, None], column_ids] += addition / scale[:, None]

    def full(self, row_ids: Tensor) -> Tensor:
        """Whole rows, [R, V]."""
        return self.rows[row_ids] * self.scale[row_ids, None]


@dataclass
class RandomStart:
    """The terms that a non-zero output start adds; see the module's docstring. `p` is input-major, [V_in, V_out]."""

    scale: float
    e: Tensor
    t: Tensor
    p: ScaledRows

    def logits(self, inputs: Tensor, outputs: Tensor, s: Tensor) -> Tensor:
        """What the start adds to the logits of `inputs` [I] (decayed by s [I]) with `outputs` [O]; [I, O]."""
        t = self.t[outputs].to(self.e.dtype)
        return t * (self.p.block(inputs, outputs) + s[:, None] * self.e[inputs[:, None], outputs])


@dataclass
class NtkLimit:
    """State: `z` output-major [V_out, V_in], `s` [V] float64 (it underflows float32 for common words)."""

    z: ScaledRows
    s: Tensor
    start: RandomStart | None = None
    weight_decay: float = 0.0
    whole_gradient: bool = False
    logit: Callable[[Tensor], Tensor] = exact_logit

    def prepare(self, stream: Stream, interrupted: Callable[[], bool]) -> None:
        """Nothing to do before the first step."""

    def update(self, batch: Batch) -> float:
        """One SGD step; returns the loss before it, nats per example."""
        return self.train_batches([batch])[0]

    def train_batches(self, batches: Sequence[Batch]) -> list[float]:
        """A step a batch; returns the losses."""
        # Read at the end: each read would wait for a card.
        return torch.stack([self._step(batch) for batch in batches]).tolist()

    def _step(self, batch: Batch) -> Tensor:
        """One SGD step on the limit's logits; returns the loss before it, nats per example, on the device.

        Cost: O(E I O) FLOP and I x O scattered entries of each table; no width.
        """
        dtype = self.z.rows.dtype
        counts = dense_batch_counts(batch, dtype, self.s.device)
        inputs, outputs = counts.inputs, counts.outputs
        s = self.s[inputs].to(dtype)  # [I]
        logits = s[:, None] * self.z.block(outputs, inputs).T  # [I, O]
        if self.start is not None:
            logits += self.start.logits(inputs, outputs, s)
        f = logits if counts.bag is None else counts.bag @ logits  # [E, O]
        g, loss = logit_gradient(f, counts, self.logit)
        bag_gradient = batch.lr * (g if counts.bag is None else counts.bag.T @ g)  # [I, O], of z

        input_decay = row_decay(counts.input_update_counts, batch.lr, self.weight_decay)  # [I, 1]
        output_decay = row_decay(counts.output_update_counts, batch.lr, self.weight_decay)  # [O, 1]
        self.z.decay_and_add(outputs, inputs, output_decay, (s[:, None] * bag_gradient).T)
        self.s[inputs] *= input_decay[:, 0].double()
        if self.start is not None:
            t = self.start.t[outputs].to(dtype)  # [O]
            spread = counts.whole_bag if self.whole_gradient else counts.bag
            u_gradient = batch.lr * (g if spread is None else spread.T @ g)  # [I, O]
            self.start.p.decay_and_add(
                inputs, outputs, input_decay, self.start.scale**2 * t * u_gradient
            )
            self.start.t[outputs] *= output_decay[:, 0].double()
        return loss

    def gram(
        self, rows: Tensor, columns: Tensor | None = None, embedding: Embedding = Embedding.input
    ) -> Tensor:
        """Inner products of embeddings, [R, C]; the input embeddings as unit directions.

        Initial rows are orthogonal in the limit and never turn, so the input Gram is the identity by definition; it is
        not computed from `s`, which underflows. So are the others once the output starts at random (its rows have
        length sqrt(n)); from a zero start the output embedding has the coefficients z, features that the NTK never uses.
        """
        if columns is None:
            columns = torch.arange(len(self.s), device=self.s.device)
        identity = (rows[:, None] == columns).to(self.z.rows.dtype)
        if embedding is Embedding.input or self.start is not None:
            return identity
        blocks = columns.split(1024)
        return torch.cat(
            [
                self._coefficients(rows, embedding) @ self._coefficients(b, embedding).T
                for b in blocks
            ],
            dim=1,
        )

    def squared_norms(self, embedding: Embedding = Embedding.input) -> Tensor:
        """Squared lengths, [V]: the diagonal of `gram`."""
        if embedding is Embedding.input or self.start is not None:
            return torch.ones_like(self.z.scale)
        blocks = torch.arange(len(self.s), device=self.s.device).split(1024)
        return torch.cat([self._coefficients(block, embedding).square().sum(1) for block in blocks])

    def gram_matmul(self, x: Tensor, embedding: Embedding = Embedding.input) -> Tensor:
        """The Gram matrix of all embeddings times x [V, k]; [V, k]. Cost: 4 V^2 k FLOP."""
        return product_by_rows(self.vectors, x, embedding)

    def vectors(self, ids: Tensor | slice, embedding: Embedding = Embedding.input) -> Tensor:
        """Coordinates with the inner products of `gram`, [R, V]."""
        ids = torch.arange(len(self.s), device=self.s.device)[ids]
        if embedding is Embedding.input or self.start is not None:
            return self.gram(ids)
        return self._coefficients(ids, embedding)

    def diagnostics(self) -> dict[str, float]:
        """Nothing: the model approximates nothing."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """All tensors by name; not copies."""
        state = {"z": self.z.rows, "z_scale": self.z.scale, "s": self.s}
        if self.start is not None:
            state |= {
                "e": self.start.e,
                "t": self.start.t,
                "p": self.start.p.rows,
                "p_scale": self.start.p.scale,
            }
        return state

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over the tensors of `state`."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def _coefficients(self, ids: Tensor, embedding: Embedding) -> Tensor:
        """Coefficients of w, or of u + w, over the initial rows; [R, V]."""
        rows = self.z.full(ids)
        if embedding is Embedding.sum:
            rows[torch.arange(len(ids), device=ids.device), ids] += self.s[ids].to(rows.dtype)
        return rows


def init_ntk_limit(
    vocab_size: int,
    output_init_scale: float,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> NtkLimit:
    """The NTK limit at its start; `generator` (CPU) draws the initial logits where the output does not start at zero."""

    def table() -> ScaledRows:
        zeros = torch.zeros(vocab_size, vocab_size, dtype=dtype, device=device)
        return ScaledRows(zeros, torch.ones(vocab_size, dtype=dtype, device=device))

    ones = torch.ones(vocab_size, dtype=torch.float64, device=device)
    if output_init_scale == 0:
        return NtkLimit(table(), ones)
    e = torch.randn(vocab_size, vocab_size, generator=generator, dtype=dtype).mul_(
        output_init_scale
    )
    start = RandomStart(output_init_scale, e.to(device), ones.clone(), table())
    return NtkLimit(table(), ones, start)
