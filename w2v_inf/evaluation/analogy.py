"""Word analogies a : b :: c : ? from Gram rows alone, at finite and infinite width alike.

Decisions (V words, R question words, Q questions, M right answers at most, width D):
- The Gram rows of the question words suffice: one [R, V] table (R = 905 in questions-words), never
  Q x V x D.
- A hit needs a score strictly above that of every other allowed word. Embeddings that never moved
  have nothing but ties and thus no hit. "First of the best" would reward the vocabulary's order.
- A question may have several right answers (BATS). Any of them is a hit if it beats every word that
  is no right answer.
- Case is ignored, as in gensim's `evaluate_word_analogies`. A question word is the commonest word
  that is equal in capitals. Other forms of a, b and c are excluded, and other forms of the answer
  count as the answer.
- Comparing scores is exact: all scores of a question come from the same operations in the same
  order. These are only +, -, x and /, which round equally in vector code and in its scalar tail.
  For that reason 3CosMul is a quotient here, not a sum of logarithms.
- Every word that a question excludes is a form of a question word. So the columns of other words
  need no mask. The corner of the forms is scored separately, with the excluded words at -inf.
- Scores are computed in small tiles of questions x columns (`TILES`). The maximum does not depend
  on the tiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from w2v_inf import distributed
from w2v_inf.config import Embedding
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.datasets import find_dataset, read_lines
from w2v_inf.models.protocol import Model

RULES = ("3cosadd", "3cosmul")
MUL_EPSILON = 1e-3
"""Levy & Goldberg 2014, equation (4)."""
MAX_ROWS = 1000
"""Distinct words a, b, c that are asked at once: the rows of the Gram table. questions-words has
905."""
TILES = {"cpu": (15, 2048), "cuda": (4096, 8192)}
"""Questions x columns per call. On the CPU a tile fits the cache and has fewer than 32,768
elements, so that torch uses one thread. Beside another process, a million short parallel operations
took 40 s instead of 5. A GPU wants fewer, larger calls."""


@dataclass
class Questions:
    """Analogy questions whose words are in the vocabulary, in the order of the file."""

    ids: Tensor
    """Word ids a, b, c and the right answers, [Q, 3 + M], int64; -1 where there are fewer."""
    section: Tensor
    """Index of each question's section, [Q], int64."""
    sections: list[str]
    """Names of all sections, also of those without a seen question."""
    total: list[int]
    """Questions per section in the file, seen or not."""
    first_form: Tensor | None = None
    """See `Vocabulary.first_form`, [V]; None if no two words differ in case only."""
    num_searched: int | None = None
    """Answers are sought among so many words, the commonest; None: all."""
    unknown_words: int = 0
    """Distinct words of the file that are not in the vocabulary."""

    @property
    def seen(self) -> list[int]:
        """Questions per section whose words are all known."""
        return torch.bincount(self.section, minlength=len(self.sections)).tolist()

    def __len__(self) -> int:
        return len(self.ids)


def read_questions(path: Path | None = None) -> list[tuple[str, list[list[str]]]]:
    """Sections in file order, each with its questions as four lower-case words.

    Args:
      path: a file in the format of questions-words.txt, UTF-8. None takes questions-words itself
        (14 sections, 19,544 questions).
    Raises: UserError for a line that is neither `: section` nor four words.
    """
    path = path or find_dataset("questions-words.txt")
    sections: list[tuple[str, list[list[str]]]] = []
    for number, line in read_lines(path, "evaluate.questions"):
        words = line.lower().split()
        if line.startswith(":"):
            sections.append((line[1:].strip(), []))
        elif len(words) == 4 and sections:
            sections[-1][1].append(words)
        else:
            raise UserError(
                f"{path}, line {number}: expected ': section' first and then four words per line, "
                f"got {line[:60]!r}"
            )
    return sections


def load_questions(vocab: Vocabulary, path: Path | None = None) -> Questions:
    """The questions of `path` whose four words are all in the vocabulary; the rest only count.

    Case is ignored: each word is the commonest one that is equal in capitals.
    path: see `read_questions`.
    """
    sections = read_questions(path)
    ids, section = [], []
    every_word = {w.upper() for _, questions in sections for words in questions for w in words}
    for index, (_, questions) in enumerate(sections):
        known = [
            [vocab.id_of_capitals[word.upper()] for word in words]
            for words in questions
            if all(word.upper() in vocab.id_of_capitals for word in words)
        ]
        ids += known
        section += [index] * len(known)
    return Questions(
        ids=torch.tensor(ids, dtype=torch.int64).reshape(-1, 4),
        section=torch.tensor(section, dtype=torch.int64),
        sections=[name for name, _ in sections],
        total=[len(questions) for _, questions in sections],
        first_form=torch.from_numpy(vocab.first_form),
        unknown_words=len(every_word - vocab.id_of_capitals.keys()),
    )


