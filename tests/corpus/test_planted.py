"""The planted corpus: a fixed text, tables that answer gensim's questions, shared contexts."""

import hashlib
from collections import Counter, defaultdict
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from gensim.test.utils import datapath

from w2v_inf.corpus import planted
from w2v_inf.corpus.planted import (
    PLANTED_VERSION,
    SENTENCE_WORDS,
    build_subjects,
    find_stems,
    load_relations,
    planted_documents,
)
from w2v_inf.errors import UserError


@cache
def documents() -> list[list[str]]:
    return [document.split() for document in planted_documents()]


@cache
def word_counts() -> Counter[str]:
    return Counter(word for document in documents() for word in document)


@cache
def subject_words() -> list[str]:
    return sorted(
        {word for relation in load_relations() for pair in relation.pairs for word in pair}
    )


def questions() -> list[list[str]]:
    with open(datapath("questions-words.txt"), encoding="utf-8") as file:
        return [line.lower().split() for line in file if not line.startswith(":")]


def sha256_of_text() -> str:
    return hashlib.sha256("\n".join(planted_documents()).encode()).hexdigest()


def test_the_text_is_the_one_of_this_version() -> None:
    """A cached corpus is found by its version, so another text needs another version."""
    sha256 = sha256_of_text()
    assert (PLANTED_VERSION, sha256[:16]) == ("2", "caaad5cfdcd64be5")
    assert sha256_of_text() == sha256


def test_size_and_alphabet() -> None:
    counts = word_counts()
    assert abs(counts.total() - 250_000) < 3_000
    assert 1_500 <= sum(count >= 5 for count in counts.values()) <= 1_600
    assert all(word.isascii() and word.isalpha() and word.islower() for word in counts)
    assert {len(document) for document in documents()[:-1]} == {600}


@pytest.mark.parametrize("num_tokens", [1, 250_000])
def test_every_question_word_clears_min_count(num_tokens: int) -> None:
    counts = Counter(
        word for document in planted_documents(num_tokens) for word in document.split()
    )
    rare = [word for question in questions() for word in question if counts[word] < 5]
    assert not rare


def test_invented_words_are_no_subjects() -> None:
    subjects = set(subject_words())
    invented = {
        word
        for subject in build_subjects(load_relations(), np.random.default_rng(0))
        for word in subject.topic_words + subject.role_words
    }
    assert not subjects & invented
    assert all(
        len(word) == 6 and word[:2] in ("to", "ro", "fi") for word in set(word_counts()) - subjects
    )
    kinds = {kind: {word for word in invented if word.startswith(kind)} for kind in ("to", "ro")}
    assert len(kinds["to"]) + len(kinds["ro"]) == len(invented)  # topic and role words are disjoint


def test_the_tables_answer_every_question() -> None:
    """a : b :: c : d must be two rows of one table, in the same direction."""
    tables: defaultdict[tuple[str, str], set[tuple[int, bool]]] = defaultdict(set)
    for i, relation in enumerate(load_relations()):
        for head, dependent in relation.pairs:
            tables[head, dependent].add((i, True))
            tables[dependent, head].add((i, False))
    unanswered = [(a, b, c, d) for a, b, c, d in questions() if not tables[a, b] & tables[c, d]]
    assert not unanswered


def test_the_tables_hold_no_other_words_and_no_row_twice() -> None:
    assert set(subject_words()) == {word for question in questions() for word in question}
    for relation in load_relations():
        assert len(relation.pairs) == len(set(relation.pairs))


def test_all_cities_and_states_of_the_pca_figure_are_there() -> None:
    (relation,) = [r for r in load_relations() if r.role == "city"]
    states, cities = (set(column) for column in zip(*relation.pairs, strict=True))
    assert (len(cities), len(states)) == (67, 27)


def test_stems() -> None:
    heads: defaultdict[str, set[str]] = defaultdict(set)
    for relation in load_relations():
        for head, dependent in relation.pairs:
            heads[dependent].add(head)
    slow = ("slow", "slowly", "slower", "slowest", "slowing", "slowed", "slows")
    assert all(find_stems(word, heads) == {"slow"} for word in slow)
    assert find_stems("glendale", heads) == {"arizona", "california"}
    assert find_stems("dollars", heads) == {"usa", "canada"}
    assert (
        find_stems("read", heads) == find_stems("reading", heads) == {"read"}
    )  # read is also the past tense of reading


def sentence_words_by_subject() -> dict[str, Counter[str]]:
    """For each subject, the other words of its sentences: it is their only question word."""
    subjects = set(subject_words())
    found: dict[str, Counter[str]] = {word: Counter() for word in subjects}
    for document in documents():
        for start in range(0, len(document), SENTENCE_WORDS):
            sentence = document[start : start + SENTENCE_WORDS]
            (subject,) = subjects & set(sentence)
            found[subject].update(word for word in sentence if word != subject)
    return found


def test_topic_words_occur_with_both_members_of_a_pair() -> None:
    """One stem has one set of topic words, another stem others (4 of 300); roles likewise."""
    context = sentence_words_by_subject()
    frequency = {word: count / word_counts().total() for word, count in word_counts().items()}

    def shared(a: str, b: str, kind: str) -> float:
        """Share of a's words of this kind that b's sentences name much more often than chance."""
        threshold = {word: 3 * frequency[word] * context[b].total() + 1 for word in context[a]}
        words = {word: count for word, count in context[a].items() if word.startswith(kind)}
        return sum(
            count for word, count in words.items() if context[b][word] > threshold[word]
        ) / sum(words.values())

    for relation in load_relations():
        heads, dependents = zip(*relation.pairs, strict=True)
        assert np.mean([shared(a, b, "to") for a, b in relation.pairs]) > 0.7
        assert np.mean([shared(b, a, "to") for a, b in relation.pairs]) > 0.7
        strangers = [
            (a, b)
            for a, b in zip(heads, dependents[1:], strict=False)
            if (a, b) not in relation.pairs
        ]
        assert np.mean([shared(a, b, "to") for a, b in strangers]) < 0.3
        assert np.mean([shared(a, b, "ro") for a, b in combinations(dependents[:20], 2)]) > 0.7


def test_missing_tables_are_a_users_error(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted, "TABLES", tmp_path)
    with pytest.raises(UserError, match="data/planted"):
        next(planted_documents())
