"""Words with every character that a file format could mistake for its own."""

import numpy as np

from w2v_inf.corpus.vocabulary import Vocabulary

WORDS = [
    *("the", "größe", "日本", "نیم\u200cفاصله", "\u00a0", "\u2028", "\x85", "\x0b", "\x1c", "\x00"),
    *("tab\there", "line\nbreak", "\r", "\r\n", "\\", "\\t", "\\\\n", "a\\", '"', "'", "`", "|"),
    *("#", "null", "nan", "1", "1.5", " ", "  x ", "{", "</s>", "word", "count", "\ufeff"),
    *("constructor", "$x$", "%s", "é", "e\u0301", "🙂", "word\tcount", "\ufffd"),
]
VOCAB = Vocabulary(WORDS, np.arange(2 * len(WORDS), 0, -2))


def table(columns: int = 5, seed: int = 0) -> np.ndarray:
    """Vectors of `WORDS`: every size of number that float32 has, and a row of zeros."""
    rng = np.random.default_rng(seed)
    shape = (len(WORDS), columns)
    numbers = rng.standard_normal(shape) * 10.0 ** rng.integers(-40, 18, shape)
    numbers[3] = 0
    return numbers.astype(np.float32)
