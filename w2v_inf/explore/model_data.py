"""What the page holds of one run: its map, neighbours, factor, and its groups by epoch."""

import base64
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from w2v_inf.config import Config, Embedding
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.evaluation.group_history import GROUPS, GroupHistory
from w2v_inf.explore.cosines import (
    Factor,
    Neighbours,
    cosine_matrix,
    encode,
    factorise,
    measure,
    nearest,
    round_factor,
    shared_cosine,
)
from w2v_inf.explore.groups import group_maps, map_of_factor, sample_map, silhouette
from w2v_inf.models.protocol import Model
from w2v_inf.reporting.pca import NARROW
from w2v_inf.runs.folder import GROUP_HISTORY
from w2v_inf.runs.results import Run
from w2v_inf.runs.weights import open_run

MIN_GROUP = 4
"""Words of a group that a map needs."""


@dataclass
class GroupWords:
    """The words of one group that the page shows."""

    name: str
    words: list[str]
    is_second: np.ndarray
    """Which words are of the second kind, [P] bool."""
    ids: list[int]
    """Ids into the shown words, [P]."""

    @property
    def kinds(self) -> tuple[str, str]:
        return GROUPS[self.name].kinds

    @property
    def is_shown(self) -> bool:
        """Whether it has words enough for a map."""
        return len(self.ids) >= MIN_GROUP

    def as_json(self, maps: "list[GroupMaps]") -> dict[str, Any]:
        """For the page's script, with the maps of every model."""
        return {
            "name": self.name,
            "kinds": self.kinds,
            "ids": self.ids,
            "second": self.is_second.astype(int).tolist(),
            "models": [own.as_json() for own in maps],
        }


def group_words(shown: list[str]) -> list[GroupWords]:
    """The words of every group among the `shown` ones."""
    found = GroupHistory.start(Vocabulary(shown, np.zeros(len(shown), np.int64)))
    id_of = {word: i for i, word in enumerate(shown)}
    return [
        GroupWords(name, words, found.is_second[name], [id_of[word] for word in words])
        for name, words in found.words.items()
    ]


@dataclass
class GroupMaps:
    """The maps of a group in one model, E epochs; after the last epoch alone without a history."""

    epochs: list[int]
    maps: np.ndarray
    """Coordinates, [E, P, 2]."""
    silhouettes: list[float | None]

    @property
    def separation(self) -> str:
        """The silhouette at the first epoch and at the last."""
        # 0.0 is added because -0.001 would be written -0.00.
        texts = ["–" if s is None else f"{round(s, 2) + 0.0:.2f}" for s in self.silhouettes]
        return texts[0] if len(texts) == 1 else f"{texts[0]} → {texts[-1]}"

    def as_json(self) -> dict[str, Any]:
        """For the page's script."""
        rounded = [None if s is None else round(s, 2) + 0.0 for s in self.silhouettes]
        return {"epochs": self.epochs, "xy": _pack_floats(self.maps), "silhouettes": rounded}


@dataclass
class ModelData:
    """One model of the page."""

    label: str
    seed: int
    xy: np.ndarray
    """The map of all words, [N, 2]."""
    about_map: str
    """A line under the map of all words."""
    tie: float | None = None
    """The one cosine of all pairs, if all tie."""
    neighbours: Neighbours | None = None
    factor: Factor | None = None
    groups: dict[str, GroupMaps] = field(default_factory=dict)
    has_history: bool = False
    """Whether the run has stored its groups after each epoch."""

    @property
    def axis(self) -> str:
        """What an axis of its maps is."""
        return "component" if self.tie is None else "coordinate"

    @property
    def about_analogies(self) -> str:
        """How well the factor answers, in a sentence."""
        if self.factor is None:
            return f"{self.label}: all pairs of words have the cosine {self.tie:.2f}; no answer."
        factor, asked = self.factor, ""
        if factor.num_questions:
            share = 100 * factor.num_agreed / factor.num_questions
            asked = (
                f"; its first answer is the exact one in {share:.1f} % of "
                f"{factor.num_questions:,} standard questions"
            )
        rank = factor.levels.shape[1]
        error = f"cosines to ± {factor.rms_error:.4f} (root mean square)"
        return f"{self.label}: rank {rank}, {error}{asked}."

    def as_json(self) -> dict[str, Any]:
        """For the page's script."""
        content: dict[str, Any] = {
            "label": self.label,
            "seed": self.seed,
            "xy": _pack_floats(self.xy),
            "about": self.about_map,
            "tie": self.tie,
        }
        if self.factor and self.neighbours:
            ids, cosines = self.neighbours.ids, self.neighbours.cosines
            content |= {
                "num_neighbours": ids.shape[1],
                "neighbours": pack(ids.astype("<u2").tobytes()),
                "cosines": pack(cosines.astype("<i2").tobytes()),
                "steps": _pack_floats(self.factor.steps),
                "factor": base64.b64encode(encode(self.factor.levels)).decode("ascii"),
            }
        return content


