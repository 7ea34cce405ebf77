"""The reference implementation of `corpus.phrases.encode_phrases`, on lists of words."""

from collections import Counter


def join_slowly(documents: list[list[str]], threshold: float, min_count: int) -> list[list[str]]:
    """One pass of word2phrase over the documents.

    Mikolov et al. 2013, "Distributed Representations of Words and Phrases", section 4, equation 6.
    """
    word_counts = Counter(word for document in documents for word in document)
    pair_counts: Counter[tuple[str, str]] = Counter()
    for document in documents:
        for i in range(1, len(document)):
            pair_counts[document[i - 1], document[i]] += 1
    phrases = _choose(pair_counts, word_counts, threshold, min_count)
    return [_join_document(document, phrases) for document in documents]


def _choose(
    pair_counts: Counter[tuple[str, str]],
    word_counts: Counter[str],
    threshold: float,
    min_count: int,
) -> dict[tuple[str, str], str]:
    """The name of each pair to join. A name that is taken is not given again."""
    num_words = sum(word_counts.values())
    taken, phrases = set(word_counts), {}
    for pair in sorted(pair_counts, key=lambda pair: (-pair_counts[pair], pair)):
        left, right = pair
        product = float(word_counts[left] * word_counts[right])
        score = (pair_counts[pair] - min_count) / product * num_words
        name = f"{left}_{right}"
        if score > threshold and name not in taken:
            phrases[pair] = name
            taken.add(name)
    return phrases


def _join_document(document: list[str], phrases: dict[tuple[str, str], str]) -> list[str]:
    joined: list[str] = []
    i = 0
    while i < len(document):
        name = phrases.get((document[i], document[i + 1])) if i + 1 < len(document) else None
        joined.append(document[i] if name is None else name)
        i += 1 if name is None else 2
    return joined
