"""The NTK limit of word2vec: logits move, embeddings do not.

If w starts at zero, the kernel between (context bag x, output o) and (x', o') is delta_oo' h.h',
and the initial rows of u are orthonormal in the limit. So
  f_o = sum_i x_i s_i z_io,
where s_i is the factor that weight decay leaves of input row i, and z_io the coefficient of the
initial u_i in w_o.

If w starts with entries N(0, scale^2), as in NTP, the logit of input i and output o is
  f_io = s_i z_io + t_o p_io + s_i t_o e_io.
Here e_io ~ N(0, scale^2) are the initial inner products, t_o is what decay leaves of the initial
w_o, and p_io is the component along it of the O(n^-1/2) movement of row i: the second half of the
kernel. All of them are O(1), while directions stay as they are.

Decision: decay multiplies whole rows of z and p. So they are held with a scale per row, which is
multiplied into the row before it gets small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from w2v_inf.config import Embedding
from w2v_inf.models.dense_batch_counts import dense_batch_counts
from w2v_inf.models.linear import ROWS_AT_ONCE, gram_matmul
from w2v_inf.models.protocol import Model
from w2v_inf.models.step import MIN_SCALE, UpdateRule, logit_gradient, row_decay
from w2v_inf.stream import Batch


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
class RandomOutput:
    """The terms of a random initialisation of w: e and p [V_in, V_out], t [V] float64."""

    scale: float
    e: Tensor
    t: Tensor
    p: ScaledRows

    def logits(self, inputs: Tensor, outputs: Tensor, s: Tensor) -> Tensor:
        """Their part of the logits of `inputs` [I], decayed by s [I], and `outputs` [O]; [I, O]."""
        t = self.t[outputs].to(self.e.dtype)
        return t * (self.p.block(inputs, outputs) + s[:, None] * self.e[inputs[:, None], outputs])


@dataclass
class NtkLimit(Model):
    """State: `z` output-major [V_out, V_in], and `s` [V] float64 (float32 would underflow)."""

    z: ScaledRows
    s: Tensor
    random_output: RandomOutput | None = None
    rule: UpdateRule = UpdateRule()

    def train_batches(self, batches: Sequence[Batch]) -> list[float]:
        """One SGD step per batch; returns the losses before each, nats per example."""
        # Read at the end: each read would wait for a GPU.
        return torch.stack([self._step(batch) for batch in batches]).tolist()

    def _step(self, batch: Batch) -> Tensor:
        """One SGD step on the logits; returns the loss before it, nats per example, on the device.

        Cost: O(E I O) FLOP and I x O scattered entries of each table; no width.
        """
        dtype = self.z.rows.dtype
        counts = dense_batch_counts(batch, dtype, self.s.device)
        inputs, outputs = counts.inputs, counts.outputs
        s = self.s[inputs].to(dtype)  # [I]
        logits = s[:, None] * self.z.block(outputs, inputs).T  # [I, O]
        if self.random_output is not None:
            logits += self.random_output.logits(inputs, outputs, s)
        f = logits if counts.bag is None else counts.bag @ logits  # [E, O]
        g, loss = logit_gradient(f, counts, self.rule)
        z_gradient = batch.lr * (g if counts.bag is None else counts.bag.T @ g)  # [I, O]

        u_decay = row_decay(counts.input_update_counts, batch.lr, self.rule)  # [I, 1]
        w_decay = row_decay(counts.output_update_counts, batch.lr, self.rule)  # [O, 1]
        self.z.decay_and_add(outputs, inputs, w_decay, (s[:, None] * z_gradient).T)
        self.s[inputs] *= u_decay[:, 0].double()
        if self.random_output is not None:
            scale, t = self.random_output.scale, self.random_output.t
            bag = counts.whole_bag if self.rule.whole_gradient else counts.bag
            u_gradient = batch.lr * (g if bag is None else bag.T @ g)  # [I, O]
            addition = scale**2 * t[outputs].to(dtype) * u_gradient
            self.random_output.p.decay_and_add(inputs, outputs, u_decay, addition)
            t[outputs] *= w_decay[:, 0].double()
        return loss

    def gram(
        self, rows: Tensor, columns: Tensor | None = None, embedding: Embedding = Embedding.input
    ) -> Tensor:
        """Inner products of the words `rows` [R] with `columns` [C], or with all V; [R, C].

        The initial rows of u are orthonormal in the limit and never turn. So the Gram matrix of
        the input embeddings is the identity, and not computed from `s`, which underflows. With a
        random initialisation of w, whose rows have length sqrt(n), so are the others. With w = 0
        the output embeddings have the coefficients z, features that the NTK never uses.
        """
        if columns is None:
            columns = torch.arange(len(self.s), device=self.s.device)
        identity = (rows[:, None] == columns).to(self.z.rows.dtype)
        if self._is_orthonormal(embedding):
            return identity
        left = self._coefficients(rows, embedding)
        blocks = columns.split(ROWS_AT_ONCE)
        return torch.cat([left @ self._coefficients(b, embedding).T for b in blocks], dim=1)

    def squared_norms(self, embedding: Embedding = Embedding.input) -> Tensor:
        """Squared lengths of all embeddings, [V]: the diagonal of `gram`."""
        if self._is_orthonormal(embedding):
            return torch.ones_like(self.z.scale)
        blocks = torch.arange(len(self.s), device=self.s.device).split(ROWS_AT_ONCE)
        return torch.cat([self._coefficients(block, embedding).square().sum(1) for block in blocks])

    def gram_matmul(self, x: Tensor, embedding: Embedding = Embedding.input) -> Tensor:
        """The Gram matrix times x [V, k]; [V, k]. Cost: 4 V^2 k FLOP."""
        return gram_matmul(self.vectors, x, embedding)

    def vectors(self, ids: Tensor | slice, embedding: Embedding = Embedding.input) -> Tensor:
        """Coordinates with the inner products of `gram`, [R, V]."""
        ids = torch.arange(len(self.s), device=self.s.device)[ids]
        if self._is_orthonormal(embedding):
            return self.gram(ids)
        return self._coefficients(ids, embedding)

    def state(self) -> dict[str, Tensor]:
        """All tensors by name; not copies."""
        state = {"z": self.z.rows, "z_scale": self.z.scale, "s": self.s}
        if self.random_output is not None:
            p = self.random_output.p
            state |= {"e": self.random_output.e, "t": self.random_output.t}
            state |= {"p": p.rows, "p_scale": p.scale}
        return state

    def load(self, state: dict[str, Tensor]) -> None:
        """Copy the tensors of `state` into the model."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])

    def _is_orthonormal(self, embedding: Embedding) -> bool:
        """Whether the Gram matrix of these embeddings is the identity."""
        return embedding is Embedding.input or self.random_output is not None

    def _coefficients(self, ids: Tensor, embedding: Embedding) -> Tensor:
        """Coefficients of w, or of u + w, over the initial rows of u; [R, V]."""
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
    rule: UpdateRule = UpdateRule(),
) -> NtkLimit:
    """The NTK limit at its initialisation.

    output_init_scale: of w; above 0, `generator` (on the CPU) draws the initial logits.
    """

    def table() -> ScaledRows:
        zeros = torch.zeros(vocab_size, vocab_size, dtype=dtype, device=device)
        return ScaledRows(zeros, torch.ones(vocab_size, dtype=dtype, device=device))

    ones = torch.ones(vocab_size, dtype=torch.float64, device=device)
    if output_init_scale == 0:
        return NtkLimit(table(), ones, rule=rule)
    e = torch.randn(vocab_size, vocab_size, generator=generator, dtype=dtype)
    e = e.mul_(output_init_scale).to(device)
    random_output = RandomOutput(output_init_scale, e, ones.clone(), table())
    return NtkLimit(table(), ones, random_output, rule)
