"""The reference implementation of the stream of examples: one block, word by word."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def stream_examples(tokens, documents, vocab_size, p_keep, keep_draws, radius_draws, limit):
    """(context words, target, in-vocabulary words before it) of each position, in order.

    Positions without context are left out.
    documents: end index of each document.    limit: kept words per sentence, at most.
    keep_draws: a uniform number per in-vocabulary word.    radius_draws: a radius per kept word.
    """
    sentences: list[list[tuple[int, int]]] = [[]]
    seen = 0
    for index, token in enumerate(tokens):
        if index in documents or len(sentences[-1]) == limit:
            sentences.append([])
        if token >= vocab_size:
            continue
        if keep_draws[seen] < p_keep[token]:
            sentences[-1].append((int(token), seen))
        seen += 1
    examples, kept = [], 0
    for words in sentences:
        for i, (target, words_before) in enumerate(words):
            radius = radius_draws[kept]
            kept += 1
            nearby = range(max(0, i - radius), min(len(words), i + radius + 1))
            context = [words[j][0] for j in nearby if j != i]
            if context:
                examples.append((context, target, words_before))
    return examples


def interleave(positions: Sequence[T], batch_size: int, num_places: int) -> list[T]:
    """The positions of a block in the order in which batches take them.

    Place k is the k-th of `num_places` parts. In turn, each place gives its next positions: as many
    as make a batch of `batch_size` from all places. The last places may have none left.
    """
    run = batch_size // num_places
    num_turns = 0
    while num_turns * batch_size < len(positions):
        num_turns += 1
    taken = []
    for turn in range(num_turns):
        for place in range(num_places):
            first = place * num_turns * run + turn * run
            taken += positions[first : first + run]
    return taken