def analogy_accuracy(
    model: Model,
    questions: Questions,
    rules: Sequence[str] = RULES,
    embedding: Embedding = Embedding.input,
    squared_norms: Tensor | None = None,
) -> dict[str, Any]:
    """Accuracy by section over the vocabulary; arguments, errors and cost as in `analogy_hits`.

    Returns: {rule: {'sections': {name: counts}, 'total', 'semantic', 'syntactic': counts}}.
      Counts are {'correct', 'questions' (seen), 'total' (in the file), 'accuracy'}; the accuracy is
      in percent of the questions seen, None without any. Syntactic sections are those whose name
      starts with `gram`, as in word2vec's compute-accuracy.
    """
    hits = analogy_hits(
        model,
        questions.ids,
        rules,
        embedding,
        squared_norms,
        questions.first_form,
        questions.num_searched,
    )
    return {rule: _count_sections(hit, questions) for rule, hit in hits.items()}


def _count_sections(hit: Tensor, questions: Questions) -> dict[str, Any]:
    correct = torch.bincount(questions.section[hit], minlength=len(questions.sections)).tolist()
    counts = np.array([correct, questions.seen, questions.total], dtype=np.int64).reshape(
        3, -1
    )  # [3, sections]
    syntactic = np.array([name.startswith("gram") for name in questions.sections], dtype=bool)
    return {
        "sections": {name: _count(counts[:, [i]]) for i, name in enumerate(questions.sections)},
        "total": _count(counts),
        "semantic": _count(counts[:, ~syntactic]),
        "syntactic": _count(counts[:, syntactic]),
    }


def _count(counts: np.ndarray) -> dict[str, Any]:
    correct, seen, total = counts.sum(axis=1).tolist()
    return {
        "correct": correct,
        "questions": seen,
        "total": total,
        "accuracy": 100 * correct / seen if seen else None,
    }


@torch.no_grad()
def analogy_hits(
    model: Model,
    ids: Tensor,
    rules: Sequence[str] = RULES,
    embedding: Embedding = Embedding.input,
    squared_norms: Tensor | None = None,
    first_form: Tensor | None = None,
    num_searched: int | None = None,
) -> dict[str, Tensor]:
    """For which questions a : b :: c : d a right answer d scores above all that are none.

    With G the cosines (0 for a word of length 0) and P = max(0, (1 + G) / 2):
      3cosadd: G[b] - G[a] + G[c]           (Mikolov et al. 2013)
      3cosmul: P[b] / (P[a] + 0.001) P[c]   (Levy & Goldberg 2014, equation 4 and footnote 7)
    The words a, b and c are excluded: if all answers are among them, the question is a miss. Equal
    embeddings tie exactly if the model's matrix product gives them equal inner products.

    Args:
      model: see `models.protocol.Model`.
      ids: word ids a, b, c and the right answers, [Q, 3 + M], int64, any device; see `Questions`.
      squared_norms: of this embedding, [V], if the caller has them already.
      first_form: of each word, [V], int64: words of equal first form count as one word, of which
        the question has its own vector. None: each word stands for itself.
      num_searched: see `Questions`; all ids are below it.
    Returns: for each rule a mask [Q], bool, on the CPU. Deterministic.
    Raises: ValueError for an unknown rule or ids of another shape.
    Cost: the model's Gram rows, then 6 Q V operations per rule on one core: 3 s per rule at
      Q = 18,000, V = 70,000. Memory: one [R, V] table for the R <= `MAX_ROWS` distinct words
      a, b, c that are asked at once (253 MB in float32 at R = 905) and about six [R, 2048]
      temporaries. Several processes divide the questions among themselves.
    """
    unknown = [rule for rule in rules if rule not in RULES]
    if unknown:
        raise ValueError(f"rules must be among {', '.join(RULES)}, got {unknown[0]}")
    if ids.ndim != 2 or ids.shape[1] < 4:
        raise ValueError(f"ids must be [Q, 4] or wider, got {list(ids.shape)}")
    if len(ids) == 0:
        return {rule: torch.zeros(0, dtype=torch.bool) for rule in rules}
    norms = model.squared_norms(embedding) if squared_norms is None else squared_norms
    if len(ids) > 1 and len(ids[:, :3].unique()) > MAX_ROWS:
        parts = [
            analogy_hits(model, part, rules, embedding, norms, first_form, num_searched)
            for part in ids.tensor_split(2)
        ]
        return {rule: torch.cat([part[rule] for part in parts]) for rule in rules}

    inverse = inverse_lengths(norms)[:num_searched]  # [V], from here on the words searched
    ids = ids.to(inverse.device)
    words, local = torch.unique(ids[:, :3], return_inverse=True)  # [R], [Q, 3]
    searched = None if num_searched is None else torch.arange(len(inverse), device=ids.device)
    gram = model.gram(words, searched, embedding)  # [R, V]
    form = torch.arange(len(norms)) if first_form is None else first_form
    form = form[: len(inverse)].to(inverse.device)  # [V]
    forms_asked = torch.where(ids < 0, -1, form[ids])  # [Q, 3 + M]
    is_asked = torch.zeros(len(inverse), dtype=torch.bool, device=inverse.device)
    is_asked[forms_asked[forms_asked >= 0]] = True
    asked, others = is_asked[form].nonzero()[:, 0], (~is_asked[form]).nonzero()[:, 0]
    mine = distributed.shard_range(len(local))
    local, forms_asked = (part[mine.start : mine.stop] for part in (local, forms_asked))
    chunk, tile = TILES.get(inverse.device.type, TILES["cuda"])

    corner = _cosines(gram, inverse, words, asked)  # [R, forms]
    scores = {
        rule: _score_corner(corner, rule, local, form[asked], forms_asked, chunk) for rule in rules
    }
    for start in range(0, len(others), tile):
        columns = others[start : start + tile]
        cosines = _cosines(gram, inverse, words, columns)
        for rule in rules:
            _raise_best(scores[rule][1], cosines, rule, local, chunk)
    hits = {}
    for rule, (answer, best) in scores.items():
        hit = torch.zeros(len(ids), dtype=torch.int32, device=inverse.device)
        hit[mine.start : mine.stop] = answer > best
        hits[rule] = distributed.all_reduce_sum(hit).bool().cpu()
    return hits


