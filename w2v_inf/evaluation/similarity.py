"""The evaluation of a model in one call, and its parts: word similarity and nearest neighbours.

Decisions:
- All numbers come from inner products (`Model.gram`), so no function knows which model it has.
- `evaluate_model` returns one dictionary of plain numbers, which goes to JSON as it is.
- A number without meaning (no question seen, constant scores) is None, not nan: nan is not JSON.
- Case is ignored, as in gensim: a word of a test is the commonest word that is equal in capitals.
- Accuracies and chance are percents; correlations and cosines lie in [-1, 1].
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from w2v_inf.config import Embedding
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.evaluation.analogy import Questions, analogy_accuracy, inverse_lengths
from w2v_inf.evaluation.datasets import find_dataset
from w2v_inf.models.protocol import Model

SIMILARITY_SETS = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}
PROBE_WORDS = (
    "king",
    "france",
    "london",
    "texas",
    "three",
    "good",
    "water",
    "she",
    "music",
    "computer",
)
"""Common words whose neighbours every evaluation lists."""


def evaluate_model(
    model: Model, vocab: Vocabulary, questions: Questions, embedding: Embedding = Embedding.input
) -> dict[str, Any]:
    """All numbers of one evaluation, ready for JSON.

    Args:
      model: its word ids are those of `vocab`.
      questions: from `load_questions(vocab)`.
      embedding: the vectors to evaluate.
    Returns: {
      'protocol': {'vocabulary', 'questions_seen', 'questions_total', 'embedding', 'ties', 'case'},
      'chance': percent,
      'analogy': see `analogy_accuracy`,
      'similarity': see `word_similarity`,
      'neighbours': see `nearest_neighbours`}.
    Cost: dominated by `analogy_hits`.
    """
    squared_norms = model.squared_norms(embedding)
    return {
        "protocol": {
            "vocabulary": len(vocab),
            "questions_seen": len(questions),
            "questions_total": sum(questions.total),
            "embedding": embedding.value,
            "ties": "miss",
            "case": "ignored, the commonest form counts",
        },
        "chance": 100 / len(vocab),
        "analogy": analogy_accuracy(
            model, questions, embedding=embedding, squared_norms=squared_norms
        ),
        "similarity": word_similarity(model, vocab, embedding, squared_norms=squared_norms),
        "neighbours": nearest_neighbours(
            model, vocab, PROBE_WORDS, embedding=embedding, squared_norms=squared_norms
        ),
    }


@torch.no_grad()
def cosine_table(
    model: Model,
    rows: Tensor,
    columns: Tensor | None = None,
    embedding: Embedding = Embedding.input,
    squared_norms: Tensor | None = None,
) -> Tensor:
    """Cosines of the words `rows` [R] and `columns` [C] (None: all), [R, C], on the model's device.

    0 for words of length 0.
    """
    inverse = inverse_lengths(
        model.squared_norms(embedding) if squared_norms is None else squared_norms
    )  # [V]
    rows = rows.to(inverse.device)
    columns = columns if columns is None else columns.to(inverse.device)
    across = inverse if columns is None else inverse[columns]
    return model.gram(rows, columns, embedding) * inverse[rows][:, None] * across


def word_similarity(
    model: Model,
    vocab: Vocabulary,
    embedding: Embedding = Embedding.input,
    squared_norms: Tensor | None = None,
) -> dict[str, dict[str, Any]]:
    """Rank correlation of cosines with human judgements: WordSim-353 and SimLex-999.

    Returns: for each set {'spearman', 'pairs' (both words in the vocabulary), 'total'}.
      'spearman' is None for fewer than 3 pairs, and if all pairs of different words have the same
      cosine, as in the NTK limit. (WordSim-353 has the pair tiger, tiger, whose cosine of 1 would
      count as knowledge.)
    Cost: one Gram block of the words involved, about 1,000 x 1,000.
    """
    return {
        name: _correlate(
            model, vocab, read_similarities(find_dataset(file)), embedding, squared_norms
        )
        for name, file in SIMILARITY_SETS.items()
    }


def read_similarities(path: Path) -> list[tuple[str, str, float]]:
    """Pairs of lower-case words and their human score; columns by tabs, comments by `#`."""
    lines = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    fields = [line.lower().split("\t") for line in lines]
    return [(first.strip(), second.strip(), float(score)) for first, second, score in fields]


def _correlate(
    model: Model,
    vocab: Vocabulary,
    pairs: list[tuple[str, str, float]],
    embedding: Embedding,
    squared_norms: Tensor | None,
) -> dict[str, Any]:
    known = [
        (vocab.id_of_capitals[x], vocab.id_of_capitals[y], score)
        for x, y, score in ((x.upper(), y.upper(), score) for x, y, score in pairs)
        if x in vocab.id_of_capitals and y in vocab.id_of_capitals
    ]
    result: dict[str, Any] = {"spearman": None, "pairs": len(known), "total": len(pairs)}
    if len(known) < 3:
        return result

    ids = torch.tensor([pair[:2] for pair in known])  # [pairs, 2]
    words, local = torch.unique(ids, return_inverse=True)
    block = cosine_table(model, words, words, embedding, squared_norms).cpu()  # [R, R]
    cosines = block[local[:, 0], local[:, 1]].double().numpy()  # [pairs]
    scores = np.array([pair[2] for pair in known])
    different = cosines[(ids[:, 0] != ids[:, 1]).numpy()]
    if np.ptp(scores) > 0 and len(different) > 0 and np.ptp(different) > 0:
        from scipy.stats import spearmanr  # half a second, which most processes do not need

        result["spearman"] = float(np.asarray(spearmanr(cosines, scores))[0])
    return result


def nearest_neighbours(
    model: Model,
    vocab: Vocabulary,
    words: Sequence[str],
    k: int = 8,
    embedding: Embedding = Embedding.input,
    squared_norms: Tensor | None = None,
) -> dict[str, list[list[Any]]]:
    """The k other words of largest cosine: {word: [[neighbour, cosine], ...]}, best first.

    A word that the vocabulary has in another case only is its commonest form; words outside the
    vocabulary are left out. Ties go to the smaller word id. If V - 1 < k, there are V - 1
    neighbours.
    Cost: one Gram row and one sort of V per word.
    """
    id_of = {
        word: vocab.id_of_capitals[word.upper()]
        for word in words
        if word.upper() in vocab.id_of_capitals
    }
    id_of |= {word: vocab.id_of[word] for word in words if word in vocab.id_of}
    if not id_of:
        return {}
    ids = torch.tensor(list(id_of.values()))
    cosines = cosine_table(model, ids, None, embedding, squared_norms).cpu()  # [words, V]
    cosines[torch.arange(len(ids)), ids] = -torch.inf
    # A stable sort, because topk leaves the order of ties open.
    ordered, order = cosines.sort(dim=1, descending=True, stable=True)
    k = min(k, len(vocab) - 1)
    neighbours = zip(id_of, order[:, :k].tolist(), ordered[:, :k].tolist(), strict=True)
    return {
        word: [[vocab.words[j], cosine] for j, cosine in zip(js, row, strict=True)]
        for word, js, row in neighbours
    }
