"""Small vocabularies and embeddings for the tests of evaluation."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from w2v_inf.config import Embedding
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.evaluation.analogy import read_questions


class Vocab(Vocabulary):
    """A vocabulary without counts of its own."""

    def __init__(self, words: list[str]) -> None:
        super().__init__(words, np.arange(len(words), 0, -1))


@dataclass
class Vectors:
    """The smallest model: explicit input and output embeddings."""

    u: Tensor
    w: Tensor | None = None

    def matrix(self, embedding: Embedding) -> Tensor:
        if embedding is Embedding.input:
            return self.u
        assert self.w is not None
        return self.w if embedding is Embedding.output else self.u + self.w

    def gram(self, rows: Tensor, columns: Tensor | None, embedding: Embedding) -> Tensor:
        matrix = self.matrix(embedding)
        return matrix[rows] @ (matrix if columns is None else matrix[columns]).T

    def squared_norms(self, embedding: Embedding) -> Tensor:
        return self.matrix(embedding).square().sum(1)


class Identity:
    """Orthonormal embeddings, as in the NTK limit."""

    def __init__(self, size: int) -> None:
        self.size = size

    def gram(self, rows: Tensor, columns: Tensor | None, embedding: Embedding) -> Tensor:
        return torch.eye(self.size)[rows][:, slice(None) if columns is None else columns]

    def squared_norms(self, embedding: Embedding) -> Tensor:
        return torch.ones(self.size)


def full_vocab(num_others: int = 0) -> Vocab:
    """All 905 question words and some words that no question has."""
    words = {
        word for _, questions in read_questions() for question in questions for word in question
    }
    return Vocab(sorted(words) + [f"other{i}" for i in range(num_others)])
