"""Cosines of the shown words: exact neighbours, and a small factor for analogies in the page.

N words; F [N, r] is a factor: the cosine of words i and j is about <F_i, F_j>.

Decisions:
- Neighbours are exact. Python computes them from the model's Gram blocks over the full space.
- Analogies of any three words need all N^2 cosines, 100 MB in float32. The page gets their best
  factor of low rank, rounded and deflated. Let s_k^2 be the mean square of column k. Rounding it to
  multiples of t_k adds s_k^2 t_k^2 / 6 to the mean squared error of the cosines. At a given size
  the sum over k is smallest where all terms are equal: t_k = unit / s_k.
- Unit and rank share a number of bytes. Of the candidate units, the one with the smallest error of
  the cosines of nearest neighbours is taken: answers are near words, and columns left out shrink
  their cosines most.
- The page says how often the factor's best answer is the exact one, measured on questions-words.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import torch

from w2v_inf.config import Embedding
from w2v_inf.evaluation.similarity import cosine_table
from w2v_inf.models.protocol import Model

NUM_NEIGHBOURS = 10
ROWS_AT_ONCE = 1000
MAX_NUMBERS = 3_200_000
"""N x r of the factor before rounding: rank 640 at 5,000 words."""
NUM_ITERATIONS = 3
UNITS = (1e-5, 3e-5, 6e-5, 8e-5, 1e-4, 1.2e-4, 1.4e-4, 1.7e-4, 2.5e-4, 5e-4)
JUDGED_WORDS = 1000
"""Words whose neighbours decide between units."""
MAX_LEVEL = 16_000
"""Twice of it is below 2^15: see `encode`."""
QUESTIONS_AT_ONCE = 500
TIE_TOLERANCE = 1e-6


@dataclass
class Neighbours:
    """The nearest words of every word, best first; ids and cosines [N, 10]."""

    ids: np.ndarray
    """uint16."""
    cosines: np.ndarray
    """In units of 1/10,000, int16."""


@dataclass
class Factor:
    """The rounded factor of the cosines, and how well it answers."""

    steps: np.ndarray
    """Of each column, [r] float32."""
    levels: np.ndarray
    """Multiples of `steps`, [N, r] int16."""
    rms_error: float = 0.0
    """Of the cosines of pairs, root mean square."""
    num_questions: int = 0
    """Questions of questions-words with all words shown."""
    num_agreed: int = 0
    """Questions whose best answer is the same with exact cosines."""

    @property
    def table(self) -> np.ndarray:
        """F, [N, r] float32."""
        return self.levels * self.steps


@torch.no_grad()
def cosine_matrix(model: Model, ids: np.ndarray, embedding: Embedding) -> np.ndarray:
    """Cosines of all pairs of the words `ids` [N] from the model's Gram blocks; [N, N] float32."""
    squared_norms = model.squared_norms(embedding)
    words = torch.from_numpy(ids).to(squared_norms.device)
    blocks = [
        cosine_table(model, rows, words, embedding, squared_norms).float().cpu()
        for rows in words.split(ROWS_AT_ONCE)
    ]
    return torch.cat(blocks).numpy()


def shared_cosine(cosines: np.ndarray) -> float | None:
    """The cosine of every pair of different words if all tie, as in the NTK limit; else None."""
    size = len(cosines)
    off_diagonal = cosines.ravel()[:-1].reshape(size - 1, size + 1)[:, 1:]  # a view
    low, high = float(off_diagonal.min()), float(off_diagonal.max())
    return low if high - low <= TIE_TOLERANCE else None


def nearest(cosines: np.ndarray) -> Neighbours:
    """The nearest words of each; fewer than ten if there are fewer words."""
    table = torch.from_numpy(cosines.copy())
    table.fill_diagonal_(-torch.inf)
    best = table.topk(min(NUM_NEIGHBOURS, len(cosines) - 1), dim=1)
    rounded = (best.values * 10_000).round()
    return Neighbours(best.indices.numpy().astype(np.uint16), rounded.numpy().astype(np.int16))


