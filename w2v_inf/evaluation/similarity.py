"""The evaluation of a model in one call, and its parts: word similarity and nearest neighbours.

Decisions:
- All numbers come from inner products (`Model.gram`), so no function knows which model it has.
- `evaluate_model` returns one dictionary of plain numbers, which goes to JSON as it is.
- A number without meaning (no question seen, constant scores) is None, not nan: nan is not JSON.
- Case is ignored, as in gensim: a word of a test is the commonest word that is equal in capitals.
- A question or pair with a word outside the vocabulary is skipped, and counted. Beside the counts
  stands how many distinct words are missing.
- Accuracies and chance are percents; correlations and cosines lie in [-1, 1].
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from w2v_inf.config import Embedding, EvaluateConfig
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.analogy import (
    RULES,
    Questions,
    analogy_accuracy,
    inverse_lengths,
    load_questions,
)
from w2v_inf.evaluation.datasets import files_of, find_dataset, read_lines
from w2v_inf.evaluation.pairs import (
    NUM_SEARCHED,
    QuestionFile,
    load_pairs,
    load_question_file,
    questions_words_pairs,
)
from w2v_inf.models.protocol import Model

log = logging.getLogger(__name__)
SIMILARITY_SETS = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}
Judgement = tuple[str, str, float]
"""Two words and a human score of their similarity."""
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


@dataclass
class EvaluationSets:
    """What a model is asked, with the ids of one vocabulary; made by `load_sets`."""

    questions: Questions
    """questions-words."""
    pairs: Questions
    """Its pairs of pairs among the commonest words: see `pairs`."""
    similarities: dict[str, list[Judgement]]
    """WordSim-353 and SimLex-999."""
    question_files: dict[str, QuestionFile]
    """Of the user's, by name."""
    similarity_files: dict[str, list[Judgement]]
    """Of the user's, by name."""


def load_sets(vocab: Vocabulary, options: EvaluateConfig | None = None) -> EvaluationSets:
    """Our sets, and the files that `evaluate.questions` and `evaluate.similarity` name.

    Raises: UserError for a file that is missing, or of no known format.
    Cost: half a second.
    """
    asked, judged = (options.questions, options.similarity) if options else ("", "")
    question_files = files_of(Path(asked), "evaluate.questions") if asked else {}
    similarity_files = files_of(Path(judged), "evaluate.similarity") if judged else {}
    return EvaluationSets(
        load_questions(vocab),
        load_pairs(vocab, questions_words_pairs(), NUM_SEARCHED),
        {name: read_similarities(find_dataset(file)) for name, file in SIMILARITY_SETS.items()},
        {name: load_question_file(vocab, name, path) for name, path in question_files.items()},
        {name: read_similarities(path) for name, path in similarity_files.items()},
    )


