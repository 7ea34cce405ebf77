"""Pairs of words that share a relation, and the questions that they make.

A category of n pairs asks n (n - 1) questions: every pair (a, b) stands before every other pair
(c, d). Two protocols ask so:
- BATS (Gladkova et al. 2016): one file per category. A word may have several right answers.
- Karkada et al. 2025 (arXiv 2502.09863; code: dkarkada/qwem): the distinct pairs of each section of
  questions-words, by 3CosAdd among the 10,000 commonest words of the text.

Decisions:
- A pair counts if the vocabulary has its first word and one of its answers. In front, its first
  known answer is b. Behind, every known answer is right.
- Words that share an answer (two cities of one state) ask questions with b = d. Such a question
  cannot be solved, because b is excluded. Karkada et al. and BATS ask it all the same, so do we.
- A tie is a miss here. In their program the commonest word wins a tie; vectors of real numbers have
  none.
- Files are told apart by content: a first line `: section` begins the format of questions-words.
"""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import torch

from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.analogy import Questions, load_questions, read_questions
from w2v_inf.evaluation.datasets import read_lines

NUM_SEARCHED = 10_000
"""Words among which Karkada et al. seek the answer."""
Pair = tuple[str, tuple[str, ...]]
"""A word and its right answers."""


class QuestionFile(NamedTuple):
    """A user's file of questions or pairs."""

    format: str
    """`questions-words` or `pairs`."""
    questions: Questions


def load_question_file(vocab: Vocabulary, name: str, path: Path) -> QuestionFile:
    """The questions of a file in the format of questions-words, or of pairs.

    name: of the section, for a file of pairs.
    Raises: UserError that names the file, and the line, if it is neither.
    """
    lines = read_lines(path, "evaluate.questions")
    if lines[0][1].startswith(":"):
        return QuestionFile("questions-words", load_questions(vocab, path))
    return QuestionFile("pairs", load_pairs(vocab, [(name, read_pairs(path))]))


def read_pairs(path: Path) -> list[Pair]:
    """Pairs of a file, lower-case: two columns by a tab or blanks, answers by `/`.

    Raises: UserError for another line.
    """
    pairs = []
    for number, line in read_lines(path, "evaluate.questions"):
        columns = [part.strip() for part in line.lower().split("\t" if "\t" in line else None)]
        answers = tuple(filter(None, columns[1].split("/"))) if len(columns) == 2 else ()
        if not answers or not columns[0]:
            raise UserError(
                f"{path}, line {number}: expected a word and its answers ('word<TAB>one/other'), "
                f"or ': section' in the first line of a file of questions, got {line[:60]!r}"
            )
        pairs.append((columns[0], answers))
    return pairs


def questions_words_pairs() -> list[tuple[str, list[Pair]]]:
    """The distinct pairs of each section of questions-words, in the order of the file."""
    return [
        (name, [(a, (b,)) for a, b in dict.fromkeys(p for q in questions for p in _halves(q))])
        for name, questions in read_questions()
    ]


def _halves(question: list[str]) -> tuple[tuple[str, str], tuple[str, str]]:
    a, b, c, d = question
    return (a, b), (c, d)


def load_pairs(
    vocab: Vocabulary,
    categories: Sequence[tuple[str, Sequence[Pair]]],
    num_searched: int | None = None,
) -> Questions:
    """Every ordered pair of distinct pairs, by category; see the module's docstring.

    num_searched: only the first words count as known, and as answers; None: all. Case is ignored as
      by `load_questions`.
    """
    limit = len(vocab) if num_searched is None else min(num_searched, len(vocab))
    id_of = {word: i for word, i in vocab.id_of_capitals.items() if i < limit}
    rows, section, total = [], [], []
    for index, (_, pairs) in enumerate(categories):
        distinct = dict.fromkeys(pairs)
        found = [
            (id_of.get(word.upper(), -1), [id_of[x.upper()] for x in answers if x.upper() in id_of])
            for word, answers in distinct
        ]
        known = [(word, answers) for word, answers in found if word >= 0 and answers]
        asked = [[a, bs[0], c, *ds] for (a, bs), (c, ds) in permutations(known, 2)]
        rows += asked
        section += [index] * len(asked)
        total.append(len(distinct) * (len(distinct) - 1))
    words = {w.upper() for _, pairs in categories for a, bs in pairs for w in (a, *bs)}
    return Questions(
        ids=_padded(rows),
        section=torch.tensor(section, dtype=torch.int64),
        sections=[name for name, _ in categories],
        total=total,
        first_form=torch.from_numpy(vocab.first_form),
        num_searched=None if limit == len(vocab) else limit,
        unknown_words=len(words - id_of.keys()),
    )


def _padded(rows: list[list[int]]) -> torch.Tensor:
    """Rows of different lengths as one table, at least [0, 4]; -1 behind the shorter."""
    width = max(map(len, rows), default=4)
    padded = [row + [-1] * (width - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.int64).reshape(-1, width)
