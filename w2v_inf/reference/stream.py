"""The reference implementation of the stream of examples: one block, word by word."""


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
