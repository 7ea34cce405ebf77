"""For notebooks: train or load a model, and query it by words.

Decisions:
- Options are those of the scripts, by the same names:
  `train("corpus=planted", "model=mup_limit", **{"train.epochs": 4})`.
- A run gets a run folder like any other. It is trained once, and can be resumed, plotted and
  reported.
- Every error of the user is a `UserError` with a message of one line; if an argument is at fault,
  it is a `ValueError` too.
"""

import numbers
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from w2v_inf.compose import compose_config, read
from w2v_inf.config import Config, Embedding, NtkLimit, Sample
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import ArgumentError, UserError, printable
from w2v_inf.evaluation.evaluate import open_vectors
from w2v_inf.evaluation.places import place_gram
from w2v_inf.evaluation.similarity import (
    cosine_table,
    evaluate_model,
    load_sets,
    nearest_neighbours,
)
from w2v_inf.models.protocol import Model
from w2v_inf.paths import expand
from w2v_inf.reporting.pca import NARROW, plot_places, sample_initialisation
from w2v_inf.runs.folder import CONFIG
from w2v_inf.runs.weights import open_run
from w2v_inf.system_errors import explained
from w2v_inf.training import train as train_stage
from w2v_inf.vector_folders.folder import CONFIG as EXPORTED


def train(*overrides: str, **named: Any) -> "Embeddings":
    """Train a model, or load the finished run with the same options.

    An interrupted run resumes from its checkpoint.
    Args:
      overrides: options as on a script's command line, `"corpus=planted"`.
      named: the same by name, `**{"train.epochs": 2}`, `seed=1`.
    Raises: UserError as `training.train.train` does, and for options that do not exist or are out
      of range.
    """
    with explained():
        return load(train_stage.train(compose_config(*overrides, **named)))


def load(path: str | Path) -> "Embeddings":
    """The model of a finished run, by its folder, or exported vectors.

    path: a run folder, a folder of export.format=hub or projector, or a word2vec file.
    Raises: UserError if `path` is none of these, or damaged.
    """
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"path must be that of a run folder, export or file, got {path!r}")
    with explained():
        return _load(Path(expand("path", str(path))))


def _load(path: Path) -> "Embeddings":
    """`load` of a path as the system knows it."""
    if not path.exists():
        raise UserError(
            f"{path} not found: give a run folder, an exported one, or a file of word2vec's format"
        )
    if path.is_dir() and not any((path / name).is_file() for name in (CONFIG, EXPORTED)):
        raise UserError(
            f"{path} is no run folder (it has no {CONFIG}) and no export (it has no {EXPORTED}): "
            "give the folder of one run or export"
        )
    if not (path / CONFIG).is_file():
        return Embeddings(*open_vectors(path), path)
    trained = read(path / CONFIG)
    model, vocab = open_run(path, Config(corpus=Sample(), model=NtkLimit()))
    is_sample = isinstance(trained.model, NtkLimit)
    return Embeddings(model, vocab, path, trained.evaluate.embedding, is_sample)


@dataclass
class Embeddings:
    """Words and their embeddings; all answers come from inner products, at any width.

    path: of the run, export or file.    embedding: which of the model's vectors answer.
    ntk: whether this is the NTK limit, whose embeddings are all orthogonal.
    """

    model: Model
    vocab: Vocabulary
    path: Path
    embedding: Embedding = Embedding.input
    ntk: bool = False

    def most_similar(self, word: str, topn: int = 10) -> list[tuple[str, float]]:
        """The `topn` other words of largest cosine, best first. Ties go to the commoner word."""
        _check_topn(topn)
        self._ids([word])
        found = nearest_neighbours(self.model, self.vocab, [word], topn, self.embedding)[word]
        return [(neighbour, cosine) for neighbour, cosine in found]

    def analogy(self, a: str, b: str, c: str, topn: int = 1) -> list[tuple[str, float]]:
        """a is to b as c is to ...: the `topn` words of largest cos(b) - cos(a) + cos(c) (3CosAdd).

        a, b and c themselves are left out.
        """
        _check_topn(topn)
        ids = self._ids([a, b, c])
        cosines = cosine_table(self.model, ids, None, self.embedding).cpu()  # [3, V]
        scores = cosines[1] - cosines[0] + cosines[2]
        scores[ids] = -torch.inf
        best, words = scores.topk(min(topn, len(self.vocab) - len(set(ids.tolist()))))
        return [
            (self.vocab.words[i], score)
            for i, score in zip(words.tolist(), best.tolist(), strict=True)
        ]

    def similarity(self, a: str, b: str) -> float:
        """The cosine of two words."""
        ids = self._ids([a, b])
        return float(cosine_table(self.model, ids[:1], ids[1:], self.embedding))

    def vector(self, word: str) -> np.ndarray:
        """A word's embedding, [D]. In a limit the coordinates are over the V initial rows."""
        return self.model.vectors(self._ids([word]), self.embedding)[0].cpu().numpy().copy()

    def gram(self, words: Sequence[str], others: Sequence[str] | None = None) -> np.ndarray:
        """Inner products of `words` with `others` (None: with each other), [words, others]."""
        rows = self._ids(words)
        columns = rows if others is None else self._ids(others)
        return self.model.gram(rows, columns, self.embedding).cpu().numpy()

    def evaluate(self) -> dict[str, Any]:
        """Analogies, similarities and neighbours; see `evaluate_model`."""
        return evaluate_model(self.model, self.vocab, load_sets(self.vocab), self.embedding)

    def plot_pca(self) -> Figure:
        """US cities and states on their first two principal components (TP4 Figure 1).

        `Figure.savefig` writes the result. The NTK limit's own map is arbitrary: the figure shows a
        seeded sample of its initialisation instead, and says so.
        Raises: UserError if fewer than three places are in the vocabulary.
        """
        places = place_gram(self.model, self.vocab, self.embedding)
        if self.ntk:
            return plot_places(
                sample_initialisation(places, NARROW), f"NTK limit (sample of width {NARROW})"
            )
        return plot_places(places, printable(self.path.name))

    def _ids(self, words: Sequence[str]) -> Tensor:
        words = [words] if isinstance(words, str) else list(words)
        for word in words:
            if not isinstance(word, str):
                raise ArgumentError(f"a word must be a text, got {word!r}")
        if not words:
            raise ArgumentError("words must be at least one word, got none")
        unknown = [word for word in words if word not in self.vocab.id_of]
        if unknown:
            raise UserError(
                f"{unknown[0]!r} is not among the {len(self.vocab):,} words of {self.path}: "
                "see .vocab.words"
            )
        return torch.tensor([self.vocab.id_of[word] for word in words])


def _check_topn(topn: Any) -> None:
    """Raises: ArgumentError for a number of answers that is none."""
    if not isinstance(topn, numbers.Integral) or topn < 1:
        raise ArgumentError(f"topn must be a whole number of at least 1, got {topn!r}")
