"""Words and their counts; the line number of a word in `vocab.tsv` is its id.

Decisions:
- All words of a corpus are kept on disk, commonest first (ties alphabetical, by code point). Any choice of
  `corpus.min_count` and `corpus.max_vocab` is then a prefix of the ids, and the encoded corpus serves them all.
- The file is text, `word<TAB>count`: it can be read, searched and compared with ordinary tools.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from w2v_inf.errors import UserError


@dataclass
class Vocabulary:
    """Words with their ids and counts.

    Args:
      words: the word of each id, [V].
      counts: occurrences in the corpus, [V], int64, never rising.
    """

    words: list[str]
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def id_of(self) -> dict[str, int]:
        """The id of each word."""
        return {word: word_id for word_id, word in enumerate(self.words)}

    def truncate(self, min_count: int, max_vocab: int) -> "Vocabulary":
        """Keep words of at least `min_count` occurrences, and of those the `max_vocab` commonest (0: all)."""
        size = int(np.searchsorted(-self.counts, -min_count, side="right"))
        if max_vocab:
            size = min(size, max_vocab)
        return Vocabulary(self.words[:size], self.counts[:size])

    def save(self, path: Path) -> None:
        """Write `word<TAB>count` lines in the order of the ids."""
        with path.open("wb") as file:
            rows = zip(self.words, self.counts.tolist(), strict=True)
            while lines := "".join(f"{word}\t{count}\n" for word, count in islice(rows, 100_000)):
                file.write(lines.encode())

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what `save` wrote.

        Raises: UserError naming the file and line if it is missing, cut short, not sorted or repeats a word.
        """
        lines = _read_lines(path)
        rows = [line.partition("\t") for line in lines]
        for number, (word, _, count) in enumerate(rows, 1):
            if not (word and count.isascii() and count.isdecimal()):
                raise UserError(
                    f"{path} line {number} must be word<TAB>count, got {lines[number - 1][:60]!r}: delete {path.parent}"
                )
        vocabulary = cls(
            [row[0] for row in rows], np.array([int(row[2]) for row in rows], np.int64)
        )
        _check_order(vocabulary, path)
        return vocabulary


def _read_lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): delete {path.parent} and prepare the corpus again"
        ) from error
    # Not splitlines(): words may hold other line separators of Unicode, which are letters to the encoder.
    *lines, rest = text.split("\n")
    if rest or not lines:
        raise UserError(
            f"{path} is cut short at line {len(lines) + 1}: delete {path.parent} and prepare the corpus again"
        )
    return lines


def _check_order(vocabulary: Vocabulary, path: Path) -> None:
    rising = np.flatnonzero(np.diff(vocabulary.counts) > 0)
    if len(rising):
        raise UserError(
            f"{path} line {rising[0] + 2}: the count is above that of the line before: delete {path.parent}"
        )
    if len(vocabulary.id_of) != len(vocabulary):
        line = next(i for i, word in enumerate(vocabulary.words) if vocabulary.id_of[word] != i) + 1
        raise UserError(f"{path} line {line}: its word comes again later: delete {path.parent}")
