"""Reference implementations of `evaluation`: loops over questions and words, in numpy float64.

They share the formulas with the fast functions, but no code. On embeddings of small integers all
inner products are exact. Reference and fast function must then agree in every bit, ties included.
"""

import math

import numpy as np


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    """Cosine of two embeddings [D]; 0 if one has length 0."""
    x_length, y_length = math.sqrt(np.dot(x, x)), math.sqrt(np.dot(y, y))
    if x_length == 0 or y_length == 0:
        return 0.0
    return float(np.dot(x, y)) * (1 / x_length) * (1 / y_length)


def analogy_score(
    embeddings: np.ndarray, a: int, b: int, c: int, word: int, rule: str, epsilon: float = 1e-3
) -> float:
    """Score of `word` as the answer to a : b :: c : ?, for embeddings [V, D].

    By 3cosadd (Mikolov et al. 2013) or 3cosmul (Levy & Goldberg 2014).
    """
    to_a, to_b, to_c = (cosine(embeddings[i], embeddings[word]) for i in (a, b, c))
    if rule == "3cosadd":
        return to_b - to_a + to_c
    to_a, to_b, to_c = (max(0.0, (1 + x) / 2) for x in (to_a, to_b, to_c))
    return to_b / (to_a + epsilon) * to_c


def analogy_margin(
    embeddings: np.ndarray, question: list[int], rule: str, epsilon: float = 1e-3
) -> float:
    """Best score of a right answer minus that of the other words but a, b, c; above 0 for a hit.

    question: a, b, c, then one or more right answers; -1 is none.
    -inf if all answers are among a, b, c; inf if there is no other word.
    """
    a, b, c, *answers = question
    right = wrong = -math.inf
    for word in range(len(embeddings)):
        if word in (a, b, c):
            continue
        score = analogy_score(embeddings, a, b, c, word, rule, epsilon)
        if word in answers:
            right = max(right, score)
        else:
            wrong = max(wrong, score)
    return -math.inf if right == -math.inf else right - wrong


def nearest_neighbours(embeddings: np.ndarray, word: int, k: int) -> list[tuple[int, float]]:
    """The k other words of largest cosine, best first, ties by word id: [(id, cosine)]."""
    others = [
        (cosine(embeddings[word], embeddings[i]), i) for i in range(len(embeddings)) if i != word
    ]
    others.sort(key=lambda pair: (-pair[0], pair[1]))
    return [(i, value) for value, i in others[:k]]


def spearman(x: list[float], y: list[float]) -> float:
    """Rank correlation of two lists of equal length; equal values share their mean rank."""

    def ranks(values: list[float]) -> list[float]:
        return [
            sum(other < value for other in values)
            + (sum(other == value for other in values) + 1) / 2
            for value in values
        ]

    x_ranks, y_ranks = ranks(x), ranks(y)
    x_mean, y_mean = sum(x_ranks) / len(x), sum(y_ranks) / len(y)
    covariance = sum((p - x_mean) * (q - y_mean) for p, q in zip(x_ranks, y_ranks, strict=True))
    return covariance / math.sqrt(
        sum((p - x_mean) ** 2 for p in x_ranks) * sum((q - y_mean) ** 2 for q in y_ranks)
    )


def pca(embeddings: np.ndarray, num_components: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Scores [P, num_components] and explained variance ratio [num_components] of PCA.

    From the singular values of the centred embeddings [P, D].
    """
    centred = embeddings - embeddings.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    coordinates = left[:, :num_components] * singular[:num_components]
    for j in range(num_components):
        largest = max(range(len(coordinates)), key=lambda i: abs(coordinates[i, j]))
        if coordinates[largest, j] < 0:
            coordinates[:, j] = -coordinates[:, j]
    return coordinates, (singular**2 / (singular**2).sum())[:num_components]