def evaluate_model(
    model: Model, vocab: Vocabulary, sets: EvaluationSets, embedding: Embedding = Embedding.input
) -> dict[str, Any]:
    """All numbers of one evaluation, ready for JSON.

    Args:
      model: its word ids are those of `vocab`.
      sets: from `load_sets(vocab)`.
      embedding: the vectors to evaluate.
    Returns: {
      'protocol': {'vocabulary', 'questions_seen', 'questions_total', 'unknown_words' (of
        questions-words, distinct), 'embedding', 'ties', 'case'},
      'chance': percent,
      'analogy': see `analogy_accuracy`,
      'pairs_of_pairs': {'searched' (words), 'unknown_words', '3cosadd': see `analogy_accuracy`},
      'similarity': see `word_similarity`,
      'question_files': {file: {'format', 'unknown_words', and as 'analogy'}},
      'similarity_files': as 'similarity',
      'neighbours': see `nearest_neighbours`}.
    Cost: dominated by `analogy_hits`.
    """
    squared_norms, questions = model.squared_norms(embedding), sets.questions

    def ask(asked: Questions, *rules: str) -> dict[str, Any]:
        accuracy = analogy_accuracy(model, asked, rules or RULES, embedding, squared_norms)
        return {"unknown_words": asked.unknown_words} | accuracy

    return {
        "protocol": {
            "vocabulary": len(vocab),
            "questions_seen": len(questions),
            "questions_total": sum(questions.total),
            "unknown_words": questions.unknown_words,
            "embedding": embedding.value,
            "ties": "miss",
            "case": "ignored, the commonest form counts",
        },
        "chance": 100 / len(vocab),
        "analogy": analogy_accuracy(
            model, questions, embedding=embedding, squared_norms=squared_norms
        ),
        "pairs_of_pairs": {
            "searched": min(NUM_SEARCHED, len(vocab)),
            **ask(sets.pairs, "3cosadd"),
        },
        "similarity": word_similarity(model, vocab, sets.similarities, embedding, squared_norms),
        "question_files": {
            name: {"format": file.format, **ask(file.questions)}
            for name, file in sets.question_files.items()
        },
        "similarity_files": word_similarity(
            model, vocab, sets.similarity_files, embedding, squared_norms
        ),
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
    sets: dict[str, list[Judgement]],
    embedding: Embedding = Embedding.input,
    squared_norms: Tensor | None = None,
) -> dict[str, dict[str, Any]]:
    """Rank correlation of cosines with human judgements.

    sets: as `read_similarities` returns them, by name.
    Returns: for each set {'spearman', 'pairs' (both words in the vocabulary), 'total',
      'unknown_words' (distinct)}.
      'spearman' is None for fewer than 3 pairs, and if all pairs of different words have the same
      cosine, as in the NTK limit. (WordSim-353 has the pair tiger, tiger, whose cosine of 1 would
      count as knowledge.)
    Cost: one Gram block of the words involved, about 1,000 x 1,000 for SimLex-999.
    """
    return {
        name: _correlate(model, vocab, pairs, embedding, squared_norms)
        for name, pairs in sets.items()
    }


def read_similarities(path: Path) -> list[Judgement]:
    """Pairs of lower-case words and their human score: the first three columns of a file.

    Columns are separated by tabs, commas or blanks, the first of these that a line has; further
    columns are not read. So MEN, RareWords and WordSim-353 are read as they are distributed. Lines
    that begin with `#` are comments. A first line whose third column is a word is the header.
    Raises: UserError that names the file and the line.
    """
    lines = [(n, line) for n, line in read_lines(path, "evaluate.similarity") if line[0] != "#"]
    if len(lines) > 1 and _is_header(_columns(lines[0][1])):
        log.info("%s, line %d is the header: %s", path, *lines[0])
        lines = lines[1:]
    if not lines:
        raise UserError(f"{path} holds no line of two words and a score: give a similarity file")
    judgements = []
    for number, line in lines:
        try:
            first, second, score = _columns(line)
            judgements.append((first, second, float(score)))
            is_number = math.isfinite(float(score)) and "_" not in score  # Python reads 1_0 as 10
            if not (first and second and is_number):
                raise ValueError
        except ValueError as error:
            raise UserError(
                f"{path}, line {number}: expected two words and a finite score in the first three "
                f"columns, by tabs, commas or blanks, got {line[:60]!r}"
            ) from error
    return judgements


def _is_header(columns: list[str]) -> bool:
    try:
        float(columns[-1])
    except ValueError:
        return len(columns) == 3 and columns[2][:1].isalpha()
    return False


def _columns(line: str) -> list[str]:
    """The first three columns, lower-case."""
    separator = next((separator for separator in "\t," if separator in line), None)
    return [column.strip().strip('"').lower() for column in line.split(separator)[:3]]


def _correlate(
    model: Model,
    vocab: Vocabulary,
    pairs: list[Judgement],
    embedding: Embedding,
    squared_norms: Tensor | None,
) -> dict[str, Any]:
    known = [
        (vocab.id_of_capitals[x], vocab.id_of_capitals[y], score)
        for x, y, score in ((x.upper(), y.upper(), score) for x, y, score in pairs)
        if x in vocab.id_of_capitals and y in vocab.id_of_capitals
    ]
    words = {word.upper() for pair in pairs for word in pair[:2]}
    result: dict[str, Any] = {
        "spearman": None,
        "pairs": len(known),
        "total": len(pairs),
        "unknown_words": len(words - vocab.id_of_capitals.keys()),
    }
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
