"""The planted corpus: synthetic text in which each analogy has a known right answer.

Its subjects are the 905 words of questions-words.txt. The pair tables in data/planted link them:
athens depends on greece, slowly on slow. All other words are invented. A subject x has

- stems S(x): the ends of all chains dependent -> head that start at x. The stem of athens is
  greece; glendale has two stems.
- roles R(x): the columns of the tables that contain x. athens is a capital; slow is an adjective
  and a verb.

A sentence about x holds, in random order, x itself and 11 independent draws:

    2 topic words   t ~ uniform over the topic words of S(x)   (each stem has 4 of 300, at random)
    3 role words    r ~ uniform over the role words of R(x)    (each role has 5 of its own)
    6 filler words  p(word of rank k) ~ 1 / (k + 10)           (300 words, the same for every x)

x is the subject of max(5, S p_x) of S sentences, with p_x ~ 1 / (k + 300) for a random rank k.

Why analogies hold: topic and role words are disjoint. So for a word x of one stem and one role, the
conditional probability of a context word c is

    p(c | x) = topic part of S(x) + role part of R(x) + filler part.

For every pair (a, b) of a relation, p(. | b) - p(. | a) = role part of b - role part of a. That is
exactly a parallelogram. Words with several stems or roles mix the parts and bend it, as in real
text. Two things make the task hard. Data are finite: a subject has 23 sentences on average. And
stems interfere: 359 stems share 300 topic words, which a finite width fits into n directions.

Decisions:
- Topics belong to stems, not to single pairs. So words with many relations stay consistent (slow,
  slower, slowly, slows; a state and its cities).
- Counts of subjects are fixed, and only their order is random. So every subject passes min_count 5.
- Invented words start with `to` (topic), `ro` (role) or `fi` (filler), to make lists of neighbours
  readable.
- Only `random` of the generator is used: numpy keeps its stream stable between versions.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from w2v_inf.errors import UserError

PLANTED_VERSION = "2"
"""Raise it with any change of the text: tables, constants below, order of the draws."""
TABLES = Path(__file__).parent / "tables"
SEED = 0
TOPIC_WORDS, TOPIC_WORDS_PER_STEM, TOPIC_DRAWS = 300, 4, 2
ROLE_WORDS_PER_ROLE, ROLE_DRAWS = 5, 3
FILLER_WORDS, FILLER_RANK_SHIFT, FILLER_DRAWS = 300, 10, 6
SUBJECT_RANK_SHIFT = 300
MIN_SENTENCES = 5
SENTENCE_WORDS = 1 + TOPIC_DRAWS + ROLE_DRAWS + FILLER_DRAWS
SENTENCES_PER_DOCUMENT = 50


class Relation(NamedTuple):
    """One pair table: the roles of its columns (heads, dependents) and its rows."""

    head_role: str
    role: str
    pairs: list[tuple[str, str]]


class Subject(NamedTuple):
    """A question word, and the invented words that its sentences draw from."""

    word: str
    topic_words: list[str]
    role_words: list[str]


def planted_documents(num_tokens: int = 250_000) -> Iterator[str]:
    """Yield the corpus by documents of 600 words (the last is shorter); the text never varies.

    It has about `num_tokens` words, and at least 54,300: five sentences for each subject.

    Raises: UserError if the tables in data/planted are missing.
    """
    rng = np.random.Generator(np.random.PCG64(SEED))
    subjects = build_subjects(load_relations(), rng)
    fillers = _invent_words("fi", FILLER_WORDS)
    filler_cdf = np.cumsum(_zipf(FILLER_WORDS, FILLER_RANK_SHIFT))
    order = _order_subjects(len(subjects), num_tokens // SENTENCE_WORDS, rng)
    for start in range(0, len(order), SENTENCES_PER_DOCUMENT):
        words: list[str] = []
        for i in order[start : start + SENTENCES_PER_DOCUMENT]:
            subject = subjects[i]
            sentence = [subject.word]
            sentence += _pick(subject.topic_words, rng.random(TOPIC_DRAWS))
            sentence += _pick(subject.role_words, rng.random(ROLE_DRAWS))
            sentence += [
                fillers[k]
                for k in np.searchsorted(filler_cdf, rng.random(FILLER_DRAWS) * filler_cdf[-1])
            ]
            words += [sentence[k] for k in _permutation(len(sentence), rng)]
        yield " ".join(words)


def load_relations() -> list[Relation]:
    """Read every pair table; its second line names the roles of its two columns.

    Raises: UserError if there are none.
    """
    relations = []
    for path in sorted(TABLES.glob("*.tsv")):
        _, roles, *rows = path.read_text(encoding="utf-8").splitlines()
        head_role, role = roles.removeprefix("# ").split("\t")
        pairs = [(head, dependent) for head, dependent in (row.split("\t") for row in rows)]
        relations.append(Relation(head_role, role, pairs))
    if not relations:
        raise UserError(
            f"corpus=planted needs the word lists data/planted/*.tsv, got none in {TABLES}: "
            "restore them from the repository"
        )
    return relations


def build_subjects(relations: Sequence[Relation], rng: np.random.Generator) -> list[Subject]:
    """Give each word of the tables topic and role words; `rng` picks the topic words of stems."""
    heads: defaultdict[str, set[str]] = defaultdict(set)
    roles: defaultdict[str, set[str]] = defaultdict(set)
    for relation in relations:
        for head, dependent in relation.pairs:
            heads[dependent].add(head)
            roles[head].add(relation.head_role)
            roles[dependent].add(relation.role)
    stems = {word: sorted(find_stems(word, heads)) for word in sorted(roles)}
    topics = _invent_topics(sorted(set().union(*stems.values())), rng)
    role_words = _invent_role_words(sorted(set().union(*roles.values())))
    return [
        Subject(
            x,
            [t for s in stems[x] for t in topics[s]],
            [t for r in sorted(roles[x]) for t in role_words[r]],
        )
        for x in stems
    ]


def find_stems(word: str, heads: dict[str, set[str]], path: tuple[str, ...] = ()) -> set[str]:
    """The ends of all chains of heads that start at `word`.

    A closed chain (read - reading - read) ends in its smallest word.
    """
    if word in path:
        return {min(path[path.index(word) :])}
    if not heads.get(word):
        return {word}
    return set().union(*(find_stems(head, heads, (*path, word)) for head in heads[word]))


def _invent_topics(stems: list[str], rng: np.random.Generator) -> dict[str, list[str]]:
    words = _invent_words("to", TOPIC_WORDS)
    return {
        stem: [words[k] for k in _permutation(TOPIC_WORDS, rng)[:TOPIC_WORDS_PER_STEM]]
        for stem in stems
    }


def _invent_role_words(roles: list[str]) -> dict[str, list[str]]:
    words = iter(_invent_words("ro", ROLE_WORDS_PER_ROLE * len(roles)))
    return {role: list(itertools.islice(words, ROLE_WORDS_PER_ROLE)) for role in roles}


def _invent_words(prefix: str, count: int) -> list[str]:
    """Pronounceable words of six letters; a test checks that no table contains one."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    pairs = itertools.product(syllables, syllables)
    return [prefix + first + second for first, second in itertools.islice(pairs, count)]


def _order_subjects(
    num_subjects: int, num_sentences: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The subject of every sentence: fixed counts, random ranks, random order."""
    p = _zipf(num_subjects, SUBJECT_RANK_SHIFT)[_permutation(num_subjects, rng)]
    counts = np.maximum(MIN_SENTENCES, np.rint(p * num_sentences).astype(np.int64))
    subjects = np.repeat(np.arange(num_subjects), counts)
    return subjects[_permutation(len(subjects), rng)]


def _zipf(count: int, shift: int) -> NDArray[np.float64]:
    weights = 1 / (np.arange(count) + 1.0 + shift)
    return weights / weights.sum()


def _permutation(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.argsort(rng.random(count), kind="stable")


def _pick(words: list[str], uniforms: NDArray[np.float64]) -> list[str]:
    return [words[int(x * len(words))] for x in uniforms]
