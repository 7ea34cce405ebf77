"""Where the words of a map lie: all shown words at the end, and a group after each epoch.

Decisions:
- The map of all words is the PCA of the embeddings at length 1, whose inner products are the
  cosines of neighbours and analogies. The map of a group is that of TP4 Figure 1: raw embeddings.
- A group's axes are those of its last epoch, at every epoch. With H the centring, G_e the inner
  products after epoch e, v and l an eigenvector and eigenvalue of H G_E H, the coordinates are
  H G_e H v / sqrt(l). At e = E this is the PCA. A point is thus its inner product with one fixed
  sum of words, so it moves as the embeddings move. Before training that is next to nothing: the
  product of a word with itself, 1 / l of its last place.
- PCA of each epoch by itself could turn, swap its axes and jump. Rotating the embeddings of each
  epoch onto the last (Procrustes) would show a pattern at the beginning, when all words are
  orthogonal and any pattern is as near as any other.
- Where all words are orthogonal, as in the NTK limit, a map is arbitrary. It shows a seeded sample
  of an untrained network of finite width instead, as the PCA figure of the report does.
"""

from collections.abc import Sequence

import numpy as np

from w2v_inf.evaluation.places import centre, distances, pca
from w2v_inf.reporting.pca import NARROW, SAMPLE_SEED


def map_of_factor(factor: np.ndarray, num_dims: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """PCA of the rows of `factor` [N, r]: coordinates [N, 2] and shares of the variance [2].

    Signs: in every component the entry of largest size is positive.
    """
    centred = factor - factor.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    axes = vectors[:, ::-1][:, :num_dims]
    coordinates = centred @ axes  # [N, 2]
    largest = np.abs(coordinates).argmax(axis=0)
    signs = np.where(coordinates[largest, np.arange(coordinates.shape[1])] < 0, -1.0, 1.0)
    shares = values[::-1][:num_dims] / values.sum()
    return coordinates * signs, shares


def sample_map(num_words: int) -> np.ndarray:
    """Two coordinates of an untrained network of width `NARROW`: N(0, 1 / NARROW); [N, 2]."""
    generator = np.random.default_rng(SAMPLE_SEED)
    return generator.standard_normal((num_words, 2)) / NARROW**0.5


def group_maps(grams: Sequence[np.ndarray]) -> np.ndarray:
    """Coordinates of a group after each epoch on the axes of the last one; [E, P, 2].

    Args:
      grams: inner products after each epoch, E of [P, P].
    """
    last, _ = pca(grams[-1].astype(np.float64))  # [P, 2]; its columns are v sqrt(l)
    values = np.square(last).sum(axis=0)  # l
    weights = np.divide(last, values, out=np.zeros_like(last), where=values > 0)  # v / sqrt(l)
    maps = [centre(gram.astype(np.float64)) @ weights for gram in grams]
    return np.stack(maps)


def silhouette(gram: np.ndarray, is_second: np.ndarray) -> float | None:
    """How far apart the two kinds are in the full space, -1 to 1; None with fewer than two of one.

    gram: inner products, [P, P]. Not on the map: its axes, chosen at the end, would tell two kinds
    apart in words that are orthogonal.
    """
    from sklearn.metrics import silhouette_score  # takes a second

    if min(is_second.sum(), (~is_second).sum()) < 2:
        return None
    return float(silhouette_score(distances(gram), is_second, metric="precomputed"))