def factorise(cosines: np.ndarray, max_rank: int | None = None) -> np.ndarray:
    """The factor of rank `max_rank` at most, columns by falling variance, [N, r] float32.

    max_rank: None for as much as `MAX_NUMBERS` allow.

    Subspace iteration from a seeded start, then Nystroem's formula, which is exact on the subspace.
    Cost: 2 N^2 r FLOP per iteration.
    """
    table = torch.from_numpy(cosines)
    rank = min(max_rank or MAX_NUMBERS // len(cosines), len(cosines))
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(len(cosines), rank, generator=generator)
    for _ in range(NUM_ITERATIONS):
        basis, _ = torch.linalg.qr(table @ basis)
    image = table @ basis  # [N, r]
    values, vectors = torch.linalg.eigh(basis.T @ image)
    kept = values > 1e-5 * values.max()
    factor = image @ (vectors[:, kept] / values[kept].sqrt())
    return factor.flip(1).numpy()


def round_factor(factor: np.ndarray, neighbours: Neighbours, max_bytes: int) -> Factor:
    """The rounded factor whose code has at most `max_bytes`, and the neighbours' cosines best."""
    energy = np.square(factor, dtype=np.float64).mean(axis=0)  # s_k^2, [r]
    candidates = []
    for unit in UNITS:
        levels = _levels(factor, _steps(unit, energy))
        # Deflate takes about 2 percent more than the entropy.
        num_bytes = 1.02 * np.cumsum(_entropy_bytes(levels))
        rank = max(1, int(np.searchsorted(num_bytes, max_bytes, side="right")))
        candidates.append(Factor(_steps(unit, energy[:rank]), levels[:, :rank]))
    best = min(candidates, key=lambda candidate: _neighbour_error(candidate, neighbours))
    while len(encode(best.levels)) > max_bytes and len(best.steps) > 1:
        rank = int(0.99 * len(best.steps))
        best = Factor(best.steps[:rank], best.levels[:, :rank])
    return best


def _neighbour_error(factor: Factor, neighbours: Neighbours) -> float:
    """Mean squared error of the cosines of some words with their neighbours."""
    table, every = factor.table, -(-len(factor.levels) // JUDGED_WORDS)
    ids, exact = neighbours.ids[::every], neighbours.cosines[::every] / 10_000
    found = np.einsum("nr,nkr->nk", table[::every], table[ids])
    return float(np.square(found - exact).mean())


def _entropy_bytes(levels: np.ndarray) -> np.ndarray:
    """The least bytes that code the low and the high bytes of each column, [r]."""
    total = np.zeros(levels.shape[1])
    for table in _byte_columns(levels):  # [r, N]
        places = np.arange(len(table))[:, None] * 256 + table
        counts = np.bincount(places.ravel(), minlength=256 * len(table)).reshape(-1, 256)
        shares = counts / table.shape[1]
        bits = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
        total -= (counts * bits).sum(axis=1) / 8
    return total


def _steps(unit: float, energy: np.ndarray) -> np.ndarray:
    """The step of each column, [r] float32."""
    return (unit / np.sqrt(energy)).astype(np.float32)


def _levels(factor: np.ndarray, steps: np.ndarray) -> np.ndarray:
    levels = np.round(factor / steps)
    return levels.clip(-MAX_LEVEL, MAX_LEVEL).astype(np.int16)


def encode(levels: np.ndarray) -> bytes:
    """int16 [N, r] as the page reads it: by columns, low bytes then high bytes, deflated (zlib).

    A level is stored as 2 x level, or as -2 x level - 1 below zero. High bytes are then mostly 0.
    """
    # Runs of zeros are all that repeats; a search for more takes a minute.
    deflate = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)
    low, high = _byte_columns(levels)
    return deflate.compress(low.tobytes()) + deflate.compress(high.tobytes()) + deflate.flush()


def _byte_columns(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high bytes of the stored levels, [r, N] uint8 each."""
    columns = np.ascontiguousarray(levels.T).astype(np.int32)
    unsigned = np.where(columns < 0, -2 * columns - 1, 2 * columns)
    return (unsigned & 255).astype(np.uint8), (unsigned >> 8).astype(np.uint8)


def measure(factor: Factor, cosines: np.ndarray, questions: np.ndarray) -> None:
    """Fill in how well `factor` gives the cosines, and their answers to `questions` [Q, 4].

    The ids of the questions are rows of `cosines`.
    """
    table = factor.table
    squares = sum(
        float(np.square(table[rows] @ table.T - cosines[rows]).sum(dtype=np.float64))
        for rows in _slices(len(table), ROWS_AT_ONCE)
    )
    factor.rms_error = (squares / cosines.size) ** 0.5
    factor.num_questions = len(questions)
    factor.num_agreed = 0
    for rows in _slices(len(questions), QUESTIONS_AT_ONCE):
        a, b, c, _ = questions[rows].T
        exact = cosines[b] - cosines[a] + cosines[c]
        rounded = (table[b] - table[a] + table[c]) @ table.T
        same = _best(exact, a, b, c) == _best(rounded, a, b, c)
        factor.num_agreed += int(same.sum())


def _best(scores: np.ndarray, *excluded: np.ndarray) -> np.ndarray:
    """The column of the best score of each row, without the words `excluded`; changes `scores`."""
    for ids in excluded:
        scores[np.arange(len(scores)), ids] = -np.inf
    return scores.argmax(axis=1)


def _slices(length: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, length, size)]
