"""Join frequent pairs of neighbouring words: "new york" becomes the word "new_york".

Mikolov et al. 2013, "Distributed Representations of Words and Phrases", section 4, equation 6, with
the scale of their program word2phrase.c:

  score(a, b) = (n_ab - min_count) / (n_a n_b) * T,  joined if score > threshold.

n_ab counts the places where b follows a, n_a and n_b count the words, and T all words of the text.

Decisions:
- T scales the score, as in word2phrase.c, and its default threshold 100 belongs to that. The score
  is then how many times more often the pair occurs than if words were drawn independently. gensim
  puts the number of distinct words and pairs, D, in place of T. D grows with the text, more slowly
  than T, and has no such meaning. gensim's threshold t is ours of t * T / D: its default 10 is ours
  of 18 on 3 MB of Wikipedia, and of 40 on 100 MB.
- Neighbours are neighbours in the text of one document, rare words included. `corpus.min_count` and
  `corpus.max_vocab` apply to the result.
- Places are counted with overlap: "a a a" has the pair (a, a) twice. They are joined from left to
  right without overlap: "a_a a". A joined pair is extended at the earliest by the next pass.
- The first pass reads the tokens of the plain corpus, which stays in the cache. Both passes work on
  ids, in blocks. A pair is one int64.
- No pair occurs more often than its rarer word. A pair that could not pass the threshold even so is
  not counted. This leaves out all words with a share of the text above 1 / threshold.
- Pairs are counted in a hash table of at most 0.5 GB. When it is full, counting begins again with
  half of the pairs at a time. Counts are exact at any size; a large text is read more often.
- Two pairs never spell the same words. Where a_b is joined, a is not followed by b or by b_c, so
  "a b c" is either a_b and c, or a and b_c, in the whole text. Names can clash only if words of the
  text hold "_". Then a name stands for one thing: a pair whose name is taken is not joined, and a
  warning names it.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit

from w2v_inf import kernel_cache
from w2v_inf.corpus.encoded_folder import JOINED, TOKENS, Origin, finish, writing
from w2v_inf.corpus.load import EncodedCorpus, check_tokens
from w2v_inf.errors import UserError

kernel_cache.register()  # before the first kernel

VERSION = "phrases-1"
"""Name and version of the rule; part of what identifies a corpus with phrases."""
JOINER = "_"
NUM_SHOWN = 20
"""Phrases that corpus.json lists."""
_BLOCK = 1 << 22
"""Tokens."""
_MIN_SLOTS, _MAX_SLOTS = 1 << 16, 1 << 25
"""Slots of the table of pairs, 16 bytes each."""
_MIXER = np.uint64(0x9E3779B97F4A7C15)
"""Odd, and near 2^64 divided by the golden ratio: multiplying by it spreads keys (Knuth)."""
log = logging.getLogger(__name__)


class PhraseRule(NamedTuple):
    """The options of the passes."""

    passes: int
    threshold: float
    min_count: int

    @property
    def identity(self) -> str:
        return f"{VERSION} {self.passes} {self.threshold!r} {self.min_count}"


class _Score(NamedTuple):
    """What the score of a pair of ids needs. word_counts: [V] int64."""

    word_counts: np.ndarray
    num_words: int
    min_count: int
    threshold: float


class _Text(NamedTuple):
    """Tokens in a file, and the offsets of their documents."""

    path: Path
    documents: np.ndarray


def encode_phrases(plain: EncodedCorpus, folder: Path, rule: PhraseRule) -> None:
    """Join the phrases of an encoded corpus into a corpus of their own, whole or not at all.

    Raises: UserError if `plain` is damaged, the folder cannot be written, or one word is left.
    Cost: per pass 2 to 4 s of one core for 100 MB of English. A pass reads the tokens twice, and
      more often if over 20 million distinct pairs are candidates. Memory: at most 0.5 GB, beside
      the words, the phrases and the offsets of the documents.
    """
    check_tokens(plain)  # an edited id would read memory outside the counts
    text = _Text(plain.folder / TOKENS, plain.documents)
    words, counts = list(plain.vocab.words), plain.vocab.counts
    with writing(folder) as draft:
        for number in range(1, rule.passes + 1):
            doing = f"phrases of {plain.info['name']}, pass {number} of {rule.passes}"
            pairs = _find_pairs(text, words, counts, rule, doing)
            joined = draft / JOINED
            text, counts = _join(text, joined, pairs, counts, doing)
            text = text._replace(path=joined.replace(draft / TOKENS))
            words += [_name(words, pair) for pair in pairs]
            log.info(
                "%s: %s distinct pairs joined, %s words are left",
                *(doing, f"{len(pairs):,}", f"{text.documents[-1]:,}"),
            )
        if np.count_nonzero(counts) < 2:
            given = f"corpus.phrases={rule.passes}"
            raise UserError(f"{given} joins all words into one: raise corpus.phrase_threshold")
        is_new = np.arange(len(words)) >= len(plain.vocab)
        info = {field.name: plain.info[field.name] for field in fields(Origin)}
        info["phrases"] = rule._asdict() | _summary(words, np.where(is_new, counts, 0))
        finish(draft, [word.encode() for word in words], counts, text.documents, info)


def _summary(words: list[str], counts: np.ndarray) -> dict[str, object]:
    """Distinct phrases, their occurrences, and the most frequent with their counts."""
    top = sorted(np.flatnonzero(counts), key=lambda i: (-counts[i], words[i]))[:NUM_SHOWN]
    return {
        "num_types": int(np.count_nonzero(counts)),
        "num_tokens": int(counts.sum()),
        "most_frequent": [[words[i], int(counts[i])] for i in top],
    }


def _name(words: list[str], pair: tuple[int, int]) -> str:
    return words[pair[0]] + JOINER + words[pair[1]]


def _find_pairs(
    text: _Text, words: list[str], counts: np.ndarray, rule: PhraseRule, doing: str
) -> list[tuple[int, int]]:
    """Pairs of ids to join, by falling count, ties by words; without those whose name is taken."""
    score = _Score(counts, int(text.documents[-1]), rule.min_count, float(rule.threshold))
    keys, pair_counts = _count_pairs(text, score, doing)
    lefts, rights = np.divmod(keys, len(counts))
    pairs = list(zip(lefts.tolist(), rights.tolist(), strict=True))
    count_of = dict(zip(pairs, pair_counts.tolist(), strict=True))
    pairs.sort(key=lambda pair: (-count_of[pair], words[pair[0]], words[pair[1]]))
    taken = {word for word in words if JOINER in word}
    free, refused = [], []
    for pair in pairs:
        name = _name(words, pair)
        (refused if name in taken else free).append(pair)
        taken.add(name)
    if refused:
        names = ", ".join(_name(words, pair) for pair in refused[:5])
        log.warning(
            "%s: %d distinct pairs not joined, because a word of the text has their name (%s%s): "
            'replace "_" in the text by a blank to count both as one',
            *(doing, len(refused), names, ", ..." if len(refused) > 5 else ""),
        )
    return free


def _count_pairs(text: _Text, score: _Score, doing: str) -> tuple[np.ndarray, np.ndarray]:
    """Keys and counts of the pairs above the threshold, [P] int64. Key: left id * V + right id."""
    num_slots = min(_MAX_SLOTS, max(_MIN_SLOTS, 1 << (score.num_words // 4).bit_length()))
    keys, counts, parts = [], [], [(1, 0)]
    while parts:
        modulus, part = parts.pop()
        table = _count_part(text, score, num_slots, (modulus, part), doing)
        if table is None:
            parts += [(2 * modulus, part + modulus), (2 * modulus, part)]
            continue
        found = table[_above_threshold(table, score)]
        keys.append(found[:, 0])
        counts.append(found[:, 1])
    return np.concatenate(keys), np.concatenate(counts)


def _count_part(
    text: _Text, score: _Score, num_slots: int, part: tuple[int, int], doing: str
) -> np.ndarray | None:
    """The table of the pairs whose hash is of this part; None if it becomes too full."""
    table = np.full((num_slots, 2), -1, np.int64)
    num_used, before = 0, 0
    for tokens, is_first in _blocks(text, f"{doing}: counting pairs"):
        num_used = _count_block(tokens, is_first, before, score, table, num_used, *part)
        if num_used < 0:
            return None
        before = int(tokens[-1])
    return table


def _join(
    text: _Text, path: Path, pairs: list[tuple[int, int]], counts: np.ndarray, doing: str
) -> tuple[_Text, np.ndarray]:
    """Write the text with each pair joined; its ids follow those of the words, in their order.

    Returns: the text written, and counts [V + pairs], int64.
    """
    num_words = len(counts)
    table = _table_of(pairs, num_words)
    new_counts = np.zeros(num_words + len(pairs), np.int64)
    documents = [np.zeros(0, np.int64)]
    waiting, num_written = -1, 0
    with path.open("xb") as file:
        for tokens, is_first in _blocks(text, f"{doing}: joining"):
            joined = np.empty(len(tokens) + 1, np.dtype("<i4"))
            starts = np.empty(np.count_nonzero(is_first), np.int64)
            num_joined, waiting = _join_block(
                tokens, is_first, waiting, num_words, table, joined, starts
            )
            joined = joined[:num_joined]
            new_counts += np.bincount(joined, minlength=len(new_counts))
            file.write(joined.data)
            documents.append(starts + num_written)
            num_written += num_joined
        if waiting >= 0:
            file.write(np.array([waiting], np.dtype("<i4")).data)
            new_counts[waiting] += 1
            num_written += 1
    documents.append(np.array([num_written]))
    return _Text(path, np.concatenate(documents)), new_counts


def _table_of(pairs: list[tuple[int, int]], num_words: int) -> np.ndarray:
    """A table from each pair's key to the id of its phrase."""
    table = np.full((2 << len(pairs).bit_length(), 2), -1, np.int64)
    for phrase_id, (left, right) in enumerate(pairs, num_words):
        _put(table, left * num_words + right, phrase_id)
    return table


