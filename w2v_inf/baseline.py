"""Baselines without training: vectors from co-occurrence counts, by PPMI or by M*.

Counts. N_ij is the expected number of examples (context word i, centre j) that one epoch of
skip-gram draws, with the stream's own windows and subsampling. A position is kept with probability
p; between kept positions at distance d in kept words, a window reaches with probability
(window - d + 1) / window. So
  N_ij = sum over places s, t of i, j in one document: p_i p_j E[(window - k)+] / window,
with k the number of kept words between s and t. The distribution of k is carried along as t moves
away from s, so the expectation is exact and nothing is drawn. Only the stream's cuts after 1,000
kept words are left out.

Targets. With P = N / sum N, marginals P_i, and the ratio R_ij = P_ij / (P_i P_j):
- ppmi: max(0, log R). The positive PMI of Levy & Goldberg (2014; TACL 2015), without shift or
  smoothing.
- mstar: M* = (P_ij - P_i P_j) / (1/2 (P_ij + P_i P_j)) = 2 tanh(log R / 2). Karkada et al. 2025
  (arXiv 2502.09863) show that their quadratic model of word2vec learns it. It has the slope of PMI
  at R = 1 and stays within -2 and 2.

Vectors. The leading d eigenvectors of the target times the roots of their eigenvalues, as Karkada
et al. do for both. N is symmetric, so this is also the SVD of Levy & Goldberg with exponent 1/2,
but for directions of negative eigenvalues.

Decisions:
- A stage that writes a file of vectors, not a `model`: nothing is trained by batches, and every
  command that takes vectors (evaluate, plot, load) can then be asked.
- Subsampling changes R little, since it cancels but for the windows that it widens. Karkada et al.
  do not subsample: stream.subsample_threshold=0 stream.window=16 are their counts.
- A word that has no neighbour gets R = 1, that is a vector of length 0.
- Everything is dense: V x V numbers of 8 and 4 bytes. 10,000 words take 1.1 GiB.
"""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import njit
from scipy.sparse.linalg import eigsh

from w2v_inf import kernel_cache
from w2v_inf.config import Baseline, Config, VectorFormat
from w2v_inf.corpus.load import EncodedCorpus
from w2v_inf.corpus.prepare import load_corpus
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.evaluate import evaluate_vectors
from w2v_inf.files import write_json
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.device import free_bytes
from w2v_inf.models.memory_check import GIB, OVERHEAD_BYTES
from w2v_inf.runs.folder import corpus_folder
from w2v_inf.stream import keep_probability
from w2v_inf.word2vec_format import write_vectors

kernel_cache.register()  # before the first kernel
log = logging.getLogger(__name__)
NEGLIGIBLE = 1e-6
"""Expected reach of a window, as a share, below which farther words are not visited."""
TOLERANCE = 1e-5
"""Relative error of the eigenvalues."""
BLOCK_ROWS = 256


def baseline(config: Config) -> Path:
    """Write the vectors of `baseline.method` for `config.corpus`, and evaluate them.

    The file is `baseline.out`, in word2vec's text format; FILE.json tells its origin, and
    FILE.evaluation.json has the evaluation.
    Raises: UserError if the tables do not fit into memory, or there are too few eigenvectors.
    Cost: 53 s of CPU time for V = 8,000, d = 200 and 24 MB of text; 85 s for 10,000 and 100 MB.
    """
    with training_threads(config.num_threads):
        return _baseline(config)


def _baseline(config: Config) -> Path:
    """`baseline` on the configured threads."""
    corpus, vocab = load_corpus(config)
    options = config.baseline
    check_sizes(options.method, options.dimension, len(vocab))
    name = f"{options.method.value}-{options.dimension}.txt"
    path = Path(options.out or Path(config.runs_dir) / corpus_folder(config) / name)
    if path.exists():
        log.info("%s exists and will be overwritten", path)
    log.info("counting pairs of %s words", f"{len(vocab):,}")
    target = make_target(cooccurrences(corpus, vocab, config), options.method)
    log.info("%d leading eigenvectors of %s", options.dimension, options.method.value)
    vectors, eigenvalues = leading_factor(target, options.dimension)
    write_vectors(path, vocab, vectors, VectorFormat.text)
    origin = {
        "method": options.method.value,
        "corpus": corpus.info["name"],
        "corpus_checksum": corpus.info["tokens_sha256"],
        "vocabulary": len(vocab),
        "window": config.stream.window,
        "subsample_threshold": config.stream.subsample_threshold,
        "eigenvalues": eigenvalues.tolist(),
    }
    write_json(path.with_name(path.name + ".json"), origin)
    log.info("%s: %s words, %d columns", path, f"{len(vocab):,}", options.dimension)
    evaluate_vectors(path, config.evaluate)
    return path


