"""Groups of related words, and their inner products after each epoch: how a run learned them.

Decisions:
- A group is one section of questions-words: two kinds of words, such as cities and states.
- Inner products suffice to draw a group. They have no rotation that could differ between epochs,
  and every model gives them.
- The file is rewritten whole after each epoch. A resumed run drops the epochs after its checkpoint
  and makes them again, so it ends with the same file.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from w2v_inf.config import Embedding
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.analogy import read_questions
from w2v_inf.evaluation.places import PLACE_SECTION, words_of_section
from w2v_inf.files import reading_arrays, write_atomically
from w2v_inf.models.protocol import Model


class Group(NamedTuple):
    """Two kinds of words that a section of questions-words relates."""

    section: str
    kinds: tuple[str, str]
    """What the words a and c of its questions are, and what b and d are."""


GROUPS = {
    "states and cities": Group(PLACE_SECTION, ("cities", "states")),
    "countries and capitals": Group("capital-common-countries", ("capitals", "countries")),
    "gender pairs": Group("family", ("male", "female")),
    "inflections of nouns": Group("gram8-plural", ("singulars", "plurals")),
    "inflections of verbs": Group("gram7-past-tense", ("participles", "past tenses")),
}


@dataclass
class GroupHistory:
    """Inner products of the words of each group, by epoch; P words in a group, E epochs."""

    words: dict[str, list[str]]
    """Of each group, those of the first kind first."""
    is_second: dict[str, np.ndarray]
    """Which words are of the second kind, [P] bool."""
    epochs: list[int] = field(default_factory=list)
    """Finished epochs at each entry of `grams`; 0 is the initialisation."""
    grams: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """Inner products of the embeddings, not normalised, E of [P, P] float32."""

    @classmethod
    def start(cls, vocab: Vocabulary) -> "GroupHistory":
        """An empty history of the words of `GROUPS` that are in the vocabulary."""
        sections, words, is_second = read_questions(), {}, {}
        for name, group in GROUPS.items():
            kinds = words_of_section(sections, group.section, vocab)
            ids = [[vocab.id_of_capitals[word.upper()] for word in kind] for kind in kinds]
            words[name] = [vocab.words[word_id] for word_id in sum(ids, [])]
            is_second[name] = np.arange(len(words[name])) >= len(ids[0])
        return cls(words, is_second, grams={name: [] for name in GROUPS})

    def resume(self, path: Path, epoch: int) -> "GroupHistory":
        """This history with the entries up to `epoch` of the file at `path`, if there is one.

        Raises: UserError if the file is damaged or of other words.
        """
        if not path.exists():
            return self
        saved = self.load(path)
        if saved.words != self.words:
            raise UserError(f"{path} is of another vocabulary: delete it")
        kept = [i for i, saved_epoch in enumerate(saved.epochs) if saved_epoch <= epoch]
        grams = {name: [entries[i] for i in kept] for name, entries in saved.grams.items()}
        return GroupHistory(self.words, self.is_second, [saved.epochs[i] for i in kept], grams)

    @torch.no_grad()
    def add(self, epoch: int, model: Model, vocab: Vocabulary, embedding: Embedding) -> None:
        """Append the inner products after `epoch`. Cost: one [P, P] block of the model per group.

        All processes of a job call this together, as `Model.gram` asks.
        """
        self.epochs.append(epoch)
        device = model.squared_norms(embedding).device
        for name, words in self.words.items():
            ids = torch.tensor([vocab.id_of[w] for w in words], dtype=torch.int64, device=device)
            self.grams[name].append(model.gram(ids, ids, embedding).float().cpu().numpy())

    def save(self, path: Path) -> None:
        """Write the file: about 4 (P + 1) P bytes per group and epoch."""
        arrays: dict[str, np.ndarray] = {"epochs": np.array(self.epochs, np.int64)}
        for name, words in self.words.items():
            arrays[f"{name}/words"] = np.array(words, np.str_)
            arrays[f"{name}/is_second"] = self.is_second[name]
            arrays[f"{name}/grams"] = np.stack(self.grams[name])
        write_atomically(path, lambda draft: np.savez(draft, **arrays))  # pyright: ignore

    @classmethod
    def load(cls, path: Path) -> "GroupHistory":
        """Read what `save` wrote. Raises: UserError if it is missing or damaged."""
        with reading_arrays(path, "delete it, or train the run again") as arrays:
            names = [key.removesuffix("/words") for key in arrays if key.endswith("/words")]
            history = cls(
                {name: arrays[f"{name}/words"].tolist() for name in names},
                {name: arrays[f"{name}/is_second"] for name in names},
                arrays["epochs"].tolist(),
                {name: [*arrays[f"{name}/grams"]] for name in names},
            )
            history._check()
        return history

    def _check(self) -> None:
        """Raises: ValueError if the arrays do not fit together."""
        for name, words in self.words.items():
            size, mask, grams = len(words), self.is_second[name], self.grams[name]
            shapes_fit = all(gram.shape == (size, size) for gram in grams)
            if mask.shape != (size,) or mask.dtype != bool or not shapes_fit:
                raise ValueError("its arrays do not fit together")
            if len(grams) != len(self.epochs):
                raise ValueError("its epochs do not fit together")
