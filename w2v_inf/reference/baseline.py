"""Reference implementations of `baseline`: every way to subsample a text, every pair of words."""

import itertools
import math

import numpy as np


def expected_counts(
    documents: list[list[int]], p_keep: list[float], window: int, num_words: int
) -> np.ndarray:
    """Expected skip-gram examples (context i, centre j) of one epoch, [V, V] float64.

    Each document is a list of word ids. All 2^n subsets of its n words are tried.
    """
    counts = np.zeros((num_words, num_words))
    for document in documents:
        for kept in itertools.product((False, True), repeat=len(document)):
            probability = 1.0
            for word, is_kept in zip(document, kept, strict=True):
                probability *= p_keep[word] if is_kept else 1 - p_keep[word]
            words = [word for word, is_kept in zip(document, kept, strict=True) if is_kept]
            for centre in range(len(words)):
                for radius in range(1, window + 1):
                    for place in range(centre - radius, centre + radius + 1):
                        if place != centre and 0 <= place < len(words):
                            counts[words[place], words[centre]] += probability / window
    return counts


def target(counts: np.ndarray, method: str) -> np.ndarray:
    """`ppmi`: max(0, PMI). `mstar`: (P_ij - P_i P_j) / (1/2 (P_ij + P_i P_j)). [V, V].

    0 for a word without any neighbour.
    """
    total = counts.sum()
    result = np.zeros(counts.shape)
    for i in range(len(counts)):
        for j in range(len(counts)):
            p, p_i, p_j = counts[i, j] / total, counts[i].sum() / total, counts[j].sum() / total
            if p_i * p_j == 0:
                continue
            if method == "mstar":
                result[i, j] = (p - p_i * p_j) / ((p + p_i * p_j) / 2)
            elif p > p_i * p_j:
                result[i, j] = math.log(p / (p_i * p_j))
    return result