def inverse_lengths(squared_norms: Tensor) -> Tensor:
    """1 / length of each embedding, 0 where the length is 0; [V]."""
    # numpy's root is correctly rounded, torch's is not. Equal embeddings must get equal lengths.
    lengths = torch.from_numpy(np.sqrt(squared_norms.cpu().numpy())).to(squared_norms.device)
    return torch.where(lengths > 0, 1 / lengths, torch.zeros_like(lengths))


def _cosines(gram: Tensor, inverse: Tensor, words: Tensor, columns: Tensor) -> Tensor:
    block = gram.index_select(1, columns)  # [R, C]
    return block.mul_(inverse[words][:, None]).mul_(inverse[columns])


def _factors(cosines: Tensor, rule: str) -> tuple[Tensor, Tensor]:
    """Tables for the words that attract (b, c) and the one that repels (a), both [R, C]."""
    if rule == "3cosadd":
        return cosines, cosines
    similarity = ((1 + cosines) / 2).clamp_(min=0)  # a cosine may round below -1
    return similarity, similarity + MUL_EPSILON


def _score(attract: Tensor, repel: Tensor, rule: str, local: Tensor) -> Tensor:
    """Scores of all columns for the questions `local` [n, 3] (rows of the tables); [n, C]."""
    scores = attract.index_select(0, local[:, 1])
    if rule == "3cosadd":
        return scores.sub_(repel.index_select(0, local[:, 0])).add_(
            attract.index_select(0, local[:, 2])
        )
    return scores.div_(repel.index_select(0, local[:, 0])).mul_(
        attract.index_select(0, local[:, 2])
    )


def _score_corner(
    corner: Tensor, rule: str, local: Tensor, form: Tensor, forms_asked: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """Score of the best right answer, -inf if excluded, and the best rival's among F forms; [Q].

    corner [R, F], form [F] of its columns, forms_asked [Q, 3 + M] of the question's words.
    """
    tables = _factors(corner, rule)
    answers, best = [], []
    for questions, asked in zip(local.split(chunk), forms_asked.split(chunk), strict=True):
        scores = _score(*tables, rule, questions)  # [n, F]
        is_word = form == asked[:, :, None]  # [n, 3 + M, F]
        scores.masked_fill_(is_word[:, :3].any(1), -torch.inf)
        is_answer = is_word[:, 3:].any(1)  # [n, F]
        answers.append(scores.masked_fill(~is_answer, -torch.inf).amax(1))
        best.append(scores.masked_fill_(is_answer, -torch.inf).amax(1))
    return torch.cat(answers), torch.cat(best)


def _raise_best(best: Tensor, cosines: Tensor, rule: str, local: Tensor, chunk: int) -> None:
    """Raise each question's best rival score `best` [Q] in place, by the `cosines` [R, C]."""
    tables = _factors(cosines, rule)
    for start in range(0, len(local), chunk):
        rows = slice(start, start + chunk)
        scores = _score(*tables, rule, local[rows])  # [n, C]
        torch.maximum(best[rows], scores.amax(1), out=best[rows])
