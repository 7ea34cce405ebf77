"""The protocol that every model follows; training and evaluation know nothing else of a model."""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from w2v_inf.config import Embedding
from w2v_inf.models.step import UpdateRule
from w2v_inf.stream import Batch, Stream


class Model(Protocol):
    """What training and evaluation ask of a model. Tensors live on the model's device.

    Models inherit the methods that have a default here.
    """

    rule: UpdateRule

    def prepare(self, stream: Stream, interrupted: Callable[[], bool]) -> None:
        """Get ready for the first step on `stream`, unless interrupted. By default nothing."""

    def update(self, batch: Batch) -> float:
        """One SGD step; returns the loss before it, nats per example."""
        return self.train_batches([batch])[0]

    def train_batches(self, batches: Sequence[Batch]) -> list[float]:
        """One SGD step per batch, in order; returns the losses before each, nats per example."""
        ...

    def gram(
        self, rows: Tensor, columns: Tensor | None = None, embedding: Embedding = Embedding.input
    ) -> Tensor:
        """Inner products of the words `rows` [R] with `columns` [C], or with all V; [R, C]."""
        ...

    def squared_norms(self, embedding: Embedding = Embedding.input) -> Tensor:
        """Squared lengths of all embeddings, [V]."""
        ...

    def gram_matmul(self, x: Tensor, embedding: Embedding = Embedding.input) -> Tensor:
        """The Gram matrix of all embeddings times x [V, k]; [V, k]. Never forms [V, V]."""
        ...

    def vectors(self, ids: Tensor | slice, embedding: Embedding = Embedding.input) -> Tensor:
        """Embeddings of some words in the model's own coordinates, [R, D]; they give `gram`."""
        ...

    def diagnostics(self) -> dict[str, float]:
        """Measures of the model's own approximation, for metrics.jsonl. By default none."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """All tensors by name."""
        ...

    def load(self, state: dict[str, Tensor]) -> None:
        """Copy the tensors of `state` into the model."""
        ...