def check_sizes(method: Baseline, dimension: int, vocab_size: int) -> None:
    """Raises: UserError if d is not below V, or the tables do not fit into memory."""
    if dimension >= vocab_size:
        raise UserError(
            f"baseline.dimension must be below V={vocab_size:,}, the words of the vocabulary, "
            f"got {dimension:,}"
        )
    needed, free = 12 * vocab_size**2 + OVERHEAD_BYTES, free_bytes(torch.device("cpu"))
    if needed > free:
        fitting = math.isqrt(max(0, free - OVERHEAD_BYTES) // 12)
        raise UserError(
            f"baseline.method={method.value} needs {needed / GIB:.1f} GiB for V={vocab_size:,}, "
            f"{free / GIB:.1f} are free: corpus.max_vocab={fitting} fits"
        )


def cooccurrences(corpus: EncodedCorpus, vocab: Vocabulary, config: Config) -> np.ndarray:
    """Expected counts N of the module's docstring, [V, V] float64, symmetric.

    Raises: UserError if no two words share a window.
    Cost: T window^2 / p operations for T tokens of which a share p is kept.
    """
    p_keep = keep_probability(vocab.counts, config.stream.subsample_threshold)
    counts = np.zeros((len(vocab), len(vocab)))
    tokens = np.asarray(corpus.tokens)
    count_forward(tokens, corpus.documents, p_keep, config.stream.window, counts)
    if not counts.any():
        raise UserError(
            "the corpus has no two words of the vocabulary on one line (each line is a document): "
            "put the words of a document on one line"
        )
    add_transpose(counts)
    return counts


@njit(cache=True, nogil=True)
def count_forward(
    tokens: np.ndarray,
    documents: np.ndarray,
    p_keep: np.ndarray,
    window: int,
    counts: np.ndarray,
) -> None:
    """Add to counts[i, j] the expected examples of each i with the j that come after it.

    tokens [T] int32, V and above are out of vocabulary; documents [N + 1] int64; p_keep [V];
    counts [V, V] float64, changed in place.
    """
    between = np.empty(window)  # probability that the first word and k words between are kept
    ids = np.empty(np.diff(documents).max(), np.int32)
    for d in range(len(documents) - 1):
        num_ids = 0
        for word in tokens[documents[d] : documents[d + 1]]:
            if word < len(p_keep):
                ids[num_ids] = word
                num_ids += 1
        for s in range(num_ids):
            first = ids[s]
            between[:] = 0.0
            between[0] = p_keep[first]
            for t in range(s + 1, num_ids):
                reach = 0.0
                for k in range(window):
                    reach += between[k] * (window - k)
                if reach < NEGLIGIBLE * window * p_keep[first]:
                    break
                p = p_keep[ids[t]]
                counts[first, ids[t]] += p * reach / window
                for k in range(window - 1, 0, -1):
                    between[k] += p * (between[k - 1] - between[k])
                between[0] -= p * between[0]


@njit(cache=True, nogil=True)
def add_transpose(matrix: np.ndarray) -> None:
    """Add to a square matrix its transpose, in place."""
    for i in range(len(matrix)):
        for j in range(i + 1):
            both = matrix[i, j] + matrix[j, i]
            matrix[i, j] = matrix[j, i] = both


def make_target(counts: np.ndarray, method: Baseline) -> np.ndarray:
    """The matrix to factorise, [V, V] float32, from counts [V, V], by rows at a time."""
    marginal = counts.sum(1)  # [V]
    total, target = marginal.sum(), np.empty(counts.shape, np.float32)
    for start in range(0, len(counts), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        expected = marginal[rows, None] * marginal / total  # [rows, V]
        ratio = np.ones_like(expected)
        np.divide(counts[rows], expected, out=ratio, where=expected > 0)
        if method is Baseline.ppmi:
            target[rows] = np.log(np.maximum(ratio, 1))
        else:
            target[rows] = 2 * (ratio - 1) / (ratio + 1)
    return target


def leading_factor(target: np.ndarray, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """The d eigenvectors of the largest eigenvalues, times their roots; and these eigenvalues.

    target: symmetric, [V, V] float32.
    Returns: [V, d] float32, the entry of largest size of each column positive; and [d], falling.
    Raises: UserError if fewer eigenvalues are positive.
    """
    # Not all ones, which may be an eigenvector, and not random: the same bits each time.
    start = 1 + np.arange(len(target), dtype=target.dtype) / len(target)
    tolerance: Any = TOLERANCE  # scipy's default of 0 makes it an int for type checkers
    values, vectors = eigsh(target, dimension, which="LA", v0=start, tol=tolerance)
    values, vectors = values[::-1], vectors[:, ::-1]
    if values[-1] <= 0:
        num_positive = int((values > 0).sum())
        raise UserError(
            f"baseline.dimension must be at most {num_positive}, the number of positive "
            f"eigenvalues, got {dimension}"
        )
    largest = np.abs(vectors).argmax(0)
    signs = np.sign(vectors[largest, np.arange(dimension)])
    return (vectors * signs * np.sqrt(values)).astype(np.float32), values
