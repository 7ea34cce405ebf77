"""Words and their counts. The line number of a word in `vocab.tsv`, from 0, is its id.

Decisions:
- All words of a corpus are on disk, the most frequent first, ties by code point. Any choice of
  `corpus.min_count` and `corpus.max_vocab` is then a prefix of the ids. So one encoded corpus
  serves every choice.
- The file is text, `word<TAB>count`, so ordinary tools can read, search and compare it.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from w2v_inf.errors import UserError
from w2v_inf.system_errors import raise_if_refused


@dataclass
class Vocabulary:
    """Words with their ids and counts.

    Args:
      words: the word of each id, [V].
      counts: occurrences in the corpus, [V], int64, in falling order.
    """

    words: list[str]
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def id_of(self) -> dict[str, int]:
        """The id of each word."""
        return {word: word_id for word_id, word in enumerate(self.words)}

    @cached_property
    def id_of_capitals(self) -> dict[str, int]:
        """The commonest of the words that are equal in capitals, by their capitals."""
        return {word.upper(): i for i, word in reversed(list(enumerate(self.words)))}

    @cached_property
    def first_form(self) -> np.ndarray:
        """The id of the first word that differs from each word in case at most, [V] int64."""
        return np.array([self.id_of_capitals[word.upper()] for word in self.words], np.int64)

    def truncate(self, min_count: int, max_vocab: int) -> "Vocabulary":
        """Keep words with `min_count` occurrences or more, at most `max_vocab` words (0: all)."""
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

        Raises: UserError that names the file, and the line, if it is missing, cut short, not
          sorted or repeats a word.
        """
        lines = _read_lines(path)
        rows = [line.partition("\t") for line in lines]
        for number, (word, _, count) in enumerate(rows, 1):
            if not (word and count.isascii() and count.isdecimal()):
                found = f"got {lines[number - 1][:60]!r}: delete {path.parent}"
                raise UserError(f"{path} line {number} must be word<TAB>count, {found}")
        vocabulary = cls(
            [row[0] for row in rows], np.array([int(row[2]) for row in rows], np.int64)
        )
        _check_order(vocabulary, path)
        return vocabulary


def _read_lines(path: Path) -> list[str]:
    advice = f"delete {path.parent} and prepare the corpus again"
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise_if_refused(path, error)
        raise UserError(f"{path} cannot be read ({error}): {advice}") from error
    # Not splitlines(): to the encoder, Unicode's other line separators are letters of words.
    *lines, rest = text.split("\n")
    if rest or not lines:
        raise UserError(f"{path} is cut short at line {len(lines) + 1}: {advice}")
    return lines


def _check_order(vocabulary: Vocabulary, path: Path) -> None:
    rising = np.flatnonzero(np.diff(vocabulary.counts) > 0)
    if len(rising):
        line = rising[0] + 2
        reason = "the count is above that of the line before"
        raise UserError(f"{path} line {line}: {reason}: delete {path.parent}")
    if len(vocabulary.id_of) != len(vocabulary):
        line = next(i for i, word in enumerate(vocabulary.words) if vocabulary.id_of[word] != i) + 1
        raise UserError(f"{path} line {line}: its word comes again later: delete {path.parent}")
