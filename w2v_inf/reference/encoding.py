"""The reference implementation of `corpus.encode.encode`, in a few lines of plain Python."""

from collections import Counter


def encode_slowly(text: bytes) -> tuple[list[int], list[int], list[str], list[int]]:
    """Tokens [T], document offsets [documents + 1], words [V] and counts [V] of a short text."""
    text = text.replace("\ufeff".encode(), b" ")  # a byte order mark is a blank
    documents = [line.decode().encode().split() for line in text.split(b"\n") if line.split()]
    counts = Counter(word.decode() for document in documents for word in document)
    words = sorted(counts, key=lambda word: (-counts[word], word))
    id_of = {word: word_id for word_id, word in enumerate(words)}
    tokens: list[int] = []
    offsets = [0]
    for document in documents:
        for word in document:
            tokens.append(id_of[word.decode()])
        offsets.append(len(tokens))
    return tokens, offsets, words, [counts[word] for word in words]
