"""A linear one-hidden-layer net with its two matrices in full: the finite nets and the dense infinite-width limit.

Both are the same arithmetic; they differ in width, start and step sizes only (TP4 Corollary 6.2: the feature-learning
limit is a net of width V_in + V_out started diagonally).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from w2v_inf.config import Embedding, Parametrization
from w2v_inf.models.step import exact_logit, interactions, sgd_step
from w2v_inf.stream import Batch

ABC: dict[Parametrization, tuple[float, float, float, float, float]] = {
    Parametrization.sp: (0, 0, 0, 0.5, 0),
    Parametrization.ntp: (0, 0, 0.5, 0, 0),
    Parametrization.mup: (-0.5, 0.5, 0.5, 0.5, 0),
    Parametrization.mfp: (0, 0, 1, 0, -1),
}
"""Exponents a1, b1, a2, b2, c of the named parametrizations for one hidden layer (TP4 Definition 3.1, Table 1):
W_l = n^-a_l w_l, w_l ~ N(0, n^-2b_l), learning rate lr n^-c."""


@dataclass
class LinearModel:
    """Input embedding `u` [V, D] and output embedding `w` [V, D], logit <h, w_o>; `update` changes both in place.

    lr_factors: multiply the gradients of u and w; weight_decay and `logit` as in `step.sgd_step`.
    """

    u: Tensor
    w: Tensor
    lr_factors: tuple[float, float] = (1.0, 1.0)
    weight_decay: float = 0.0
    logit: Callable[[Tensor], Tensor] = exact_logit

    def update(self, batch: Batch) -> float:
        """One SGD step; returns the loss before it, nats per example."""
        counts = interactions(batch, self.u.dtype, self.u.device)
        return sgd_step(self.u, self.w, counts, batch.lr, self.weight_decay, self.lr_factors, self.logit)

    def gram(self, rows: Tensor, columns: Tensor | None = None, embedding: Embedding = Embedding.input) -> Tensor:
        """Inner products of the embeddings of `rows` [R] with those of `columns` [C], or of all V words; [R, C]."""
        left = self._rows(rows, embedding)
        if columns is not None:
            return left @ self._rows(columns, embedding).T
        if embedding is Embedding.sum:
            return left @ self.u.T + left @ self.w.T
        return left @ (self.u if embedding is Embedding.input else self.w).T

    def squared_norms(self, embedding: Embedding = Embedding.input) -> Tensor:
        """Squared lengths of all embeddings, [V]. Works through blocks of rows, so that no V x D copy is made."""
        blocks = torch.arange(len(self.u), device=self.u.device).split(1024)
        return torch.cat([self._rows(block, embedding).square().sum(1) for block in blocks])

    def state(self) -> dict[str, Tensor]:
        """The two matrices by name; not copies."""
        return {"u": self.u, "w": self.w}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over the matrices of `state`."""
        self.u.copy_(state["u"])
        self.w.copy_(state["w"])

    def _rows(self, ids: Tensor, embedding: Embedding) -> Tensor:
        if embedding is Embedding.sum:
            return self.u[ids] + self.w[ids]
        return (self.u if embedding is Embedding.input else self.w)[ids]


def finite_scales(exponents: tuple[float, float, float, float, float], width: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Initial deviations and step-size factors of (u, w) for an abc-parametrization (TP4 Definition 3.1).

    Training the parameters w_l behind W_l = n^-a_l w_l moves W_l by n^(-2 a_l - c) lr times its own gradient. We hold
    u = W_1 / sqrt(n) and w = sqrt(n) W_2, which changes no logit: rows of u then have length about 1 under muP, and its
    two step sizes carry no width factor.
    """
    a1, b1, a2, b2, c = exponents
    stds = (width ** (-a1 - b1 - 0.5), width ** (-a2 - b2 + 0.5))
    lr_factors = (width ** (-2 * a1 - c - 1.0), width ** (-2 * a2 - c + 1.0))
    return stds, lr_factors


def init_finite(
    vocab_size: int,
    width: int,
    exponents: tuple[float, float, float, float, float],
    output_init_scale: float,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> LinearModel:
    """A finite net at its random start. Numbers are drawn on the CPU, so that every device starts alike."""
    (u_std, w_std), lr_factors = finite_scales(exponents, width)
    u = torch.randn(vocab_size, width, generator=generator, dtype=dtype).mul_(u_std)
    w = torch.zeros(vocab_size, width, dtype=dtype)
    if output_init_scale:
        w.normal_(0, output_init_scale * w_std, generator=generator)
    return LinearModel(u.to(device), w.to(device), lr_factors)


def init_mup_limit(
    vocab_size: int, output_init_scale: float, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> LinearModel:
    """The exact muP limit at its start (TP4 Section 6): coefficient rows u = [I 0], w = [0 scale I] over the initial rows.

    With w = 0 at the start its block is never reached: V columns are exact. Otherwise there are 2 V.
    """
    width = vocab_size if output_init_scale == 0 else 2 * vocab_size
    u = torch.zeros(vocab_size, width, dtype=dtype, device=device)
    w = torch.zeros(vocab_size, width, dtype=dtype, device=device)
    u.diagonal().fill_(1)
    if output_init_scale:
        w[:, vocab_size:].diagonal().fill_(output_init_scale)
    return LinearModel(u, w)