def describe_model(
    run: Run,
    words: list[str],
    groups: list[GroupWords],
    questions: np.ndarray,
    max_bytes: int,
    config: Config,
) -> ModelData:
    """Open the run and compute what the page shows of it.

    Args:
      words: the shown words, [N], all in the run's vocabulary.
      questions: ids into `words` of standard analogy questions, [Q, 4].
      max_bytes: of the code of the factor.
    """
    model, vocab = open_run(run.folder, config)
    embedding = run.config.evaluate.embedding
    ids = np.array([vocab.id_of[word] for word in words], np.int64)
    cosines = cosine_matrix(model, ids, embedding)
    tie = shared_cosine(cosines)
    if tie is None:
        data = _learned(run, cosines, questions, max_bytes)
    else:
        about = f"Every pair of words has the cosine {tie:.2f}: {SAMPLE}."
        data = ModelData(run.model.label, run.seed, sample_map(len(words)), about, tie)
    path = run.folder / GROUP_HISTORY
    data.has_history = path.exists()
    history = GroupHistory.load(path) if data.has_history else None
    for group in groups:
        if group.is_shown:
            data.groups[group.name] = _maps_of_group(group, history, model, vocab, embedding)
    return data


SAMPLE = f"two coordinates of an untrained network of width {NARROW}, drawn at random"


def _learned(run: Run, cosines: np.ndarray, questions: np.ndarray, max_bytes: int) -> ModelData:
    """The data of a model whose cosines differ."""
    full = factorise(cosines)
    xy, shares = map_of_factor(full)
    percents = " and ".join(f"{100 * share:.0f} %" for share in shares)
    about = f"The components have {percents} of the variance."
    data = ModelData(run.model.label, run.seed, xy, about)
    data.neighbours = nearest(cosines)
    data.factor = round_factor(full, data.neighbours, max_bytes)
    measure(data.factor, cosines, questions)
    return data


def align(models: list[ModelData]) -> None:
    """Give equal directions equal signs: those of the last model. Signs of PCA mean nothing.

    Maps of models whose words all tie stay as they are.
    """
    learned = [model for model in models if model.tie is None]
    for model in learned[:-1]:
        model.xy = model.xy * _signs(model.xy, learned[-1].xy)
        for name, own in model.groups.items():
            own.maps = own.maps * _signs(own.maps[-1], learned[-1].groups[name].maps[-1])


def _signs(xy: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The sign of each column by which it points as the same column of `reference`; [2]."""
    return np.where((xy * reference).sum(axis=0) < 0, -1.0, 1.0)


def _maps_of_group(
    group: GroupWords,
    history: GroupHistory | None,
    model: Model,
    vocab: Vocabulary,
    embedding: Embedding,
) -> GroupMaps:
    if history is None:
        history = GroupHistory({group.name: group.words}, {}, grams={group.name: []})
        history.add(0, model, vocab, embedding)
    row_of = {word: row for row, word in enumerate(history.words[group.name])}
    rows = [row_of[word] for word in group.words]
    grams = [gram[np.ix_(rows, rows)] for gram in history.grams[group.name]]
    if all(shared_cosine(gram) is not None for gram in grams):
        maps = np.repeat(sample_map(len(rows))[None], len(grams), axis=0)
    else:
        maps = group_maps(grams)
    silhouettes = [silhouette(gram.astype(np.float64), group.is_second) for gram in grams]
    return GroupMaps(history.epochs, maps, silhouettes)


def pack(content: bytes) -> str:
    """Deflated and in base64, as `bytesOf` in codec.js reads it."""
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def _pack_floats(array: np.ndarray) -> str:
    return pack(np.ascontiguousarray(array, "<f4").tobytes())
