"""The basis of the low-rank engine: found from what the output embedding has learnt, and exchanged while training goes on.

Decisions:
- New directions are the leading ones of the memory outside the basis, by subspace iteration (Halko, Martinsson & Tropp 2011,
  Algorithm 4.4): the only passes over the memory.
- Of the basis and the new directions together those are kept that hold most energy of the learnt parts, W and U - s B.
- What the tables hold along a dropped direction falls back to what is known without it: the memory for w, s_i e_i for u.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from w2v_inf.models import team
from w2v_inf.models.lowrank_step import Factors
from w2v_inf.models.memory import PairMemory, project, project_back

NUM_DIRECTIONS = 64
"""Directions that may enter at a time."""
POWER_STEPS = 2
NEARLY_ALL = 1e-3
"""Below this share of e_i outside the basis its own direction is not followed."""


def own_weights(b: np.ndarray) -> np.ndarray:
    """1 / |(I - B B^T) e_i|^2 for each word, 0 where next to nothing is left; [V]."""
    outside = 1 - np.square(b).sum(1)
    return np.where(outside > NEARLY_ALL, 1 / np.maximum(outside, NEARLY_ALL), 0).astype(b.dtype)


def first_factors(vocab_size: int, rank: int, dtype: type = np.float32) -> Factors:
    """The start of training, u = I and w = 0, on the directions of the `rank` commonest words."""
    return factors_on(np.eye(vocab_size, rank, dtype=dtype))


def factors_on(b: np.ndarray) -> Factors:
    """The start of training, u = I and w = 0, on the basis `b` [V, r] with orthonormal columns."""
    return Factors(b.copy(), np.zeros(b.shape, b.dtype), np.zeros(b.shape, b.dtype), b, np.ones(len(b), b.dtype), own_weights(b))


def exchange(factors: Factors, memory: PairMemory, generator: torch.Generator) -> Factors:
    """The same model on a better basis of the same rank; see the module's docstring.

    Args:
      generator: draws the start of the iteration, on the CPU.
    Cost: 2 x POWER_STEPS + 1 passes over the memory with NUM_DIRECTIONS columns, and O(V (r + NUM_DIRECTIONS)^2) FLOP; one
      table of V x (r + NUM_DIRECTIONS) beside those given and returned.
    """
    rank = factors.u.shape[1]
    new = _directions_outside(torch.from_numpy(factors.b), memory, generator)  # [V, q]
    new_w = _projected(memory, new)  # [V, q]
    u, w, n, b, s = (torch.from_numpy(table) for table in factors[:5])

    learnt = torch.cat([u - s[:, None] * b, torch.zeros_like(new)], 1)
    energy = learnt.T @ learnt
    extended = torch.cat([w, new_w], 1)
    energy += extended.T @ extended
    keep = torch.linalg.eigh(energy.double())[1][:, -rank:].flip(1).to(w.dtype)  # [r + q, r]
    first, second = keep[:rank], keep[rank:]

    rotated = torch.linalg.qr(b @ first + new @ second)  # orthonormal up to rounding before: QR keeps it so, up to signs
    b = rotated.Q * torch.where(torch.diagonal(rotated.R) < 0, -1, 1)
    u, w, n = u @ first + s[:, None] * (new @ second), w @ first + new_w @ second, n @ first + new_w @ second
    # Row by row in memory: QR gives columns, and a step moves rows.
    new_u, new_w, new_n, new_b = (np.ascontiguousarray(table.numpy()) for table in (u, w, n, b))
    return Factors(new_u, new_w, new_n, new_b, factors.s, own_weights(new_b))


def _directions_outside(b: Tensor, memory: PairMemory, generator: torch.Generator) -> Tensor:
    """Leading left singular vectors of (I - B B^T) M, roughly: [V, q] orthonormal, and orthogonal to B."""
    num_directions = min(NUM_DIRECTIONS, len(b) - b.shape[1])
    new = torch.randn(len(b), num_directions, generator=generator, dtype=b.dtype)
    for _ in range(POWER_STEPS):
        new = _outside(b, new)
        new = _projected_back(memory, _projected(memory, new))
    return _outside(b, new)


def _outside(b: Tensor, new: Tensor) -> Tensor:
    """Orthonormal directions outside `b` that span what `new` does there, whatever its rank; [V, q]."""
    return torch.linalg.qr(torch.cat([b, new - b @ (b.T @ new)], 1)).Q[:, b.shape[1] :]


def _projected(memory: PairMemory, basis: Tensor) -> Tensor:
    """M^T basis, [V_out, q], on the team's threads."""
    out = np.empty(basis.shape, basis.numpy().dtype)
    team.run(_project_share, team.size(), memory, np.ascontiguousarray(basis.numpy()), out)
    return torch.from_numpy(out)


def _projected_back(memory: PairMemory, rows: Tensor) -> Tensor:
    """M rows, [V_in, q], on the team's threads; each takes columns of its own, since all words add to all rows."""
    shares = [np.ascontiguousarray(part) for part in np.array_split(rows.numpy(), team.size(), axis=1)]
    outs = [np.empty_like(share) for share in shares]
    team.run(_back_share, team.size(), memory, tuple(shares), tuple(outs))
    return torch.from_numpy(np.concatenate(outs, axis=1))


@njit(cache=True, nogil=True)
def _project_share(rank, num_threads, sync, memory, basis, out):
    start, stop = rank * len(out) // num_threads, (rank + 1) * len(out) // num_threads
    project(memory, np.arange(start, stop), basis, out[start:stop])


@njit(cache=True, nogil=True)
def _back_share(rank, num_threads, sync, memory, rows, out):
    project_back(memory, rows[rank], out[rank])
