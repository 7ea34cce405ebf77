"""The stream of examples, slowly."""


def stream_examples(tokens, documents, vocab_size, p_keep, keep_draws, radius_draws, window, chunk):
    """Positions of one block in order, as (context words, target, in-vocabulary words before it), word by word.

    keep_draws: a uniform number per in-vocabulary word.  radius_draws: a window per kept word.
    documents: end index of each document.  Positions without context are left out.
    """
    chunks: list[list[tuple[int, int]]] = [[]]
    seen = 0
    for index, token in enumerate(tokens):
        if index in documents or len(chunks[-1]) == chunk:
            chunks.append([])
        if token >= vocab_size:
            continue
        if keep_draws[seen] < p_keep[token]:
            chunks[-1].append((int(token), seen))
        seen += 1
    examples, kept = [], 0
    for words in chunks:
        for i, (target, words_before) in enumerate(words):
            radius = radius_draws[kept]
            kept += 1
            around = [
                words[j][0]
                for j in range(max(0, i - radius), min(len(words), i + radius + 1))
                if j != i
            ]
            if around:
                examples.append((around, target, words_before))
    return examples