def _blocks(text: _Text, doing: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of tokens, int32, and whether each is the first of its document."""
    documents, done, num_tokens = text.documents, 0, int(text.documents[-1])
    reported = time.monotonic()
    with text.path.open("rb") as file:
        while done < num_tokens:
            tokens = np.fromfile(file, np.dtype("<i4"), min(_BLOCK, num_tokens - done))
            assert len(tokens)
            is_first = np.zeros(len(tokens), np.bool_)
            low, high = np.searchsorted(documents, [done, done + len(tokens)])
            is_first[documents[low:high] - done] = True
            yield tokens, is_first
            done += len(tokens)
            if time.monotonic() - reported > 10:
                reported = time.monotonic()
                log.info(
                    "%s, %d %% of %s words", doing, 100 * done // num_tokens, f"{num_tokens:,}"
                )


@njit(cache=True, nogil=True)
def _score_of(pair_count: int, left: int, right: int, score: _Score) -> float:
    # In this order of operations, as gensim rounds.
    product = score.word_counts[left] * score.word_counts[right]
    return (pair_count - score.min_count) / product * score.num_words


@njit(cache=True, nogil=True)
def _hash(key: int) -> int:
    """56 bits."""
    return int(np.int64((np.uint64(key) * _MIXER) >> np.uint64(8)))


@njit(cache=True, nogil=True)
def _find(table: np.ndarray, key: int) -> int:
    """The slot of a key, or the free slot where it belongs. Collisions take the next free slot."""
    num_slots = len(table)
    slot = _hash(key) >> 24 & (num_slots - 1)
    while table[slot, 0] != key and table[slot, 0] >= 0:
        slot = (slot + 1) & (num_slots - 1)
    return slot


@njit(cache=True, nogil=True)
def _put(table: np.ndarray, key: int, value: int) -> None:
    slot = _find(table, key)
    table[slot, 0], table[slot, 1] = key, value


@njit(cache=True, nogil=True)
def _count_block(
    tokens: np.ndarray,
    is_first: np.ndarray,
    before: int,
    score: _Score,
    table: np.ndarray,
    num_used: int,
    modulus: int,
    part: int,
) -> int:
    """Count the pairs of one part in the table.

    before: the token in front of the block. Returns: slots in use, or -1 if the table is full.
    """
    word_counts, num_types = score.word_counts, len(score.word_counts)
    right = before
    for i in range(len(tokens)):
        left, right = right, int(tokens[i])
        at_most = min(word_counts[left], word_counts[right])
        if is_first[i] or _score_of(at_most, left, right, score) <= score.threshold:
            continue
        key = left * num_types + right
        if _hash(key) & (modulus - 1) != part:
            continue
        slot = _find(table, key)
        if table[slot, 0] < 0:
            if 8 * num_used >= 5 * len(table):
                return -1
            num_used += 1
            table[slot, 0], table[slot, 1] = key, 0
        table[slot, 1] += 1
    return num_used


@njit(cache=True, nogil=True)
def _above_threshold(table: np.ndarray, score: _Score) -> np.ndarray:
    """Whether the pair of each slot is joined."""
    num_types = len(score.word_counts)
    is_above = np.zeros(len(table), np.bool_)
    for slot in range(len(table)):
        key, count = table[slot, 0], table[slot, 1]
        if key >= 0:
            value = _score_of(count, key // num_types, key % num_types, score)
            is_above[slot] = value > score.threshold
    return is_above


@njit(cache=True, nogil=True)
def _join_block(
    tokens: np.ndarray,
    is_first: np.ndarray,
    waiting: int,
    num_words: int,
    table: np.ndarray,
    joined: np.ndarray,
    starts: np.ndarray,
) -> tuple[int, int]:
    """Join from left to right.

    Args:
      waiting: the last token of the block before, if it may still be joined, else -1.
      joined: filled, room for all tokens and the one waiting. starts: filled with the place of
        each document of this block in `joined`.
    Returns: tokens in `joined`, and the token that now waits.
    """
    num_joined = num_starts = 0
    for i in range(len(tokens)):
        token = int(tokens[i])
        if waiting >= 0 and not is_first[i]:
            slot = _find(table, waiting * num_words + token)
            if table[slot, 0] >= 0:
                joined[num_joined] = table[slot, 1]
                num_joined, waiting = num_joined + 1, -1
                continue
        if waiting >= 0:
            joined[num_joined] = waiting
            num_joined += 1
        if is_first[i]:
            starts[num_starts] = num_joined
            num_starts += 1
        waiting = token
    return num_joined, waiting
