"""What every model answers: the one protocol that the trainer and the evaluation know."""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from w2v_inf.config import Embedding
from w2v_inf.stream import Batch, Stream


class Model(Protocol):
    """What every model answers. Tensors live on the model's device."""

    def prepare(self, stream: Stream, interrupted: Callable[[], bool]) -> None:
        """What a model does before the first step on the stream to come, unless it is interrupted; most do nothing."""
        ...

    def update(self, batch: Batch) -> float:
        """One SGD step; returns the loss before it, nats per example."""
        ...

    def train_batches(self, batches: Sequence[Batch]) -> list[float]:
        """A step a batch, as `update` one after another; returns the losses."""
        ...

    def gram(
        self, rows: Tensor, columns: Tensor | None = None, embedding: Embedding = Embedding.input
    ) -> Tensor:
        """Inner products of embeddings, [R, C]; all V columns if `columns` is None."""
        ...

    def squared_norms(self, embedding: Embedding = Embedding.input) -> Tensor:
        """Squared lengths of all embeddings, [V]."""
        ...

    def gram_matmul(self, x: Tensor, embedding: Embedding = Embedding.input) -> Tensor:
        """The Gram matrix of all embeddings times x [V, k], without making it; [V, k]."""
        ...

    def vectors(self, ids: Tensor | slice, embedding: Embedding = Embedding.input) -> Tensor:
        """Embeddings of some words in coordinates of the model's own, [R, D]: their inner products are `gram`."""
        ...

    def diagnostics(self) -> dict[str, float]:
        """What the model knows of its own approximation, for metrics.jsonl; nothing if it makes none."""
        ...

    def state(self) -> dict[str, Tensor]:
        """All tensors by name."""
        ...

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over the tensors of `state`."""
        ...
